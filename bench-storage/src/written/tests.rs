//! What is found when a write, or a read among writes, is not what it was
//! reported to be.

use super::*;
use crate::addresses::{Pattern, Stream};

const PART: Part = Part { first: 3, step: 1, places: 5 };

const AUTHOR: Author = Author { run_id: 0xfeed, trial: 7, seed: 42 };

fn log(author: Author, part: Part, op_bytes: usize) -> Writes {
    let walk = Addresses::ascending(part.places, 1).expect("places");
    Writes::new(author, part, op_bytes, walk)
}

fn writes() -> Writes {
    log(AUTHOR, PART, BLOCK_BYTES)
}

fn random(part: Part, op_bytes: usize, seed: u64) -> Writes {
    let one = Stream { index: 0, count: 1 };
    let walk = Addresses::new(Pattern::Random, part.places, 1, one, seed, seed);
    let author = Author { seed, ..AUTHOR };
    Writes::new(author, part, op_bytes, walk.expect("places"))
}

/// The next write, and where it goes.
fn next(writes: &mut Writes, op: &mut [u8]) -> u64 {
    assert!(!writes.draw(), "no reads asked for");
    writes.stamp_next(op);
    writes.offset()
}

/// Makes `count` writes; those for which `lose` says so do not arrive.
fn write(
    file: &File,
    writes: &mut Writes,
    op_bytes: usize,
    count: u64,
    lose: impl Fn(u64) -> bool,
) {
    let mut op = vec![0; op_bytes];
    writes.fill(&mut op);
    for number in 1..=count {
        let offset = next(writes, &mut op);
        if !lose(number) {
            file.write_all_at(&op, offset).expect("write");
        }
    }
}

fn file_of(bytes: u64) -> File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(bytes).expect("length");
    file
}

/// A file of 16 blocks in which `count` writes were made.
fn written(count: u64, lose: impl Fn(u64) -> bool) -> (File, Writes) {
    let file = file_of(16 * BLOCK_BYTES as u64);
    let mut writes = writes();
    write(&file, &mut writes, BLOCK_BYTES, count, lose);
    (file, writes)
}

fn message<T: std::fmt::Debug>(result: Result<T, TrialError>) -> String {
    let error = result.expect_err("wrong");
    assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
    error.to_string()
}

#[test]
fn regions_lie_side_by_side_and_turns_among_each_other() {
    let regions: Vec<Part> =
        (0..3).filter_map(|w| Part::region(w, 3, 100)).collect();
    let expected = [0, 33, 66].map(|first| Part { first, step: 1, places: 33 });
    assert_eq!(regions, expected);
    let turns: Vec<Part> =
        (0..3).filter_map(|w| Part::turns(w, 3, 100)).collect();
    let expected = [0, 1, 2].map(|first| Part { first, step: 3, places: 33 });
    assert_eq!(turns, expected);
    assert_eq!(Part::region(0, 3, 2), None);
    assert_eq!(Part::turns(0, 0, 100), None);
}

#[test]
fn every_number_of_writes_is_read_back_whole() {
    for count in 0..=17 {
        let (file, writes) = written(count, |_| false);
        assert_eq!(writes.made(), count);
        assert_eq!(writes.verify(&file), Ok(count.min(5)), "{count}");
    }
}

#[test]
fn every_size_and_layout_is_read_back_and_its_losses_found() {
    let bytes = 4 << 20;
    for op_bytes in [512, 4096, 64 << 10, 1 << 20] {
        for turns in [false, true] {
            let file = file_of(bytes);
            let places = bytes / op_bytes as u64;
            let mut all: Vec<Writes> = (0..3)
                .map(|writer| {
                    let part = match turns {
                        true => Part::turns(writer, 3, places),
                        false => Part::region(writer, 3, places),
                    };
                    random(part.expect("room"), op_bytes, writer as u64)
                })
                .collect();
            for writes in &mut all {
                write(&file, writes, op_bytes, 40, |_| false);
            }
            for writes in &all {
                let verified = writes.verify(&file).expect("all there");
                let places = writes.last.iter().filter(|n| **n > 0).count();
                assert_eq!(verified, places as u64);
            }
            // The last write of the last writer cannot have been overwritten.
            let lost = &mut all[2];
            write(&file, lost, op_bytes, 1, |_| true);
            let text = message(lost.verify(&file));
            let what = format!("write {}", lost.made());
            assert!(text.contains(&what), "{op_bytes} {turns}: {text}");
        }
    }
}

#[test]
fn a_lost_write_is_found_although_an_earlier_one_stands_there() {
    let (file, writes) = written(12, |number| number == 9);
    let text = message(writes.verify(&file));
    // The ninth write goes to the fourth place of the part.
    assert!(text.contains("offset 24576"), "{text}");
    assert!(text.contains("block 6 trial 7 write 9"), "{text}");
    assert!(text.contains("found run id 000000000000feed"), "{text}");
    assert!(text.contains("write 4 (at its end 4)"), "{text}");
}

#[test]
fn a_write_of_another_trial_does_not_pass() {
    let (file, _) = written(5, |_| false);
    let mut later = log(Author { trial: 8, ..AUTHOR }, PART, BLOCK_BYTES);
    for _ in 0..5 {
        next(&mut later, &mut [0; BLOCK_BYTES]);
    }
    let text = message(later.verify(&file));
    assert!(text.contains("trial 8 write 1 (at its end 1)"), "{text}");
    assert!(text.contains("trial 7 write 1"), "{text}");
}

