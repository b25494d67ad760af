//! Hand-built `/proc` and `/sys` trees in which machines read as sentences.

// Each test binary uses its own part of this module.
#![allow(dead_code, reason = "shared by test binaries that differ in use")]

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use harness::machine::{CpuSet, Root};

/// A directory tree that stands in for a machine's root.
#[derive(Debug)]
pub struct Tree(tempfile::TempDir);

impl Tree {
    pub fn new() -> Tree {
        // In memory where that is to be had: ext4 looks for inodes that were
        // not deleted lately, which takes 1,536 CPUs from 2 s to 25 s.
        let dir =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Tree(dir.expect("a temporary directory"))
    }

    pub fn root(&self) -> Root {
        Root::at(self.0.path())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, with a line break at the end as the kernel does.
    pub fn file(&self, rel: &str, text: impl Display) -> &Tree {
        let path = self.0.path().join(rel);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, format!("{text}\n")).expect("write");
        self
    }

    /// Writes several files into one directory.
    pub fn files(&self, dir: &str, files: &[(&str, &str)]) -> &Tree {
        for (name, text) in files {
            self.file(&format!("{dir}/{name}"), text);
        }
        self
    }

    /// A symbolic link to another place of the tree, relative as in sysfs.
    pub fn link(&self, rel: &str, target: &str) -> &Tree {
        let path = self.0.path().join(rel);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        let up = "../".repeat(rel.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}{target}"), path)
            .expect("symlink");
        self
    }

