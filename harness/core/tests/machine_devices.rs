//! Devices and file systems, on hand-built trees and on this machine.

mod machine_support;

use std::path::{Path, PathBuf};

use harness::machine::{
    BlockDevice, NumaNode, PciLink, Root, block_device_of, block_devices,
    devices, devices::BlockKind, filesystem_of, network_interfaces,
};
use harness::run::host::Host;
use machine_support::*;

/// A PCI Express slot on node 1 whose link runs at half its width.
fn slot(tree: &Tree, pci: &str) {
    tree.files(
        pci,
        &[
            ("numa_node", "1"),
            ("current_link_speed", "16.0 GT/s PCIe"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("current_link_width", "2"),
            ("max_link_width", "4"),
        ],
    );
}

/// A block device with the usual files; `dir` is where it lives in sysfs.
fn block(tree: &Tree, dir: &str, number: &str, sectors: u64) {
    let name = dir.rsplit('/').next().expect("a name");
    tree.link(&format!("sys/block/{name}"), dir)
        .link(&format!("sys/class/block/{name}"), dir)
        .link(&format!("sys/dev/block/{number}"), dir)
        .file(&format!("{dir}/dev"), number)
        .file(&format!("{dir}/size"), sectors)
        .file(&format!("{dir}/ro"), 0)
        .file(&format!("{dir}/queue/scheduler"), "[none] mq-deadline");
}

/// An NVMe SSD with a partition, an encrypted volume on the partition, a file
/// system on that, and a loop device over a file there.
fn nvme_stack() -> Tree {
    let tree = Tree::new();
    let pci = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0";
    let controller = format!("{pci}/nvme/nvme0");
    let disk = format!("{controller}/nvme0n1");
    slot(&tree, pci);
    tree.link(&format!("{pci}/driver"), "sys/bus/pci/drivers/nvme")
        .link(&format!("{disk}/device"), &controller)
        .files(
            &controller,
            &[
                ("model", "Fast SSD 1TB      "),
                ("firmware_rev", "1B2QEXM7"),
                ("serial", "S4EWNX0R123456"),
                ("queue_count", "5"),
            ],
        )
        .file("sys/module/nvme/parameters/poll_queues", 2);
    block(&tree, &disk, "259:0", 2_000_409_264);
    tree.files(
        &disk,
        &[
            ("queue/io_poll", "1"),
            ("queue/logical_block_size", "512"),
            ("queue/rotational", "0"),
            ("mq/0/cpu_list", "0"),
            ("mq/1/cpu_list", "1"),
            ("mq/2/cpu_list", "2"),
        ],
    );
    let partition = format!("{disk}/nvme0n1p2");
    tree.link("sys/dev/block/259:2", &partition)
        .link("sys/class/block/nvme0n1p2", &partition)
        .file(&format!("{partition}/partition"), 2)
        .file(&format!("{partition}/dev"), "259:2");

    let dm = "sys/devices/virtual/block/dm-0";
    block(&tree, dm, "253:0", 1_000_000);
    tree.link(&format!("{dm}/slaves/nvme0n1p2"), &partition);

    let loop0 = "sys/devices/virtual/block/loop0";
    block(&tree, loop0, "7:0", 2048);
    tree.file(&format!("{loop0}/loop/backing_file"), "/data/image file");
    block(&tree, "sys/devices/virtual/block/loop1", "7:1", 0);
    block(&tree, "sys/devices/virtual/block/zram0", "252:0", 2048);

    tree.file(
        "proc/self/mountinfo",
        "22 27 0:21 / /proc rw - proc proc rw\n\
         27 1 259:2 / / rw,noatime - xfs /dev/nvme0n1p2 rw\n\
         28 27 253:0 / /data rw - ext4 /dev/mapper/data rw\n\
         29 27 0:44 / /mem\\040ory rw - tmpfs tmpfs rw",
    );
    tree
}

fn device(tree: &Tree, path: &str) -> BlockDevice {
    block_device_of(&tree.root(), Path::new(path)).expect("a block device")
}

#[test]
fn an_nvme_ssd() {
    let tree = nvme_stack();
    let ssd = device(&tree, "/dev/nvme0n1");
    assert_eq!(ssd.name, "nvme0n1");
    assert_eq!(ssd.kind, BlockKind::Nvme);
    assert_eq!(ssd.partition, None);
    assert_eq!(ssd.driver.as_deref(), Some("nvme"));
    assert_eq!(ssd.model.as_deref(), Some("Fast SSD 1TB"));
    assert_eq!(ssd.firmware.as_deref(), Some("1B2QEXM7"));
    assert_eq!(ssd.size_bytes, Some(1_024_209_543_168));
    assert_eq!(ssd.logical_block_bytes, Some(512));
    assert_eq!(ssd.physical_block_bytes, None);
    assert_eq!(ssd.scheduler.as_deref(), Some("none"));
    assert_eq!((ssd.io_poll, ssd.rotational), (Some(true), Some(false)));
    assert_eq!((ssd.poll_queues, ssd.controller_queues), (Some(2), Some(5)));
    assert_eq!(ssd.hardware_queues, Some(3));
    assert_eq!(ssd.numa_node, Some(NumaNode(1)));
    assert!(!ssd.is_memory_backed());
    let link = ssd.pci.as_ref().expect("a link");
    assert_eq!((link.current_width, link.max_width), (Some(2), Some(4)));
    assert!(link.is_degraded());
}

#[test]
fn a_link_carries_what_its_encoding_leaves() {
    let of = |speed: &str, width: u32| PciLink {
        current_speed: Some(speed.to_owned()),
        max_speed: None,
        current_width: Some(width),
        max_width: None,
    };
    for (speed, width, megabytes) in [
        ("2.5 GT/s PCIe", 1, 250),
        ("5.0 GT/s PCIe", 4, 2_000),
        ("8.0 GT/s PCIe", 4, 3_938),
        ("32.0 GT/s PCIe", 4, 15_754),
        ("64.0 GT/s PCIe", 4, 30_250),
    ] {
        let rate = of(speed, width).bytes_per_second().expect("known");
        assert_eq!((rate / 1e6).round(), f64::from(megabytes), "{speed}");
    }
    assert_eq!(of("Unknown", 4).bytes_per_second(), None);
}

#[test]
fn a_serial_number_never_shows() {
    let ssd = device(&nvme_stack(), "/dev/nvme0n1");
    let serial = ssd.serial.clone().expect("a serial number");
    assert_eq!(serial.reveal(), "S4EWNX0R123456");
    let json = serde_json::to_string(&ssd).expect("json");
    for text in [json.clone(), format!("{ssd:?}"), devices::text(&[ssd], &[])] {
        assert!(!text.contains("S4EW"), "{text}");
    }
    let back: BlockDevice = serde_json::from_str(&json).expect("a device");
    assert_eq!(back.serial, None);
}

#[test]
fn a_partition_leads_to_its_disk() {
    for path in ["/dev/nvme0n1p2", "/", "/home/not/yet/there"] {
        let ssd = device(&nvme_stack(), path);
        assert_eq!(ssd.name, "nvme0n1", "{path}");
        assert_eq!(ssd.partition.as_deref(), Some("nvme0n1p2"), "{path}");
    }
}

#[test]
fn a_mapped_device_names_what_it_is_made_of() {
    let mapped = device(&nvme_stack(), "/data/file");
    assert_eq!((mapped.name.as_str(), mapped.kind), ("dm-0", BlockKind::Dm));
    assert_eq!(mapped.built_on.len(), 1);
    assert_eq!(mapped.built_on[0].name, "nvme0n1");
    assert_eq!(mapped.built_on[0].partition.as_deref(), Some("nvme0n1p2"));
}

#[test]
fn a_loop_device_names_its_file_and_what_is_below() {
    let over = device(&nvme_stack(), "/dev/loop0");
    assert_eq!(over.kind, BlockKind::Loop);
    assert_eq!(over.backing_file, Some(PathBuf::from("/data/image file")));
    assert_eq!(over.built_on[0].name, "dm-0");
    assert_eq!(over.built_on[0].built_on[0].name, "nvme0n1");
    let text = devices::text(&[over], &[]);
    assert_eq!(
        text,
        "block loop0: 1 MiB, node unknown, scheduler none, \
         file /data/image file\n\
         \x20 on dm-0: 488.2 MiB, node unknown, scheduler none\n\
         \x20   on nvme0n1: 953.8 GiB, Fast SSD 1TB, node 1, scheduler none, \
         3 queues, polling, 16.0 GT/s PCIe x2 (below its best), \
         partition nvme0n1p2\n"
    );
}

#[test]
fn a_run_stores_no_file_behind_a_loop_device() {
    let tree = nvme_stack();
    let stacked = "sys/devices/virtual/block/dm-1";
    block(&tree, stacked, "253:1", 2048);
    let loop0 = "sys/devices/virtual/block/loop0";
    tree.link(&format!("{stacked}/slaves/loop0"), loop0);
    let stored = Host::devices(&tree.root());
    let names: Vec<&str> = stored["block"]
        .as_array()
        .expect("devices")
        .iter()
        .filter_map(|device| device["name"].as_str())
        .collect();
    assert!(names.contains(&"loop0") && names.contains(&"dm-1"), "{names:?}");
    assert_eq!(stored["block"][1]["built_on"][0]["name"], "loop0");
    assert!(!stored.to_string().contains("image file"), "{stored}");
}

#[test]
fn a_loop_device_over_a_file_on_itself_ends() {
    let tree = nvme_stack();
    tree.file("proc/self/mountinfo", "1 0 7:0 / /data rw - ext4 /dev/loop0 rw");
    assert_eq!(device(&tree, "/dev/loop0").name, "loop0");
}

#[test]
fn the_list_has_what_has_a_size() {
    let tree = nvme_stack();
    let list = block_devices(&tree.root());
    let names: Vec<&str> = list.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["dm-0", "loop0", "nvme0n1", "zram0"]);
    assert!(list[3].is_memory_backed());
    assert_eq!(list[3].driver.as_deref(), Some("zram"));
}

