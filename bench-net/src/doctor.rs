//! What the packet experiments want of a machine beside what every suite
//! wants. The packet lab needs no interface of the machine's own; checks of
//! interfaces are for runs on a real one.

use harness::machine::{
    CpuSet, NetworkInterface, PciLink,
    doctor::{Check, Observation, Patient, Unknown, Verdict, io_uring},
};

use crate::xdp::probe::RUN_AS_ROOT;

/// `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_SYS_ADMIN` of capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
/// The kernel's default budget: packets per softirq.
const BUDGET_PACKETS: u64 = 300;
/// What a socket needs to hold 1 ms of 10 Gbit/s with its bookkeeping.
const BUFFER_BYTES: u64 = 4 << 20;

/// The checks, in the order in which they are told.
pub fn checks() -> Vec<Check> {
    [io_uring::CHECKS, KERNEL, INTERFACES].concat()
}

const KERNEL: &[Check] = &[
    Check {
        id: "net.bpf_jit",
        about: "whether BPF programs are compiled",
        why: "an interpreted XDP program takes ten times as long per packet",
        wanted: "1",
        fix: "sysctl net.core.bpf_jit_enable=1",
        source: "/proc/sys/net/core/bpf_jit_enable",
        limit: Some(Verdict::ComparisonOnly),
        examine: bpf_jit,
    },
    Check {
        id: "net.bpf_hardening",
        about: "whether compiled BPF programs are hardened",
        why: "blinding constants adds instructions to each packet",
        wanted: "0, or 1 (programs of ordinary users only)",
        fix: "sysctl net.core.bpf_jit_harden=0",
        source: "/proc/sys/net/core/bpf_jit_harden",
        limit: None,
        examine: bpf_hardening,
    },
    Check {
        id: "net.bpf_permission",
        about: "whether this process may have AF_XDP in a lab",
        why: "variants with AF_XDP are skipped where it may not",
        wanted: "CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW",
        fix: RUN_AS_ROOT,
        source: "/proc/self/status",
        limit: None,
        examine: bpf_permission,
    },
    Check {
        id: "net.user_namespaces",
        about: "whether an ordinary user may make namespaces",
        why: "without them, and without root, there is no packet lab",
        wanted: "allowed",
        fix: "sysctl user.max_user_namespaces=10000 \
              kernel.apparmor_restrict_unprivileged_userns=0",
        source: "/proc/sys/user/max_user_namespaces, \
                 /proc/sys/kernel/{unprivileged_userns_clone,\
                 apparmor_restrict_unprivileged_userns}",
        limit: None,
        examine: user_namespaces,
    },
    Check {
        id: "net.busy_poll",
        about: "whether every socket polls before it sleeps",
        why: "it turns the blocking baseline into a polling variant",
        wanted: "busy_poll and busy_read 0",
        fix: "sysctl net.core.busy_poll=0 net.core.busy_read=0",
        source: "/proc/sys/net/core/busy_{poll,read}",
        limit: None,
        examine: busy_poll,
    },
    Check {
        id: "net.budget",
        about: "packets that one softirq may handle",
        why: "a small budget pushes the rest into ksoftirqd, which competes \
              with the measured thread",
        wanted: "at least 300",
        fix: "sysctl net.core.netdev_budget=300",
        source: "/proc/sys/net/core/netdev_budget",
        limit: None,
        examine: budget,
    },
    Check {
        id: "net.socket_buffers",
        about: "the largest buffers that a socket may ask for",
        why: "bursts beyond the buffer are lost by sockets and not by rings",
        wanted: "rmem_max and wmem_max at least 4 MiB",
        fix: "sysctl net.core.rmem_max=4194304 net.core.wmem_max=4194304",
        source: "/proc/sys/net/core/{r,w}mem_max",
        limit: None,
        examine: socket_buffers,
    },
    Check {
        id: "net.flow_steering",
        about: "whether sockets' flows are steered to CPUs in software",
        why: "packets then take an interrupt between CPUs on their way",
        wanted: "rps_sock_flow_entries 0",
        fix: "sysctl net.core.rps_sock_flow_entries=0",
        source: "/proc/sys/net/core/rps_sock_flow_entries",
        limit: None,
        examine: flow_steering,
    },
    Check {
        id: "net.connection_tracking",
        about: "connections that the firewall keeps track of",
        why: "each packet of a socket is looked up, none of AF_XDP is",
        wanted: "0",
        fix: "remove the rules that need it, or measure in the packet lab",
        source: "/proc/sys/net/netfilter/nf_conntrack_count",
        limit: None,
        examine: connection_tracking,
    },
];

