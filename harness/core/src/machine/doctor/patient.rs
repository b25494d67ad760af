//! What a check may look at: files below a root, and a few facts that only
//! system calls tell.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use super::Unknown;
use crate::machine::{
    allowed::allowed_cpus,
    cpu_set::{Cpu, CpuSet},
    devices::{
        BlockDevice, NetworkInterface, block_device_of, network_interfaces,
    },
    environment::{Environment, kernel_configuration, kibibytes},
    root::Root,
    sys,
};

/// Facts about this process that no file tells. A captured tree has none, and
/// checks that need them are then unknown.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// CPUs that this process may use.
    pub allowed: Option<CpuSet>,
    /// Whether this program was built with debug assertions.
    pub debug_assertions: Option<bool>,
    /// Whether the kernel makes an `io_uring`; the error if it does not.
    pub io_uring: Option<Result<(), String>>,
    /// Whether the time of day is kept by a server.
    pub clock_synchronised: Option<bool>,
}

impl Live {
    /// Asks the running system.
    pub fn read() -> Self {
        Self {
            allowed: allowed_cpus().ok(),
            debug_assertions: Some(cfg!(debug_assertions)),
            io_uring: Some(
                sys::try_io_uring().map_err(|error| error.to_string()),
            ),
            clock_synchronised: sys::is_clock_synchronised().ok(),
        }
    }
}

/// The machine under examination.
#[derive(Clone, Debug)]
pub struct Patient {
    /// Where its files are.
    pub root: Root,
    /// What has been read of it already.
    pub environment: Environment,
    /// What system calls told; nothing for a captured tree.
    pub live: Live,
    /// Where storage works: the device below this path is examined.
    pub target: PathBuf,
    /// Inflating it takes a millisecond, and several checks ask.
    configuration: OnceCell<Option<String>>,
    /// A hundred files, and 20 checks ask.
    block_device: OnceCell<Option<BlockDevice>>,
    interfaces: OnceCell<Vec<NetworkInterface>>,
}

impl Patient {
    /// The running system.
    pub fn system(target: impl Into<PathBuf>) -> Self {
        let root = Root::system();
        let environment = Environment::read(&root);
        Self::with_facts(root, environment, Live::read(), target)
    }

    /// A captured tree: its `/` is the target.
    pub fn captured(root: Root) -> Self {
        let environment = Environment::read(&root);
        Self::with_facts(root, environment, Live::default(), "/")
    }

