//! Captured and hand-built machines, as the doctor sees them.

// Each test binary uses its own part of this module.
#![allow(dead_code, reason = "shared by test binaries that differ in use")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{
    machine::{
        Environment, Root,
        capture::Archive,
        doctor::{Listed, Live, Patient, Report, examine},
    },
    run::doctor,
    suite::Suite,
};

/// Every suite that the program has.
pub const SUITES: [&Suite; 3] =
    [&bench_storage::SUITE, &bench_net::SUITE, &bench_ipc::SUITE];

/// The machines, from `harness/core/tests/fixtures/doctor/*.tree`.
pub const MACHINES: [&str; 8] = [
    "aarch64",
    "all-wrong",
    "container",
    "kvm-guest",
    "laptop",
    "micro-vm",
    "publishable",
    "server-2s",
];

/// A machine's tree, unpacked.
#[derive(Debug)]
pub struct Machine {
    pub name: &'static str,
    pub archive: Archive,
    directory: tempfile::TempDir,
}

impl Machine {
    pub fn load(name: &'static str) -> Machine {
        let path = fixture(name, "tree");
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let archive = Archive::parse(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Machine { name, directory: unpack(&archive), archive }
    }

    pub fn root(&self) -> Root {
        Root::at(self.directory.path())
    }

    pub fn path(&self, rel: &str) -> PathBuf {
        self.directory.path().join(rel)
    }

    /// What the doctor says.
    pub fn examine(&self, checks: &[Listed]) -> Report {
        let root = self.root();
        let environment = Environment::read(&root);
        examine(&self.patient(root, &environment), checks)
    }

    /// The machine with this as its root. No file tells how this program was
    /// built and what the kernel answers; that is added as it would be there.
    pub fn patient(&self, root: Root, environment: &Environment) -> Patient {
        let good = self.name != "all-wrong";
        let live = Live {
            allowed: None,
            debug_assertions: Some(!good),
            io_uring: Some(match good {
                true => Ok(()),
                false => Err("Operation not permitted (os error 1)".into()),
            }),
            clock_synchronised: Some(good),
        };
        Patient::with_facts(root, environment.clone(), live, "/")
    }
}

pub fn checks() -> Vec<Listed> {
    doctor::checks(SUITES)
}

/// In memory where that is to be had: the mutation test writes a lot.
pub fn unpack(archive: &Archive) -> tempfile::TempDir {
    let directory =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a temporary directory");
    archive.unpack(directory.path()).expect("unpack");
    directory
}

pub fn fixture(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../core/tests/fixtures/doctor")
        .join(format!("{name}.{extension}"))
}

/// Whether recorded files are to be written anew (`UPDATE_FIXTURES=1`), for
/// a person to look at the difference.
pub fn is_update() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some()
}
