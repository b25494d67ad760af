//! Topologies read from hand-built trees.

mod machine_support;

use harness::machine::{
    Cpu, NumaNode, Relation, Topology, TopologyError,
    topology::{CacheKind, CoreKind},
};
use machine_support::*;

fn read(tree: &Tree) -> Topology {
    Topology::read(&tree.root()).expect("a topology")
}

#[test]
fn a_server_with_two_packages_and_four_nodes() {
    let topology = read(&two_socket_server());
    assert_eq!(topology.online, set("0-63"));
    assert_eq!(topology.offline, Some(set("")));
    assert_eq!(topology.isolated, Some(set("")));
    assert_eq!(topology.packages.len(), 2);
    assert_eq!(topology.packages[1].cpus, set("16-31,48-63"));
    assert_eq!(topology.cores().len(), 32);
    assert_eq!(topology.has_smt(), Some(true));
    assert!(!topology.is_hybrid());
    assert_eq!(topology.siblings(Cpu(40)), set("8,40"));
    assert_eq!(topology.node_of(Cpu(47)), Some(NumaNode(1)));
    assert_eq!(topology.cpus_of(NumaNode(3)), set("24-31,56-63"));
    assert_eq!(topology.nodes[0].memory_bytes, Some(128 << 30));
    assert_eq!(topology.distance(NumaNode(0), NumaNode(1)), Some(12));
    assert_eq!(topology.distance(NumaNode(3), NumaNode(0)), Some(32));
    assert_eq!(topology.distance(NumaNode(3), NumaNode(9)), None);

    let count = |level, kind| {
        let same = |c: &&harness::machine::topology::Cache| {
            (c.level, c.kind) == (level, kind)
        };
        topology.caches.iter().filter(same).count()
    };
    assert_eq!(count(1, CacheKind::Data), 32);
    assert_eq!(count(1, CacheKind::Instruction), 32);
    assert_eq!(count(2, CacheKind::Unified), 32);
    assert_eq!(count(3, CacheKind::Unified), 4);
    let last = topology.last_level_cache(Cpu(9)).expect("an L3");
    assert_eq!(last.name(), "L3");
    assert_eq!(last.size_bytes, Some(96 << 20));
    assert_eq!(last.cpus, set("8-15,40-47"));
    assert_eq!(topology.line_bytes(), Some(64));
}

#[test]
fn relations_on_the_server() {
    let topology = read(&two_socket_server());
    let relation = |a, b| topology.relation(Cpu(a), Cpu(b));
    assert_eq!(relation(3, 3), Relation::SameCpu);
    assert_eq!(relation(3, 35), Relation::SmtSibling);
    assert_eq!(relation(3, 4), Relation::SharedCache { level: 3 });
    assert_eq!(relation(3, 36), Relation::SharedCache { level: 3 });
    assert_eq!(relation(3, 8), Relation::SamePackage);
    assert_eq!(relation(3, 16), Relation::OtherPackage);
    assert_eq!(relation(3, 64), Relation::Unknown);
    let pairs = topology.pairs(Cpu(1), &topology.online);
    let found: Vec<(String, u32)> =
        pairs.iter().map(|p| (p.relation.to_string(), p.b.0)).collect();
    assert_eq!(
        found,
        [
            ("smt-sibling".to_owned(), 33),
            ("shared-l3".to_owned(), 2),
            ("same-package".to_owned(), 8),
            ("other-package".to_owned(), 16),
        ]
    );
}

#[test]
fn relations_say_no_more_than_is_known() {
    let tree = two_socket_server();
    for cpu in 0..64 {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}");
        tree.remove(&format!("{dir}/cache")).remove(&format!("{dir}/topology"));
    }
    let topology = read(&tree);
    assert_eq!(topology.has_smt(), None);
    assert_eq!(topology.relation(Cpu(0), Cpu(32)), Relation::SameNode);
    assert_eq!(topology.relation(Cpu(0), Cpu(8)), Relation::OtherNode);
    tree.remove("sys/devices/system/node");
    let topology = read(&tree);
    assert!(topology.nodes.is_empty());
    assert_eq!(topology.relation(Cpu(0), Cpu(32)), Relation::Unknown);
}

