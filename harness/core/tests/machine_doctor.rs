//! The rules that keep the doctor's verdict honest, on small trees.

mod machine_support;

use harness::machine::doctor::{
    Finding, Listed, Live, Patient, Report, Status, Verdict, common_checks,
    examine, io_uring,
};
use machine_support::*;

fn checks() -> Vec<Listed> {
    let common = common_checks().into_iter();
    common
        .chain(io_uring::CHECKS.iter().copied())
        .map(|check| Listed { check, touches: Vec::new() })
        .collect()
}

fn report(tree: &Tree) -> Report {
    examine(&Patient::captured(tree.root()), &checks())
}

fn finding(tree: &Tree, id: &str) -> Finding {
    let report = report(tree);
    report.finding(id).unwrap_or_else(|| panic!("no check {id}")).clone()
}

#[track_caller]
fn assert_status(tree: &Tree, id: &str, status: Status) -> Finding {
    let finding = finding(tree, id);
    assert_eq!(finding.status, status, "{id}: {}", finding.observed);
    finding
}

/// A machine of two CPUs without a hypervisor, and nothing else known of it.
fn bare_metal() -> Tree {
    let tree = Tree::new();
    cpu_summary(&tree, "0-1", "0-1");
    tree.file(
        "proc/cpuinfo",
        "processor\t: 0\nmicrocode\t: 0x2\n\
         flags\t\t: fpu constant_tsc nonstop_tsc\n\
         processor\t: 1\nmicrocode\t: 0x2",
    );
    tree
}

#[test]
fn nothing_is_known_of_an_empty_tree_and_nothing_passes() {
    let report = report(&Tree::new());
    for finding in &report.findings {
        assert_eq!(finding.status, Status::Unknown, "{}", finding.id);
        assert!(!finding.observed.is_empty(), "{} tells why", finding.id);
        assert!(finding.writes.is_empty(), "{}", finding.id);
    }
    assert_eq!(report.verdict, Verdict::ComparisonOnly);
}

#[test]
fn only_a_check_with_a_limit_caps_when_it_is_unknown() {
    let report = report(&Tree::new());
    let caps: Vec<&str> =
        report.caps().iter().map(|finding| finding.id.as_str()).collect();
    for check in common_checks() {
        assert_eq!(
            caps.contains(&check.id),
            check.limit.is_some(),
            "{}",
            check.id
        );
    }
}

#[test]
fn a_small_guest_is_for_comparison_and_says_what_only_its_host_knows() {
    let tree = small_vm();
    let guest = assert_status(&tree, "system.virtualisation", Status::Fail);
    assert_eq!(guest.caps, Some(Verdict::ComparisonOnly));
    assert_eq!(report(&tree).caps()[0].id, "cpu.quota", "1.5 CPUs");
    for id in ["cpu.governor", "cpu.turbo", "system.temperature"] {
        let finding = assert_status(&tree, id, Status::Unknown);
        assert!(finding.observed.contains("host"), "{}", finding.observed);
    }
}

#[test]
fn a_governor_is_judged_and_its_fix_knows_the_way_back() {
    let tree = bare_metal();
    let path = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    tree.file(&path.replace("cpu1", "cpu0"), "performance");
    assert_status(&tree, "cpu.governor", Status::Unknown);
    tree.file(path, "performance");
    let good = assert_status(&tree, "cpu.governor", Status::Pass);
    assert!(good.fix.is_empty() && good.writes.is_empty());
    tree.file(path, "powersave");
    let bad = assert_status(&tree, "cpu.governor", Status::Fail);
    assert_eq!(bad.observed, "governor performance on 0, powersave on 1");
    let [write] = bad.writes.as_slice() else { panic!("{:?}", bad.writes) };
    assert_eq!(write.path, format!("/{path}"));
    assert_eq!((&*write.value, &*write.was), ("performance", "powersave"));
}

#[test]
fn load_warns_before_it_caps() {
    let tree = bare_metal();
    for (load, runnable, status) in [
        ("0.10", 1, Status::Pass),
        ("0.90", 2, Status::Warn),
        ("3.00", 2, Status::Fail),
        ("3.00", 1, Status::Warn),
        ("NaN", 1, Status::Unknown),
        ("-1.0", 1, Status::Unknown),
    ] {
        let text = format!("{load} 0.1 0.1 {runnable}/100 42");
        tree.file("proc/loadavg", text);
        assert_status(&tree, "noise.load", status);
    }
}

#[test]
fn a_foreign_module_warns_and_an_oops_caps() {
    let tree = bare_metal();
    let path = "proc/sys/kernel/tainted";
    assert_status(tree.file(path, 0), "kernel.taint", Status::Pass);
    assert_status(tree.file(path, 4096), "kernel.taint", Status::Warn);
    let oops =
        assert_status(tree.file(path, 128), "kernel.taint", Status::Fail);
    assert_eq!(oops.caps, Some(Verdict::ComparisonOnly));
    assert_status(tree.file(path, "-1"), "kernel.taint", Status::Unknown);
}