#[test]
fn a_multipath_nvme_is_found_through_its_controller() {
    let tree = Tree::new();
    let pci = "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0";
    slot(&tree, pci);
    let controller = format!("{pci}/nvme/nvme3");
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys3";
    let disk = format!("{subsystem}/nvme3n1");
    block(&tree, &disk, "259:7", 2048);
    tree.link(&format!("{disk}/device"), subsystem)
        .link(&format!("{subsystem}/nvme3"), &controller)
        .file(&format!("{subsystem}/model"), "Shared SSD")
        .file(&format!("{controller}/queue_count"), 9);
    let ssd = device(&tree, "/dev/nvme3n1");
    assert_eq!(ssd.model.as_deref(), Some("Shared SSD"));
    assert_eq!(ssd.numa_node, Some(NumaNode(1)));
    assert_eq!(ssd.controller_queues, Some(9));
    assert!(ssd.pci.is_some());
}

#[test]
fn the_disk_of_a_virtual_machine() {
    let tree = small_vm();
    let disk = device(&tree, "/");
    assert_eq!(disk.kind, BlockKind::Virtio);
    assert_eq!(disk.driver.as_deref(), Some("virtio_blk"));
    assert_eq!(disk.scheduler.as_deref(), Some("mq-deadline"));
    assert_eq!(disk.size_bytes, Some(1 << 30));
    assert_eq!(disk.write_cache.as_deref(), Some("write back"));
    assert_eq!(disk.fua, Some(false));
    assert_eq!(disk.writeback_throttle_us, Some(75_000));
    assert_eq!((disk.numa_node, disk.pci, disk.model), (None, None, None));
    assert_eq!(block_device_of(&tree.root(), Path::new("/tmp/x")), None);
}