#[test]
fn a_hybrid_laptop() {
    let topology = read(&hybrid_laptop());
    assert!(topology.is_hybrid());
    assert_eq!(topology.cores().len(), 12);
    let kind = |cpu| topology.cpu(Cpu(cpu)).map(|facts| facts.kind);
    assert_eq!(kind(7), Some(CoreKind::Performance));
    assert_eq!(kind(8), Some(CoreKind::Efficiency));
    let relation = |a, b| topology.relation(Cpu(a), Cpu(b));
    assert_eq!(relation(0, 1), Relation::SmtSibling);
    assert_eq!(relation(8, 9), Relation::SharedCache { level: 2 });
    assert_eq!(relation(8, 12), Relation::SharedCache { level: 3 });
}

#[test]
fn capacity_tells_big_from_small_where_nothing_else_does() {
    let tree = hybrid_laptop();
    tree.remove("sys/devices/cpu_atom");
    for cpu in 0..16 {
        // Favoured cores of one sort differ a little; that is not hybrid.
        let capacity = if cpu < 8 { 1024 - cpu } else { 446 };
        let file = format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
        tree.file(&file, capacity);
    }
    let topology = read(&tree);
    for facts in &topology.cpus {
        let small = facts.cpu.0 >= 8;
        assert_eq!(facts.kind == CoreKind::Efficiency, small, "{}", facts.cpu);
    }
    for cpu in 8..16 {
        let file = format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
        tree.file(&file, 1000);
    }
    assert!(!read(&tree).is_hybrid());
}

#[test]
fn an_offline_cpu_is_told_and_left_out() {
    let tree = two_socket_server();
    cpu_summary(&tree, "0-63", "0-4,6-63");
    tree.remove("sys/devices/system/cpu/cpu5/topology")
        .remove("sys/devices/system/cpu/cpu5/cache");
    let topology = read(&tree);
    assert_eq!(topology.offline, Some(set("5")));
    assert_eq!(topology.cpu(Cpu(5)), None);
    assert_eq!(topology.siblings(Cpu(37)), set("37"));
    assert_eq!(topology.relation(Cpu(5), Cpu(37)), Relation::Unknown);
    assert_eq!(topology.cpus_of(NumaNode(0)), set("0-4,6-7,32-39"));
    assert_eq!(topology.cores().len(), 32);
}

#[test]
fn online_cpus_without_the_summary_file() {
    let tree = two_socket_server();
    tree.remove("sys/devices/system/cpu/online")
        .file("sys/devices/system/cpu/cpu63/online", 0)
        .file("sys/devices/system/cpu/cpu62/online", 1);
    assert_eq!(read(&tree).online, set("0-62"));
}

#[test]
fn isolated_and_tickless_cpus() {
    let tree = two_socket_server();
    tree.file("sys/devices/system/cpu/isolated", "2-3")
        .file("sys/devices/system/cpu/nohz_full", "(null)");
    let topology = read(&tree);
    assert_eq!(topology.isolated, Some(set("2-3")));
    assert_eq!(topology.nohz_full, Some(set("")));
}

#[test]
fn a_node_of_memory_only() {
    let tree = two_socket_server();
    for (number, row) in [
        (0, "10 12 32 32 14"),
        (1, "12 10 32 32 14"),
        (2, "32 32 10 12 40"),
        (3, "32 32 12 10 40"),
        (4, "14 14 40 40 10"),
    ] {
        tree.file(
            &format!("sys/devices/system/node/node{number}/distance"),
            row,
        );
    }
    node(&tree, 4, "", 256 << 10, "14 14 40 40 10");
    let topology = read(&tree);
    let far = topology.node(NumaNode(4)).expect("the node");
    assert!(far.is_memory_only());
    assert!(!topology.nodes[0].is_memory_only());
    assert_eq!(topology.distance(NumaNode(4), NumaNode(2)), Some(40));
    let text = topology.text(&topology.online);
    assert!(text.contains("node 4: 256 GiB, memory only"), "{text}");
}

