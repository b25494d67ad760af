//! The account of one direction: what was sent is what was delivered and what
//! was dropped by name, to the frame.

use std::fmt;

use harness::measure::trial::{Evidence, ExtraMetric, TrialError};

use crate::{arrivals::Tally, lab::Counts};

/// What became of the frames that one side sent to the other. It balances or
/// the trial is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    direction: &'static str,
    sent: u64,
    delivered: u64,
    drops: Vec<(&'static str, u64)>,
    /// What is not as it must be, whatever the sums are.
    faults: Vec<String>,
    tally: Tally,
}

impl Ledger {
    /// Opens the account: so many frames got a number and were handed over,
    /// and this is what the receiver saw.
    pub fn new(direction: &'static str, sent: u64, tally: Tally) -> Self {
        Self {
            direction,
            sent,
            delivered: tally.delivered,
            drops: Vec::new(),
            faults: Vec::new(),
            tally,
        }
    }

    /// So many frames ended here.
    pub fn drop(&mut self, name: &'static str, frames: u64) {
        match self.drops.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += frames,
            None => self.drops.push((name, frames)),
        }
    }

    /// What is left over ended where nobody counts it for us: on a wire, in a
    /// switch, or in a card, each of whose drivers has names of its own.
    pub fn drop_the_rest(&mut self, name: &'static str) {
        let rest = self.sent.saturating_sub(self.delivered + self.dropped());
        self.drop(name, rest);
    }

    /// Two independent counters that have to agree.
    pub fn agree(&mut self, what: &str, ours: u64, kernels: u64) {
        if ours != kernels {
            self.faults
                .push(format!("{what}: {ours} by us, {kernels} by the kernel"));
        }
    }

    /// Fills in what UDP sockets and the veth below them count.
    ///
    /// The same frame is counted at two places where the kernel's backlog
    /// refuses it: as dropped by the sender's device and by the receiver's. So
    /// the greater of the two stands for both; a device with NAPI
    /// (`napi`) has a ring of its own in between and drops at either end.
    ///
    /// Since Linux 6.6 (commit 151e887d8ff9) a veth tells the sender of such a
    /// drop: `ip_send_skb` then counts it in `OutDiscards`, and UDP in
    /// `SndbufErrors` instead of `OutDatagrams`, while `send` succeeds. What
    /// `send` refused is in `OutDiscards` as well (`__ip_append_data`).
    pub fn udp(
        &mut self,
        refused: u64,
        sender: &Counts,
        receiver: &Counts,
        napi: bool,
    ) {
        let tx = sender.get("link.tx_dropped");
        let rx = receiver.get("link.rx_dropped");
        self.drop("send_refused", refused);
        let discarded = sender.get("ip.OutDiscards").saturating_sub(refused);
        let no_route = sender.get("ip.OutNoRoutes");
        self.drop("route", discarded.saturating_sub(tx) + no_route);
        self.drop("device_tx", tx);
        self.drop("device_rx", if napi { rx } else { rx.saturating_sub(tx) });
        self.drop(
            "ip_header",
            ["InHdrErrors", "InAddrErrors", "InUnknownProtos", "InDiscards"]
                .iter()
                .map(|name| receiver.get(&format!("ip.{name}")))
                .sum(),
        );
        self.drop("no_port", receiver.get("udp.NoPorts"));
        self.drop("checksum", receiver.get("udp.InCsumErrors"));
        self.drop("socket_buffer", receiver.get("udp.RcvbufErrors"));
        self.drop("memory", receiver.get("udp.MemErrors"));
        let sent = self.sent.saturating_sub(refused);
        let taken = sender.get("udp.OutDatagrams") + discarded;
        self.agree("datagrams sent", sent, taken);
        let received = self.tally.received();
        self.agree(
            "datagrams received",
            received,
            receiver.get("udp.InDatagrams"),
        );
    }

    /// Frames dropped by name, all together.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(|(_, frames)| frames).sum()
    }

    /// Whether nothing is left over.
    pub fn balances(&self) -> bool {
        self.check().is_ok()
    }

    /// Every frame sent was delivered or dropped by name, none came twice, and
    /// none was damaged.
    ///
    /// # Errors
    /// The whole account, as wrong data.
    pub fn check(&self) -> Result<(), TrialError> {
        let accounted = self.delivered + self.dropped();
        let sound = self.tally.duplicates == 0 && self.tally.damaged == 0;
        if self.sent == accounted && sound && self.faults.is_empty() {
            return Ok(());
        }
        let (difference, name) = if self.sent >= accounted {
            (self.sent - accounted, "unaccounted for")
        } else {
            (accounted - self.sent, "too many")
        };
        Err(TrialError::Wrong(format!(
            "the account does not balance, {difference} frames {name}: {self}"
        )))
    }

    /// States the account on the row.
    pub fn report(&self, evidence: &mut Evidence) {
        let mut add = |name: &str, better: &str, value: u64| {
            let name = format!("{}_{name}", self.direction);
            evidence.metrics.push(metric(&name, "frames", better, value));
        };
        add("frames_sent", "none", self.sent);
        add("frames_delivered", "none", self.delivered);
        for (name, frames) in &self.drops {
            add(&format!("dropped_{name}"), "lower", *frames);
        }
        add("frames_reordered", "lower", self.tally.reordered);
        add("frames_foreign", "lower", self.tally.foreign);
    }

    /// Frames that were dropped, of all that were sent.
    pub fn loss_percent(&self) -> ExtraMetric {
        let lost = metric("loss_percent", "%", "lower", self.dropped());
        let sent = metric("sent", "frames", "none", self.sent.max(1));
        ExtraMetric { value: lost.value / sent.value * 100.0, ..lost }
    }

    /// Frames that reached the receiver, ours or not.
    pub fn received(&self) -> u64 {
        self.tally.received()
    }

    /// Frames that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// A figure for `metrics.csv`.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn metric(name: &str, unit: &str, better: &str, value: u64) -> ExtraMetric {
    ExtraMetric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        better: better.to_owned(),
        thread: None,
        value: value as f64,
    }
}