#[test]
fn a_configuration_cut_short_is_no_pass() {
    let tree = bare_metal();
    tree.file("proc/sys/kernel/osrelease", "6.12.1");
    let path = "boot/config-6.12.1";
    let id = "kernel.debug_options";
    assert_status(tree.file(path, "CONFIG_HZ=250"), id, Status::Unknown);
    let whole = "CONFIG_DEBUG_KERNEL=y\n# CONFIG_KASAN is not set";
    assert_status(tree.file(path, whole), id, Status::Pass);
    let checked = format!("{whole}\nCONFIG_LOCKDEP=y");
    let heavy = assert_status(tree.file(path, checked), id, Status::Fail);
    assert_eq!(heavy.caps, Some(Verdict::FunctionalOnly));
    tree.remove(path);
    assert_status(tree.file("proc/lockdep", ""), id, Status::Fail);
}

#[test]
fn a_battery_counts_and_that_of_a_mouse_does_not() {
    let tree = bare_metal();
    let dir = "sys/class/power_supply";
    let mouse = format!("{dir}/hidpp_battery_0");
    tree.files(&mouse, &[("type", "Battery"), ("scope", "Device")]);
    assert_status(&tree, "system.power", Status::NotApplicable);
    let own = format!("{dir}/BAT0");
    tree.files(&own, &[("type", "Battery"), ("status", "Discharging")]);
    assert_status(&tree, "system.power", Status::Fail);
    tree.file(&format!("{own}/status"), "Full");
    assert_status(&tree, "system.power", Status::Pass);
    tree.file(&format!("{own}/status"), "Puzzled");
    assert_status(&tree, "system.power", Status::Unknown);
}

#[test]
fn processes_that_cannot_be_listed_hide_no_daemon() {
    let tree = bare_metal();
    tree.file("proc/1/cgroup", "0::/init.scope");
    assert_status(&tree, "noise.irqbalance", Status::Unknown);
    tree.file("proc/1/comm", "systemd").file("proc/7/comm", "sh");
    assert_status(&tree, "noise.irqbalance", Status::Pass);
    // With hidepid=2 only this user's processes are there.
    tree.remove("proc/1/comm").file("proc/8/comm", "sh");
    assert_status(&tree, "noise.irqbalance", Status::Unknown);
    tree.file("proc/1/comm", "systemd");
    tree.file("proc/9/comm", "irqbalance");
    assert_status(&tree, "noise.irqbalance", Status::Warn);
}

#[test]
fn a_flaw_of_which_nothing_is_known_is_no_pass() {
    let tree = bare_metal();
    tree.file("proc/cmdline", "quiet");
    let dir = "sys/devices/system/cpu/vulnerabilities";
    let id = "cpu.mitigations";
    tree.files(dir, &[("mds", "Not affected"), ("l1tf", "Mitigation: PTE")]);
    assert_status(&tree, id, Status::Pass);
    tree.file(&format!("{dir}/gds"), "Unknown: Dependent on hypervisor status");
    assert_status(&tree, id, Status::Unknown);
    tree.file(&format!("{dir}/mds"), "Vulnerable; SMT vulnerable");
    assert_status(&tree, id, Status::Warn);
}

/// Undo goes backwards through what apply does.
#[test]
fn a_script_can_undo_what_it_applies() {
    let tree = bare_metal();
    let dir = "sys/devices/system/cpu";
    tree.files(&format!("{dir}/smt"), &[("active", "1"), ("control", "on")]);
    let smt = assert_status(&tree, "cpu.smt", Status::Warn);
    assert_eq!(smt.writes, [], "siblings that are off take no settings");
    let all = checks();
    let place = |id| all.iter().position(|listed| listed.check.id == id);
    assert!(
        place("cpu.energy_preference") < place("cpu.governor"),
        "no preference can be put back while the governor is `performance`"
    );
}

#[test]
fn a_build_without_optimisation_outweighs_all_else() {
    let mut patient = Patient::captured(small_vm().root());
    patient.live = Live { debug_assertions: Some(true), ..Live::default() };
    let report = examine(&patient, &checks());
    assert_eq!(report.verdict, Verdict::FunctionalOnly);
    assert_eq!(report.caps()[0].id, "system.build");
}

#[test]
fn of_two_examinations_the_worse_finding_stays() {
    let tree = bare_metal();
    let path = "proc/loadavg";
    let with = |load: &str| report(tree.file(path, load));
    let quiet = with("0.0 0 0 1/9 9");
    let busy = with("9.0 0 0 5/9 9");
    for (mut first, second) in [(quiet.clone(), busy.clone()), (busy, quiet)] {
        first.absorb(second);
        let load = first.finding("noise.load").expect("the check");
        assert_eq!(load.status, Status::Fail);
        assert_eq!(first.findings.len(), checks().len(), "each once");
    }
}

#[test]
fn the_running_system_is_read_without_a_panic() {
    let report = examine(&Patient::system("/"), &checks());
    assert_eq!(report.findings.len(), checks().len());
    let json = serde_json::to_string(&report).expect("json");
    let back: Report = serde_json::from_str(&json).expect("the same form");
    assert_eq!(back, report);
}
