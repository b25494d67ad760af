//! Streams for real: every frame is accounted for, with and without loss.

use std::thread;

use harness::machine::Root;

use super::*;
use crate::{
    frame::Payload,
    lab::IpVersion,
    testing,
    ways::{
        SEND_REFUSED, Way,
        af_xdp::{AfXdpGeneric, AfXdpNative},
        mmsg::Mmsg,
        socket_blocking::SocketBlocking,
        socket_spin::SocketSpin,
        uring::Uring,
    },
};

/// Frames that go through in each of the exact tests.
const MILLION: u64 = 1_000_000;

/// Frames in flight at most: a default receive buffer holds more.
const IN_FLIGHT: u64 = 64;

/// One thread sends, then receives what it has sent, so that never more frames
/// are in flight than fit.
fn paced<F: Flow>(lab: &Lab, frames: u64) -> Result<Ledger, TrialError> {
    let trial = testing::trial(F::ID, &[]);
    let series = Series::new(&trial, Direction::There);
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(WAIT, &lifeline);
    let books = Books::open(lab)?;
    lab.enter(Side::B)?;
    let mut receiver = F::receiver(lab, &waiter)?;
    lab.enter(Side::A)?;
    let mut sender = F::sender(lab, &waiter)?;
    let mut numbered = Numbered::new(series);
    let mut arrivals = Arrivals::new(series);
    while numbered.taken() < frames {
        let until = (numbered.taken() + IN_FLIGHT).min(frames);
        while numbered.taken() < until {
            sender.send(&mut numbered).expect("send");
        }
        while arrivals.next() < numbered.taken() {
            receiver.receive(&mut arrivals).map_err(|lost| {
                TrialError::setup(format!("{lost}: {arrivals:?}"))
            })?;
        }
    }
    sender.finish().expect("finish");
    let (mut theirs, mut ours) = (Counts::default(), Counts::default());
    sender.count(&mut theirs);
    receiver.count(&mut ours);
    let tally = arrivals.tally;
    let taken = numbered.taken();
    let [ledger] = books.settle(lab, |books| {
        Ok([books.there::<F>(taken, tally, &theirs, &ours)])
    })?;
    Ok(ledger)
}

fn a_million<F: Flow>() {
    if !testing::can_run::<F>() {
        return;
    }
    let _turn = testing::beside_its_like();
    testing::with_lab(|lab| {
        let ledger = paced::<F>(&lab, MILLION).expect(F::ID);
        assert_eq!(ledger.check(), Ok(()), "{}", F::ID);
        assert_eq!(ledger.dropped(), 0, "{}: {ledger}", F::ID);
        // The link itself has counted the same, at both ends, save for what
        // IPv6 has to say of groups.
        let others = match lab.ip_version() {
            IpVersion::V4 => 0,
            IpVersion::V6 => 100,
        };
        let link =
            |side, name: &str| lab.counts(side).expect("counts").get(name);
        let on_link = MILLION..=MILLION + others;
        assert!(on_link.contains(&link(Side::A, "link.tx_packets")));
        assert!(on_link.contains(&link(Side::B, "link.rx_packets")));
        assert!(ledger.to_string().contains("1000000 delivered"), "{ledger}");
    });
}

#[test]
fn a_million_paced_frames_by_one_call_each_agree_with_the_kernel() {
    a_million::<SocketBlocking>();
    a_million::<SocketSpin>();
}

#[test]
fn a_million_paced_frames_by_batches_agree_with_the_kernel() {
    a_million::<Mmsg>();
    a_million::<Uring>();
}

#[test]
fn a_million_paced_frames_by_af_xdp_agree_with_the_kernel() {
    a_million::<AfXdpNative>();
    a_million::<AfXdpGeneric>();
}

/// Two threads at once, as fast as they can: the one that receives must not
/// trip over a ring that the kernel is just about to update.
fn flood<F: Flow>() {
    const FRAMES: u64 = 300_000;
    if !testing::can_run::<F>() {
        return;
    }
    testing::with_lab(|lab| {
        let trial = testing::trial(F::ID, &[]);
        let series = Series::new(&trial, Direction::There);
        let lifeline = Lifeline::default();
        let waiter = Waiter::new(WAIT, &lifeline);
        let books = Books::open(&lab).expect("books");
        lab.enter(Side::B).expect("B");
        let mut receiver = F::receiver(&lab, &waiter).expect("receiver");
        let mut arrivals = Arrivals::new(series);
        let ledger = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                lab.enter(Side::A).expect("A");
                let mut sender = F::sender(&lab, &waiter).expect("sender");
                let mut numbered = Numbered::new(series);
                while numbered.taken() < FRAMES {
                    sender.send(&mut numbered).expect("send");
                }
                sender.finish().expect("finish");
                let mut own = Counts::default();
                sender.count(&mut own);
                (numbered.taken(), own)
            });
            while !sending.is_finished() {
                receiver.drain(&mut arrivals).expect("receive");
            }
            let (taken, theirs) = sending.join().expect("sender");
            let [ledger] = books
                .settle(&lab, |books| {
                    receiver.drain(&mut arrivals).expect("drain");
                    let mut ours = Counts::default();
                    receiver.count(&mut ours);
                    let tally = arrivals.tally;
                    Ok([books.there::<F>(taken, tally, &theirs, &ours)])
                })
                .expect("books");
            ledger
        });
        assert_eq!(ledger.check(), Ok(()), "{}", F::ID);
        assert!(arrivals.tally.delivered > 0, "{}: {ledger}", F::ID);
    });
}