/// The account in one line; drops of 0 are left out.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, sent, delivered, tally, .. } = self;
        write!(f, "{direction}: {sent} sent, {delivered} delivered")?;
        for (name, frames) in &self.drops {
            if *frames > 0 {
                write!(f, ", {frames} dropped ({name})")?;
            }
        }
        for (name, frames) in [
            ("duplicate", tally.duplicates),
            ("damaged", tally.damaged),
            ("foreign", tally.foreign),
            ("reordered", tally.reordered),
        ] {
            if frames > 0 {
                write!(f, ", {frames} {name}")?;
            }
        }
        for fault in &self.faults {
            write!(f, "; {fault}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (name, value) in pairs {
            counts.set(*name, *value);
        }
        counts
    }

    fn tally(delivered: u64) -> Tally {
        Tally { delivered, ..Tally::default() }
    }

    #[test]
    fn named_drops_balance() {
        let mut ledger = Ledger::new("there", 100, tally(70));
        let sender =
            counts(&[("udp.OutDatagrams", 95), ("link.tx_dropped", 2)]);
        let receiver = counts(&[
            ("udp.InDatagrams", 70),
            ("udp.RcvbufErrors", 20),
            ("link.rx_dropped", 5),
        ]);
        ledger.udp(5, &sender, &receiver, false);
        assert_eq!(ledger.check(), Ok(()));
        assert_eq!(ledger.dropped(), 30);
        let mut evidence = Evidence::default();
        ledger.report(&mut evidence);
        let value = |name: &str| {
            evidence.metrics.iter().find(|m| m.name == name).map(|m| m.value)
        };
        assert_eq!(value("there_frames_sent"), Some(100.0));
        assert_eq!(value("there_dropped_socket_buffer"), Some(20.0));
        assert_eq!(value("there_dropped_device_rx"), Some(3.0));
    }

    #[test]
    fn a_frame_that_the_device_refused_is_counted_once() {
        // Before Linux 6.6, since then, and with refusals by `send`.
        for (refused, datagrams, discards) in
            [(0, 95, 0), (0, 93, 2), (5, 93, 7)]
        {
            let mut ledger = Ledger::new("there", 95 + refused, tally(93));
            let sender = counts(&[
                ("udp.OutDatagrams", datagrams),
                ("ip.OutDiscards", discards),
                ("link.tx_dropped", 2),
            ]);
            let receiver =
                counts(&[("udp.InDatagrams", 93), ("link.rx_dropped", 2)]);
            ledger.udp(refused, &sender, &receiver, false);
            assert_eq!(ledger.check(), Ok(()), "{discards} discarded");
            assert_eq!(ledger.dropped(), 2 + refused);
        }
    }

    #[test]
    fn one_frame_without_a_name_is_wrong() {
        let mut ledger = Ledger::new("there", 100, tally(98));
        ledger.drop("socket_buffer", 1);
        let error = ledger.check().expect_err("one is missing");
        assert!(matches!(error, TrialError::Wrong(_)));
        let text = error.to_string();
        assert!(text.contains("1 frames unaccounted for"), "{text}");
        assert!(text.contains("1 dropped (socket_buffer)"), "{text}");
        assert!(text.contains("100 sent, 98 delivered"), "{text}");
    }

    #[test]
    fn sums_that_match_do_not_hide_what_is_wrong() {
        let twice = Tally { delivered: 5, duplicates: 1, ..Tally::default() };
        assert!(!Ledger::new("there", 5, twice).balances());
        let mut ledger = Ledger::new("there", 5, tally(5));
        assert!(ledger.balances());
        ledger.agree("datagrams sent", 5, 6);
        let text = ledger.check().expect_err("disagree").to_string();
        assert!(text.contains("5 by us, 6 by the kernel"), "{text}");
    }
}
