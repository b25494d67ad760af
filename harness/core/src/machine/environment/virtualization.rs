//! Whether this is a virtual machine or a container. Guesses, named so: there
//! is no file that says it for certain.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kernel::{cpu_flag, cpuinfo_field};
use crate::machine::root::Root;

/// Whether a hypervisor is below us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// A hypervisor, with its name where one is found.
    Guest(Option<String>),
    /// The processor says that there is none.
    None,
    /// It cannot be told (Arm has no flag for it).
    Unknown,
}

/// Words that firmware tables of virtual machines hold, and what they mean.
/// After systemd's src/basic/virt.c, `detect_vm_dmi_vendor`.
const DMI_WORDS: [(&str, &str); 13] = [
    ("kvm", "kvm"),
    ("openstack", "kvm"),
    ("amazon ec2", "amazon"),
    ("google compute engine", "google"),
    ("qemu", "qemu"),
    ("vmware", "vmware"),
    ("virtualbox", "oracle"),
    ("xen", "xen"),
    ("bochs", "bochs"),
    ("parallels", "parallels"),
    ("bhyve", "bhyve"),
    ("hyper-v", "microsoft"),
    ("virtual machine", "microsoft"),
];

/// QEMU without a hypervisor: its "tiny code generator".
const EMULATOR: &str = "tcg";

/// How that calls its processor, unless it was told to play a certain one:
/// QEMU's target/i386/tcg/tcg-cpu.c.
const EMULATED_MODEL: &str = "QEMU TCG CPU";

impl Virtualization {
    /// Whether this is known to be a guest.
    pub fn is_guest(&self) -> Option<bool> {
        match self {
            Virtualization::Guest(_) => Some(true),
            Virtualization::None => Some(false),
            Virtualization::Unknown => None,
        }
    }

    /// Whether software plays the processor, which is good for correctness
    /// and says nothing about speed.
    pub fn is_emulated(&self) -> bool {
        matches!(self, Virtualization::Guest(Some(name)) if name == EMULATOR)
    }

    pub(super) fn read(root: &Root, cpuinfo: &str) -> Virtualization {
        let name = hypervisor_name(root, cpuinfo);
        // Amazon's and Google's bare-metal machines have their vendor in the
        // firmware too, so that the processor's flag has the last word.
        match (cpu_flag(cpuinfo, "hypervisor"), name) {
            (Some(true), name) => Virtualization::Guest(name),
            (Some(false), Some(name)) if name == "xen" => {
                // Paravirtual Xen hides the flag.
                Virtualization::Guest(Some(name))
            }
            (Some(false), _) => Virtualization::None,
            (None, Some(name)) if name != "amazon" && name != "google" => {
                Virtualization::Guest(Some(name))
            }
            (None, _) => Virtualization::Unknown,
        }
    }
}

impl fmt::Display for Virtualization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Virtualization::Guest(Some(name)) => write!(f, "guest of {name}"),
            Virtualization::Guest(None) => f.pad("guest"),
            Virtualization::None => f.pad("none"),
            Virtualization::Unknown => f.pad("unknown"),
        }
    }
}

fn hypervisor_name(root: &Root, cpuinfo: &str) -> Option<String> {
    let model = cpuinfo_field(cpuinfo, "model name");
    if model.is_some_and(|model| model.starts_with(EMULATED_MODEL)) {
        return Some(EMULATOR.to_owned());
    }
    if let Some(kind) = root.read_word("sys/hypervisor/type") {
        return Some(kind);
    }
    for file in ["product_name", "sys_vendor", "board_vendor", "bios_vendor"] {
        let text = root.read(format!("sys/class/dmi/id/{file}"));
        let text = text.unwrap_or_default().to_lowercase();
        let found = DMI_WORDS.iter().find(|(word, _)| text.contains(word));
        if let Some((_, name)) = found {
            return Some((*name).to_owned());
        }
    }
    if root.exists("proc/xen") {
        return Some("xen".to_owned());
    }
    if cpuinfo_field(cpuinfo, "vendor_id").as_deref() == Some("User Mode Linux")
    {
        return Some("uml".to_owned());
    }
    // The guest's clock is offered by the hypervisor that it is named after.
    let clocks = root.read(
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
    )?;
    clocks.split_whitespace().find_map(|clock| match clock {
        "kvm-clock" => Some("kvm".to_owned()),
        "hyperv_clocksource_tsc_page" => Some("microsoft".to_owned()),
        "xen" => Some("xen".to_owned()),
        _ => None,
    })
}

/// Whether a container is around us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// A container, by the kind that its mark tells.
    Inside(String),
    /// No mark of a container was found where they are usually left.
    NoSign,
    /// The places could not be looked at.
    Unknown,
}

impl Container {
    pub(super) fn read(root: &Root) -> Container {
        for (mark, kind) in
            [(".dockerenv", "docker"), ("run/.containerenv", "podman")]
        {
            if root.exists(mark) {
                return Container::Inside(kind.to_owned());
            }
        }
        if let Some(kind) = root.read_word("run/systemd/container") {
            return Container::Inside(kind);
        }
        // Written by the container manager into its first process.
        let environment = root.read("proc/1/environ");
        let named = environment
            .as_deref()
            .and_then(|text| {
                text.split('\0')
                    .find_map(|word| word.strip_prefix("container="))
            })
            .filter(|kind| !kind.is_empty());
        if let Some(kind) = named {
            return Container::Inside(kind.to_owned());
        }
        let groups = root.read("proc/1/cgroup").unwrap_or_default();
        // `0::/init.scope`: a text without such a line says nothing.
        let is_group = |line: &str| {
            line.splitn(3, ':').nth(2).is_some_and(|path| path.starts_with('/'))
        };
        if !groups.lines().any(is_group) {
            return Container::Unknown;
        }
        for kind in ["docker", "kubepods", "lxc", "libpod", "containerd"] {
            if groups.contains(kind) {
                return Container::Inside(kind.to_owned());
            }
        }
        Container::NoSign
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Container::Inside(kind) => write!(f, "inside {kind}"),
            Container::NoSign => f.pad("no sign"),
            Container::Unknown => f.pad("unknown"),
        }
    }
}