    /// With what has been read of it already.
    pub fn with_facts(
        root: Root,
        environment: Environment,
        live: Live,
        target: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root,
            environment,
            live,
            target: target.into(),
            configuration: OnceCell::new(),
            block_device: OnceCell::new(),
            interfaces: OnceCell::new(),
        }
    }

    /// The block device below the target.
    pub fn block_device(&self) -> Option<&BlockDevice> {
        self.block_device
            .get_or_init(|| block_device_of(&self.root, &self.target))
            .as_ref()
    }

    /// All network interfaces.
    pub fn interfaces(&self) -> &[NetworkInterface] {
        self.interfaces.get_or_init(|| network_interfaces(&self.root))
    }

    /// The kernel's configuration as its build wrote it.
    pub(super) fn configuration(&self) -> Option<&str> {
        self.configuration
            .get_or_init(|| kernel_configuration(&self.root))
            .as_deref()
    }

    /// The CPUs that may be measured on, at least one: those allowed, else
    /// (in a captured tree) those online.
    ///
    /// # Errors
    /// Where neither can be told.
    pub fn cpus(&self) -> Result<CpuSet, Unknown> {
        let online = "sys/devices/system/cpu/online";
        let cpus = match &self.live.allowed {
            Some(allowed) => allowed.clone(),
            None => self.list(online)?,
        };
        if cpus.is_empty() { Err(self.lack(online)) } else { Ok(cpus) }
    }

    /// One path per measured CPU below `/sys/devices/system/cpu`.
    ///
    /// # Errors
    /// As [`Patient::cpus`].
    pub fn of_each_cpu(
        &self,
        file: &str,
    ) -> Result<Vec<(Cpu, String)>, Unknown> {
        let path = |cpu: Cpu| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
        Ok(self.cpus()?.iter().map(|cpu| (cpu, path(cpu))).collect())
    }

    /// A file's text.
    ///
    /// # Errors
    /// When it is missing, unreadable, empty, or bytes that are no text.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, Unknown> {
        let path = path.as_ref();
        let is_text = |text: &String| {
            let odd = |c: char| c.is_control() && !c.is_whitespace();
            !text.contains(|c| odd(c) || c == char::REPLACEMENT_CHARACTER)
        };
        let text = self.root.read_word(path).filter(is_text);
        text.ok_or_else(|| self.lack(path))
    }

    /// A file that holds one unsigned number.
    ///
    /// # Errors
    /// When it is missing, unreadable or holds something else.
    pub fn number(&self, path: impl AsRef<Path>) -> Result<u64, Unknown> {
        let path = path.as_ref();
        self.root.read_u64(path).ok_or_else(|| self.lack(path))
    }

    /// A file that holds one number with or without a sign.
    ///
    /// # Errors
    /// As [`Patient::number`].
    pub fn signed(&self, path: impl AsRef<Path>) -> Result<i64, Unknown> {
        let path = path.as_ref();
        let number = self.root.read(path).and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.lack(path))
    }

    /// A file that holds `0` or `1`.
    ///
    /// # Errors
    /// As [`Patient::number`].
    pub fn flag(&self, path: impl AsRef<Path>) -> Result<bool, Unknown> {
        let path = path.as_ref();
        self.root.read_bool(path).ok_or_else(|| self.lack(path))
    }

    /// A file that holds a list of CPUs; an empty one is an empty list.
    ///
    /// # Errors
    /// As [`Patient::number`].
    pub fn list(&self, path: impl AsRef<Path>) -> Result<CpuSet, Unknown> {
        let path = path.as_ref();
        self.root.read_list(path).ok_or_else(|| self.lack(path))
    }

    /// A list that is never empty on a machine that runs: of CPUs or nodes
    /// that are online.
    ///
    /// # Errors
    /// As [`Patient::number`].
    pub fn members(&self, path: impl AsRef<Path>) -> Result<CpuSet, Unknown> {
        let path = path.as_ref();
        let list = self.list(path)?;
        if list.is_empty() { Err(self.lack(path)) } else { Ok(list) }
    }

    /// The word in brackets of `always [madvise] never`.
    ///
    /// # Errors
    /// As [`Patient::number`].
    pub fn chosen(&self, path: impl AsRef<Path>) -> Result<String, Unknown> {
        let path = path.as_ref();
        let text = self.root.read(path);
        text.and_then(|text| crate::machine::devices::block::chosen(&text))
            .ok_or_else(|| self.lack(path))
    }

    /// The value of a parameter of the kernel's command line; empty for one
    /// without value.
    ///
    /// # Errors
    /// When the command line cannot be read.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Unknown> {
        let line = self.text("proc/cmdline")?;
        let words = line.split_whitespace().take_while(|&word| word != "--");
        // The last one wins, as in the kernel.
        let value = words
            .map(|word| word.split_once('=').unwrap_or((word, "")))
            .filter(|(key, _)| key.replace('-', "_") == name)
            .map(|(_, value)| value.to_owned())
            .last();
        Ok(value)
    }

    /// A field of `/proc/self/status`, such as `CapEff`.
    ///
    /// # Errors
    /// When it is not told.
    pub fn process_status(&self, name: &str) -> Result<String, Unknown> {
        let text = self.text("proc/self/status")?;
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                Unknown::because(format!("/proc/self/status tells no {name}"))
            })
    }

    /// Whether this process has a capability in effect, by its number in
    /// capabilities(7).
    ///
    /// # Errors
    /// When it is not told.
    pub fn has_capability(&self, number: u32) -> Result<bool, Unknown> {
        let text = self.process_status("CapEff")?;
        let bits = u64::from_str_radix(&text, 16)
            .map_err(|_| self.lack("proc/self/status"))?;
        Ok(bits & (1 << number) != 0)
    }

    /// A line of `/proc/meminfo`, in bytes.
    ///
    /// # Errors
    /// When it is not told.
    pub fn memory_bytes(&self, name: &str) -> Result<u64, Unknown> {
        let text = self.text("proc/meminfo")?;
        kibibytes(&text, &format!("{name}:")).ok_or_else(|| {
            Unknown::because(format!("/proc/meminfo tells no {name}"))
        })
    }

    /// Whether a hypervisor is known to be below.
    pub fn is_guest(&self) -> bool {
        self.environment.virtualization.is_guest() == Some(true)
    }

    /// Why nothing is known from this file.
    pub fn lack(&self, path: impl AsRef<Path>) -> Unknown {
        let path = path.as_ref();
        let absolute = Path::new("/").join(path);
        let name = absolute.display();
        Unknown::because(match self.root.path(path).symlink_metadata() {
            Err(_) => format!("there is no {name}"),
            Ok(_) => format!("{name} cannot be read or understood"),
        })
    }

    /// Why a setting that belongs to the hardware is unknown: in a guest, the
    /// host decides and shows nothing.
    pub fn hidden(&self, path: impl AsRef<Path>, what: &str) -> Unknown {
        if self.is_guest() && !self.root.exists(path.as_ref()) {
            return Unknown::host_only(what);
        }
        self.lack(path)
    }
}
