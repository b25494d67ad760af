//! Closing the books of a trial: looks at both sides before and after, and
//! waits until every frame has come to rest.

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    load::wait::Lost,
    machine::Root,
    measure::trial::{Evidence, TrialError},
};

use crate::{
    arrivals::Tally,
    frame::PAYLOAD_BYTES_U32,
    lab::{Counts, Lab, LabError, Side, Wire},
    ledger::Ledger,
    ways::{Accounts, Way},
};

/// On a veth a frame is received before the call that sends it returns, unless
/// the softirq was put off; a kernel thread that has to wait for a CPU gets it
/// within some time slices.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// What the kernel counted at both sides: when the books were opened, and
/// since.
#[derive(Clone, Debug)]
pub struct Books {
    wire: Wire,
    opened: [Counts; 2],
    since: [Counts; 2],
}

impl Books {
    /// Opens the books, before the first frame.
    ///
    /// # Errors
    /// The kernel's counters cannot be read.
    pub fn open(lab: &Lab) -> Result<Self, LabError> {
        let wire = lab.wire().clone();
        Ok(Self { wire, opened: look(lab)?, since: Default::default() })
    }

    /// Looks until the accounts balance or patience is at an end; then they
    /// are what they are.
    ///
    /// # Errors
    /// The kernel's counters cannot be read, or what `accounts` does besides
    /// fails.
    pub fn settle<const N: usize>(
        &self,
        lab: &Lab,
        mut accounts: impl FnMut(&Self) -> Result<[Ledger; N], TrialError>,
    ) -> Result<[Ledger; N], TrialError> {
        let started = Instant::now();
        loop {
            let mut now = self.clone();
            let [a, b] = look(lab)?;
            now.since = [a.since(&self.opened[0]), b.since(&self.opened[1])];
            let ledgers = accounts(&now)?;
            let balance = ledgers.iter().all(Ledger::balances);
            if balance || started.elapsed() > PATIENCE {
                return Ok(ledgers);
            }
            thread::sleep(PAUSE);
        }
    }

    /// The account from side A to side B.
    pub fn there<W: Way + ?Sized>(
        &self,
        sent: u64,
        tally: Tally,
        sender_own: &Counts,
        receiver_own: &Counts,
    ) -> Ledger {
        let [sender, receiver] = &self.since;
        let mut ledger = Ledger::new("there", sent, tally);
        let wire = &self.wire;
        let sides =
            Accounts { wire, sender, sender_own, receiver, receiver_own };
        W::account(&mut ledger, &sides);
        ledger
    }

    /// The account from side B to side A.
    pub fn back<W: Way + ?Sized>(
        &self,
        sent: u64,
        tally: Tally,
        sender_own: &Counts,
        receiver_own: &Counts,
    ) -> Ledger {
        let [receiver, sender] = &self.since;
        let mut ledger = Ledger::new("back", sent, tally);
        let wire = &self.wire;
        let sides =
            Accounts { wire, sender, sender_own, receiver, receiver_own };
        W::account(&mut ledger, &sides);
        ledger
    }
}

fn look(lab: &Lab) -> Result<[Counts; 2], LabError> {
    Ok([lab.counts(Side::A)?, lab.counts(Side::B)?])
}

/// Which CPU does the receiving softirq's work. On a veth it is the sender's,
/// within the call that sends, unless new interfaces of this namespace spread
/// packets over CPUs (RPS, by a mask since Linux 6.3), or softirqs are threads
/// (PREEMPT_RT).
fn softirq(root: &Root) -> &'static str {
    let spread = root
        .read_word("proc/sys/net/core/rps_default_mask")
        .is_some_and(|mask| mask.chars().any(|c| !matches!(c, '0' | ',')));
    let threads = root.read_u64("sys/kernel/realtime") == Some(1);
    match (spread, threads) {
        (true, _) => "other",
        (false, true) => "unknown",
        (false, false) => "sender",
    }
}

/// States what kind of link it is.
///
/// # Errors
/// The kernel does not tell.
pub fn prove_lab(lab: &Lab, evidence: &mut Evidence) -> Result<(), LabError> {
    match lab.wire() {
        Wire::Veth => {
            evidence.prove("link", "veth");
            evidence.prove("softirq", softirq(&Root::system()));
        }
        // Softirqs run where the card's interrupts are sent to.
        Wire::Interfaces(_) => {
            let [a, b] = [lab.driver(Side::A)?, lab.driver(Side::B)?];
            let same = a == b;
            evidence.prove("link", if same { a } else { format!("{a}+{b}") });
            evidence.prove("softirq", "unknown");
        }
    }
    evidence.prove("ip", lab.ip_version());
    evidence.prove("frame_bytes", lab.frame_bytes(PAYLOAD_BYTES_U32));
    Ok(())
}

/// What to say of frames that stopped to come after this number. `close` ends
/// the sender and says how that went, with the account.
pub fn explain(
    number: u64,
    lost: Lost,
    close: impl FnOnce() -> Result<(Result<(), Lost>, Ledger), TrialError>,
) -> TrialError {
    if let Lost::System { operation, errno } = lost {
        let bytes = PAYLOAD_BYTES_U32.into();
        return TrialError::op(operation, errno, number, bytes);
    }
    let (ended, ledger) = match close() {
        Ok(closed) => closed,
        Err(error) => return error,
    };
    // What is lost without a name outweighs the waiting for it.
    if let Err(error) = ledger.check() {
        return error;
    }
    let how = ended
        .err()
        .map_or(String::new(), |lost| format!("the sender gave up: {lost}; "));
    TrialError::setup(format!(
        "no frame after number {number}: {lost}; {how}{ledger}"
    ))
}

/// Takes over what the end of this side proved. Both ends are the same way: a
/// proof that differs says that one of them took another path.
pub fn compare(ours: &mut Evidence, theirs: Evidence, side: Side) {
    let peer = side.peer();
    let reasons: Vec<String> = theirs
        .path
        .iter()
        .filter(|proof| !ours.path.contains(proof))
        .map(|(key, value)| {
            let found = ours.path.iter().find(|(known, _)| known == key);
            let found = found.map_or("not stated", |(_, value)| value);
            format!(
                "{key} is {value} at side {side:?} and {found} at side \
                 {peer:?}"
            )
        })
        .collect();
    ours.absorb(theirs);
    ours.degraded.extend(reasons);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_does_the_softirqs_is_read_off_the_machine() {
        const MASK: &str = "proc/sys/net/core/rps_default_mask";
        const REALTIME: &str = "sys/kernel/realtime";
        for (files, expected) in [
            (&[][..], "sender"),
            (&[(MASK, "00000000,00000000\n")], "sender"),
            (&[(MASK, "2\n")], "other"),
            (&[(REALTIME, "1\n")], "unknown"),
            (&[(MASK, "ff\n"), (REALTIME, "1\n")], "other"),
        ] {
            let tree = tempfile::tempdir().expect("temporary directory");
            for (path, text) in files {
                let path = tree.path().join(path);
                fs::create_dir_all(path.parent().expect("parent"))
                    .expect("mkdir");
                fs::write(path, text).expect("write");
            }
            assert_eq!(softirq(&Root::at(tree.path())), expected);
        }
    }
}