    pub fn remove(&self, rel: &str) -> &Tree {
        let path = self.0.path().join(rel);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("remove");
        } else {
            fs::remove_file(path).expect("remove");
        }
        self
    }

    /// All regular files of the tree.
    pub fn all_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.0.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).expect("read_dir").flatten() {
                let kind = entry.file_type().expect("file type");
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

pub fn set(list: &str) -> CpuSet {
    list.parse().expect("a good CPU list")
}

/// One cache of a CPU: level, type, size, sharing CPUs.
#[derive(Debug)]
pub struct CacheSpec(pub u8, pub &'static str, pub &'static str, pub String);

/// One CPU.
#[derive(Debug)]
pub struct CpuSpec {
    pub cpu: u32,
    pub package: u32,
    pub core: u32,
    pub siblings: String,
    pub package_cpus: String,
    pub capacity: Option<u32>,
    pub caches: Vec<CacheSpec>,
}

impl CpuSpec {
    pub fn write(&self, tree: &Tree) {
        let dir = format!("sys/devices/system/cpu/cpu{}", self.cpu);
        let topology = format!("{dir}/topology");
        tree.file(&format!("{topology}/physical_package_id"), self.package)
            .file(&format!("{topology}/die_id"), 0)
            .file(&format!("{topology}/core_id"), self.core)
            .file(&format!("{topology}/core_cpus_list"), &self.siblings)
            .file(&format!("{topology}/thread_siblings_list"), &self.siblings);
        // hwloc reads the masks, this program the lists.
        let masks = [
            ("core_cpus", &self.siblings),
            ("thread_siblings", &self.siblings),
            ("package_cpus", &self.package_cpus),
            ("core_siblings", &self.package_cpus),
        ];
        for (name, list) in masks {
            tree.file(&format!("{topology}/{name}"), mask(list));
        }
        if let Some(capacity) = self.capacity {
            tree.file(&format!("{dir}/cpu_capacity"), capacity);
        }
        for (index, CacheSpec(level, kind, size, shared)) in
            self.caches.iter().enumerate()
        {
            let dir = format!("{dir}/cache/index{index}");
            tree.file(&format!("{dir}/level"), level)
                .file(&format!("{dir}/type"), kind)
                .file(&format!("{dir}/size"), size)
                .file(&format!("{dir}/coherency_line_size"), 64)
                .file(&format!("{dir}/shared_cpu_list"), shared)
                .file(&format!("{dir}/shared_cpu_map"), mask(shared));
        }
    }
}

/// A CPU list in the kernel's mask format: 32-bit words, highest first.
fn mask(list: &str) -> String {
    let words: Vec<String> = set(list)
        .to_words()
        .iter()
        .rev()
        .flat_map(|word| [word >> 32, word & 0xffff_ffff])
        .map(|half| format!("{half:08x}"))
        .collect();
    words.join(",")
}

/// The summary files of a machine whose CPUs `0..count` are all online.
pub fn cpu_summary(tree: &Tree, possible: &str, online: &str) {
    tree.files(
        "sys/devices/system/cpu",
        &[("possible", possible), ("present", possible), ("online", online)],
    )
    .file("sys/devices/system/cpu/isolated", "");
}

/// One node; `cpus` empty for memory only.
pub fn node(tree: &Tree, number: u32, cpus: &str, mib: u64, distances: &str) {
    let dir = format!("sys/devices/system/node/node{number}");
    let total = format!("Node {number} MemTotal:       {} kB", mib << 10);
    let free = format!("Node {number} MemFree:        {} kB", mib << 9);
    tree.file(&format!("{dir}/cpulist"), cpus)
        .file(&format!("{dir}/cpumap"), mask(cpus))
        .file(&format!("{dir}/distance"), distances)
        .file(&format!("{dir}/meminfo"), format!("{total}\n{free}"));
}

/// 2 packages of 16 cores of 2 threads, 2 nodes a package, one L3 a node.
/// Numbered as Linux does: second threads come after all first threads.
pub fn two_socket_server() -> Tree {
    let tree = Tree::new();
    cpu_summary(&tree, "0-63", "0-63");
    for cpu in 0..64 {
        let core = cpu % 32;
        let package = core / 16;
        let numa = core / 8;
        let own = format!("{core},{}", core + 32);
        let l3 = node_cpus(numa);
        CpuSpec {
            cpu,
            package,
            core: core % 16,
            siblings: own.clone(),
            package_cpus: match package {
                0 => "0-15,32-47".to_owned(),
                _ => "16-31,48-63".to_owned(),
            },
            capacity: None,
            caches: vec![
                CacheSpec(1, "Data", "48K", own.clone()),
                CacheSpec(1, "Instruction", "32K", own.clone()),
                CacheSpec(2, "Unified", "2048K", own),
                CacheSpec(3, "Unified", "98304K", l3),
            ],
        }
        .write(&tree);
    }
    let distances =
        ["10 12 32 32", "12 10 32 32", "32 32 10 12", "32 32 12 10"];
    for (number, row) in (0..).zip(distances) {
        node(&tree, number, &node_cpus(number), 128 << 10, row);
    }
    tree
}

fn node_cpus(number: u32) -> String {
    let low = number * 8;
    format!("{low}-{},{}-{}", low + 7, low + 32, low + 39)
}

/// 4 fast cores of 2 threads and 8 small ones in 2 clusters that share an L2;
/// one L3.
pub fn hybrid_laptop() -> Tree {
    let tree = Tree::new();
    cpu_summary(&tree, "0-15", "0-15");
    tree.file("sys/devices/cpu_core/cpus", "0-7")
        .file("sys/devices/cpu_atom/cpus", "8-15");
    for cpu in 0..16 {
        let fast = cpu < 8;
        let own = match fast {
            true => format!("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1),
            false => cpu.to_string(),
        };
        let cluster = match cpu {
            0..8 => own.clone(),
            8..12 => "8-11".to_owned(),
            _ => "12-15".to_owned(),
        };
        CpuSpec {
            cpu,
            package: 0,
            core: if fast { cpu / 2 * 4 } else { cpu + 8 },
            siblings: own.clone(),
            package_cpus: "0-15".to_owned(),
            capacity: None,
            caches: vec![
                CacheSpec(
                    1,
                    "Data",
                    if fast { "48K" } else { "32K" },
                    own.clone(),
                ),
                CacheSpec(
                    1,
                    "Instruction",
                    if fast { "32K" } else { "64K" },
                    own,
                ),
                CacheSpec(
                    2,
                    "Unified",
                    if fast { "1280K" } else { "2048K" },
                    cluster,
                ),
                CacheSpec(3, "Unified", "24576K", "0-15".to_owned()),
            ],
        }
        .write(&tree);
    }
    node(&tree, 0, "0-15", 32 << 10, "10");
    tree
}

/// 1,536 CPUs without SMT in 2 packages; one L3 for each 16.
pub fn very_large_machine() -> Tree {
    let tree = Tree::new();
    cpu_summary(&tree, "0-1535", "0-1535");
    for cpu in 0..1536 {
        let package = cpu / 768;
        let low = cpu / 16 * 16;
        CpuSpec {
            cpu,
            package,
            core: cpu % 768,
            siblings: cpu.to_string(),
            package_cpus: format!("{}-{}", package * 768, package * 768 + 767),
            capacity: None,
            caches: vec![CacheSpec(
                3,
                "Unified",
                "32768K",
                format!("{low}-{}", low + 15),
            )],
        }
        .write(&tree);
    }
    node(&tree, 0, "0-767", 1 << 20, "10 32");
    node(&tree, 1, "768-1535", 1 << 20, "32 10");
    tree
}

/// A small virtual machine: 2 CPUs, no SMT, no frequency scaling, no sensors,
/// no firmware tables, one virtio disk and one virtio interface.
pub fn small_vm() -> Tree {
    let tree = Tree::new();
    cpu_summary(&tree, "0-1", "0-1");
    for cpu in 0..2 {
        let own = cpu.to_string();
        CpuSpec {
            cpu,
            package: 0,
            core: cpu,
            siblings: own.clone(),
            package_cpus: "0-1".to_owned(),
            capacity: Some(1024),
            caches: vec![
                CacheSpec(1, "Data", "48K", own.clone()),
                CacheSpec(1, "Instruction", "32K", own.clone()),
                CacheSpec(2, "Unified", "1024K", own),
                CacheSpec(3, "Unified", "32768K", "0-1".to_owned()),
            ],
        }
        .write(&tree);
        // What the kernel writes where there is no cluster.
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        tree.file(&format!("{topology}/cluster_id"), 65_535);
    }
    node(&tree, 0, "0-1", 4314, "10");
    vm_devices(&tree);
    vm_environment(&tree);
    tree
}

fn vm_devices(tree: &Tree) {
    let disk = "sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda";
    tree.link("sys/block/vda", disk)
        .link("sys/dev/block/254:0", disk)
        .link("sys/class/block/vda", disk)
        .link(
            &format!("{disk}/device"),
            "sys/devices/pci0000:00/0000:00:02.0/virtio1",
        )
        .files(
            disk,
            &[
                ("dev", "254:0"),
                ("size", "2097152"),
                ("ro", "0"),
                ("removable", "0"),
                ("serial", "secret-serial"),
                ("mq/0/cpu_list", "0, 1"),
                ("queue/scheduler", "none [mq-deadline] kyber bfq"),
                ("queue/logical_block_size", "512"),
                ("queue/physical_block_size", "4096"),
                ("queue/nr_requests", "256"),
                ("queue/io_poll", "0"),
                ("queue/rotational", "1"),
                ("queue/write_cache", "write back"),
                ("queue/fua", "0"),
                ("queue/wbt_lat_usec", "75000"),
            ],
        )
        .link(
            "sys/devices/pci0000:00/0000:00:02.0/virtio1/driver",
            "sys/bus/virtio/drivers/virtio_blk",
        );
    let device = "sys/devices/pci0000:00/0000:00:03.0/virtio2";
    let interface = format!("{device}/net/eth0");
    tree.link("sys/class/net/eth0", &interface)
        .link(&format!("{interface}/device"), device)
        .link(&format!("{device}/driver"), "sys/bus/virtio/drivers/virtio_net")
        .files(
            &interface,
            &[
                ("mtu", "1500"),
                ("speed", "-1"),
                ("operstate", "up"),
                ("address", "02:00:00:00:00:01"),
                ("queues/rx-0/rps_cpus", "0"),
                ("queues/tx-0/xps_cpus", "0"),
            ],
        );
    let lo = "sys/devices/virtual/net/lo";
    tree.link("sys/class/net/lo", lo)
        .files(lo, &[("mtu", "65536"), ("operstate", "unknown")]);
}

fn vm_environment(tree: &Tree) {
    tree.files(
        "proc",
        &[
            (
                "cpuinfo",
                "processor\t: 0\nvendor_id\t: GenuineIntel\n\
                 model name\t: Some Processor\nmicrocode\t: 0x1\n\
                 flags\t\t: fpu tsc constant_tsc nonstop_tsc hypervisor\n",
            ),
            (
                "meminfo",
                "MemTotal:        4417748 kB\nSwapTotal:       1000 kB\n\
                 SwapFree:         400 kB",
            ),
            (
                "cmdline",
                "mitigations=auto root=UUID=dead isolcpus=1 psi=1 -- \
                 preempt=full",
            ),
            ("loadavg", "0.50 0.25 0.10 1/100 42"),
            ("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1"),
            ("self/cgroup", "2:cpu:/group/inner\n0::/"),
            ("1/cgroup", "0::/"),
            (
                "self/limits",
                "Limit               Soft Limit  Hard Limit  Units
\
                 Max open files      1024        4096        files
\
                 Max locked memory   8388608     unlimited   bytes",
            ),
            (
                "self/mountinfo",
                "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                 27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
                 25 27 0:23 / /tmp rw - tmpfs tmpfs rw,size=1000k\n\
                 32 27 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            ),
            ("sys/kernel/osrelease", "6.18.1-test"),
            ("sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC"),
            ("sys/kernel/hostname", "secret-host"),
            ("sys/kernel/randomize_va_space", "2"),
            ("sys/kernel/perf_event_paranoid", "-1"),
            ("sys/kernel/io_uring_disabled", "0"),
            ("sys/kernel/numa_balancing", "0"),
        ],
    );
    tree.files(
        "sys/fs/cgroup/cpu/group",
        &[
            ("cpu.cfs_quota_us", "150000"),
            ("cpu.cfs_period_us", "100000"),
            ("inner/cpu.cfs_quota_us", "-1"),
            ("inner/cpu.cfs_period_us", "100000"),
        ],
    );
    tree.files(
        "sys/devices/system",
        &[
            ("clocksource/clocksource0/current_clocksource", "tsc"),
            ("clocksource/clocksource0/available_clocksource", "tsc kvm-clock"),
            ("cpu/vulnerabilities/spectre_v2", "Mitigation: Retpolines"),
            ("cpu/vulnerabilities/mds", "Not affected"),
        ],
    );
    tree.file(
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never",
    )
    .file("etc/machine-id", "0123456789abcdef0123456789abcdef");
}
