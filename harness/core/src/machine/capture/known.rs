//! Words that say nothing about whose machine it is.

/// Parts of paths (mount points, control groups, swap files) that are the same
/// on many machines. Digits are left out: `user-1000.slice` is `user-.slice`.
const PATH_PARTS: &[&str] = &[
    "app.slice",
    "bin",
    "binfmt_misc",
    "blkio",
    "boot",
    "bpf",
    "cache",
    "cgroup",
    "config",
    "connections",
    "containers",
    "cpu",
    "cpu,cpuacct",
    "cpuacct",
    "cpuset",
    "data",
    "debug",
    "dev",
    "devices",
    "efi",
    "efivars",
    "etc",
    "firmware",
    "freezer",
    "fs",
    "fuse",
    "home",
    "hostname",
    "hosts",
    "hugepages",
    "hugetlb",
    "init.scope",
    "kernel",
    "lib",
    "local",
    "lock",
    "log",
    "machine.slice",
    "mapper",
    "media",
    "memory",
    "misc",
    "mnt",
    "mqueue",
    "net",
    "net_cls",
    "net_cls,net_prio",
    "net_prio",
    "opt",
    "perf_event",
    "pids",
    "proc",
    "pstore",
    "pts",
    "rdma",
    "resolv.conf",
    "root",
    "rpc_pipefs",
    "run",
    "security",
    "session-.scope",
    "session.slice",
    "shm",
    "snap",
    "srv",
    "swap",
    "swap.img",
    "swapfile",
    "sys",
    "system.slice",
    "systemd",
    "tmp",
    "tracing",
    "unified",
    "user-.slice",
    "user.slice",
    "user@.service",
    "user",
    "usr",
    "var",
];

/// Control groups whose names tell what kind of container this is.
const CONTAINERS: &[&str] =
    &["kubepods", "docker", "libpod", "containerd", "lxc"];

/// How the kernel's block devices begin; at most two letters follow.
const DEVICES: &[&str] = &[
    "sd", "vd", "xvd", "nvme", "md", "dm-", "loop", "mmcblk", "zram", "ram",
    "pmem", "nullb", "sr",
];

/// How interfaces are called that nobody named: by the kernel, by a driver or
/// by a program that makes them. A number follows.
const INTERFACES: &[&str] = &[
    "bond", "br", "cni", "docker", "dummy", "erspan", "eth", "geneve", "gre",
    "gretap", "ib", "ifb", "ip_vti", "ip6gre", "ip6tnl", "ip6_vti", "ipvlan",
    "lo", "lxcbr", "lxdbr", "macvlan", "macvtap", "sit", "tap", "team", "tun",
    "tunl", "usb", "veth", "virbr", "vlan", "vnet", "vxlan", "wg", "wlan",
    "wwan",
];

/// How power supplies are called that firmware or a driver named.
const POWER_SUPPLIES: &[&str] =
    &["AC", "ACAD", "ADP", "BAT", "BATC", "BATT", "CMB", "hidpp_battery_"];

/// Processes whose running is a fact about the machine.
const PROCESSES: &[&str] = &[
    "auto-cpufreq",
    "cpufreqd",
    "irqbalance",
    "power-profiles-",
    "thermald",
    "tlp",
    "tuned",
    "tuned-ppd",
];

/// Mount options that hold no name, whatever their value.
const MOUNT_OPTIONS: &[&str] = &[
    "allocsize",
    "barrier",
    "commit",
    "compress",
    "data",
    "errors",
    "gid",
    "inode32",
    "inode64",
    "logbsize",
    "logbufs",
    "mode",
    "nr_inodes",
    "pagesize",
    "ptmxmode",
    "resgid",
    "resuid",
    "size",
    "space_cache",
    "stripe",
    "subvolid",
    "sunit",
    "swidth",
    "uid",
];

