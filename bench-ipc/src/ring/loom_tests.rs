//! The ring in every interleaving that the C11 memory model allows, within
//! loom's bounds: `cargo test -p bench-ipc --lib --features loom loom`.
//! Capacity 2 and indices about to wrap reach full, empty and the wrap within
//! a few steps.

use loom::{sync::Arc, sync::atomic::AtomicUsize, thread};

use super::*;

const CAPACITY: usize = 2;

/// The second item stands at `usize::MAX`, the third at 0.
const START: usize = usize::MAX - 1;

fn ends<T>() -> (Producer<T>, Consumer<T>) {
    match ring_at(CAPACITY, START) {
        Ok(ends) => ends,
        Err(error) => panic!("{error}"),
    }
}

fn push<T>(producer: &mut Producer<T>, mut item: T) {
    while let Err(back) = producer.push(item) {
        item = back;
        thread::yield_now();
    }
}

fn pop<T>(consumer: &mut Consumer<T>) -> T {
    loop {
        if let Some(item) = consumer.pop() {
            return item;
        }
        thread::yield_now();
    }
}

/// The third item takes the slot of the first, behind the wrap. A fourth
/// makes the model ten times as large and adds no new state.
#[test]
fn loom_items_arrive_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = thread::spawn(move || {
            for item in 0..3_u8 {
                push(&mut producer, item);
            }
        });
        for expected in 0..3 {
            assert_eq!(pop(&mut consumer), expected);
        }
        assert!(consumer.pop().is_none());
        assert!(writer.join().is_ok());
    });
}

#[test]
fn loom_batches_arrive_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = thread::spawn(move || {
            let mut items = 0..4_u8;
            let mut pushed = 0;
            while pushed < 4 {
                match producer.push_batch(&mut items) {
                    0 => thread::yield_now(),
                    count => pushed += count,
                }
            }
        });
        let mut expected = 0;
        while expected < 4 {
            let count = consumer.pop_batch(CAPACITY, |item| {
                assert_eq!(item, expected);
                expected += 1;
            });
            if count == 0 {
                thread::yield_now();
            }
        }
        assert!(writer.join().is_ok());
    });
}

#[test]
fn loom_a_refused_push_changes_nothing() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = thread::spawn(move || {
            // Whether the third fits depends on the interleaving.
            (0..3_u8).filter(|item| producer.push(*item).is_ok()).count()
        });
        let early = consumer.pop();
        let Ok(pushed) = writer.join() else { panic!("writer") };
        let mut rest = Vec::new();
        while let Some(item) = consumer.pop() {
            rest.push(item);
        }
        assert!((2..=3).contains(&pushed));
        assert!(pushed == 2 || early.is_some());
        let all: Vec<u8> = early.into_iter().chain(rest).collect();
        assert_eq!(all, (0..3).take(pushed).collect::<Vec<u8>>());
    });
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn loom_leftovers_are_dropped_once() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ends();
        let counter = Arc::clone(&drops);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                push(&mut producer, Counted(Arc::clone(&counter)));
            }
            // The producer goes here, perhaps before the consumer does.
        });
        drop(consumer.pop());
        drop(consumer);
        assert!(writer.join().is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    });
}
