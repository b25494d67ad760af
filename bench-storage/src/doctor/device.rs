//! The queue and the bus of the device below the target.

use std::path::PathBuf;

use harness::machine::{
    BlockDevice, BlockKind, PciLink,
    doctor::{Check, Observation, Patient, Unknown, Verdict},
};

use super::device;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "storage.scheduler",
        about: "the I/O scheduler",
        why: "a scheduler sorts and delays requests under a lock, which fast \
              devices do not need",
        wanted: "none",
        fix: "echo none > /sys/block/DEVICE/queue/scheduler; it resets \
              queue/nr_requests and queue/iosched, then and when it is put \
              back: note them first",
        source: "/sys/block/*/queue/scheduler",
        limit: None,
        examine: scheduler,
    },
    Check {
        id: "storage.poll_queues",
        about: "whether the device can be polled",
        why: "without poll queues, variants that poll are skipped",
        wanted: "io_poll 1",
        fix: "load nvme with poll_queues=N (virtio_blk: poll_queues=N)",
        source: "/sys/block/*/queue/io_poll",
        limit: None,
        examine: |patient| queue_switch(patient, "io_poll", "1", false),
    },
    Check {
        id: "storage.merging",
        about: "whether requests are searched for neighbours to merge with",
        why: "the search costs CPU time per request and finds nothing in \
              random reads; in sequential ones it changes what an op is",
        wanted: "nomerges 2",
        fix: "echo 2 > /sys/block/DEVICE/queue/nomerges",
        source: "/sys/block/*/queue/nomerges",
        limit: None,
        examine: |patient| queue_switch(patient, "nomerges", "2", true),
    },
    Check {
        id: "storage.completion_cpu",
        about: "which CPU completes a request",
        why: "completions on another CPU than the one that asked move cache \
              lines and CPU time out of sight",
        wanted: "rq_affinity 2: the CPU that asked",
        fix: "echo 2 > /sys/block/DEVICE/queue/rq_affinity",
        source: "/sys/block/*/queue/rq_affinity",
        limit: None,
        examine: |patient| queue_switch(patient, "rq_affinity", "2", true),
    },
    Check {
        id: "storage.statistics",
        about: "whether each request is timed for iostat",
        why: "two clock readings per request",
        wanted: "iostats 0",
        fix: "echo 0 > /sys/block/DEVICE/queue/iostats",
        source: "/sys/block/*/queue/iostats",
        limit: None,
        examine: |patient| queue_switch(patient, "iostats", "0", true),
    },
    Check {
        id: "storage.write_throttling",
        about: "latency target that holds background writes down",
        why: "it changes the depth of writes by what reads experience",
        wanted: "wbt_lat_usec 0",
        fix: "echo 0 > /sys/block/DEVICE/queue/wbt_lat_usec",
        source: "/sys/block/*/queue/wbt_lat_usec",
        limit: None,
        examine: |patient| queue_switch(patient, "wbt_lat_usec", "0", true),
    },
    Check {
        id: "storage.entropy",
        about: "whether request times feed the random number generator",
        why: "some cost per request",
        wanted: "add_random 0",
        fix: "echo 0 > /sys/block/DEVICE/queue/add_random",
        source: "/sys/block/*/queue/add_random",
        limit: None,
        examine: |patient| queue_switch(patient, "add_random", "0", true),
    },
    Check {
        id: "storage.rotational",
        about: "whether the kernel takes the device for a spinning disk",
        why: "seeks dominate on such a disk; and for a device that is none, \
              the kernel then waits for requests to sort",
        wanted: "rotational 0",
        fix: "echo 0 > /sys/block/DEVICE/queue/rotational, if it does not spin",
        source: "/sys/block/*/queue/rotational",
        limit: None,
        examine: |patient| queue_switch(patient, "rotational", "0", false),
    },
    Check {
        id: "storage.write_cache",
        about: "whether the device caches writes",
        why: "a write into a volatile cache is fast until it is full, and is \
              not durable",
        wanted: "write through",
        fix: "none for reads; for writes, use a drive with power-loss \
              protection",
        source: "/sys/block/*/queue/write_cache",
        limit: None,
        examine: write_cache,
    },
    Check {
        id: "storage.queues",
        about: "hardware queues",
        why: "CPUs that share a queue share its lock and its interrupt",
        wanted: "one for each CPU that may be used",
        fix: "load the driver with more queues; a virtual machine's disk: \
              ask for more queues",
        source: "/sys/block/*/mq",
        limit: None,
        examine: queues,
    },
    Check {
        id: "storage.pci_link",
        about: "speed and width of the device's link",
        why: "a link trained slower or narrower than it could be halves what \
              the device can do",
        wanted: "as fast and wide as device and slot can",
        fix: "reseat the device; look at the slot and its bifurcation",
        source: "/sys/bus/pci/devices/*/{current,max}_link_{speed,width}",
        limit: Some(Verdict::ComparisonOnly),
        examine: pci_link,
    },
    Check {
        id: "storage.numa_node",
        about: "whether usable CPUs are on the device's node",
        why: "each request and its data cross the link between sockets",
        wanted: "CPUs of the device's node among them",
        fix: "choose CPUs of that node with --cpus, or taskset",
        source: "/sys/bus/pci/devices/*/numa_node",
        limit: None,
        examine: numa_node,
    },
    Check {
        id: "storage.power_saving",
        about: "how long an idle NVMe drive may take to wake up",
        why: "power states between ops add microseconds to milliseconds at \
              low depth",
        wanted: "0 µs",
        fix: "boot with nvme_core.default_ps_max_latency_us=0",
        source: "/sys/module/nvme_core/parameters/default_ps_max_latency_us, \
                 /sys/class/nvme/*/power/pm_qos_latency_tolerance_us",
        limit: None,
        examine: power_saving,
    },
    Check {
        id: "storage.multipath",
        about: "whether NVMe namespaces are reached through multipath",
        why: "an I/O takes another layer, which polls and accounts otherwise",
        wanted: "N",
        fix: "boot with nvme_core.multipath=N",
        source: "/sys/module/nvme_core/parameters/multipath",
        limit: None,
        examine: multipath,
    },
];

