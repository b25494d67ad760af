//! Each file of a machine is deleted or garbled in turn; nothing may panic.

mod machine_support;

use std::fs;
use std::path::Path;
use std::thread;

use harness::machine::{
    Cpu, CpuSet, Environment, Topology, block_device_of, block_devices,
    cpu_limit, default_cpus, devices, differences, filesystem_of, fingerprint,
    machine_id8, network_interfaces,
};
use machine_support::*;

/// What a file may turn into: nothing, blanks, bytes that are no text,
/// numbers out of range, lists without sense, structure cut short.
const GARBAGE: [&[u8]; 12] = [
    b"",
    b"\n \n",
    &[0xff, 0xfe, 0x00, 0x80],
    b"-1",
    b"99999999999999999999",
    b"4294967295",
    b"0-4294967295",
    b"7-3,,x",
    b"1535",
    "\u{20ac}K".as_bytes(),
    b"[",
    b"a b - c \\0 : = ::",
];

/// Calls every reader and everything that works on what they return.
fn read_all(tree: &Tree) -> String {
    let root = tree.root();
    let mut seen = String::new();
    if let Ok(topology) = Topology::read(&root) {
        seen += &topology.text(&topology.online);
        seen += &serde_json::to_string(&topology).expect("json");
        let all: CpuSet = (0..4).map(Cpu).collect();
        for a in &all {
            seen += &format!("{:?}", topology.pairs(a, &all));
        }
        seen += &format!("{:?}", default_cpus(&topology, &all, 4));
        let environment = Environment::read(&root);
        seen += &fingerprint(&environment, &topology);
    }
    let environment = Environment::read(&root);
    seen += &serde_json::to_string(&environment).expect("json");
    assert_eq!(differences(&environment, &environment), []);
    let blocks = block_devices(&root);
    let networks = network_interfaces(&root);
    seen += &devices::text(&blocks, &networks);
    for path in ["/", "/tmp/x", "/dev/vda", "relative/../path", ""] {
        let path = Path::new(path);
        seen += &format!("{:?}", block_device_of(&root, path));
        seen += &format!("{:?}", filesystem_of(&root, path));
    }
    seen += &format!("{:?}", cpu_limit(&root));
    seen += &machine_id8(&root);
    seen
}

/// So many threads share the files, each with a tree of its own.
const PARTS: usize = 4;

/// Returns how many files of this part matter.
fn survive(tree: &Tree, part: usize) -> usize {
    let whole = read_all(tree);
    let mut changed = 0;
    for path in tree.all_files().into_iter().skip(part).step_by(PARTS) {
        let good = fs::read(&path).expect("a fixture file");
        let mut told = false;
        for garbage in GARBAGE {
            fs::write(&path, garbage).expect("write");
            told |= read_all(tree) != whole;
        }
        fs::remove_file(&path).expect("remove");
        told |= read_all(tree) != whole;
        fs::create_dir(&path).expect("a directory in its place");
        told |= read_all(tree) != whole;
        fs::remove_dir(&path).expect("remove");
        fs::write(&path, good).expect("write back");
        changed += usize::from(told);
    }
    assert_eq!(read_all(tree), whole, "the fixture is as before");
    changed
}

#[test]
fn no_file_of_a_small_machine_can_cause_a_panic() {
    let changed: usize = thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS)
            .map(|part| scope.spawn(move || survive(&small_vm(), part)))
            .collect();
        parts.into_iter().map(|part| part.join().expect("no panic")).sum()
    });
    // If garbling changed next to nothing, the readers would not be reading.
    assert!(changed > 50, "only {changed} files matter");
}

#[test]
fn a_tree_cut_off_at_any_directory_cannot_cause_a_panic() {
    let tree = small_vm();
    let whole = read_all(&tree);
    for dir in [
        "sys/devices/system/node",
        "sys/devices/system/cpu/cpu1",
        "sys/devices/system/cpu",
        "sys/block",
        "sys/class",
        "sys/devices/pci0000:00",
        "proc/self",
        "proc",
        "etc",
        "sys",
    ] {
        tree.remove(dir);
        assert_ne!(read_all(&tree), whole, "{dir}");
    }
}
