//! Each file of each machine is deleted and garbled in turn. The doctor must
//! not panic, and must not believe garbage:
//! - what did not pass does not begin to pass;
//! - the verdict does not get better;
//! - where a pass needs the file (it is gone without it), text without sense
//!   in its place does not bring it back.
//!
//! Only checks that ask for the file are examined again, which a recording
//! root tells.

mod doctor_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use doctor_support::*;
use harness::machine::{
    Environment, Root,
    capture::{Archive, Entry},
    doctor::{Finding, Listed, Report, Status, Verdict, examine},
};

/// What a file turns into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    Deleted,
    Emptied,
    Noise,
    Huge,
    Negative,
    FirstHalf,
    SecondHalf,
    Directory,
}

const MUTATIONS: [Mutation; 8] = [
    // First, for what it takes away must not come back with the others.
    Mutation::Deleted,
    Mutation::Noise,
    Mutation::Emptied,
    Mutation::Huge,
    Mutation::Negative,
    Mutation::FirstHalf,
    Mutation::SecondHalf,
    Mutation::Directory,
];

impl Mutation {
    fn apply(self, path: &Path, good: &str) {
        let half = good.len() / 2;
        let half = (0..=half).rev().find(|&at| good.is_char_boundary(at));
        let half = half.unwrap_or(0);
        let bytes = match self {
            Mutation::Deleted => return fs::remove_file(path).expect("remove"),
            Mutation::Directory => {
                fs::remove_file(path).expect("remove");
                return fs::create_dir(path).expect("mkdir");
            }
            Mutation::Emptied => Vec::new(),
            Mutation::Noise => noise(good.len().max(8)),
            Mutation::Huge => b"99999999999999999999999\n".to_vec(),
            Mutation::Negative => b"-7\n".to_vec(),
            Mutation::FirstHalf => good.as_bytes()[..half].to_vec(),
            Mutation::SecondHalf => good.as_bytes()[half..].to_vec(),
        };
        fs::write(path, bytes).expect("write");
    }

    fn restore(self, path: &Path, good: &str) {
        if self == Mutation::Directory {
            fs::remove_dir(path).expect("remove");
        }
        fs::write(path, good).expect("write back");
    }

    /// Whether nothing of what the file said is left, whatever it said. (Half
    /// of a text may hold the half that counts, and a number may be one that
    /// the kernel takes.)
    fn is_senseless(self) -> bool {
        matches!(
            self,
            Mutation::Emptied | Mutation::Noise | Mutation::Directory
        )
    }
}

/// Bytes of a fixed xorshift sequence (Marsaglia 2003, "Xorshift RNGs").
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

/// A file that is mutated.
#[derive(Debug)]
struct Subject {
    path: String,
    good: String,
    /// Whether another file of the same header goes through all mutations.
    is_further: bool,
}

/// Where the lack of a file, or of sense in it, is itself what is wanted: a
/// check and a part of the path. Nothing else in the machine could tell.
const EXCUSED: [(&str, &str); 6] = [
    // Without the mark there is no sign of a container.
    ("system.container", "run/.containerenv"),
    ("system.container", ".dockerenv"),
    ("noise.irqbalance", "run/.containerenv"),
    ("noise.irqbalance", ".dockerenv"),
    // A process without a file has ended; any name may be another's.
    ("noise.irqbalance", "/comm"),
    // Each kernel lists the flaws that it knows.
    ("cpu.mitigations", "cpu/vulnerabilities/"),
];

/// Files of which only the name counts.
const NAMES: [&str; 2] = ["/partition", "/msi_irqs/"];

impl Subject {
    fn mutations(&self) -> &'static [Mutation] {
        const FEW: [Mutation; 2] = [Mutation::Deleted, Mutation::Noise];
        if self.is_further { &FEW } else { &MUTATIONS }
    }

    fn is_excused(&self, check: &str, mutation: Mutation) -> bool {
        // Half of a number is a number.
        let is_half =
            matches!(mutation, Mutation::FirstHalf | Mutation::SecondHalf);
        let is_one_line = self.good.lines().count() == 1;
        (is_half && is_one_line)
            || NAMES.iter().any(|part| self.path.contains(part))
            || EXCUSED
                .iter()
                .any(|(id, part)| *id == check && self.path.contains(part))
    }
}

/// The files that stand for all: of those that one header names, the first
/// and, in short, the last.
fn subjects(archive: &Archive) -> Vec<Subject> {
    let text = archive.text();
    let mut files = Vec::new();
    for header in text.lines().filter(|line| line.starts_with("=== ")) {
        let group = Archive::parse(header).expect("a header");
        let paths: Vec<&str> = group.iter().map(|(path, _)| path).collect();
        for (path, is_further) in [(paths[0], false)]
            .into_iter()
            .chain(paths[1..].last().map(|last| (*last, true)))
        {
            if let Some(Entry::File(text)) = archive.get(path) {
                let (path, good) = (path.to_owned(), text.clone());
                files.push(Subject { path, good, is_further });
            }
        }
    }
    files
}

/// A machine as it is, and which files matter to whom.
struct Ward {
    machine: Machine,
    checks: Vec<Listed>,
    environment: Environment,
    before: Report,
    /// What the environment's facts come from.
    of_environment: BTreeSet<PathBuf>,
    /// What each check asks for besides.
    of_check: Vec<BTreeSet<PathBuf>>,
}

