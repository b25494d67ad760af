//! The ring with real threads. Its orderings are checked with loom.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// So few steps before the indices wrap to 0.
const SOON: usize = usize::MAX - 2;

#[test]
fn items_come_out_in_order_and_once() {
    // The fuller the ring, the more often both sides yield; beside programs
    // that compute, each time costs a time slice.
    for (capacity, start, items) in [
        (1, 0, 2_000),
        (2, SOON, 4_000),
        (64, SOON, 100_000),
        (1024, 0, 300_000),
    ] {
        let (mut producer, mut consumer) =
            ring_at(capacity, start).expect("capacity");
        let writer = thread::spawn(move || {
            for mut item in 0..items {
                while let Err(back) = producer.push(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..items {
            let item = loop {
                match consumer.pop() {
                    Some(item) => break item,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(item, expected, "capacity {capacity}");
        }
        writer.join().expect("writer");
        assert_eq!(consumer.pop(), None);
    }
}

#[test]
fn batches_come_out_in_order_and_once() {
    const ITEMS: u64 = 300_000;
    let (mut producer, mut consumer) = ring_at(64, SOON).expect("capacity");
    let writer = thread::spawn(move || {
        let mut items = 0..ITEMS;
        while !items.is_empty() {
            if producer.push_batch(&mut items.by_ref().take(48)) == 0 {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < ITEMS {
        let before = expected;
        let count = consumer.pop_batch(7, |item| {
            assert_eq!(item, expected);
            expected += 1;
        });
        assert_eq!(count as u64, expected - before);
        assert!(count <= 7);
        if count == 0 {
            thread::yield_now();
        }
    }
    writer.join().expect("writer");
    assert_eq!(consumer.pop(), None);
}

#[test]
fn full_and_empty_across_the_wrap() {
    for start in [0, SOON, usize::MAX] {
        let (mut producer, mut consumer) = ring_at(4, start).expect("4");
        for round in 0..5 {
            assert_eq!(consumer.pop(), None);
            for item in 0..4 {
                assert_eq!(producer.push((round, item)), Ok(()));
            }
            assert_eq!(producer.push((round, 4)), Err((round, 4)));
            assert_eq!(consumer.pop(), Some((round, 0)));
            assert_eq!(producer.push((round, 4)), Ok(()));
            for item in 1..5 {
                assert_eq!(consumer.pop(), Some((round, item)));
            }
        }
    }
}

#[test]
fn a_batch_takes_what_there_is_room_for() {
    let (mut producer, mut consumer) = ring_at(4, SOON).expect("4");
    let mut items = 0..6;
    assert_eq!(producer.push_batch(&mut items), 4);
    assert_eq!(items, 4..6, "the rest stays with the caller");
    assert_eq!(producer.push_batch(&mut items), 0);
    let mut out = Vec::new();
    assert_eq!(consumer.pop_batch(3, |item| out.push(item)), 3);
    assert_eq!(producer.push_batch(&mut items), 2);
    assert_eq!(consumer.pop_batch(9, |item| out.push(item)), 1);
    assert_eq!(consumer.pop_batch(9, |item| out.push(item)), 2);
    assert_eq!(out, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn an_impossible_capacity_is_an_error() {
    let error = ring::<u64>(0).expect_err("0");
    assert_eq!(error, RingError::NotPowerOfTwo { capacity: 0, nearest: 1 });
    let error = ring::<u64>(1000).expect_err("1000");
    assert!(error.to_string().contains("1024"), "{error}");
    let highest = 1 << (usize::BITS - 1);
    let error = ring::<u64>(usize::MAX).expect_err("usize::MAX");
    assert_eq!(
        error,
        RingError::NotPowerOfTwo { capacity: usize::MAX, nearest: highest }
    );
    let error = ring::<u64>(highest).expect_err("too large");
    assert_eq!(error, RingError::NoMemory { capacity: highest, slot_bytes: 8 });
}

#[test]
fn indices_stand_apart() {
    let (producer, _consumer) = ring::<u64>(2).expect("2");
    let head = (&raw const producer.shared.head).addr();
    let tail = (&raw const producer.shared.tail).addr();
    assert_eq!((head % 128, tail % 128), (0, 0));
    assert!(head.abs_diff(tail) >= 128);
}

#[test]
fn slots_start_on_lines_of_their_own() {
    let (mut producer, mut consumer) = ring::<[u64; 8]>(4).expect("4");
    for round in 0..4 {
        assert_eq!(producer.push([round; 8]), Ok(()));
        assert_eq!(consumer.pop(), Some([round; 8]));
    }
    assert_eq!(producer.slots.address(0) % 128, 0);
    assert_eq!(producer.slots.address(1) % 64, 0);
}

#[test]
fn handles_can_move_to_other_threads() {
    fn can_move<T: Send>(_: &T) {}
    let (producer, consumer) = ring::<u64>(2).expect("2");
    can_move(&producer);
    can_move(&consumer);
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Five items pushed through a ring of 4, of which 2 are popped.
fn with_leftovers() -> (Producer<Counted>, Consumer<Counted>, Arc<AtomicUsize>)
{
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut producer, mut consumer) = ring_at(4, SOON).expect("4");
    for _ in 0..2 {
        assert!(producer.push(Counted(Arc::clone(&drops))).is_ok());
        assert!(consumer.pop().is_some());
    }
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    for _ in 0..3 {
        assert!(producer.push(Counted(Arc::clone(&drops))).is_ok());
    }
    (producer, consumer, drops)
}

#[test]
fn leftovers_are_dropped_once_whichever_end_goes_first() {
    let (producer, consumer, drops) = with_leftovers();
    drop(producer);
    assert_eq!(drops.load(Ordering::Relaxed), 2, "the consumer may read on");
    drop(consumer);
    assert_eq!(drops.load(Ordering::Relaxed), 5);

    let (producer, consumer, drops) = with_leftovers();
    drop(consumer);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    drop(producer);
    assert_eq!(drops.load(Ordering::Relaxed), 5);
}

#[test]
fn an_item_that_is_refused_comes_back_whole() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut producer, _consumer) = ring(1).expect("1");
    assert!(producer.push(Counted(Arc::clone(&drops))).is_ok());
    let back = producer.push(Counted(Arc::clone(&drops)));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(back);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_while_taking_a_batch_drops_nothing_twice() {
    let (producer, mut consumer, drops) = with_leftovers();
    let mut taken = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        consumer.pop_batch(3, |item| {
            taken += 1;
            assert!(taken < 2, "on purpose");
            drop(item);
        })
    }));
    assert!(result.is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 4, "two of the batch");
    drop(producer);
    drop(consumer);
    assert_eq!(drops.load(Ordering::Relaxed), 5);
}

#[test]
fn a_panic_while_filling_a_batch_shows_none_of_it() {
    let (mut producer, mut consumer) = ring::<u64>(8).expect("8");
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut items = (0..4).map(|item| match item {
            2 => panic!("on purpose"),
            item => item,
        });
        producer.push_batch(&mut items)
    }));
    assert!(result.is_err());
    assert_eq!(consumer.pop(), None);
    assert_eq!(producer.push(7), Ok(()));
    assert_eq!(consumer.pop(), Some(7));
}

#[test]
fn items_without_size_are_counted() {
    let (mut producer, mut consumer) = ring(2).expect("2");
    assert_eq!(producer.push(()), Ok(()));
    assert_eq!(producer.push(()), Ok(()));
    assert_eq!(producer.push(()), Err(()));
    assert_eq!(consumer.pop(), Some(()));
}
