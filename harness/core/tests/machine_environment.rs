//! Environments on hand-built trees.

mod machine_support;

use harness::machine::{
    CpuLimit, Environment, IrqAccounting, Limits, Root, Topology, cpu_limit,
    differences,
    environment::{
        Container, Frequency, Virtualization, fingerprint_changes,
        irq_accounting,
    },
    fingerprint, machine_id8,
};
use machine_support::*;

#[test]
fn a_small_virtual_machine() {
    let here = Environment::read(&small_vm().root());
    assert_eq!(here.kernel_release.as_deref(), Some("6.18.1-test"));
    assert_eq!(here.cpu_model.as_deref(), Some("Some Processor"));
    assert_eq!(here.microcode.as_deref(), Some("0x1"));
    assert_eq!(here.cpu_count, Some(2));
    assert_eq!(here.clocksource.as_deref(), Some("tsc"));
    assert_eq!(here.clocksources, ["tsc", "kvm-clock"]);
    assert_eq!((here.tsc_constant, here.tsc_nonstop), (Some(true), Some(true)));
    assert_eq!(here.frequency, Frequency::default());
    let kvm = Virtualization::Guest(Some("kvm".to_owned()));
    assert_eq!(here.virtualization, kvm);
    assert_eq!(here.container, Container::NoSign);
    assert_eq!(here.transparent_hugepages.as_deref(), Some("madvise"));
    assert_eq!(here.perf_event_paranoid, Some(-1));
    assert_eq!(here.io_uring_disabled, Some(0));
    assert_eq!(here.memory_bytes, Some(4_417_748 << 10));
    assert_eq!(here.swap_used_bytes, Some(600 << 10));
    assert_eq!(here.load_average, Some([0.5, 0.25, 0.1]));
    assert_eq!(here.has_pressure, Some(true));
    assert_eq!(here.is_vulnerable(), Some(false));
    let files = here.limits.open_files.expect("a limit");
    assert_eq!((files.soft, files.hard), (Some(1024), Some(4096)));
    let locked = here.limits.locked_memory_bytes.expect("a limit");
    assert_eq!((locked.soft, locked.hard), (Some(8 << 20), None));
}

#[test]
fn only_parameters_that_matter_are_kept() {
    let here = Environment::read(&small_vm().root());
    assert_eq!(
        here.cmdline.as_deref(),
        Some("mitigations=auto isolcpus=1 psi=1")
    );
}

#[test]
fn an_empty_root_is_all_unknown() {
    let here = Environment::read(&Tree::new().root());
    let json = serde_json::to_value(&here).expect("json");
    let known: Vec<&String> = json
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(_, value)| match value {
            serde_json::Value::Null => false,
            serde_json::Value::String(text) => text != "unknown",
            serde_json::Value::Array(items) => !items.is_empty(),
            serde_json::Value::Object(fields) => fields.values().any(|field| {
                !field.is_null() && field.as_array() != Some(&Vec::new())
            }),
            _ => true,
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(known, ["architecture"], "the compiler tells that one");
    assert_eq!(Limits::read(&Tree::new().root()), Limits::default());
}

#[test]
fn json_goes_there_and_back() {
    for root in [small_vm().root(), Root::system()] {
        let here = Environment::read(&root);
        let json = serde_json::to_string(&here).expect("json");
        let back: Environment = serde_json::from_str(&json).expect("one");
        assert_eq!(back, here);
    }
}

#[test]
fn frequency_scaling_is_summarised() {
    let tree = small_vm();
    for (cpu, governor) in [(0, "performance"), (1, "powersave")] {
        tree.files(
            &format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"),
            &[
                ("scaling_driver", "intel_pstate"),
                ("scaling_governor", governor),
                ("scaling_max_freq", "3000000"),
                ("scaling_min_freq", ["800000", "900000"][cpu]),
            ],
        );
    }
    tree.file("sys/devices/system/cpu/intel_pstate/no_turbo", 1);
    let both = Environment::read(&tree.root()).frequency;
    assert_eq!(both.drivers.len(), 1);
    assert_eq!(both.governors.len(), 2);
    assert_eq!((both.min_khz, both.max_khz), (Some(800_000), Some(3_000_000)));
    assert_eq!(both.boost, Some(false), "no_turbo is the opposite of boost");
    let one = Frequency::read(&tree.root(), Some(&set("1")));
    let governors: Vec<&String> = one.governors.iter().collect();
    assert_eq!(governors, ["powersave"]);
    assert_eq!(one.min_khz, Some(900_000));
}

#[test]
fn quotas_of_both_cgroup_versions() {
    let tree = small_vm();
    // Version 1: the inner group has none, its parent has 1.5 CPUs.
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Cpus(1.5));
    tree.file("sys/fs/cgroup/cpu/group/cpu.cfs_quota_us", "-1");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unlimited);
    tree.remove("sys/fs/cgroup/cpu/group/cpu.cfs_period_us")
        .file("sys/fs/cgroup/cpu/group/cpu.cfs_quota_us", "5");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unknown);

    let tree = Tree::new();
    tree.file("proc/self/cgroup", "0::/a.slice/b.scope")
        .file(
            "proc/self/mountinfo",
            "32 27 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        )
        .file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory")
        .file("sys/fs/cgroup/a.slice/cpu.max", "50000 100000")
        .file("sys/fs/cgroup/a.slice/b.scope/cpu.max", "max 100000");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Cpus(0.5));
    tree.file("sys/fs/cgroup/a.slice/cpu.max", "max 100000");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unlimited);
    tree.file("sys/fs/cgroup/a.slice/cpu.max", "garbage");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unknown);
    // Without the controller, the hierarchy's silence means nothing.
    tree.file("sys/fs/cgroup/cgroup.controllers", "memory");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unknown);
}

