//! Round trips for real, and with frames that should not be there.

use std::marker::PhantomData;

use harness::measure::recorder::Schedule;

use super::*;
use crate::{
    frame::Payload,
    testing,
    ways::{
        Accounts, Way,
        af_xdp::{AfXdpGeneric, AfXdpNative},
        socket_blocking::{Blocking, SocketBlocking},
        uring::{UringSleep, UringSpin},
    },
};

/// What side B sends before each answer.
trait Injection: std::fmt::Debug + 'static {
    /// Which, after this answer.
    fn payload(before: Option<Payload>) -> Option<Payload>;
}

/// The answer before, once more.
#[derive(Debug)]
enum Stale {}

impl Injection for Stale {
    fn payload(before: Option<Payload>) -> Option<Payload> {
        before
    }
}

/// An answer of another trial.
#[derive(Debug)]
enum Foreign {}

impl Injection for Foreign {
    fn payload(_: Option<Payload>) -> Option<Payload> {
        let mut other = testing::trial("injecting", &[]);
        other.spec.trial += 1;
        Some(Series::new(&other, Direction::Back).payload(0))
    }
}

/// Sends more than the answers.
#[derive(Debug)]
struct Injecting<L, I>(PhantomData<(L, I)>);

#[derive(Debug)]
struct Injector<E, I> {
    end: E,
    side: Side,
    before: Option<Payload>,
    injection: PhantomData<I>,
}

impl<L: Link, I: Injection> Way for Injecting<L, I> {
    const ID: &'static str = "injecting";
    const ABOUT: &'static str = "sends what nobody asked for";
    const SPINNING: bool = L::SPINNING;

    fn account(ledger: &mut Ledger, sides: &Accounts<'_>) {
        L::account(ledger, sides);
    }
}

impl<L: Link, I: Injection> Link for Injecting<L, I> {
    type End = Injector<L::End, I>;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self::End, TrialError> {
        let end = L::open(lab, side, waiter)?;
        Ok(Injector { end, side, before: None, injection: PhantomData })
    }
}

impl<E: End, I: Injection> End for Injector<E, I> {
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        if self.side == Side::B
            && let Some(more) = I::payload(self.before.replace(*payload))
        {
            self.end.send(&more)?;
        }
        self.end.send(payload)
    }

    fn receive(&mut self) -> Result<Payload, Lost> {
        self.end.receive()
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.end.try_receive()
    }

    fn count(&self, counts: &mut Counts) {
        self.end.count(counts);
    }
}

/// Swallows the hundredth question.
#[derive(Debug)]
enum Swallowing {}

#[derive(Debug)]
struct Swallower {
    end: Blocking,
    side: Side,
    sent: u64,
}

impl Way for Swallowing {
    const ID: &'static str = "swallowing";
    const ABOUT: &'static str = "loses a frame";
    const SPINNING: bool = false;
}

impl Link for Swallowing {
    type End = Swallower;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Swallower, TrialError> {
        let end = <SocketBlocking as Link>::open(lab, side, waiter)?;
        Ok(Swallower { end, side, sent: 0 })
    }
}

impl End for Swallower {
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        self.sent += 1;
        if self.side == Side::A && self.sent == 100 {
            return Ok(());
        }
        End::send(&mut self.end, payload)
    }

    fn receive(&mut self) -> Result<Payload, Lost> {
        End::receive(&mut self.end)
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.end.try_receive()
    }
}

/// Frames reach side B some time after they were sent; once the other side is
/// gone, none does.
#[derive(Debug)]
enum Late {}

#[derive(Debug)]
struct Latecomer {
    end: Blocking,
    side: Side,
    lifeline: Lifeline,
}

impl Way for Late {
    const ID: &'static str = "late";
    const ABOUT: &'static str = "puts the receive off";
    const SPINNING: bool = false;
}

impl Link for Late {
    type End = Latecomer;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Latecomer, TrialError> {
        let end = <SocketBlocking as Link>::open(lab, side, waiter)?;
        let lifeline = waiter.lifeline().clone();
        Ok(Latecomer { end, side, lifeline })
    }
}

impl End for Latecomer {
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        End::send(&mut self.end, payload)
    }

    fn receive(&mut self) -> Result<Payload, Lost> {
        let payload = End::receive(&mut self.end)?;
        if self.side == Side::B {
            std::thread::sleep(Duration::from_millis(50));
        }
        if self.lifeline.is_cut() { Err(Lost::Closed) } else { Ok(payload) }
    }

    fn try_receive(&mut self) -> Result<Option<Payload>, Lost> {
        self.end.try_receive()
    }
}

#[test]
fn a_last_frame_that_comes_late_is_waited_for() {
    let Some(cpus) = testing::two_cpus() else { return };
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let trial = testing::trial("late", &cpus);
        let lab = Arc::new(lab);
        let mut pinger = Pinger::<Late>::start(&trial, &lab).expect("start");
        pinger.round_trip().expect("round trip");
        let evidence = pinger.finish().expect("the last frame arrives");
        assert_eq!(evidence.verified_ops, 1);
    });
}

#[test]
fn an_answer_to_an_older_question_is_not_taken() {
    // The first question had no answer before it.
    let check = |seen: Seen| assert_eq!((seen.stale, seen.foreign), (49, 0));
    injected::<SocketBlocking, Stale>(check, "49 duplicate");
    injected::<AfXdpNative, Stale>(check, "49 duplicate");
}

#[test]
fn a_frame_from_elsewhere_is_foreign() {
    let check = |seen: Seen| assert_eq!((seen.stale, seen.foreign), (0, 50));
    injected::<SocketBlocking, Foreign>(check, "50 foreign");
    injected::<AfXdpNative, Foreign>(check, "50 foreign");
}