impl Ward {
    fn admit(name: &'static str) -> Ward {
        let machine = Machine::load(name);
        let checks = checks();
        let root = Root::recording(machine.path(""));
        let real = |asked: BTreeSet<PathBuf>| {
            let real = asked.iter().filter_map(|path| path.canonicalize().ok());
            real.collect()
        };
        let environment = Environment::read(&root);
        let of_environment = real(root.take_asked());
        let mut findings = Vec::new();
        let of_check = checks
            .iter()
            .map(|check| {
                let patient = machine.patient(root.clone(), &environment);
                let one = std::slice::from_ref(check);
                findings.extend(examine(&patient, one).findings);
                real(root.take_asked())
            })
            .collect();
        let before = Report::new(findings);
        Ward { machine, checks, environment, before, of_environment, of_check }
    }

    /// What may depend on the file: the environment's facts, and checks by
    /// their places.
    fn dependents(&self, file: &Path) -> (bool, BTreeSet<usize>) {
        let directory = file.parent().expect("a directory");
        // Who lists a directory asks for it, not for what is in it.
        let depends = |asked: &BTreeSet<PathBuf>| {
            asked.contains(file) || asked.contains(directory)
        };
        let places = (0..self.checks.len())
            .filter(|&place| depends(&self.of_check[place]));
        (depends(&self.of_environment), places.collect())
    }

    /// Examines again; the findings that may be others, by their places. Who
    /// uses which fact does not show: with `all`, everybody is asked.
    fn examine(
        &self,
        facts: bool,
        places: &BTreeSet<usize>,
        all: bool,
    ) -> BTreeMap<usize, Finding> {
        let root = self.machine.root();
        let changed = facts
            .then(|| Environment::read(&root))
            .filter(|now| *now != self.environment);
        let now = changed.as_ref().unwrap_or(&self.environment);
        let patient = self.machine.patient(root, now);
        let find = |place: usize| {
            let one = std::slice::from_ref(&self.checks[place]);
            let mut findings = examine(&patient, one).findings;
            (place, findings.remove(0))
        };
        match changed {
            Some(_) if all => (0..self.checks.len()).map(find).collect(),
            _ => places.iter().copied().map(find).collect(),
        }
    }

    fn verdict(&self, now: &BTreeMap<usize, Finding>) -> Verdict {
        let all = self.before.findings.iter().enumerate();
        let caps = all
            .filter_map(|(place, then)| now.get(&place).unwrap_or(then).caps);
        caps.max().unwrap_or(Verdict::Publishable)
    }

    /// Mutates one file in every way; what went wrong, and whether anything
    /// changed.
    fn survive(&self, subject: &Subject) -> (Vec<String>, bool) {
        let path = self.machine.path(&subject.path);
        let real = path.canonicalize().expect("a fixture file");
        let (facts, mut places) = self.dependents(&real);
        let mut wrong = Vec::new();
        let mut needed: Vec<usize> = Vec::new();
        let mut told = false;
        if !facts && places.is_empty() {
            return (wrong, told);
        }
        for &mutation in subject.mutations() {
            mutation.apply(&path, &subject.good);
            let all = matches!(mutation, Mutation::Deleted | Mutation::Noise);
            let after = self.examine(facts, &places, all);
            mutation.restore(&path, &subject.good);
            let mut complain = |what: String| {
                let (name, path) = (self.machine.name, &subject.path);
                wrong.push(format!("{name} {path} {mutation:?}: {what}"));
            };
            let mut excused = false;
            for (place, now) in &after {
                let then = &self.before.findings[*place];
                if now != then {
                    told = true;
                    places.insert(*place);
                }
                let passes = now.status == Status::Pass;
                let passed = then.status == Status::Pass;
                if mutation == Mutation::Deleted && passed && !passes {
                    needed.push(*place);
                }
                if subject.is_excused(&now.id, mutation) {
                    excused = true;
                } else if passes && !passed {
                    let then = then.status.word();
                    complain(format!("{} was {then} and passes", now.id));
                } else if passes
                    && mutation.is_senseless()
                    && needed.contains(place)
                {
                    complain(format!("{} passes on this", now.id));
                }
            }
            // A greater verdict is a worse one.
            let verdict = self.verdict(&after);
            if verdict < self.before.verdict && !excused {
                complain(format!("it is {verdict} now"));
            }
        }
        (wrong, told)
    }
}

fn survive_all(name: &'static str) {
    let ward = Ward::admit(name);
    let whole = ward.machine.examine(&ward.checks);
    assert_eq!(ward.before, whole, "each check alone finds what all do");
    let subjects = subjects(&ward.machine.archive);
    let mut wrong = Vec::new();
    let mut matter = 0;
    for subject in &subjects {
        let (complaints, told) = ward.survive(subject);
        wrong.extend(complaints);
        matter += usize::from(told);
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let again = ward.machine.examine(&ward.checks);
    assert_eq!(again, whole, "the tree is as before");
    // If garbling changed next to nothing, the checks would not be reading.
    println!("{name}: {matter} of {} files matter", subjects.len());
    assert!(matter > 20, "{name}: only {matter} of {}", subjects.len());
}

macro_rules! survives {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            survive_all($name);
        })*

        #[test]
        fn every_machine_is_here() {
            assert_eq!([$($name),*], MACHINES);
        }
    };
}

survives! {
    aarch64 "aarch64"
    all_wrong "all-wrong"
    container "container"
    kvm_guest "kvm-guest"
    laptop "laptop"
    micro_vm "micro-vm"
    publishable "publishable"
    server_2s "server-2s"
}
