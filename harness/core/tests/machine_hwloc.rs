//! The two views of the topology, sysfs and hwloc, must count alike: on the
//! machine that runs this test, and on hand-built ones that hwloc reads too.
#![cfg(feature = "hwloc")]

mod machine_support;

use std::process::Command;

use harness::machine::{Root, Topology, hwloc_view::Counts};
use machine_support::*;

/// Tells the child test where the tree is.
const TREE: &str = "MACHINE_HWLOC_TREE";

#[test]
fn both_views_of_this_machine_agree() {
    let topology = Topology::read(&Root::system()).expect("sysfs");
    let hwloc = Counts::by_hwloc().expect("hwloc");
    assert!(hwloc.threads > 0);
    assert_eq!(hwloc.disagreements(&Counts::by_sysfs(&topology)), []);
}

/// hwloc takes its root from the environment once a process, so that each
/// tree needs a process of its own: this test again, as a child.
fn agree(tree: &Tree) {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_compares_the_views", "--ignored"])
        .args(["--nocapture"])
        .env("HWLOC_FSROOT", tree.path())
        // Not the CPUID of the real machine.
        .env("HWLOC_COMPONENTS", "linux,stop")
        .env("HWLOC_THISSYSTEM", "0")
        .env(TREE, tree.path())
        .output()
        .expect("the child");
    let text = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran: {text}");
}

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child_compares_the_views() {
    let tree = std::env::var_os(TREE).expect("the parent sets it");
    let topology = Topology::read(&Root::at(tree)).expect("a topology");
    let hwloc = Counts::by_hwloc().expect("hwloc");
    let sysfs = Counts::by_sysfs(&topology);
    println!("hwloc {hwloc:?}\nsysfs {sysfs:?}");
    assert_eq!(hwloc.disagreements(&sysfs), []);
}

#[test]
fn both_views_of_a_server_agree() {
    agree(&two_socket_server());
}

#[test]
fn both_views_of_a_hybrid_laptop_agree() {
    agree(&hybrid_laptop());
}

#[test]
fn both_views_of_a_small_vm_agree() {
    agree(&small_vm());
}

#[test]
fn both_views_of_1536_cpus_agree() {
    agree(&very_large_machine());
}

#[test]
fn a_wrong_count_is_told() {
    let topology =
        Topology::read(&two_socket_server().root()).expect("a topology");
    let right = Counts::by_sysfs(&topology);
    let mut wrong = right.clone();
    wrong.cores += 1;
    wrong.caches.remove(&3);
    let told = wrong.disagreements(&right);
    let what: Vec<&str> = told.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, ["cores", "l3 of 100663296 B"]);
    assert_eq!((told[1].sysfs, told[1].hwloc), (4, 0));
}