const INTERFACES: &[Check] = &[
    Check {
        id: "net.links",
        about: "links of the real interfaces",
        why: "a link that is down or slower than thought bounds every rate",
        wanted: "up, with a speed",
        fix: "plug it in; ethtool INTERFACE shows what was agreed on",
        source: "/sys/class/net/*/{operstate,speed}",
        limit: None,
        examine: links,
    },
    Check {
        id: "net.pci_link",
        about: "bus links of the real interfaces",
        why: "a bus link trained narrower than it could be drops packets \
              below line rate",
        wanted: "as fast and wide as card and slot can",
        fix: "reseat the card; look at the slot",
        source: "/sys/bus/pci/devices/*/{current,max}_link_{speed,width}",
        limit: None,
        examine: pci_link,
    },
    Check {
        id: "net.numa_node",
        about: "whether usable CPUs are on the interface's node",
        why: "each packet crosses the link between sockets",
        wanted: "CPUs of its node among them",
        fix: "choose CPUs of that node with --cpus",
        source: "/sys/class/net/*/device/numa_node",
        limit: None,
        examine: numa_node,
    },
    Check {
        id: "net.queues",
        about: "receive queues of the real interfaces",
        why: "CPUs that share a queue share its interrupt and its lock",
        wanted: "one for each CPU that may be used",
        fix: "ethtool -L INTERFACE combined N",
        source: "/sys/class/net/*/queues",
        limit: None,
        examine: queues,
    },
    Check {
        id: "net.packet_steering",
        about: "whether packets are spread over CPUs in software",
        why: "a packet takes an interrupt between CPUs on its way",
        wanted: "rps_cpus 0",
        fix: "echo 0 > /sys/class/net/INTERFACE/queues/rx-N/rps_cpus",
        source: "/sys/class/net/*/queues/rx-*/rps_cpus",
        limit: None,
        examine: packet_steering,
    },
    Check {
        id: "net.threaded_polling",
        about: "whether interfaces are polled by kernel threads",
        why: "the work moves out of softirq, to whichever CPU is free",
        wanted: "threaded 0",
        fix: "echo 0 > /sys/class/net/INTERFACE/threaded",
        source: "/sys/class/net/*/threaded",
        limit: None,
        examine: |patient| zero(patient, "threaded"),
    },
    Check {
        id: "net.deferred_interrupts",
        about: "polls without work before interrupts come back",
        why: "it suits busy polling and delays the blocking baseline",
        wanted: "napi_defer_hard_irqs 0",
        fix: "echo 0 > /sys/class/net/INTERFACE/napi_defer_hard_irqs",
        source: "/sys/class/net/*/napi_defer_hard_irqs",
        limit: None,
        examine: |patient| zero(patient, "napi_defer_hard_irqs"),
    },
    Check {
        id: "net.interrupt_spread",
        about: "CPUs that the interfaces' interrupts go to",
        why: "queues whose interrupts share a CPU share its time",
        wanted: "more than one CPU where there is more than one queue",
        fix: "write one CPU each to /proc/irq/N/smp_affinity_list",
        source: "/sys/class/net/*/device/msi_irqs, \
                 /proc/irq/*/effective_affinity_list",
        limit: None,
        examine: interrupt_spread,
    },
    Check {
        id: "net.offloads",
        about: "segmentation and receive offloads",
        why: "with GRO or TSO a packet on the wire is not an op any more",
        wanted: "told by ethtool",
        fix: "ethtool -k INTERFACE",
        source: "no file tells",
        limit: None,
        examine: |_| {
            Err(Unknown::because("no file tells")
                .with_fix("ethtool -k INTERFACE"))
        },
    },
];

/// A sysctl below `net/core`.
fn core(name: &str) -> String {
    format!("proc/sys/net/core/{name}")
}

fn bpf_jit(patient: &Patient) -> Result<Observation, Unknown> {
    let path = core("bpf_jit_enable");
    match patient.number(&path)? {
        1 => Ok(Observation::pass("1")),
        0 => {
            Ok(Observation::fail("BPF is interpreted").with_write(&path, 1, 0))
        }
        2 => Ok(Observation::fail("BPF is compiled with debug output")
            .with_write(&path, 1, 2)),
        _ => Err(patient.lack(&path)),
    }
}

fn bpf_hardening(patient: &Patient) -> Result<Observation, Unknown> {
    let path = core("bpf_jit_harden");
    match patient.number(&path)? {
        now @ (0 | 1) => Ok(Observation::pass(now.to_string())),
        2 => Ok(Observation::fail("2").with_write(&path, 0, 2)),
        _ => Err(patient.lack(&path)),
    }
}

fn bpf_permission(patient: &Patient) -> Result<Observation, Unknown> {
    let has = |number| patient.has_capability(number);
    // A lab outside a user namespace, whose rights do not count for bpf(2);
    // CAP_SYS_ADMIN includes CAP_BPF. An interface, and a raw socket.
    let good = has(CAP_SYS_ADMIN)? && has(CAP_NET_ADMIN)? && has(CAP_NET_RAW)?;
    let told = if good { "it may" } else { "it may not" };
    Ok(Observation::pass_if(good, told))
}

