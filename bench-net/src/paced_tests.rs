//! Paced frames for real, with stalls at either side, and with one that is
//! swallowed.

use std::marker::PhantomData;

use harness::{
    measure::recorder::{Kept, Schedule},
    suite::Params,
};

use super::*;
use crate::{
    frame::Payload,
    testing,
    ways::{
        Accounts, Way,
        af_xdp::{AfXdpGeneric, AfXdpNative},
        socket_blocking::SocketBlocking,
        socket_spin::SocketSpin,
        uring::{UringSleep, UringSpin},
    },
};

/// What one end does beside its work.
trait Trouble: std::fmt::Debug + 'static {
    /// Whose end.
    const SIDE: Side;
    /// To the frame of this place, as it is sent or received; whether the frame
    /// is passed on.
    fn befalls(place: u64) -> bool;
}

const STALL: Duration = Duration::from_millis(50);
const STALLED_AT: u64 = 10;

fn stall(place: u64) -> bool {
    if place == STALLED_AT {
        thread::sleep(STALL);
    }
    true
}

#[derive(Debug)]
enum SenderStalls {}

impl Trouble for SenderStalls {
    const SIDE: Side = Side::A;
    fn befalls(place: u64) -> bool {
        stall(place)
    }
}

#[derive(Debug)]
enum ReceiverStalls {}

impl Trouble for ReceiverStalls {
    const SIDE: Side = Side::B;
    fn befalls(place: u64) -> bool {
        stall(place)
    }
}

#[derive(Debug)]
enum Swallows {}

impl Trouble for Swallows {
    const SIDE: Side = Side::A;
    fn befalls(place: u64) -> bool {
        place != 20
    }
}

/// Blocking sockets, one of which has trouble.
#[derive(Debug)]
struct Troubled<T>(PhantomData<T>);

#[derive(Debug)]
struct TroubledEnd<T> {
    end: <SocketBlocking as Link>::End,
    side: Side,
    place: u64,
    trouble: PhantomData<T>,
}

impl<T: Trouble> TroubledEnd<T> {
    fn passes_on(&mut self) -> bool {
        self.place += 1;
        self.side != T::SIDE || T::befalls(self.place - 1)
    }
}

impl<T: Trouble> Way for Troubled<T> {
    const ID: &'static str = "troubled";
    const ABOUT: &'static str = "has trouble at one end";
    const SPINNING: bool = false;

    fn account(ledger: &mut Ledger, sides: &Accounts<'_>) {
        SocketBlocking::account(ledger, sides);
    }
}

impl<T: Trouble> Link for Troubled<T> {
    type End = TroubledEnd<T>;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self::End, TrialError> {
        let end = <SocketBlocking as Link>::open(lab, side, waiter)?;
        Ok(TroubledEnd { end, side, place: 0, trouble: PhantomData })
    }
}

impl<T: Trouble> End for TroubledEnd<T> {
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        match self.passes_on() {
            true => End::send(&mut self.end, payload),
            false => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<Payload, Lost> {
        self.passes_on();
        End::receive(&mut self.end)
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.end.try_receive()
    }
}

/// So many rounds at this rate: latencies, and what was found in the end.
fn collect<L: Link>(
    lab: Lab,
    cpus: &[harness::machine::cpu_set::Cpu],
    per_s: u64,
    rounds: u64,
) -> (Kept, Result<Evidence, TrialError>) {
    let mut trial = testing::trial(L::ID, cpus);
    trial.spec.params = Params::new().with(RATE_PER_S, per_s);
    let lab = Arc::new(lab);
    let mut collector = Collector::<L>::start(&trial, &lab).expect(L::ID);
    let schedule =
        Schedule { start_ns: 0, end_ns: u64::MAX, slice_ns: u64::MAX / 2 };
    let mut recorder = Recorder::new(trial.spec.clock, schedule, true);
    recorder.stamp_ns();
    for _ in 0..rounds {
        collector.round(&mut recorder).expect(L::ID);
    }
    let found = collector.finish();
    (recorder.into_kept(), found)
}

fn value(evidence: &Evidence, name: &str) -> f64 {
    let found = evidence.metrics.iter().find(|m| m.name == name);
    found.unwrap_or_else(|| panic!("no metric {name}")).value
}

fn every_frame<L: Link>() {
    const ROUNDS: u64 = 500;
    let Some(cpus) = testing::two_cpus() else { return };
    if !testing::can_run::<L>() {
        return;
    }
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let (kept, found) = collect::<L>(lab, &cpus, 10_000, ROUNDS);
        assert_eq!(kept.latencies.len(), ROUNDS, "{}", L::ID);
        let evidence = found.expect(L::ID);
        assert!(evidence.verified_ops >= ROUNDS, "{}", L::ID);
        let sent = value(&evidence, "there_frames_sent");
        let dropped: f64 = evidence
            .metrics
            .iter()
            .filter(|m| m.name.starts_with("there_dropped_"))
            .map(|m| m.value)
            .sum();
        let delivered = value(&evidence, "there_frames_delivered");
        assert_eq!(sent, delivered + dropped, "{}", L::ID);
        assert_eq!(delivered, evidence.verified_ops as f64, "{}", L::ID);
        for name in ["generator_rate", "receiver_cpu_per_op"] {
            assert!(value(&evidence, name) > 0.0, "{}: {name}", L::ID);
        }
    });
}

