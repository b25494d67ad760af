//! What a capture takes, and what it does not tell.

mod machine_support;

use harness::machine::{
    BlockDevice, Environment, Root, Topology, block_devices,
    capture::{Archive, Entry, capture},
    cpu_limit, filesystem_of, network_interfaces,
};
use machine_support::*;

fn unpacked(archive: &Archive) -> Tree {
    let tree = Tree::new();
    archive.unpack(tree.path()).expect("unpack");
    tree
}

/// Everything that the machine layer knows of a tree, apart from what a
/// capture leaves out.
fn facts(root: &Root) -> String {
    let environment = Environment::read(root);
    format!(
        "{:#?}",
        (
            Topology::read(root).expect("CPUs"),
            environment,
            block_devices(root),
            network_interfaces(root),
            cpu_limit(root),
            filesystem_of(root, "/".as_ref()),
        )
    )
}

#[test]
fn a_capture_tells_the_same_facts() {
    for tree in [small_vm(), two_socket_server(), hybrid_laptop()] {
        // A serial number is replaced by none.
        let serial = "sys/block/vda/serial";
        if tree.path().join(serial).exists() {
            tree.remove(serial);
        }
        let copy = unpacked(&capture(&tree.root()));
        assert_eq!(facts(&copy.root()), facts(&tree.root()));
    }
}

/// What a capture replaces, also in the devices below.
fn forget_names(device: &mut BlockDevice) {
    device.serial = None;
    // A file below a directory of the user.
    device.backing_file = None;
    device.built_on.iter_mut().for_each(forget_names);
}

/// Everything that a capture of this machine keeps and that does not change
/// by itself.
fn lasting_facts(root: &Root) -> String {
    let mut environment = Environment::read(root);
    environment.load_average = None;
    environment.swap_used_bytes = None;
    let mut blocks = block_devices(root);
    blocks.iter_mut().for_each(forget_names);
    let topology = Topology::read(root).expect("CPUs");
    // The name that a person chose is replaced, and sorts elsewhere.
    let mut networks = network_interfaces(root);
    networks.iter_mut().for_each(|interface| interface.name.clear());
    networks.sort_by_key(|interface| format!("{interface:?}"));
    format!("{:#?}", (topology, environment, blocks, networks, cpu_limit(root)))
}

#[test]
fn a_capture_of_this_machine_tells_the_same_facts() {
    let here = Root::system();
    // Other tests attach loop devices and make interfaces meanwhile.
    let mut captured = None;
    for _ in 0..10 {
        let before = lasting_facts(&here);
        let archive = capture(&here);
        if lasting_facts(&here) != before {
            continue;
        }
        let text = archive.text();
        assert_eq!(Archive::parse(&text).expect("an archive"), archive);
        let copy = lasting_facts(&unpacked(&archive).root());
        if copy == before {
            return;
        }
        captured = Some((copy, before));
    }
    match captured {
        Some((copy, before)) => assert_eq!(copy, before),
        None => eprintln!("SKIPPED: this machine changes all the time"),
    }
}

/// Secrets as they stand in files of real machines.
const SECRETS: [&str; 29] = [
    "acme-host",
    "4c4c4544-0042-3510-8053-b7c04f4d4e32",
    "0123456789abcdef0123456789abcdef",
    "52:54:00:ab:cd:ef",
    "525400abcdef",
    "10.1.2.3",
    "fd12:3456:789a::7",
    "alice",
    "S4EWNX0R123456",
    "0x5000c500a1b2c3d4",
    "hunter2",
    "payroll",
    "fileserver",
    "acme-vault",
    "acme-agent",
    "1f2e3d4c5b6a79880f1e2d3c4b5a6978",
    "TOKEN",
    "builder",
    "10000000abcd1234",
    "acme-pod",
    "acme-group",
    "04:0c:ce:e2:1a:4b",
    "04_0c",
    "aa:bb:cc:dd:ee:0f",
    "aa-bb-cc-dd-ee-1f",
    "HID77SERIAL",
    "525400fedcba",
    "525400fedcbb",
    "wg-acme",
];

