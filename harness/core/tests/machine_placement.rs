//! Placement on the machine that runs this test, and the choice of CPUs on
//! hand-built ones.

mod machine_support;

use std::thread;

use harness::machine::{
    Buffer, Cpu, CpuSet, NumaNode, Outcome, PlacementError, Root, Topology,
    allowed_cpus, bind_memory, current_cpu, default_cpus, memlock_limit_bytes,
    pin_current_thread, raise_memlock_limit,
};
use machine_support::*;

/// Runs in a thread of its own, so that pinning disturbs no other test.
fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    thread::spawn(work).join().expect("the thread")
}

#[test]
fn a_pin_is_read_back() {
    in_thread(|| {
        for cpu in &allowed_cpus().expect("affinity") {
            let wanted = CpuSet::single(cpu);
            assert_eq!(pin_current_thread(&wanted).expect("pin"), wanted);
            assert_eq!(allowed_cpus().expect("affinity"), wanted);
            assert_eq!(current_cpu(), Some(cpu));
        }
    });
}

#[test]
fn a_pin_to_several_cpus_is_read_back() {
    in_thread(|| {
        let all = allowed_cpus().expect("affinity");
        assert_eq!(pin_current_thread(&all).expect("pin"), all);
    });
}

#[test]
fn an_absent_cpu_is_named_with_the_choice() {
    in_thread(|| {
        let all = allowed_cpus().expect("affinity");
        let possible = Root::system()
            .read_list("sys/devices/system/cpu/possible")
            .expect("sysfs");
        let next = possible.last().expect("a CPU").0 + 1;
        // The first goes through core_affinity, the others past its end.
        for absent in [next, next + 1024, next + 50_000].map(Cpu) {
            let error = pin_current_thread(&CpuSet::single(absent))
                .expect_err("no such CPU");
            assert!(matches!(error, PlacementError::CpuNotAllowed { .. }));
            let text = error.to_string();
            assert!(text.contains(&format!("CPU {absent}:")), "{text}");
            assert!(text.contains(&format!("run on {all},")), "{text}");
            assert_eq!(allowed_cpus().expect("affinity"), all);
        }
    });
}

#[test]
fn half_a_pin_is_no_pin() {
    in_thread(|| {
        let all = allowed_cpus().expect("affinity");
        let first = all.first().expect("a CPU");
        let wanted = CpuSet::from_iter([first, Cpu(60_000)]);
        let error = pin_current_thread(&wanted).expect_err("one is absent");
        assert!(
            matches!(
                &error,
                PlacementError::CpuNotAllowed { missing, .. }
                    if *missing == set("60000")
            ),
            "{error}"
        );
        assert_eq!(allowed_cpus().expect("affinity"), all, "as before");
        let empty = pin_current_thread(&CpuSet::new());
        assert!(matches!(empty, Err(PlacementError::EmptySet)));
    });
}

fn node_here() -> Option<NumaNode> {
    let topology = Topology::read(&Root::system()).expect("sysfs");
    topology.node_of(allowed_cpus().expect("affinity").first()?)
}

#[test]
fn a_buffer_has_its_shape() {
    for (bytes, alignment) in
        [(1, 1), (4096, 64), (100_000, 4096), (3 << 20, 2 << 20)]
    {
        let mut buffer = Buffer::new(bytes, alignment, None).expect("a buffer");
        assert_eq!(buffer.len(), bytes);
        assert!(buffer.as_ptr().addr().is_multiple_of(alignment));
        assert!(buffer.as_ptr().addr().is_multiple_of(4096));
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer.fill(0xa5);
        let sum = in_thread(move || {
            buffer.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        });
        assert_eq!(sum, bytes as u64 * 0xa5);
    }
    for (bytes, alignment) in [(0, 64), (64, 0), (64, 48), (usize::MAX, 64)] {
        let error = Buffer::new(bytes, alignment, None).expect_err("bad");
        assert!(matches!(error, PlacementError::BadShape { .. }), "{error}");
    }
    let error = Buffer::new(usize::MAX / 2, 64, None).expect_err("too much");
    assert!(matches!(error, PlacementError::System { .. }), "{error}");
}

/// Size of this process's address space.
fn address_space_bytes() -> u64 {
    let status = Root::system().read("proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmSize:"));
    let words = line.expect("VmSize").split_whitespace().nth(1);
    words.expect("a number").parse::<u64>().expect("a number") << 10
}

#[test]
fn neither_drop_nor_alignment_leaves_anything_mapped() {
    let before = address_space_bytes();
    for _ in 0..256 {
        let buffer = Buffer::new(8192, 1 << 30, None).expect("a buffer");
        assert!(buffer.as_ptr().addr().is_multiple_of(1 << 30));
    }
    // 256 GiB if the ends that alignment cuts off stayed; the other tests of
    // this process use far less.
    let grown = address_space_bytes().saturating_sub(before);
    assert!(grown < 64 << 30, "{grown} B");
}