#[test]
fn a_container_sees_its_own_part_of_the_hierarchy() {
    let tree = Tree::new();
    tree.file("proc/self/cgroup", "3:cpu,cpuacct:/docker/abc")
        .file(
            "proc/self/mountinfo",
            "32 27 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup \
             rw,cpu,cpuacct",
        )
        .file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
        .file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Cpus(2.0));
    tree.file("proc/self/cgroup", "3:cpu,cpuacct:/../elsewhere");
    assert_eq!(cpu_limit(&tree.root()), CpuLimit::Unknown);
}

#[test]
fn where_interrupt_time_is_counted() {
    let tree = small_vm();
    let told = || irq_accounting(&tree.root());
    // Kernel 6.18 with pressure but without the file for interrupts.
    assert_eq!(told(), IrqAccounting::InTasks);
    tree.file("proc/sys/kernel/osrelease", "5.15.0");
    assert_eq!(told(), IrqAccounting::Unknown);
    tree.file("boot/config-5.15.0", "CONFIG_IRQ_TIME_ACCOUNTING=y");
    assert_eq!(told(), IrqAccounting::Separate);
    // Off at run time.
    let clock = "sys/devices/system/clocksource/clocksource0/\
                 current_clocksource";
    tree.file(clock, "hpet");
    assert_eq!(told(), IrqAccounting::Unknown);
    tree.file(clock, "tsc");
    tree.file("proc/cmdline", "quiet tsc=noirqtime");
    assert_eq!(told(), IrqAccounting::InTasks);
    tree.file("proc/cmdline", "quiet");
    tree.file("boot/config-5.15.0", "# CONFIG_IRQ_TIME_ACCOUNTING is not set");
    assert_eq!(told(), IrqAccounting::InTasks);
    tree.file("boot/config-5.15.0", "");
    assert_eq!(told(), IrqAccounting::Unknown);
    tree.file("proc/pressure/irq", "full avg10=0.00 total=1");
    assert_eq!(told(), IrqAccounting::Separate);
}

#[test]
fn guests_and_hosts() {
    let tree = Tree::new();
    let told = || Environment::read(&tree.root()).virtualization;
    assert_eq!(told(), Virtualization::Unknown);
    tree.file("proc/cpuinfo", "flags : fpu tsc");
    assert_eq!(told(), Virtualization::None);
    // The vendor of a bare-metal machine in a cloud is not a hypervisor.
    tree.file("sys/class/dmi/id/sys_vendor", "Amazon EC2");
    assert_eq!(told(), Virtualization::None);
    tree.file("proc/cpuinfo", "flags : fpu hypervisor");
    let amazon = Virtualization::Guest(Some("amazon".to_owned()));
    assert_eq!(told(), amazon);
    tree.remove("sys/class/dmi/id/sys_vendor");
    assert_eq!(told(), Virtualization::Guest(None));
    assert_eq!(told().is_guest(), Some(true));
    assert!(!told().is_emulated());
    // The firmware is the same whether a hypervisor runs below or software
    // plays the processor.
    tree.file("sys/class/dmi/id/sys_vendor", "QEMU");
    assert!(!told().is_emulated());
    tree.file(
        "proc/cpuinfo",
        "model name : QEMU TCG CPU version 2.5+\nflags : fpu hypervisor",
    );
    assert!(told().is_emulated());
    assert_eq!(told().is_guest(), Some(true));
}

