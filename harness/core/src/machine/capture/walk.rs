//! Walks the list of files and follows links where they lead.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use super::{
    archive::{Archive, Entry},
    files::{FILES, OF_EACH_DEVICE, OF_EACH_GROUP},
    redact::Redactor,
};
use crate::machine::{
    allowed::group_directories, environment::kernel_configuration, root::Root,
};

/// Larger than `/proc/interrupts` of 512 CPUs and 1,000 vectors; a longer file
/// is cut after a whole line.
const FILE_BYTES_MAX: u64 = 8 << 20;

const COMMENT: &str = "\
Files that bypass-bench reads of a machine, redacted: names, addresses and
serial numbers are left out or replaced. Read it before you show it to others.
";

/// Takes the files below `root` that this program reads, redacted.
pub fn capture(root: &Root) -> Archive {
    let mut walk = Walk {
        root,
        redactor: Redactor::new(root),
        archive: Archive::new(COMMENT),
    };
    for (directory, names) in FILES {
        for name in *names {
            let pattern = Path::new(directory).join(name);
            walk.step(PathBuf::new(), &parts(&pattern));
        }
    }
    for directory in group_directories(root) {
        for name in OF_EACH_GROUP {
            walk.step(PathBuf::new(), &parts(&directory.join(name)));
        }
    }
    walk.kernel_configuration();
    walk.devices();
    walk.archive
}

fn parts(pattern: &Path) -> Vec<&str> {
    let normal = |part| match part {
        Component::Normal(name) => Path::new(name).to_str(),
        _ => None,
    };
    pattern.components().filter_map(normal).collect()
}

struct Walk<'a> {
    root: &'a Root,
    redactor: Redactor,
    archive: Archive,
}

impl Walk<'_> {
    /// Takes what matches `pattern` below `directory`, a path without links.
    fn step(&mut self, directory: PathBuf, pattern: &[&str]) {
        let Some((first, rest)) = pattern.split_first() else { return };
        let names = match first.contains('*') {
            true => self.root.entries(&directory),
            false => vec![(*first).to_owned()],
        };
        // A class without a device (no battery, no IOMMU) is a fact too.
        let is_class = ["sys/class", "sys/kernel"]
            .iter()
            .any(|above| directory.parent() == Some(Path::new(above)));
        if names.is_empty() && is_class && self.root.path(&directory).is_dir() {
            self.insert(&directory, Entry::Directory);
        }
        // Of the names in /proc those of processes: `self` is one of them.
        let is_process = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
        let any_process = *first == "*" && directory == Path::new("proc");
        for name in names
            .iter()
            .filter(|name| matches(first, name))
            .filter(|name| !any_process || is_process(name))
        {
            self.enter(directory.join(name), rest);
        }
    }

    fn enter(&mut self, path: PathBuf, rest: &[&str]) {
        let Ok(meta) = self.root.path(&path).symlink_metadata() else {
            return;
        };
        // This leads to the number of the process that asks; a tree keeps
        // what it found there under the name by which it is looked for.
        let is_self = path == Path::new("proc/self");
        let real = match meta.is_symlink() && !is_self {
            false => path,
            true => {
                self.link(&path);
                let Some(real) = self.root.resolve(&path) else { return };
                real
            }
        };
        if !rest.is_empty() {
            self.step(real, rest);
        } else if self.root.path(&real).is_file() {
            self.file(&real);
        }
    }

    /// The form of a link that leads to a place without links on the way.
    fn link(&mut self, path: &Path) {
        let target = match self.root.resolve(path) {
            Some(real) => relative(path, &real),
            // It leads nowhere (a driver of a fixture): its name counts.
            None => match std::fs::read_link(self.root.path(path)) {
                Ok(target) if target.is_relative() => target,
                _ => return,
            },
        };
        if let Some(target) = target.to_str() {
            let shown = self.redactor.path_of(target);
            self.insert(path, Entry::Link(shown));
        }
    }

    fn file(&mut self, path: &Path) {
        let Some(name) = path.to_str() else { return };
        let text = read(&self.root.path(path));
        let shown = self.redactor.content(name, &text);
        self.insert(path, Entry::File(shown));
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        let Some(path) = path.to_str() else { return };
        // The signs of the format itself; no kernel file has them.
        if !path.contains(['{', '}', '\n']) && !path.contains(" -> ") {
            self.archive.insert(self.redactor.path_of(path), entry);
        }
    }

    /// Readable, wherever this kernel has it, compressed or not.
    fn kernel_configuration(&mut self) {
        let release = self.root.read_word("proc/sys/kernel/osrelease");
        let config = kernel_configuration(self.root);
        if let (Some(release), Some(config)) = (release, config) {
            let path = format!("boot/config-{release}");
            let shown = self.redactor.content(&path, &config);
            self.insert(Path::new(&path), Entry::File(shown));
        }
    }

    /// What the devices that were met inherit from the buses above them.
    fn devices(&mut self) {
        let mut above = BTreeSet::new();
        for (path, _) in self.archive.iter() {
            let dirs = Path::new(path).ancestors().skip(1);
            above.extend(
                dirs.filter(|dir| {
                    dir.starts_with("sys/devices")
                        && !dir.starts_with("sys/devices/system")
                })
                .map(Path::to_owned),
            );
        }
        for directory in above {
            for name in OF_EACH_DEVICE {
                self.step(directory.clone(), &parts(Path::new(name)));
            }
        }
    }
}

/// The text of a file, empty where the kernel refuses to read it: that it is
/// there is a fact too.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        if read.is_err() {
            bytes.clear();
        }
    }
    if bytes.len() as u64 == FILE_BYTES_MAX {
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes.truncate(whole.map_or(0, |at| at + 1));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether `*` in the pattern can stand for what the name has there.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len())
        .filter(|&at| rest.is_char_boundary(at))
        .any(|at| matches(after, &rest[at..]))
}

/// `to` as seen from the directory of `from`, both below the same root. The
/// name of `to` stands in it even where it is above `from`, as in sysfs.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let base = from.parent().unwrap_or(from);
    let above = to.parent().unwrap_or(to);
    let shared =
        base.components().zip(above.components()).take_while(|(a, b)| a == b);
    let shared = shared.count();
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_within_a_name() {
        for (pattern, name, yes) in [
            ("*", "", true),
            ("cpu*", "cpu12", true),
            ("cpu*", "cp", false),
            ("*", "é", true),
            ("nvme*n*", "nvme0n1", true),
            ("nvme*n*", "nvme0", false),
            ("*-max", "min-max", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn links_are_written_as_the_kernel_writes_them() {
        let link = |from: &str, to: &str| {
            relative(Path::new(from), Path::new(to)).display().to_string()
        };
        assert_eq!(
            link("sys/class/net/lo", "sys/devices/virtual/net/lo"),
            "../../devices/virtual/net/lo"
        );
        assert_eq!(
            link(
                "sys/devices/a/virtio1/block/vda/device",
                "sys/devices/a/virtio1"
            ),
            "../../../virtio1"
        );
        assert_eq!(link("a/b", "a"), "../a");
    }
}
