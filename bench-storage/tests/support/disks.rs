//! A disk of a test's own: a loop device made of a file.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use harness::suite::SessionRequest;

use super::{loops::LoopDevice, real_directory, request, skip};

/// A file and a loop device made of it.
#[derive(Debug)]
pub struct Disk {
    pub device: LoopDevice,
    pub image: PathBuf,
    pub directory: tempfile::TempDir,
}

impl Disk {
    /// 64 MiB of zeros, or a loud skip.
    pub fn blank() -> Option<Self> {
        Self::made_by(&[])
    }

    /// On which a program, such as mkfs, was let loose first.
    pub fn made_by(program: &[&str]) -> Option<Self> {
        Self::of(&vec![0; 64 << 20], program)
    }

    /// With this on it.
    pub fn of(contents: &[u8], program: &[&str]) -> Option<Self> {
        let directory = real_directory()?;
        let image = directory.path().join("image");
        fs::write(&image, contents).expect("an image");
        if let [name, arguments @ ..] = program {
            let made = Command::new(name).args(arguments).arg(&image).output();
            if !made.is_ok_and(|output| output.status.success()) {
                skip(&format!("no {name} here"));
                return None;
            }
        }
        match LoopDevice::attach(&image) {
            Ok(device) => Some(Self { device, image, directory }),
            Err(error) => {
                skip(&format!("no loop device: {error}"));
                None
            }
        }
    }

    /// What is on it.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.image).expect("the image")
    }

    /// The word that allows it to be written.
    pub fn word(&self) -> String {
        let metadata = fs::metadata(&self.image).expect("the image");
        format!("loop-{:x}-{}", metadata.dev(), metadata.ino())
    }

    /// A session's request for it, under this name.
    pub fn asking(
        &self,
        path: &Path,
        experiment: &str,
        word: Option<&str>,
    ) -> SessionRequest {
        let mut request = request(Some(path), self.directory.path());
        request.experiments = vec![experiment.to_owned()];
        request.allow_destroy = word.map(str::to_owned);
        request
    }
}