#[test]
fn a_flood_from_another_thread_is_accounted_for() {
    let _alone = testing::alone();
    flood::<AfXdpNative>();
    flood::<AfXdpGeneric>();
    flood::<Mmsg>();
    flood::<SocketSpin>();
    flood::<Uring>();
}

/// More frames than fit into a socket's buffer, where each takes the kernel
/// at least 576 bytes: a `struct sk_buff` and its `skb_shared_info`.
fn too_many_frames() -> u64 {
    let default = Root::system().read_u64("proc/sys/net/core/rmem_default");
    10_048.max(default.unwrap_or(0) / 512).next_multiple_of(64)
}

/// Nobody receives while ten thousand frames come, so that most of them find
/// no room at the socket; the rest is received afterwards.
fn overrun<F: Flow>(name: &str) {
    let frames = too_many_frames();
    if !testing::can_run::<F>() {
        return;
    }
    testing::with_lab(|lab| {
        let trial = testing::trial(F::ID, &[]);
        let series = Series::new(&trial, Direction::There);
        let waiter = Waiter::new(WAIT, &Lifeline::default());
        let books = Books::open(&lab).expect("books");
        lab.enter(Side::B).expect("B");
        let mut receiver = F::receiver(&lab, &waiter).expect("receiver");
        lab.enter(Side::A).expect("A");
        let mut sender = F::sender(&lab, &waiter).expect("sender");
        let mut numbered = Numbered::new(series);
        while numbered.taken() < frames {
            sender.send(&mut numbered).expect("send");
        }
        sender.finish().expect("finish");
        let mut arrivals = Arrivals::new(series);
        let [ledger] = books
            .settle(&lab, |books| {
                receiver.drain(&mut arrivals).expect("drain");
                let (mut theirs, mut ours) = Default::default();
                sender.count(&mut theirs);
                receiver.count(&mut ours);
                let (taken, tally) = (numbered.taken(), arrivals.tally);
                Ok([books.there::<F>(taken, tally, &theirs, &ours)])
            })
            .expect("books");
        assert_eq!(ledger.check(), Ok(()), "{}", F::ID);
        assert!(ledger.dropped() > 0, "{}: {ledger}", F::ID);
        let text = ledger.to_string();
        assert!(text.contains(&format!("dropped ({name})")), "{text}");
    });
}

#[test]
fn what_a_full_buffer_drops_has_a_name() {
    let _turn = testing::beside_its_like();
    overrun::<SocketBlocking>("socket_buffer");
    overrun::<Mmsg>("socket_buffer");
    overrun::<SocketSpin>("socket_buffer");
    overrun::<Uring>("socket_buffer");
    overrun::<AfXdpNative>("xsk_no_frame");
    overrun::<AfXdpGeneric>("xsk_no_frame");
}

/// Takes a number for each frame, and keeps one of them to itself.
#[derive(Debug)]
enum Losing {}

#[derive(Debug)]
struct Loser(<SocketBlocking as Flow>::Sender);

impl Way for Losing {
    const ID: &'static str = "losing";
    const ABOUT: &'static str = "loses a frame without a word";
    const SPINNING: bool = false;
}

impl Flow for Losing {
    const BATCH: u64 = 1;
    type Sender = Loser;
    type Receiver = <SocketBlocking as Flow>::Receiver;

    fn sender(lab: &Lab, waiter: &Waiter) -> Result<Loser, TrialError> {
        <SocketBlocking as Flow>::sender(lab, waiter).map(Loser)
    }

    fn receiver(
        lab: &Lab,
        waiter: &Waiter,
    ) -> Result<Self::Receiver, TrialError> {
        <SocketBlocking as Flow>::receiver(lab, waiter)
    }
}

impl Sender for Loser {
    fn send(&mut self, frames: &mut Numbered) -> Result<(), Lost> {
        if frames.taken() == 500 {
            let _: Payload = frames.take();
        }
        self.0.send(frames)
    }

    fn count(&self, counts: &mut Counts) {
        counts.set(SEND_REFUSED, 0);
    }
}

#[test]
fn one_frame_lost_without_a_word_is_wrong() {
    let _alone = testing::alone();
    testing::with_lab(|lab| {
        let ledger = paced::<Losing>(&lab, 1_000).expect("the rest arrives");
        let error = ledger.check().expect_err("one is missing");
        assert!(matches!(error, TrialError::Wrong(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("1 frames unaccounted for"), "{text}");
        assert!(text.contains("datagrams sent"), "{text}");
    });
}