/// How options of the kernel configuration begin that change a result.
const CONFIG: &[&str] = &[
    "BPF",
    "CPU_FREQ_DEFAULT",
    "CPU_ISOLATION",
    "DEBUG_ATOMIC_SLEEP",
    "DEBUG_KERNEL",
    "DEBUG_KMEMLEAK",
    "DEBUG_LIST",
    "DEBUG_LOCK",
    "DEBUG_MUTEXES",
    "DEBUG_OBJECTS",
    "DEBUG_PAGEALLOC",
    "DEBUG_PREEMPT",
    "DEBUG_RT_MUTEXES",
    "DEBUG_SLAB",
    "DEBUG_SPINLOCK",
    "DEBUG_VM",
    "FAULT_INJECTION",
    "GCOV_KERNEL",
    "HZ",
    "IO_URING",
    "IRQ_TIME_ACCOUNTING",
    "KASAN",
    "KCOV",
    "KCSAN",
    "KMSAN",
    "KFENCE",
    "LOCKDEP",
    "LOCK_STAT",
    "NO_HZ",
    "NUMA",
    "PREEMPT",
    "PROVE_LOCKING",
    "PROVE_RCU",
    "PSI",
    "RCU_NOCB",
    "SCHEDSTATS",
    "SLUB_DEBUG",
    "UBSAN",
    "VIRT_CPU_ACCOUNTING",
    "XDP_SOCKETS",
];

/// Lines of `/proc/self/status` about the process's surroundings.
const STATUS: &[&str] = &[
    "CapBnd",
    "CapEff",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

/// Whether a component of a path can be shown.
pub(super) fn is_path_part(part: &str) -> bool {
    let stem: String = part.chars().filter(|c| !c.is_ascii_digit()).collect();
    let is_device = DEVICES.iter().any(|device| {
        stem.strip_prefix(device).is_some_and(|rest| {
            rest.len() <= 2 && rest.bytes().all(|b| b.is_ascii_lowercase())
        })
    });
    stem.is_empty() || is_device || PATH_PARTS.contains(&stem.as_str())
}

/// The kind of container that a control group's name tells.
pub(super) fn container(part: &str) -> Option<&'static str> {
    CONTAINERS.iter().find(|kind| part.contains(*kind)).copied()
}

/// Whether an interface's name tells nothing but its kind and place.
pub(super) fn is_interface(name: &str) -> bool {
    // `eth0.100`: a VLAN of it.
    let (name, vlan) = name.split_once('.').unwrap_or((name, "0"));
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    // systemd.net-naming-scheme(7): kind, then letters of place and numbers.
    let place = ["en", "ib", "sl", "wl", "ww"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .is_some_and(|place| {
            let is_place = |c: char| "Pabcdfinopsuv".contains(c);
            place.starts_with('x')
                || (place.starts_with(is_place)
                    && place.contains(|c: char| c.is_ascii_digit())
                    && place.chars().all(|c| c.is_ascii_digit() || is_place(c)))
        });
    (place || INTERFACES.contains(&stem))
        && vlan.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a power supply's name tells nothing but its kind.
pub(super) fn is_power_supply(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    POWER_SUPPLIES.contains(&stem)
}

/// Whether a process's name is a fact about the machine.
pub(super) fn is_process(name: &str) -> bool {
    PROCESSES.contains(&name)
}

/// Whether a mount option can be shown with its value.
pub(super) fn is_mount_option(name: &str) -> bool {
    MOUNT_OPTIONS.contains(&name)
}

/// Whether a line of a kernel configuration is of interest.
pub(super) fn is_config(line: &str) -> bool {
    let option = line.trim_start_matches("# ").strip_prefix("CONFIG_");
    option.is_some_and(|option| {
        CONFIG.iter().any(|start| option.starts_with(start))
    })
}

/// Whether a line of `/proc/self/status` is of interest.
pub(super) fn is_status(line: &str) -> bool {
    line.split(':').next().is_some_and(|name| STATUS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_nobody_named_are_known() {
        for name in [
            "lo",
            "eth0",
            "eth0.100",
            "eno1",
            "enp3s0f1np1",
            "enP4p1s0f0np0",
            "ens2f0",
            "wlp0s20f3",
            "wlan0",
            "wwan0",
            "ibp5s0",
            "docker0",
            "veth12",
            "enx525400abcdef",
            "ifb1",
            "wg0",
        ] {
            assert!(is_interface(name), "{name}");
        }
        for name in [
            "wg-acme",
            "engineering0",
            "lan0",
            "br-0a1b2c3d4e5f",
            "acme",
            "eth0.guests",
            "en",
            "vethab12",
            "",
        ] {
            assert!(!is_interface(name), "{name}");
        }
    }
}