#[test]
fn any_corrupt_byte_is_found() {
    let (file, writes) = written(4, |_| false);
    let offset = PART.first * BLOCK_BYTES as u64;
    for position in [0, 8, 16, 24, 32, 2_000, 4_087, 4_088, 4_095] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset + position).expect("read");
        file.write_all_at(&[byte[0] ^ 1], offset + position).expect("corrupt");
        let text = message(writes.verify(&file));
        let named = format!("first different byte {position}");
        assert!(text.ends_with(&named), "{text}");
        file.write_all_at(&byte, offset + position).expect("mend");
    }
    assert_eq!(writes.verify(&file), Ok(4));
}

#[test]
fn half_a_block_does_not_pass() {
    let (file, writes) = written(7, |number| number == 7);
    let mut block = [0; BLOCK_BYTES];
    writes.fill(&mut block);
    writes.stamp(1, 7, &mut block);
    let offset = 4 * BLOCK_BYTES as u64;
    file.write_all_at(&block[..512], offset).expect("torn");
    let text = message(writes.verify(&file));
    assert!(text.contains("write 7 (at its end 2)"), "{text}");
}

#[test]
fn a_unit_of_a_large_write_that_is_missing_is_named() {
    let part = Part { first: 0, step: 1, places: 2 };
    let op_bytes = 8 * BLOCK_BYTES;
    let file = file_of(2 * op_bytes as u64);
    let mut writes = log(AUTHOR, part, op_bytes);
    write(&file, &mut writes, op_bytes, 4, |_| false);
    let mut op = vec![0; op_bytes];
    writes.fill(&mut op);
    writes.stamp(1, 2, &mut op);
    let unit = 5 * BLOCK_BYTES;
    let offset = (op_bytes + unit) as u64;
    file.write_all_at(&op[unit..unit + BLOCK_BYTES], offset).expect("stale");
    let text = message(writes.verify(&file));
    assert!(text.contains(&format!("at offset {offset}")), "{text}");
    assert!(text.contains("write 4 (at its end 4)"), "{text}");
    assert!(text.contains("write 2 (at its end 2)"), "{text}");
}

#[test]
fn a_file_cut_short_is_an_error_with_its_offset() {
    let (file, writes) = written(5, |_| false);
    file.set_len(100).expect("truncate");
    let error = writes.verify(&file).expect_err("short");
    let offset = PART.first * BLOCK_BYTES as u64;
    assert!(matches!(error, TrialError::Op { offset: at, .. } if at == offset));
}

/// 70 % reads on a target that holds what the run wrote first.
fn mixed() -> (File, Writes) {
    let file = file_of(16 * BLOCK_BYTES as u64);
    let seeded = crate::contents::Seeded { run_id: 0xfeed, seed: 3 };
    let mut contents = vec![0; 16 * BLOCK_BYTES];
    seeded.fill(0, &mut contents);
    file.write_all_at(&contents, 0).expect("write");
    (file, random(PART, BLOCK_BYTES, 5).with_reads(70))
}

/// One op; whether it was a read.
fn op(
    file: &File,
    writes: &mut Writes,
    block: &mut [u8],
) -> Result<bool, TrialError> {
    let reads = writes.draw();
    if reads {
        let mut found = [0; BLOCK_BYTES];
        file.read_exact_at(&mut found, writes.offset()).expect("read");
        writes.check_read(&found)?;
    } else {
        writes.stamp_next(block);
        file.write_all_at(block, writes.offset()).expect("write");
    }
    Ok(reads)
}

#[test]
fn reads_among_writes_are_checked_each() {
    let (file, mut writes) = mixed();
    let mut block = [0; BLOCK_BYTES];
    writes.fill(&mut block);
    let ops = 10_000;
    let mut reads = 0;
    for _ in 0..ops {
        reads += u64::from(op(&file, &mut writes, &mut block).expect("intact"));
    }
    assert!((6_800..7_200).contains(&reads), "{reads}");
    assert_eq!(writes.made(), ops - reads);
    let (verified, checksummed) = writes.reads_checked();
    assert_eq!(verified, reads);
    assert!(checksummed >= reads / 256 - 1, "{checksummed}");
    assert_eq!(writes.verify(&file), Ok(5));
}

#[test]
fn a_read_that_misses_the_last_write_is_wrong() {
    let (file, mut writes) = mixed();
    let mut block = [0; BLOCK_BYTES];
    writes.fill(&mut block);
    for _ in 0..200 {
        op(&file, &mut writes, &mut block).expect("intact");
    }
    // As if all that was written since had never arrived.
    let mut old = vec![0; 16 * BLOCK_BYTES];
    file.read_exact_at(&mut old, 0).expect("read");
    for _ in 0..200 {
        op(&file, &mut writes, &mut block).expect("intact");
    }
    file.write_all_at(&old, 0).expect("lose");
    let mut results = (0..50).map(|_| op(&file, &mut writes, &mut block));
    let text = message(results.find(Result::is_err).expect("one read"));
    assert!(text.contains("did not bring the last write"), "{text}");
}

#[test]
fn a_read_of_another_block_is_wrong_where_nothing_was_written() {
    let (file, mut writes) = mixed();
    let mut found = [0; BLOCK_BYTES];
    file.read_exact_at(&mut found, 0).expect("read");
    writes.draw();
    let text = message(writes.check_read(&found));
    assert!(text.contains("brought another block"), "{text}");
}