#[test]
fn every_frame_is_timed_and_accounted_for() {
    every_frame::<SocketBlocking>();
    every_frame::<SocketSpin>();
    every_frame::<UringSleep>();
    every_frame::<UringSpin>();
    every_frame::<AfXdpNative>();
    every_frame::<AfXdpGeneric>();
}

/// At 2,000 frames a second 100 become due within the stall, 80 of them more
/// than 10 ms before its end. A closed loop would show it in one frame. The
/// bounds are lower ones: a busy machine only adds to them.
fn shows_the_stall<T: Trouble>(check: fn(&Evidence)) {
    const OVERDUE_NS: u64 = 10_000_000;
    let Some(cpus) = testing::two_cpus() else { return };
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let (kept, found) = collect::<Troubled<T>>(lab, &cpus, 2_000, 150);
        let late = kept.latencies.count_between(OVERDUE_NS, u64::MAX);
        assert!(late >= 70, "{late} frames show the stall");
        check(&found.expect("balanced"));
    });
}

#[test]
fn a_frame_that_is_taken_late_counts_from_its_time() {
    shows_the_stall::<ReceiverStalls>(|_| {});
}

#[test]
fn a_frame_that_is_sent_late_counts_from_its_time_and_is_told() {
    shows_the_stall::<SenderStalls>(|evidence| {
        let latest_ns = value(evidence, "generator_late_max");
        // The one behind the stall was due half a millisecond after its start.
        assert!(latest_ns >= 49_000_000.0, "{latest_ns} ns");
        assert!(value(evidence, "generator_late") > 0.0);
    });
}

#[test]
fn one_frame_lost_without_a_word_is_wrong() {
    let Some(cpus) = testing::two_cpus() else { return };
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let (_, found) = collect::<Troubled<Swallows>>(lab, &cpus, 2_000, 50);
        let error = found.expect_err("one is missing");
        assert!(matches!(error, TrialError::Wrong(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("1 frames unaccounted for"), "{text}");
    });
}

#[test]
fn a_rate_of_none_is_refused() {
    let Some(cpus) = testing::two_cpus() else { return };
    testing::with_lab(|lab| {
        let mut trial = testing::trial("socket-spin", &cpus);
        let lab = Arc::new(lab);
        for (params, word) in [
            (Params::new(), "no numeric parameter rate_per_s"),
            (Params::new().with(RATE_PER_S, 0), "a rate of 0"),
        ] {
            trial.spec.params = params;
            let error = Collector::<SocketSpin>::start(&trial, &lab)
                .expect_err("no rate");
            assert!(error.to_string().contains(word), "{error}");
        }
    });
}

#[test]
fn what_was_lost_degrades_when_quantiles_are_no_longer_those_of_all() {
    let told = |sent, delivered| {
        let tally = crate::arrivals::Tally { delivered, ..Default::default() };
        let mut ledger = Ledger::new("there", sent, tally);
        ledger.drop("socket_buffer", sent - delivered);
        let mut evidence = Evidence::default();
        report_loss(&ledger, &mut evidence);
        (value(&evidence, "loss_percent"), evidence.degraded)
    };
    assert_eq!(told(1_000, 1_000), (0.0, vec![]));
    assert_eq!(told(1_000, 990), (1.0, vec![]));
    assert_eq!(told(0, 0), (0.0, vec![]));
    let (percent, degraded) = told(1_000, 900);
    assert_eq!((percent, degraded.len()), (10.0, 1));
    assert!(degraded[0].contains("100 of 1000 frames"), "{degraded:?}");
    assert!(degraded[0].contains("(socket_buffer)"), "{degraded:?}");
}