fn plant(tree: &Tree) {
    tree.files(
        "proc",
        &[
            ("sys/kernel/hostname", "acme-host"),
            (
                "cmdline",
                "BOOT_IMAGE=/vmlinuz root=UUID=4c4c4544-0042-3510-8053-\
                 b7c04f4d4e32 ip=10.1.2.3::acme-host mitigations=off \
                 luks.key=hunter2 hunter2 -- TOKEN=hunter2",
            ),
            ("version", "Linux (builder@acme-host)"),
            ("1/environ", "TOKEN=hunter2\0container=lxc\0HOME=/home/alice"),
            ("1/comm", "acme-agent"),
            ("77/comm", "irqbalance"),
            (
                "self/cgroup",
                "0::/system.slice/acme-vault.service/docker-\
                 1f2e3d4c5b6a79880f1e2d3c4b5a6978.scope",
            ),
            ("1/cgroup", "4:cpu,cpuacct:/docker/acme-group:1:/payroll"),
            ("interrupts", " 40: 7 0 IR-PCI-MSI 1-edge i40e-wg-acme-TxRx-0"),
            (
                "self/mountinfo",
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
                 28 27 0:40 / /home/alice/payroll rw - cifs \
                 //fileserver/payroll rw,username=alice,addr=10.1.2.3,\
                 password=hunter2\n\
                 29 27 0:41 / /mnt/x rw - nfs4 [fd12:3456:789a::7]:/payroll \
                 rw,clientaddr=10.1.2.3\n\
                 30 27 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            ),
            ("swaps", "Filename Type Size Used Priority\n/home/alice/swap file 1 0 -2"),
            ("cpuinfo", "processor\t: 0\nflags\t: fpu\nSerial\t\t: 10000000abcd1234"),
            ("self/status", "Name:\tacme-agent\nCapEff:\t000001ffffffffff"),
        ],
    );
    tree.link(
        "sys/class/hwmon/hwmon7",
        "sys/devices/virtual/misc/uhid/power_supply/hid-HID77SERIAL-battery/\
         hwmon7",
    );
    for name in
        ["enx525400abcdef", "wlx525400fedcba", "wwx525400fedcbb", "wg-acme"]
    {
        let place = format!("sys/devices/virtual/net/{name}");
        tree.file(&format!("{place}/mtu"), 1500)
            .link(&format!("sys/class/net/{name}"), &place);
    }
    tree.file("run/.containerenv", "name=\"acme-pod\"");
    for (supply, path) in [
        ("hid-04:0c:ce:e2:1a:4b-battery", "pci0000:00/usb1/1-1"),
        ("ps-controller-battery-aa:bb:cc:dd:ee:0f", "virtual/misc/uhid"),
        ("hid-HID77SERIAL-battery", "virtual/misc/uhid"),
    ] {
        let place = format!("sys/devices/{path}/power_supply/{supply}");
        tree.file(&format!("{place}/scope"), "Device")
            .file(&format!("{place}/hwmon7/name"), supply.replace('-', "_"))
            .link(&format!("sys/class/power_supply/{supply}"), &place);
    }
    tree.file("etc/machine-id", "0123456789abcdef0123456789abcdef")
        .file("sys/class/dmi/id/product_serial", "S4EWNX0R123456")
        .file("sys/class/dmi/id/product_name", "R640 on 52:54:00:ab:cd:ef")
        .file("sys/class/dmi/id/board_name", "B-aa-bb-cc-dd-ee-1f-x")
        .file(
            "sys/class/dmi/id/sys_vendor",
            "uuid.4c4c4544-0042-3510-8053-b7c04f4d4e32",
        )
        .file("sys/block/vda/device/wwid", "0x5000c500a1b2c3d4")
        .file("sys/class/nvme/nvme0/model", "Disk 0x5000c500a1b2c3d4")
        .file("sys/block/loop0/size", 8)
        .file("sys/block/loop0/loop/backing_file", "/home/alice/payroll.img")
        .files(
            "sys/fs/cgroup/system.slice/acme-vault.service/docker-\
             1f2e3d4c5b6a79880f1e2d3c4b5a6978.scope",
            &[("cpu.max", "50000 100000")],
        )
        .file(
            "sys/fs/cgroup/system.slice/acme-vault.service/cgroup.controllers",
            "cpu",
        )
        .file("sys/fs/cgroup/cgroup.controllers", "cpu");
}

#[test]
fn nothing_in_a_capture_names_anything() {
    let tree = Tree::new();
    cpu_summary(&tree, "0-1", "0-1");
    plant(&tree);
    let archive = capture(&tree.root());
    let text = archive.text();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    let file = |path: &str| match archive.get(path) {
        Some(Entry::File(text)) => text.trim().to_owned(),
        other => panic!("{path}: {other:?}\n{text}"),
    };
    // What matters is still there.
    assert_eq!(file("proc/cmdline"), "mitigations=off");
    assert_eq!(file("proc/1/environ"), "container=lxc");
    assert_eq!(file("proc/1/comm"), "x");
    assert_eq!(file("proc/77/comm"), "irqbalance");
    assert_eq!(file("proc/self/status"), "CapEff:\t000001ffffffffff");
    let copy = unpacked(&archive);
    let names = network_interfaces(&copy.root());
    assert_eq!(names[0].mtu_bytes, Some(1500));
    assert_eq!(names.len(), 4);
    assert!(names[0].name.starts_with("enx"));
    let groups = file("proc/1/cgroup");
    assert!(groups.starts_with("4:cpu,cpuacct:/docker/"), "{groups}");
    let interrupts = file("proc/interrupts");
    assert!(interrupts.ends_with("-TxRx-0"), "{interrupts}");
    let supplies = copy.root().entries("sys/class/power_supply");
    assert_eq!(supplies.len(), 3, "{supplies:?}");
    assert_eq!(capture(&copy.root()).text(), text, "redacted twice");
}

/// A group whose files have other names than it says itself would lose its
/// limit.
#[test]
fn one_name_has_one_replacement() {
    let tree = Tree::new();
    cpu_summary(&tree, "0-1", "0-1");
    plant(&tree);
    for group in ["system.slice", "system.slice/acme-vault.service"] {
        tree.file(&format!("sys/fs/cgroup/{group}/cgroup.controllers"), "cpu");
    }
    tree.file(
        "sys/fs/cgroup/system.slice/acme-vault.service/docker-\
         1f2e3d4c5b6a79880f1e2d3c4b5a6978.scope/cgroup.controllers",
        "cpu",
    );
    assert_eq!(cpu_limit(&tree.root()).to_string(), "0.5 CPUs");
    let once = capture(&tree.root());
    let copy = unpacked(&once);
    assert_eq!(cpu_limit(&copy.root()).to_string(), "0.5 CPUs");
    assert_eq!(capture(&copy.root()).text(), once.text());
}
