//! What the kernel counted at one end of the link, by name.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Seek},
};

use netlink_packet_route::link::Stats64;

use super::{IpVersion, error::LabError};

/// Counters by name, or how far they went up between two looks.
///
/// | names | from |
/// |---|---|
/// | `link.tx_packets`, … | netlink, `IFLA_STATS64` |
/// | `ip.InReceives`, `udp.RcvbufErrors`, `icmp.OutMsgs`, … | `/proc/thread-self/net/snmp`, or `snmp6` |
/// | `device.rx_queue_0_xdp_packets`, … | `ethtool -S` |
///
/// One that the kernel does not have counts as 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// A counter.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, now)| {
                    (name.clone(), now.saturating_sub(earlier.get(name)))
                })
                .collect(),
        )
    }

    /// Sets a counter; for tests and for ways that bring their own.
    pub fn set(&mut self, name: impl Into<String>, value: u64) {
        self.0.insert(name.into(), value);
    }

    pub(super) fn add_link(&mut self, stats: &Stats64) {
        for (name, value) in [
            ("rx_packets", stats.rx_packets),
            ("tx_packets", stats.tx_packets),
            ("rx_bytes", stats.rx_bytes),
            ("tx_bytes", stats.tx_bytes),
            ("rx_errors", stats.rx_errors),
            ("tx_errors", stats.tx_errors),
            ("rx_dropped", stats.rx_dropped),
            ("tx_dropped", stats.tx_dropped),
        ] {
            self.set(format!("link.{name}"), value);
        }
    }

    pub(super) fn add_device(&mut self, counters: Vec<(String, u64)>) {
        for (name, value) in counters {
            self.set(format!("device.{name}"), value);
        }
    }
}

/// Those that are not 0.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.0.iter().filter(|(_, value)| **value > 0) {
            write!(f, "{separator}{name}={value}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// The protocol counters of one namespace. An open file stays with the
/// namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Protocols {
    version: IpVersion,
    path: &'static str,
    file: File,
}

impl Protocols {
    /// Those of the calling thread's namespace.
    pub(super) fn open(version: IpVersion) -> Result<Self, LabError> {
        let path = match version {
            IpVersion::V4 => "/proc/thread-self/net/snmp",
            IpVersion::V6 => "/proc/thread-self/net/snmp6",
        };
        let file = File::open(path).map_err(|source| refused(path, source))?;
        Ok(Self { version, path, file })
    }

    /// Adds them.
    pub(super) fn read(&mut self, counts: &mut Counts) -> Result<(), LabError> {
        let mut text = String::new();
        self.file
            .rewind()
            .and_then(|()| self.file.read_to_string(&mut text))
            .map_err(|source| refused(self.path, source))?;
        match self.version {
            IpVersion::V4 => parse_snmp(&text, counts),
            IpVersion::V6 => parse_snmp6(&text, counts),
        }
        Ok(())
    }
}

fn refused(path: &str, source: io::Error) -> LabError {
    LabError::File { path: path.to_owned(), source }
}

/// proc_net(5): pairs of lines, `Udp: InDatagrams …` and `Udp: 17 …`.
fn parse_snmp(text: &str, counts: &mut Counts) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((protocol, names)), Some((_, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        let protocol = protocol.to_ascii_lowercase();
        for (name, value) in
            names.split_whitespace().zip(values.split_whitespace())
        {
            if let Ok(value) = value.parse() {
                counts.set(format!("{protocol}.{name}"), value);
            }
        }
    }
}

/// One counter a line: `Udp6InDatagrams  17`.
fn parse_snmp6(text: &str, counts: &mut Counts) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(Ok(value))) =
            (words.next(), words.next().map(str::parse))
        else {
            continue;
        };
        if let Some((protocol, name)) = key.split_once('6') {
            let protocol = protocol.to_ascii_lowercase();
            counts.set(format!("{protocol}.{name}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_give_the_same_names() {
        let mut counts = Counts::default();
        parse_snmp(
            "Ip: Forwarding InReceives\nIp: 1 20\n\
             Udp: InDatagrams NoPorts RcvbufErrors\nUdp: 17 0 3\n",
            &mut counts,
        );
        assert_eq!(counts.get("udp.InDatagrams"), 17);
        assert_eq!(counts.get("udp.RcvbufErrors"), 3);
        assert_eq!(counts.get("ip.InReceives"), 20);
        let mut counts = Counts::default();
        parse_snmp6(
            "Ip6InReceives\t20\nUdp6InDatagrams   \t17\nIcmp6OutMsgs\t2\n\
             Icmp6OutType143\t2\nnonsense\nUdpLite6InDatagrams 5\n",
            &mut counts,
        );
        assert_eq!(counts.get("udp.InDatagrams"), 17);
        assert_eq!(counts.get("icmp.OutMsgs"), 2);
        assert_eq!(counts.get("ip.InReceives"), 20);
        assert_eq!(counts.get("udplite.InDatagrams"), 5);
    }

    #[test]
    fn garbled_text_counts_nothing() {
        let mut counts = Counts::default();
        parse_snmp("Udp InDatagrams\nUdp: x", &mut counts);
        parse_snmp("Udp: InDatagrams\nUdp: x\n", &mut counts);
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn a_difference_is_what_was_added() {
        let (mut then, mut now) = (Counts::default(), Counts::default());
        then.set("a", 2);
        now.set("a", 5);
        now.set("b", 1);
        assert_eq!(now.since(&then).to_string(), "a=3 b=1");
    }
}