#[test]
fn network_interfaces_with_and_without_a_device() {
    let tree = small_vm();
    let device = "sys/devices/pci0000:80/0000:80:02.0/0000:82:00.0";
    let port = format!("{device}/net/ens1");
    slot(&tree, device);
    tree.link("sys/class/net/ens1", &port)
        .link(&format!("{port}/device"), device)
        .link(&format!("{device}/driver"), "sys/bus/pci/drivers/ice")
        .file(&format!("{port}/speed"), 100_000)
        .file("sys/class/net/bonding_masters", "");
    let list = network_interfaces(&tree.root());
    let names: Vec<&str> = list.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["ens1", "eth0", "lo"]);
    assert_eq!(list[0].driver.as_deref(), Some("ice"));
    assert_eq!(list[0].speed_mbit_s, Some(100_000));
    assert_eq!(list[0].numa_node, Some(NumaNode(1)));
    assert_eq!(list[0].operstate, None);
    assert_eq!(list[1].driver.as_deref(), Some("virtio_net"));
    assert_eq!((list[1].speed_mbit_s, list[1].is_virtual), (None, Some(false)));
    assert_eq!((list[1].rx_queues, list[1].tx_queues), (Some(1), Some(1)));
    assert_eq!(list[2].is_virtual, Some(true));
    assert_eq!(
        devices::text(&[], &list),
        "net ens1: ice, 100000 Mbit/s, node 1, \
         16.0 GT/s PCIe x2 (below its best)\n\
         net eth0: virtio_net, speed unknown, node unknown, up, MTU 1500\n\
         net lo: virtual, unknown, MTU 65536\n"
    );
    let json = serde_json::to_string(&list).expect("json");
    assert!(!json.contains("02:00:00"), "no hardware address: {json}");
}

#[test]
fn file_systems_of_paths() {
    let tree = nvme_stack();
    let of = |path: &str| {
        filesystem_of(&tree.root(), Path::new(path)).expect("a file system")
    };
    let root = of("/anything");
    assert_eq!((root.kind.as_str(), root.is_real()), ("xfs", true));
    assert_eq!(root.options, ["rw", "noatime"]);
    assert!(!root.is_memory_backed() && !root.is_read_only());
    assert_eq!(of("/data/x").source, "/dev/mapper/data");
    assert_eq!(of("/database").kind, "xfs");
    let memory = of("/mem ory/x");
    assert_eq!(memory.mount_point, Path::new("/mem ory"));
    assert!(memory.is_memory_backed() && !memory.is_real());
    assert!(!of("/proc/self").is_real());
}

#[test]
fn the_file_systems_of_this_machine() {
    let root = Root::system();
    let proc = filesystem_of(&root, Path::new("/proc/self/status"));
    assert_eq!(proc.map(|found| found.kind), Some("proc".to_owned()));
    let here = filesystem_of(&root, Path::new(".")).expect("of this directory");
    let there = Path::new("not/../there/yet");
    assert_eq!(filesystem_of(&root, there), Some(here));
}

#[test]
fn the_device_of_this_machine_is_in_the_list() {
    let root = Root::system();
    let list = block_devices(&root);
    match block_device_of(&root, Path::new("/")) {
        Some(device) => {
            let names: Vec<&str> =
                list.iter().map(|d| d.name.as_str()).collect();
            assert!(names.contains(&device.name.as_str()), "{names:?}");
        }
        None => eprintln!("SKIPPED: no block device below /"),
    }
}