#[test]
fn containers_leave_marks() {
    for (file, text, kind) in [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "systemd-nspawn", "systemd-nspawn"),
        ("proc/1/environ", "A=b\0container=lxc\0", "lxc"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1", "kubepods"),
    ] {
        let tree = Tree::new();
        let unknown = Environment::read(&tree.root()).container;
        assert_eq!(unknown, Container::Unknown);
        tree.file(file, text);
        let told = Environment::read(&tree.root()).container;
        assert_eq!(told, Container::Inside(kind.to_owned()), "{file}");
    }
}

#[test]
fn the_machine_has_a_name_that_tells_nothing() {
    let tree = small_vm();
    let name = machine_id8(&tree.root());
    // Fixed for ever: results of one machine must stay together.
    assert_eq!(name, machine_id8(&small_vm().root()));
    assert_eq!(name.len(), 8);
    assert!(name.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(!"0123456789abcdef0123456789abcdef".contains(&name));
    tree.file("etc/machine-id", "0123456789abcdef0123456789abcdee");
    assert_ne!(machine_id8(&tree.root()), name);
    tree.remove("etc/machine-id");
    let fallback = machine_id8(&tree.root());
    tree.file("proc/sys/kernel/hostname", "another-host");
    assert_ne!(machine_id8(&tree.root()), fallback);
    tree.file("etc/machine-id", "uninitialized");
    assert_ne!(machine_id8(&tree.root()), name);
}

#[test]
fn the_name_of_a_machine_does_not_change_between_versions() {
    assert_eq!(machine_id8(&small_vm().root()), "6b8527fa");
}

#[test]
fn host_names_and_serials_are_in_no_output() {
    let tree = small_vm();
    let here = Environment::read(&tree.root());
    let topology = Topology::read(&tree.root()).expect("a topology");
    for text in [
        serde_json::to_string(&here).expect("json"),
        format!("{here:?}"),
        fingerprint(&here, &topology),
        machine_id8(&tree.root()),
    ] {
        for secret in ["secret", "dead", "0123456789abcdef"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

fn both(tree: &Tree) -> (Environment, String) {
    let environment = Environment::read(&tree.root());
    let topology = Topology::read(&tree.root()).expect("a topology");
    let print = fingerprint(&environment, &topology);
    (environment, print)
}

#[test]
fn differences_name_what_changed() {
    let tree = small_vm();
    let (before, print_before) = both(&tree);
    assert_eq!(fingerprint_changes(&print_before, &print_before), []);
    tree.file("proc/loadavg", "9.0 9.0 9.0 1/1 1");
    let (after, print_after) = both(&tree);
    assert_eq!(differences(&before, &after), [], "load is no difference");
    assert_eq!(print_before, print_after);

    let cpu = "sys/devices/system/cpu";
    tree.file(&format!("{cpu}/vulnerabilities/spectre_v2"), "Vulnerable")
        .file(&format!("{cpu}/cpu0/cpufreq/scaling_governor"), "performance")
        .file(&format!("{cpu}/online"), "0")
        .remove("sys/fs/cgroup/cpu/group/cpu.cfs_quota_us")
        .file("proc/sys/kernel/randomize_va_space", 0);
    let (after, print_after) = both(&tree);
    let line = |d: &harness::machine::Difference| {
        format!("{}: {} -> {}", d.key, d.before, d.after)
    };
    let told: Vec<String> =
        differences(&before, &after).iter().map(line).collect();
    assert_eq!(
        told,
        [
            "cpu_count: 2 -> 1",
            "cpu_limit: 1.5 CPUs -> unlimited",
            "frequency.governors:  -> performance",
            "mitigations.spectre_v2: Mitigation: Retpolines -> Vulnerable",
            "randomize_va_space: 2 -> 0",
        ]
    );
    let changes: Vec<String> = fingerprint_changes(&print_before, &print_after)
        .iter()
        .map(line)
        .collect();
    assert_eq!(
        changes,
        [
            "cpu_limit: 1.5 CPUs -> unlimited",
            "frequency.governors:  -> performance",
            "mitigations.spectre_v2: Mitigation: Retpolines -> Vulnerable",
            "topology.cores: 2 -> 1",
            "topology.online: 0-1 -> 0",
        ]
    );
}

#[test]
fn this_machine_has_the_same_fingerprint_twice() {
    let print = || {
        let root = Root::system();
        let topology = Topology::read(&root).expect("sysfs");
        fingerprint(&Environment::read(&root), &topology)
    };
    assert_eq!(print(), print());
}