fn user_namespaces(patient: &Patient) -> Result<Observation, Unknown> {
    if patient.has_capability(CAP_SYS_ADMIN)? {
        return Ok(Observation::pass("this process needs none"));
    }
    let path = "proc/sys/user/max_user_namespaces";
    if patient.number(path)? == 0 {
        return Ok(Observation::fail("none may be made"));
    }
    // Two switches of distributions; where there is no file, no switch.
    for (name, good) in [
        ("unprivileged_userns_clone", true),
        ("apparmor_restrict_unprivileged_userns", false),
    ] {
        let path = format!("proc/sys/kernel/{name}");
        if patient.root.exists(&path) && patient.flag(&path)? != good {
            let told = format!("{name} is {}", u8::from(!good));
            return Ok(Observation::fail(told).with_write(
                &path,
                u8::from(good),
                u8::from(!good),
            ));
        }
    }
    Ok(Observation::pass("allowed"))
}

/// Numbers below `net/core` that should be 0.
fn zeros(patient: &Patient, names: &[&str]) -> Result<Observation, Unknown> {
    let mut told = Vec::new();
    let mut good = true;
    let mut writes = Vec::new();
    for name in names {
        let path = core(name);
        let now = patient.number(&path)?;
        good &= now == 0;
        told.push(format!("{name} {now}"));
        writes.push((path, now));
    }
    let mut seen = Observation::pass_if(good, told.join(", "));
    for (path, now) in &writes {
        seen = seen.with_write(path, 0, now);
    }
    Ok(seen)
}

fn busy_poll(patient: &Patient) -> Result<Observation, Unknown> {
    zeros(patient, &["busy_poll", "busy_read"])
}

fn flow_steering(patient: &Patient) -> Result<Observation, Unknown> {
    zeros(patient, &["rps_sock_flow_entries"])
}

fn budget(patient: &Patient) -> Result<Observation, Unknown> {
    let path = core("netdev_budget");
    let now = patient.number(&path)?;
    Ok(Observation::pass_if(now >= BUDGET_PACKETS, now.to_string()).with_write(
        &path,
        BUDGET_PACKETS,
        now,
    ))
}

fn socket_buffers(patient: &Patient) -> Result<Observation, Unknown> {
    let paths = [core("rmem_max"), core("wmem_max")];
    let (read, write) =
        (patient.number(&paths[0])?, patient.number(&paths[1])?);
    let told = format!("{} and {} KiB", read >> 10, write >> 10);
    let good = read >= BUFFER_BYTES && write >= BUFFER_BYTES;
    let mut seen = Observation::pass_if(good, told);
    for (path, now) in paths.iter().zip([read, write]) {
        if now < BUFFER_BYTES {
            seen = seen.with_write(path, BUFFER_BYTES, now);
        }
    }
    Ok(seen)
}

fn connection_tracking(patient: &Patient) -> Result<Observation, Unknown> {
    let now = patient.number("proc/sys/net/netfilter/nf_conntrack_count")?;
    Ok(Observation::pass_if(now == 0, now.to_string()))
}

/// What was seen of one interface.
struct Part {
    is_good: bool,
    observed: String,
    /// Files with what stands in them, where 0 is wanted.
    zeroed: Vec<(String, String)>,
}

impl Part {
    fn new(is_good: bool, observed: String) -> Self {
        Self { is_good, observed, zeroed: Vec::new() }
    }
}

/// Looks at each interface that has a device behind it.
fn of_each(
    patient: &Patient,
    look: impl Fn(&NetworkInterface) -> Result<Part, Unknown>,
) -> Result<Observation, Unknown> {
    let all = patient.interfaces();
    if all.is_empty() {
        return Err(patient.lack("sys/class/net"));
    }
    if let Some(odd) = all.iter().find(|one| one.is_virtual.is_none()) {
        let told = format!("what is behind {} does not show", odd.name);
        return Err(Unknown::because(told));
    }
    let real = all.iter().filter(|one| one.is_virtual == Some(false));
    let parts: Vec<Part> = real.map(look).collect::<Result<_, _>>()?;
    if parts.is_empty() {
        return Ok(Observation::not_applicable("no interface is real"));
    }
    let told: Vec<&str> =
        parts.iter().map(|part| part.observed.as_str()).collect();
    let good = parts.iter().all(|part| part.is_good);
    let seen = Observation::pass_if(good, told.join(", "));
    let zeroed = parts.iter().flat_map(|part| &part.zeroed);
    Ok(zeroed.fold(seen, |seen, (path, now)| seen.with_write(path, 0, now)))
}