#[test]
fn memory_is_bound_and_verified() {
    let Some(node) = node_here() else {
        eprintln!("SKIPPED: this kernel tells no NUMA node");
        return;
    };
    let buffer = Buffer::new(1 << 20, 4096, Some(node)).expect("a buffer");
    let binding = buffer.binding().expect("a node was named").clone();
    assert_eq!((binding.node, binding.pages), (node, 256));
    assert_eq!(binding.sampled_pages, 256);
    if binding.policy.is_done() {
        assert!(binding.is_verified(), "{binding}");
        assert_eq!(binding.pages_on_node(), 256);
        assert_eq!((binding.pages_elsewhere(), binding.unknown_pages), (0, 0));
    } else {
        eprintln!("SKIPPED: {binding}");
    }
}

#[test]
fn binding_keeps_the_contents() {
    let Some(node) = node_here() else { return };
    let mut buffer = Buffer::new(20_000, 4096, None).expect("a buffer");
    buffer.fill(7);
    let binding = bind_memory(&mut buffer, node).expect("bind");
    assert_eq!(binding.pages, 5);
    assert!(buffer.iter().all(|&byte| byte == 7));
}

#[test]
fn memory_for_an_absent_node_is_refused() {
    let error = Buffer::new(4096, 64, Some(NumaNode(900)));
    match error {
        Err(PlacementError::NodeNotUsable { node, .. }) => {
            assert_eq!(node, NumaNode(900));
        }
        // A kernel or container without memory policies cannot refuse.
        Ok(buffer) => {
            let binding = buffer.binding().expect("a node was named");
            assert!(!binding.policy.is_done() && !binding.is_verified());
        }
        Err(other) => {
            assert!(
                matches!(other, PlacementError::PagesElsewhere { .. }),
                "{other}"
            );
        }
    }
}

#[test]
fn a_region_off_the_page_is_refused() {
    let mut buffer = Buffer::new(8192, 4096, None).expect("a buffer");
    let error = bind_memory(&mut buffer[64..], NumaNode(0));
    assert!(matches!(error, Err(PlacementError::NotOnPage { .. })));
}

#[test]
fn locking_is_done_or_says_what_to_raise() {
    let limit = raise_memlock_limit().expect("getrlimit");
    assert_eq!(memlock_limit_bytes(), Some(limit));
    let buffer = Buffer::new(64 << 10, 4096, None).expect("a buffer");
    match buffer.locked() {
        Outcome::Done => {}
        Outcome::Refused(reason) => {
            assert!(reason.contains("ulimit -l"), "{reason}");
        }
    }
}

/// The first CPUs chosen on a machine.
fn chosen(tree: &Tree, allowed: &str, count: usize) -> Vec<u32> {
    let topology = Topology::read(&tree.root()).expect("a topology");
    let cpus = default_cpus(&topology, &set(allowed), count);
    cpus.iter().map(|cpu| cpu.0).collect()
}

#[test]
fn the_choice_on_a_server_stays_near_and_off_second_threads() {
    let tree = two_socket_server();
    assert_eq!(chosen(&tree, "0-63", 9), [1, 2, 3, 4, 5, 6, 7, 32, 8]);
    let all = chosen(&tree, "0-63", 100);
    assert_eq!(all.len(), 64);
    let mut first_half: Vec<u32> =
        all[..32].iter().map(|cpu| cpu % 32).collect();
    first_half.sort_unstable();
    assert_eq!(first_half, (0..32).collect::<Vec<u32>>(), "one per core");
    assert_eq!(chosen(&tree, "20,52,53", 3), [20, 53, 52]);
    assert_eq!(chosen(&tree, "", 3), [0u32; 0]);
}

#[test]
fn the_choice_prefers_isolated_cpus() {
    let tree = two_socket_server();
    tree.file("sys/devices/system/cpu/isolated", "24-26");
    assert_eq!(chosen(&tree, "0-63", 5), [24, 25, 26, 27, 28]);
    assert_eq!(chosen(&tree, "0-23", 2), [1, 2]);
}

#[test]
fn the_choice_prefers_big_cores() {
    let tree = hybrid_laptop();
    assert_eq!(chosen(&tree, "0-15", 6), [2, 4, 6, 1, 8, 9]);
    assert_eq!(chosen(&tree, "0-1,8-9", 4), [1, 8, 9, 0]);
}

#[test]
fn cpu_0_is_the_last_of_equals() {
    assert_eq!(chosen(&small_vm(), "0-1", 2), [1, 0]);
    assert_eq!(chosen(&small_vm(), "0", 2), [0]);
}

#[test]
fn the_choice_works_past_1024_cpus() {
    let tree = very_large_machine();
    // Four of the sixteen below one L3, then the next of the package.
    let five = chosen(&tree, "0,1100-1535", 5);
    assert_eq!(five, [1100, 1101, 1102, 1103, 1104]);
}