/// A file of each bottom device's queue, with its value.
fn queue_files(
    patient: &Patient,
    file: &str,
) -> Result<Vec<(String, String, String)>, Unknown> {
    let device = device(patient)?;
    let of_one = |below: &BlockDevice| {
        let path = format!("sys/block/{}/queue/{file}", below.name);
        let value = patient.text(&path)?;
        Ok((below.name.clone(), path, value))
    };
    device.bottom().into_iter().map(of_one).collect()
}

/// `0 (vda)`: the value and whose it is.
fn describe(files: &[(String, String, String)]) -> String {
    let told: Vec<String> = files
        .iter()
        .map(|(name, _, value)| format!("{value} ({name})"))
        .collect();
    told.join(", ")
}

/// A number in the queue's directory that should be `wanted`.
fn queue_switch(
    patient: &Patient,
    file: &str,
    wanted: &str,
    can_be_written: bool,
) -> Result<Observation, Unknown> {
    let files = queue_files(patient, file)?;
    for (_, path, value) in &files {
        if value.parse::<u32>().is_err() {
            return Err(patient.lack(path));
        }
    }
    let good = files.iter().all(|(_, _, value)| value == wanted);
    let mut seen = Observation::pass_if(good, describe(&files));
    if can_be_written {
        for (_, path, value) in &files {
            seen = seen.with_write(path, wanted, value);
        }
    }
    Ok(seen)
}

fn scheduler(patient: &Patient) -> Result<Observation, Unknown> {
    const KNOWN: [&str; 4] = ["none", "mq-deadline", "kyber", "bfq"];
    let mut files = queue_files(patient, "scheduler")?;
    for (_, path, value) in &mut files {
        *value = patient.chosen(path.as_str())?;
        if !KNOWN.contains(&value.as_str()) {
            return Err(patient.lack(path.as_str()));
        }
    }
    let good = files.iter().all(|(_, _, value)| value == "none");
    // Not for the script, whose undo could not put back what this resets.
    Ok(Observation::pass_if(good, describe(&files)))
}

fn write_cache(patient: &Patient) -> Result<Observation, Unknown> {
    let files = queue_files(patient, "write_cache")?;
    let known = ["write through", "write back"];
    for (_, path, value) in &files {
        if !known.contains(&value.as_str()) {
            return Err(patient.lack(path));
        }
    }
    let good = files.iter().all(|(_, _, value)| value == known[0]);
    Ok(Observation::pass_if(good, describe(&files)))
}

