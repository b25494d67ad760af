//! What every way promises, tried on each: messages in order, whatever the
//! size, and no waiting for an end that is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    array_queue::ArrayQueue,
    channel::Channel,
    eventfd::EventFd,
    futex::Futex,
    line::{SingleLine, TwoLines},
    mutex_condvar::MutexCondvar,
    pipe::Pipe,
    ring::Ring,
    std_mpsc::StdMpsc,
    *,
};
use crate::wait::{Lifeline, Wait};

/// Rounded up to a page by the pipe: 64 messages of 64 bytes fill one.
const CAPACITY: usize = 64;

/// Far more than any test takes; whoever is still waiting then hangs.
const HANGS: Duration = Duration::from_secs(20);

fn message<const WORDS: usize>(number: u64) -> Message<WORDS> {
    let mut words = [number; WORDS];
    for (word, offset) in words.iter_mut().zip(0..) {
        *word = number * 100 + offset + 1;
    }
    Message(words)
}

/// Runs a body on a thread; `None` if it hangs.
fn within<R: Send + 'static>(
    body: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (done, result) = mpsc::channel();
    let _: JoinHandle<()> = thread::spawn(move || {
        let _ = done.send(body());
    });
    result.recv_timeout(HANGS).ok()
}

fn keeps_order<Q: Queue, const WORDS: usize>() {
    let waiter = Waiter::new(Wait::Spin, &Lifeline::default());
    let (mut sender, mut receiver) =
        Q::open::<WORDS>(CAPACITY, &waiter).expect("open");
    let writer = thread::spawn(move || {
        for number in 0..10_000 {
            assert_eq!(sender.send(message(number)), Ok(()));
        }
        sender
    });
    for number in 0..10_000 {
        assert_eq!(receiver.receive(), Ok(message(number)), "{}", Q::ID);
    }
    drop(writer.join().expect("writer"));
}

fn sender_goes_first<Q: Queue>() {
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(Wait::Spin, &lifeline);
    let (mut sender, mut receiver) =
        Q::open::<1>(CAPACITY, &waiter).expect("open");
    assert_eq!(sender.send(message(1)), Ok(()));
    assert_eq!(sender.send(message(2)), Ok(()));
    drop(sender);
    lifeline.cut();
    let received = within(move || {
        [receiver.receive(), receiver.receive(), receiver.receive()]
    });
    assert_eq!(
        received,
        Some([Ok(message(1)), Ok(message(2)), Err(Lost::Closed)]),
        "{}",
        Q::ID
    );
}

/// The receiver waits already when the sender goes.
fn sender_goes_while_awaited<Q: Queue>() {
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(Wait::Spin, &lifeline);
    let (sender, mut receiver) = Q::open::<1>(CAPACITY, &waiter).expect("open");
    let received = within(move || {
        let awaiting = thread::spawn(move || receiver.receive());
        thread::sleep(Duration::from_millis(20));
        drop(sender);
        lifeline.cut();
        awaiting.join().expect("receiver")
    });
    assert_eq!(received, Some(Err(Lost::Closed)), "{}", Q::ID);
}

/// A producer that waits for room when the receiver goes.
fn receiver_goes_first<Q: Queue>() {
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(Wait::Spin, &lifeline);
    let (mut sender, receiver) = Q::open::<8>(CAPACITY, &waiter).expect("open");
    let sent = within(move || {
        let so_far = Arc::new(AtomicU64::new(0));
        let filled = Arc::clone(&so_far);
        let filling = thread::spawn(move || {
            let mut sent = 0;
            while sent < 100_000 && sender.send(message(sent)).is_ok() {
                sent += 1;
                filled.store(sent, Ordering::Relaxed);
            }
            sent
        });
        while so_far.load(Ordering::Relaxed) < CAPACITY as u64 {
            thread::sleep(Duration::from_millis(1));
        }
        // It waits for room by now, most likely; any instant must do.
        thread::sleep(Duration::from_millis(20));
        drop(receiver);
        lifeline.cut();
        filling.join().expect("sender")
    });
    // Exactly what fits, as nobody has received any.
    assert_eq!(sent, Some(CAPACITY as u64), "{}", Q::ID);
}

fn queue<Q: Queue>() {
    keeps_order::<Q, 1>();
    keeps_order::<Q, 8>();
    sender_goes_first::<Q>();
    sender_goes_while_awaited::<Q>();
    receiver_goes_first::<Q>();
}

fn answers<L: Link, const WORDS: usize>() {
    let waiter = Waiter::new(Wait::Spin, &Lifeline::default());
    let (mut near, mut far) =
        L::connect::<WORDS>(CAPACITY, &waiter).expect("connect");
    let answering = thread::spawn(move || {
        for _ in 0..2_000 {
            let mut question = far.receive().expect("question");
            question.0[0] += 1 << 32;
            far.send(question).expect("answer");
        }
        far
    });
    for number in 0..2_000 {
        let mut expected = message::<WORDS>(number);
        near.send(expected).expect("question");
        expected.0[0] += 1 << 32;
        assert_eq!(near.receive(), Ok(expected), "{}", L::ID);
    }
    drop(answering.join().expect("answering"));
}

fn far_end_goes_while_awaited<L: Link>() {
    let lifeline = Lifeline::default();
    let waiter = Waiter::new(Wait::Spin, &lifeline);
    let (mut near, far) = L::connect::<1>(CAPACITY, &waiter).expect("link");
    let received = within(move || {
        let awaiting = thread::spawn(move || {
            let first = near.receive();
            (first, near.receive())
        });
        thread::sleep(Duration::from_millis(20));
        drop(far);
        lifeline.cut();
        awaiting.join().expect("near")
    });
    let closed = Err(Lost::Closed);
    assert_eq!(received, Some((closed, closed)), "{}", L::ID);
}

fn link<L: Link>() {
    answers::<L, 1>();
    answers::<L, 8>();
    far_end_goes_while_awaited::<L>();
}

#[test]
fn ring_keeps_its_promises() {
    queue::<Ring>();
    link::<TwoWay<Ring>>();
}

#[test]
fn array_queue_keeps_its_promises() {
    queue::<ArrayQueue>();
    link::<TwoWay<ArrayQueue>>();
}

#[test]
fn channel_keeps_its_promises() {
    queue::<Channel>();
    link::<TwoWay<Channel>>();
}

#[test]
fn std_mpsc_keeps_its_promises() {
    queue::<StdMpsc>();
    link::<TwoWay<StdMpsc>>();
}

#[test]
fn mutex_condvar_keeps_its_promises() {
    queue::<MutexCondvar>();
    link::<TwoWay<MutexCondvar>>();
}

#[test]
fn pipe_keeps_its_promises() {
    queue::<Pipe>();
    link::<TwoWay<Pipe>>();
}

#[test]
fn futex_keeps_its_promises() {
    link::<Futex>();
}

#[test]
fn eventfd_keeps_its_promises() {
    link::<EventFd>();
}

#[test]
fn lines_keep_their_promises() {
    link::<TwoLines>();
    link::<SingleLine>();
}

#[test]
fn a_capacity_that_a_queue_cannot_have_is_an_error() {
    let waiter = Waiter::new(Wait::Spin, &Lifeline::default());
    assert!(Ring::open::<1>(1_000, &waiter).is_err());
    assert!(ArrayQueue::open::<1>(0, &waiter).is_err());
    assert!(Pipe::open::<8>(usize::MAX, &waiter).is_err());
}