#[test]
fn a_distance_row_of_the_wrong_length_is_unknown() {
    let tree = two_socket_server();
    tree.file("sys/devices/system/node/node0/distance", "10 12 32");
    let topology = read(&tree);
    assert_eq!(topology.distance(NumaNode(0), NumaNode(1)), None);
    assert_eq!(topology.distance(NumaNode(1), NumaNode(0)), Some(12));
    let text = topology.text(&topology.online);
    assert!(text.contains("       0    ?    ?    ?    ?"), "{text}");
}

#[test]
fn more_than_1024_cpus() {
    let topology = read(&very_large_machine());
    assert_eq!(topology.online.len(), 1536);
    assert_eq!(topology.caches.len(), 96);
    assert_eq!(topology.packages[1].cpus, set("768-1535"));
    let relation = |a, b| topology.relation(Cpu(a), Cpu(b));
    assert_eq!(relation(1520, 1535), Relation::SharedCache { level: 3 });
    assert_eq!(relation(1519, 1535), Relation::SameNode);
    assert_eq!(relation(0, 1535), Relation::OtherPackage);
    let lines = topology.text(&topology.online).lines().count();
    assert!(lines < 250, "{lines} lines");
}

#[test]
fn a_small_virtual_machine() {
    let tree = small_vm();
    let topology = read(&tree);
    assert_eq!(topology.has_smt(), Some(false));
    assert!(!topology.is_hybrid());
    assert_eq!(topology.cpus[0].cluster, None);
    assert_eq!(topology.cpus[0].capacity, Some(1024));
    assert_eq!(
        topology.relation(Cpu(0), Cpu(1)),
        Relation::SharedCache { level: 3 }
    );
    assert_eq!(
        topology.text(&set("0")),
        "CPUs: 2 online (0-1), 2 cores, SMT off\n\
         \x20 allowed    0\n\
         \x20 isolated   none\n\
         \x20 nohz_full  unknown\n\
         \x20 offline    none\n\
         package 0: 2 cores, 2 threads (CPUs 0-1)\n\
         \x20 L3 32 MiB: CPUs 0-1, node 0\n\
         \x20   2 cores of 1 thread, L1d 48 KiB, L1i 32 KiB, L2 1 MiB: 0 1\n\
         node 0: 4.2 GiB, CPUs 0-1\n"
    );
}

#[test]
fn the_laptop_as_text() {
    let topology = read(&hybrid_laptop());
    let text = topology.text(&topology.online);
    for line in [
        "package 0: 12 cores, 16 threads (CPUs 0-15)",
        "  L3 24 MiB: CPUs 0-15, node 0",
        "    4 cores of 2 threads, performance, L1d 48 KiB, L1i 32 KiB, \
         L2 1.2 MiB: 0+1 2+3 4+5 6+7",
        "    8 cores of 1 thread, efficiency, L1d 32 KiB, L1i 64 KiB, \
         L2 2 MiB per 4 CPUs: 8 9 10 11 12 13 14 15",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn a_machine_without_sysfs_is_an_error_that_says_what_to_do() {
    let tree = Tree::new();
    let error = Topology::read(&tree.root()).expect_err("no CPUs");
    assert!(matches!(error, TopologyError::NoCpus { .. }));
    assert!(error.to_string().contains("mount"), "{error}");
}

#[test]
fn json_goes_there_and_back() {
    for tree in [two_socket_server(), hybrid_laptop(), small_vm()] {
        let topology = read(&tree);
        let json = serde_json::to_string(&topology).expect("json");
        let back: Topology = serde_json::from_str(&json).expect("a topology");
        assert_eq!(back, topology);
    }
}

#[test]
fn the_machine_that_runs_this_test() {
    let topology =
        Topology::read(&harness::machine::Root::system()).expect("sysfs");
    let allowed = harness::machine::allowed_cpus().expect("affinity");
    assert!(allowed.is_subset(&topology.online));
    for cpu in &allowed {
        assert!(topology.siblings(cpu).contains(cpu));
        for cache in topology.caches_of(cpu) {
            assert!(cache.cpus.contains(cpu));
        }
    }
}