fn queues(patient: &Patient) -> Result<Observation, Unknown> {
    let device = device(patient)?;
    let cpus = patient.cpus()?.len();
    let mut told = Vec::new();
    let mut fewest = usize::MAX;
    for below in device.bottom() {
        let count = below.hardware_queues.ok_or_else(|| {
            patient.lack(format!("sys/block/{}/mq", below.name))
        })?;
        fewest = fewest.min(count as usize);
        told.push(format!("{count} ({})", below.name));
    }
    let told = format!("{} for {cpus} CPUs", told.join(", "));
    Ok(Observation::pass_if(fewest >= cpus, told))
}

/// Whether a device of this kind sits on a PCI Express link of its own.
fn has_link(device: &BlockDevice) -> bool {
    device.kind == BlockKind::Nvme
}

fn pci_link(patient: &Patient) -> Result<Observation, Unknown> {
    let device = device(patient)?;
    let linked: Vec<&BlockDevice> =
        device.bottom().into_iter().filter(|below| has_link(below)).collect();
    if linked.is_empty() {
        let told = format!("{} has no link of its own", device.name);
        return Ok(Observation::not_applicable(told));
    }
    let mut told = Vec::new();
    let mut good = true;
    for below in linked {
        let text = below.pci.as_ref().and_then(PciLink::complete);
        let (Some(link), Some(text)) = (&below.pci, text) else {
            return Err(Unknown::because(format!(
                "the link of {} does not show",
                below.name
            )));
        };
        good &= !link.is_degraded();
        told.push(format!("link of {} at {text}", below.name));
    }
    Ok(Observation::pass_if(good, told.join(", ")))
}

fn numa_node(patient: &Patient) -> Result<Observation, Unknown> {
    let nodes = patient.members("sys/devices/system/node/online")?;
    if nodes.len() == 1 {
        return Ok(Observation::not_applicable("there is one node"));
    }
    let device = device(patient)?;
    let cpus = patient.cpus()?;
    let mut told = Vec::new();
    let mut good = true;
    for below in device.bottom() {
        let node = below.numa_node.ok_or_else(|| {
            Unknown::because(format!("the node of {} is unknown", below.name))
        })?;
        let path = format!("sys/devices/system/node/node{node}/cpulist");
        let near = patient.list(path)?.intersection(&cpus);
        good &= !near.is_empty();
        told.push(match near.is_empty() {
            true => format!("{} on node {node}, no CPU of it", below.name),
            false => format!("{} on node {node}, CPUs {near}", below.name),
        });
    }
    Ok(Observation::pass_if(good, told.join("; ")))
}

/// The drives among the bottom devices; `None` if there are none.
fn drives(device: &BlockDevice) -> Option<Vec<&BlockDevice>> {
    let drives: Vec<&BlockDevice> = device
        .bottom()
        .into_iter()
        .filter(|below| below.kind == BlockKind::Nvme)
        .collect();
    (!drives.is_empty()).then_some(drives)
}

fn power_saving(patient: &Patient) -> Result<Observation, Unknown> {
    let device = device(patient)?;
    let Some(drives) = drives(device) else {
        return Ok(Observation::not_applicable("it is no NVMe drive"));
    };
    let mut told = Vec::new();
    let mut good = true;
    for drive in drives {
        // The controller of `nvme0n1` is the device that it hangs from.
        let own = PathBuf::from(format!("sys/block/{}/device", drive.name))
            .join("power/pm_qos_latency_tolerance_us");
        let common = "sys/module/nvme_core/parameters/\
                      default_ps_max_latency_us";
        let tolerance = match patient.root.exists(&own) {
            true => patient.number(own)?,
            false => patient.number(common)?,
        };
        good &= tolerance == 0;
        told.push(format!("{tolerance} µs ({})", drive.name));
    }
    Ok(Observation::pass_if(good, told.join(", ")))
}

fn multipath(patient: &Patient) -> Result<Observation, Unknown> {
    let device = device(patient)?;
    if drives(device).is_none() {
        return Ok(Observation::not_applicable("it is no NVMe drive"));
    }
    let path = "sys/module/nvme_core/parameters/multipath";
    match patient.text(path)?.as_str() {
        "N" => Ok(Observation::pass("N")),
        "Y" => Ok(Observation::warn("Y")),
        _ => Err(patient.lack(path)),
    }
}