fn links(patient: &Patient) -> Result<Observation, Unknown> {
    of_each(patient, |one| {
        let name = &one.name;
        let state = one.operstate.as_deref().unwrap_or("unknown");
        match (state, one.speed_mbit_s) {
            ("up", Some(speed)) => {
                Ok(Part::new(true, format!("{name} {speed} Mbit/s")))
            }
            ("up", None) => Err(Unknown::because(format!(
                "{name} is up and tells no speed (virtual cards have none)"
            ))),
            ("down" | "dormant" | "lowerlayerdown" | "testing", _) => {
                Ok(Part::new(false, format!("{name} {state}")))
            }
            _ => Err(Unknown::because(format!(
                "the state of {name} does not show"
            ))),
        }
    })
}

fn pci_link(patient: &Patient) -> Result<Observation, Unknown> {
    of_each(patient, |one| {
        let name = &one.name;
        let text = one.pci.as_ref().and_then(PciLink::complete);
        match (text, &one.pci) {
            (Some(text), Some(link)) => {
                Ok(Part::new(!link.is_degraded(), format!("{name} {text}")))
            }
            _ => Err(Unknown::because(format!(
                "the bus link of {name} does not show (virtual cards have \
                 none)"
            ))),
        }
    })
}

fn numa_node(patient: &Patient) -> Result<Observation, Unknown> {
    if patient.members("sys/devices/system/node/online")?.len() == 1 {
        return Ok(Observation::not_applicable("there is one node"));
    }
    let cpus = patient.cpus()?;
    of_each(patient, |one| {
        let node = one.numa_node.ok_or_else(|| {
            Unknown::because(format!("the node of {} is unknown", one.name))
        })?;
        let path = format!("sys/devices/system/node/node{node}/cpulist");
        let near = patient.list(path)?.intersection(&cpus);
        let told = format!("{} on node {node}", one.name);
        Ok(Part::new(!near.is_empty(), told))
    })
}

fn queues(patient: &Patient) -> Result<Observation, Unknown> {
    let cpus = patient.cpus()?.len();
    of_each(patient, |one| {
        let name = &one.name;
        let count = one.rx_queues.ok_or_else(|| {
            patient.lack(format!("sys/class/net/{name}/queues"))
        })?;
        let told = format!("{name}: {count} for {cpus} CPUs");
        Ok(Part::new(count as usize >= cpus, told))
    })
}

fn packet_steering(patient: &Patient) -> Result<Observation, Unknown> {
    of_each(patient, |one| {
        let dir = format!("sys/class/net/{}/queues", one.name);
        let (mut seen, mut spread) = (0usize, Vec::new());
        for queue in patient.root.entries(&dir) {
            if !queue.starts_with("rx-") {
                continue;
            }
            let path = format!("{dir}/{queue}/rps_cpus");
            let text = patient.text(&path)?;
            let digits = text.replace(',', "");
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(patient.lack(&path));
            }
            seen += 1;
            if digits.bytes().any(|byte| byte != b'0') {
                spread.push((path, text));
            }
        }
        if seen == 0 {
            return Err(patient.lack(&dir));
        }
        let observed =
            format!("{}: {} of {seen} queues", one.name, spread.len());
        Ok(Part { is_good: spread.is_empty(), observed, zeroed: spread })
    })
}

/// A number of each real interface that should be 0.
fn zero(patient: &Patient, file: &str) -> Result<Observation, Unknown> {
    of_each(patient, |one| {
        let path = format!("sys/class/net/{}/{file}", one.name);
        let now = patient.number(&path)?;
        let observed = format!("{now} ({})", one.name);
        let zeroed = vec![(path, now.to_string())];
        Ok(Part { is_good: now == 0, observed, zeroed })
    })
}

fn interrupt_spread(patient: &Patient) -> Result<Observation, Unknown> {
    of_each(patient, |one| {
        let link = format!("sys/class/net/{}/device", one.name);
        let device = patient.root.resolve(&link);
        // A virtio card's interrupts belong to the PCI device above it.
        let dir = device.as_deref().and_then(|device| {
            let mut above = device.ancestors().map(|d| d.join("msi_irqs"));
            above.find(|dir| patient.root.exists(dir))
        });
        let dir =
            dir.ok_or_else(|| patient.lack(format!("{link}/msi_irqs")))?;
        let (mut cpus, mut count) = (CpuSet::new(), 0usize);
        for number in patient.root.entries(&dir) {
            let path = format!("proc/irq/{number}/effective_affinity_list");
            cpus.extend(patient.members(path)?);
            count += 1;
        }
        if cpus.is_empty() {
            return Err(patient.lack(&dir));
        }
        let good = cpus.len() > 1 || one.rx_queues == Some(1);
        let told = format!("{}: {count} on CPUs {cpus}", one.name);
        Ok(Part::new(good, told))
    })
}