/// Fifty round trips get their answers; the account then has what nobody
/// handed over.
fn injected<L: Link, I: Injection>(check: fn(Seen), account: &str) {
    let Some(cpus) = testing::two_cpus() else { return };
    if !testing::can_run::<L>() {
        return;
    }
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let trial = testing::trial("injecting", &cpus);
        let lab = Arc::new(lab);
        let mut pinger =
            Pinger::<Injecting<L, I>>::start(&trial, &lab).expect("start");
        for _ in 0..50 {
            pinger.round_trip().expect("the right answer comes, too");
        }
        check(pinger.seen);
        assert_eq!(pinger.next, 50);
        let error = pinger.finish().expect_err("too many frames");
        assert!(matches!(error, TrialError::Wrong(_)), "{error}");
        assert!(error.to_string().contains(account), "{error}");
    });
}

#[test]
fn an_end_that_took_another_path_degrades_the_trial() {
    let end = |mode: &str, reasons: &[&str]| {
        let mut evidence = Evidence::default();
        evidence.prove("xdp", mode);
        evidence.degraded.extend(reasons.iter().map(ToString::to_string));
        evidence
    };
    let mut same = end("drv", &[]);
    settle::compare(&mut same, end("drv", &[]), Side::B);
    assert_eq!(same, end("drv", &[]));
    let mut other = end("drv", &[]);
    settle::compare(&mut other, end("skb", &["asked for drv"]), Side::B);
    let told = "xdp is skb at side B and drv at side A";
    assert_eq!(other.degraded, ["asked for drv", told]);
}

#[test]
fn a_lost_question_ends_the_trial_with_the_account() {
    let Some(cpus) = testing::two_cpus() else { return };
    testing::with_lab(|lab| {
        let trial = testing::trial("swallowing", &cpus);
        let lab = Arc::new(lab);
        let mut pinger =
            Pinger::<Swallowing>::start(&trial, &lab).expect("start");
        let error = loop {
            if let Err(error) = pinger.round_trip() {
                break error;
            }
        };
        let text = error.to_string();
        assert!(text.contains("question 99 was not answered"), "{text}");
        assert!(text.contains("100 sent, 99 delivered"), "{text}");
    });
}

#[test]
fn a_clean_series_balances_to_the_frame() {
    clean::<SocketBlocking>();
    clean::<AfXdpNative>();
    clean::<AfXdpGeneric>();
}

/// The call that sends is the one that waits: a completion that was taken and
/// not published would make it return at once.
#[test]
fn a_round_trip_by_ring_is_one_system_call() {
    const ROUND_TRIPS: u64 = 1_000;
    let Some(cpus) = testing::two_cpus() else { return };
    let _alone = testing::alone();
    if !testing::can_run::<UringSleep>() {
        return;
    }
    testing::with_lab(|lab| {
        let trial = testing::trial("uring", &cpus);
        let lab = Arc::new(lab);
        let mut pinger =
            Pinger::<UringSleep>::start(&trial, &lab).expect("start");
        for _ in 0..ROUND_TRIPS {
            pinger.round_trip().expect("round trip");
        }
        // A wait ends after a tenth of a second without a frame, too.
        let enters = enters(&pinger);
        assert!(enters < ROUND_TRIPS * 11 / 10, "{enters} calls");
    });
}

/// One to send and one to work off what came: a queue that is not looked at
/// after the first would ask for a third.
#[test]
fn a_polled_round_trip_by_ring_is_two_system_calls() {
    const ROUND_TRIPS: u64 = 1_000;
    let Some(cpus) = testing::two_cpus() else { return };
    let _alone = testing::alone();
    if !testing::can_run::<UringSpin>() {
        return;
    }
    testing::with_lab(|lab| {
        let trial = testing::trial("uring-spin", &cpus);
        let lab = Arc::new(lab);
        let mut pinger =
            Pinger::<UringSpin>::start(&trial, &lab).expect("start");
        for _ in 0..ROUND_TRIPS {
            pinger.round_trip().expect("round trip");
        }
        let enters = enters(&pinger);
        assert!(enters < ROUND_TRIPS * 23 / 10, "{enters} calls");
    });
}

fn enters<L: Link>(pinger: &Pinger<L>) -> u64 {
    let mut own = Counts::default();
    pinger.end.count(&mut own);
    own.get("uring.enters")
}

/// A whole trial in this process's child: rounds, account and evidence.
fn clean<L: Link>() {
    let Some(cpus) = testing::two_cpus() else { return };
    if !testing::can_run::<L>() {
        return;
    }
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let trial = testing::trial(L::ID, &cpus);
        let lab = Arc::new(lab);
        let mut pinger = Pinger::<L>::start(&trial, &lab).expect("start");
        let clock = trial.spec.clock;
        let schedule =
            Schedule { start_ns: 0, end_ns: u64::MAX, slice_ns: u64::MAX / 2 };
        let mut recorder = Recorder::new(clock, schedule, true);
        recorder.stamp_ns();
        for _ in 0..1_000 {
            pinger.round(&mut recorder).expect("round trip");
        }
        let evidence = pinger.finish().expect("balanced");
        assert_eq!(evidence.verified_ops, 1_000);
        let value = |name: &str| {
            let found = evidence.metrics.iter().find(|m| m.name == name);
            found.map(|m| m.value)
        };
        // One more there: the frame that ends it.
        assert_eq!(value("there_frames_sent"), Some(1_001.0));
        assert_eq!(value("back_frames_delivered"), Some(1_000.0));
        assert_eq!(value("frames_stale"), Some(0.0));
    });
}
