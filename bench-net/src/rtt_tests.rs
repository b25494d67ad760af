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
        uring::UringSleep,
    },
};

/// Answers each question twice over: first with the answer before.
#[derive(Debug)]
struct Replaying<L>(PhantomData<L>);

#[derive(Debug)]
struct Replayer<E> {
    end: E,
    side: Side,
    before: Option<Payload>,
}

impl<L: Link> Way for Replaying<L> {
    const ID: &'static str = "replaying";
    const ABOUT: &'static str = "sends the answer before once more";
    const SPINNING: bool = L::SPINNING;

    fn account(ledger: &mut Ledger, sides: &Accounts<'_>) {
        L::account(ledger, sides);
    }
}

impl<L: Link> Link for Replaying<L> {
    type End = Replayer<L::End>;

    fn open(
        lab: &Lab,
        side: Side,
        waiter: &Waiter,
    ) -> Result<Self::End, TrialError> {
        let end = L::open(lab, side, waiter)?;
        Ok(Replayer { end, side, before: None })
    }
}

impl<E: End> End for Replayer<E> {
    fn send(&mut self, payload: &Payload) -> Result<(), Lost> {
        if self.side == Side::B
            && let Some(before) = self.before.replace(*payload)
        {
            self.end.send(&before)?;
        }
        self.end.send(payload)
    }

    fn receive(&mut self) -> Result<Payload, Lost> {
        self.end.receive()
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
}

#[test]
fn an_answer_to_an_older_question_is_not_taken() {
    replayed::<SocketBlocking>();
    replayed::<AfXdpNative>();
}

fn replayed<L: Link>() {
    let Some(cpus) = testing::two_cpus() else { return };
    if !testing::can_run::<L>() {
        return;
    }
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let trial = testing::trial("replaying", &cpus);
        let lab = Arc::new(lab);
        let mut pinger =
            Pinger::<Replaying<L>>::start(&trial, &lab).expect("start");
        for _ in 0..50 {
            pinger.round_trip().expect("the right answer comes, too");
        }
        // The first question had no answer before it.
        assert_eq!(pinger.seen.stale, 49);
        assert_eq!(pinger.next, 50);
        // Nobody has accounted for what was injected.
        let error = pinger.finish().expect_err("too many frames");
        assert!(matches!(error, TrialError::Wrong(_)), "{error}");
        assert!(error.to_string().contains("49 duplicate"), "{error}");
    });
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
fn a_frame_from_elsewhere_is_foreign() {
    let Some(cpus) = testing::two_cpus() else { return };
    testing::with_lab(|lab| {
        let mut other = testing::trial("socket-blocking", &cpus);
        other.spec.trial += 1;
        let foreign = Series::new(&other, Direction::Back);
        let trial = testing::trial("socket-blocking", &cpus);
        let mut seen = Arrivals::new(Series::new(&trial, Direction::Back));
        seen.see(&foreign.payload(0));
        assert_eq!(seen.tally.foreign, 1);
        drop(lab);
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
        let mut own = Counts::default();
        pinger.end.count(&mut own);
        let waits = own.get("uring.waits");
        // A wait ends after a tenth of a second without a frame, too.
        assert!(waits < ROUND_TRIPS * 11 / 10, "{waits} waits");
    });
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
