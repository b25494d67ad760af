//! The loop that all rings share: submit what is free, wait, reap.
//!
//! How a slot lives: it is free, `fill` gives it an op and its batch's stamp
//! and pushes its entry, the kernel completes it, `reap` finds the slot's
//! number in the completion, checks the op and sets the slot free. An op may
//! consist of several entries that the kernel does one after the other; its
//! slot is free when each of them has completed.
//!
//! The clock is read once per submit batch, before the entries are made, and
//! once per reap batch, after the completions were seen and before they are
//! checked. Completions that share both stamps are recorded together: with one
//! pair of clock reads per op and a record each, recording takes 29 % of the
//! NOP rate; like this next to nothing.

use std::{fmt, io, mem::ManuallyDrop};

use harness::{
    load::closed::Work,
    machine::Root,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};
use io_uring::cqueue;

use super::{
    registered,
    ring::{Entries, Pushes, Reaps, Ring},
    sizes,
};

/// An entry of such requests.
pub type Submission<R> = <<R as Requests>::Sizes as Entries>::Submission;

/// The ops that a ring carries.
///
/// # Safety
/// What an entry from `next` points to is owned by the implementor, stays
/// valid until the implementor is dropped, and is neither read nor written by
/// anybody but the kernel until the op has completed.
pub unsafe trait Requests: fmt::Debug {
    /// How large its entries are.
    type Sizes: Entries;

    /// The name of the opcode, for errors.
    const OPCODE: &'static str;

    /// Entries of an op; each yields a completion.
    const ENTRIES: usize = 1;

    /// The `ENTRIES` entries of the next op in this slot; their `user_data`
    /// is made by [`user_data`].
    fn next(&mut self, slot: usize) -> &[Submission<Self>];

    /// Checks a completed entry of an op.
    ///
    /// # Errors
    /// It failed, fell short, or brought what it should not.
    fn completed(
        &mut self,
        slot: usize,
        entry: usize,
        result: i32,
    ) -> Result<(), TrialError>;

    /// Whether what is under way in this slot is an op, and not something that
    /// has to be done in between; also as it completes.
    #[inline(always)]
    fn is_op(&self, _slot: usize) -> bool {
        true
    }

    /// Whether the latencies of some ops are kept apart.
    fn keeps_apart(&self) -> bool {
        false
    }

    /// Whether that of the op in this slot is.
    #[inline(always)]
    fn is_apart(&self, _slot: usize) -> bool {
        false
    }

    /// Does the checks that remain when nothing is in flight any more.
    ///
    /// # Errors
    /// What they found.
    fn finish(&mut self) -> Result<Evidence, TrialError>;
}

/// Which bits of a completion's `user_data` number the entry within its op;
/// the others are the slot.
const ENTRY_SHIFT: u32 = 32;

/// The `user_data` of a slot's entry.
pub fn user_data(slot: u64, entry: u64) -> u64 {
    slot | entry << ENTRY_SHIFT
}

/// How submissions get into the kernel and completions are waited for.
pub trait Drive<E: Entries>: fmt::Debug {
    /// Publishes what was pushed and returns when at least `want` completions
    /// are likely to be there; fewer are no error.
    ///
    /// # Errors
    /// The system call failed for good.
    fn drive(&mut self, ring: &mut Ring<E>, want: u32) -> io::Result<()>;

    /// What there is to say of the path taken.
    fn prove(&self, ring: &Ring<E>, evidence: &mut Evidence);
}

/// How full a ring is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Ops in flight at most.
    pub depth: usize,
    /// Ops submitted together at most.
    pub batch: usize,
    /// Completions waited for; each entry of an op yields one.
    pub want: u32,
}

/// A stamp that no slot in flight has.
const FREE: u64 = 0;

/// The stamp of a slot in flight whose time is not taken.
const UNTIMED: u64 = 1;

/// A ring at work. `TIMED` false leaves out all that latency costs, to tell
/// what it costs.
#[derive(Debug)]
pub struct RingWork<R: Requests, D: Drive<R::Sizes>, const TIMED: bool> {
    ring: Ring<R::Sizes>,
    drive: D,
    fill: Fill,
    /// When each slot's op was submitted, or `FREE`.
    submitted_ns: Box<[u64]>,
    /// Entries of each slot's op that have not completed; kept only where an
    /// op has several.
    entries_left: Box<[usize]>,
    /// Completions that are still to come.
    pending: usize,
    /// A completion named no request in flight, so that it cannot be told any
    /// more which are.
    lost: bool,
    free: Vec<usize>,
    /// When completions were last looked for.
    looked_ns: u64,
    /// Ops submitted so far.
    submitted: u64,
    /// Owns what the kernel may still write to, so it goes last and only when
    /// nothing is in flight.
    requests: ManuallyDrop<R>,
}

impl<R: Requests, D: Drive<R::Sizes>, const TIMED: bool> RingWork<R, D, TIMED> {
    /// Nothing is submitted yet. The ring has room for the entries of
    /// `fill.depth` ops.
    pub fn new(
        ring: Ring<R::Sizes>,
        drive: D,
        requests: R,
        fill: Fill,
    ) -> Self {
        Self {
            ring,
            drive,
            fill,
            submitted_ns: vec![FREE; fill.depth].into_boxed_slice(),
            entries_left: vec![0; fill.depth].into_boxed_slice(),
            pending: 0,
            lost: false,
            // Slot 0 on top.
            free: (0..fill.depth).rev().collect(),
            looked_ns: 0,
            submitted: 0,
            requests: ManuallyDrop::new(requests),
        }
    }

    /// The ring.
    pub fn ring(&self) -> &Ring<R::Sizes> {
        &self.ring
    }

    #[inline(always)]
    fn fill(&mut self, now_ns: u64) {
        let sq = self.ring.sq();
        // Without a fresh look the queue would still count what the kernel
        // has taken since.
        sq.sync();
        // An op may be complete before the kernel has given its entries back:
        // a poller does so behind its batch. An op that was drawn has to go in,
        // since its write counts as made from then on.
        let room = sq.room() / R::ENTRIES;
        for _ in 0..self.fill.batch.min(room) {
            let Some(slot) = self.free.pop() else { break };
            self.submitted_ns[slot] = now_ns;
            let entries = self.requests.next(slot);
            // SAFETY: by the contract of `Requests` what the entries point to
            // is valid while the requests live, and `Drop` frees them only
            // when nothing is in flight.
            let pushed = unsafe { sq.push_all(entries) };
            assert!(pushed.is_ok(), "there was room for the entries of an op");
            self.pending += R::ENTRIES;
            if R::ENTRIES > 1 {
                self.entries_left[slot] = R::ENTRIES;
            }
            self.submitted += u64::from(self.requests.is_op(slot));
        }
    }

    /// Completions to wait for: none as long as there is something to submit,
    /// so that the device never idles for a batch to fill.
    #[inline(always)]
    fn want(&self) -> u32 {
        if self.free.is_empty() { self.fill.want } else { 0 }
    }

    #[inline(always)]
    fn submit_and_wait(&mut self, want: u32) -> Result<(), TrialError> {
        let pending = u32::try_from(self.pending).unwrap_or(u32::MAX);
        let want = want.min(pending);
        self.drive.drive(&mut self.ring, want).map_err(failed_enter)
    }

    /// Takes all completions that are there; `record` gets each run of those
    /// that were submitted together: their stamp, whether they are kept
    /// apart, and their number.
    #[inline(always)]
    fn reap(
        &mut self,
        mut record: impl FnMut((u64, bool), u64),
    ) -> Result<(), TrialError> {
        let (mut run_of, mut run) = ((FREE, false), 0);
        for completion in self.ring.cq() {
            let completion: cqueue::Entry = completion.into();
            let (slot, entry) = place::<R>(completion.user_data());
            let Some(stamp) =
                self.submitted_ns.get_mut(slot).filter(|stamp| **stamp != FREE)
            else {
                self.lost = true;
                return Err(unknown(completion.user_data()));
            };
            self.pending -= 1;
            if R::ENTRIES > 1 {
                self.entries_left[slot] -= 1;
                if self.entries_left[slot] > 0 {
                    let result = completion.result();
                    self.requests.completed(slot, entry, result)?;
                    continue;
                }
            }
            let submitted_ns = std::mem::replace(stamp, FREE);
            self.free.push(slot);
            self.requests.completed(slot, entry, completion.result())?;
            if !self.requests.is_op(slot) {
                continue;
            }
            let of = (submitted_ns, self.requests.is_apart(slot));
            if of != run_of {
                if run > 0 {
                    record(run_of, run);
                }
                (run_of, run) = (of, 0);
            }
            run += 1;
        }
        if run > 0 {
            record(run_of, run);
        }
        // The kernel has to see that they were taken. Otherwise it counts
        // them as what the next call waits for, and that returns at once.
        self.ring.cq().sync();
        Ok(())
    }

    /// Waits until nothing is in flight; what comes back is checked when
    /// `check` says so.
    fn drain(&mut self, check: bool) -> Result<(), TrialError> {
        while self.pending > 0 {
            self.submit_and_wait(1)?;
            self.ring.cq().sync();
            match self.reap(|_, _| {}) {
                Err(error) if check || self.lost => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Requests, D: Drive<R::Sizes>, const TIMED: bool> Work
    for RingWork<R, D, TIMED>
{
    #[inline]
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let submitted_ns = if TIMED { recorder.stamp_ns() } else { UNTIMED };
        self.fill(submitted_ns);
        let want = self.want();
        self.submit_and_wait(want)?;
        // Look first, then at the clock: whatever is seen has completed by
        // the stamp.
        self.ring.cq().sync();
        let completed_ns = recorder.stamp_ns();
        let looked_ns = std::mem::replace(&mut self.looked_ns, completed_ns);
        let (mut taken, mut shared_ns) = (0, 0);
        self.reap(|(run_ns, apart), run| {
            if !TIMED {
                return recorder.count(run);
            }
            let latency_ns = completed_ns - run_ns;
            taken += run;
            shared_ns += run * latency_ns.min(completed_ns - looked_ns);
            if apart {
                recorder.complete_apart(run, latency_ns);
            } else {
                recorder.complete(run, latency_ns);
            }
        })?;
        // One that was waited for was seen as it came.
        if taken > 1 || want == 0 {
            recorder.shared(shared_ns);
        }
        Ok(())
    }

    fn keeps_apart(&self) -> bool {
        self.requests.keeps_apart()
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        self.drain(true)?;
        let mut evidence = self.requests.finish()?;
        evidence.calls =
            Some(Calls { made: self.ring.enters(), ops: self.submitted });
        evidence.prove("ring_flags", self.ring.flags());
        registered::confirm(&Root::system(), self.ring.fd(), &mut evidence);
        if let Some(sizes) = self.ring.cq().sizes() {
            sizes::judge(sizes, &mut evidence);
        }
        self.drive.prove(&self.ring, &mut evidence);
        Ok(evidence)
    }
}

impl<R: Requests, D: Drive<R::Sizes>, const TIMED: bool> Drop
    for RingWork<R, D, TIMED>
{
    fn drop(&mut self) {
        // After a failed op others are still in flight, and the kernel may
        // write to their buffers until they have completed.
        if !self.lost && self.drain(false).is_ok() {
            // SAFETY: dropped once, here; nothing is in flight, so nobody
            // else refers to what the requests own. Where waiting failed, or
            // would never end, they are leaked instead.
            unsafe { ManuallyDrop::drop(&mut self.requests) };
        }
    }
}

/// Slot and entry of a completion.
#[inline(always)]
fn place<R: Requests>(user_data: u64) -> (usize, usize) {
    let index = |number| usize::try_from(number).unwrap_or(usize::MAX);
    if R::ENTRIES == 1 {
        return (index(user_data), 0);
    }
    let slot = user_data & ((1 << ENTRY_SHIFT) - 1);
    (index(slot), index(user_data >> ENTRY_SHIFT))
}

#[cold]
fn failed_enter(error: io::Error) -> TrialError {
    TrialError::op("io_uring_enter", error.raw_os_error().unwrap_or(0), 0, 0)
}

#[cold]
fn unknown(user_data: u64) -> TrialError {
    TrialError::Wrong(format!(
        "a completion names request {user_data}, which was not in flight"
    ))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use harness::measure::{clock::Clock, recorder::Schedule};
    use io_uring::{opcode, squeue::Entry};

    use super::*;
    use crate::engine::{
        drives::Enter,
        nops::Nops,
        ring::{Setup, Small},
    };

    /// Requests whose completions name a slot that there is not.
    #[derive(Debug)]
    struct Stray(Entry);

    // SAFETY: a NOP points to nothing.
    unsafe impl Requests for Stray {
        type Sizes = Small;

        const OPCODE: &'static str = "IORING_OP_NOP";

        fn next(&mut self, _: usize) -> &[Entry] {
            std::slice::from_ref(&self.0)
        }

        fn completed(
            &mut self,
            _: usize,
            _: usize,
            _: i32,
        ) -> Result<(), TrialError> {
            Ok(())
        }

        fn finish(&mut self) -> Result<Evidence, TrialError> {
            Ok(Evidence::default())
        }
    }

    /// NOPs that count how many of them were drawn.
    #[derive(Debug)]
    struct Counted {
        entry: Entry,
        drawn: u64,
        completed: u64,
    }

    // SAFETY: a NOP points to nothing.
    unsafe impl Requests for Counted {
        type Sizes = Small;

        const OPCODE: &'static str = "IORING_OP_NOP";

        fn next(&mut self, slot: usize) -> &[Entry] {
            self.drawn += 1;
            let entry = self.entry.clone();
            self.entry = entry.user_data(user_data(slot as u64, 0));
            std::slice::from_ref(&self.entry)
        }

        fn completed(
            &mut self,
            _: usize,
            _: usize,
            _: i32,
        ) -> Result<(), TrialError> {
            self.completed += 1;
            Ok(())
        }

        fn finish(&mut self) -> Result<Evidence, TrialError> {
            assert_eq!(self.drawn, self.completed);
            Ok(Evidence::default())
        }
    }

    #[test]
    fn no_op_is_drawn_that_there_is_no_room_for() {
        // Of one entry, for two ops: as full as a poller's, which has not
        // given back yet what it has completed.
        let Ok(ring) = Setup::Plain.build(1) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        let entry = opcode::Nop::new().build();
        let counted = Counted { entry, drawn: 0, completed: 0 };
        let fill = Fill { depth: 2, batch: 2, want: 1 };
        let mut work = RingWork::<_, _, true>::new(ring, Enter, counted, fill);
        let clock = Clock::calibrate(&Root::system());
        let mut recorder = Recorder::prepare(clock, 1, true);
        for _ in 0..100 {
            work.round(&mut recorder).expect("a round");
        }
        assert!(work.requests.completed > 0);
        work.finish().expect("all that was drawn came back");
    }

    /// What ops of a ring share, in the mean, when so many go into a call.
    fn shared_ns(batch: usize) -> Option<u64> {
        let ring = Setup::Plain.build(batch).ok()?;
        let want = u32::try_from(batch).expect("few");
        let fill = Fill { depth: batch, batch, want };
        let nops = Nops::new(batch);
        let mut work = RingWork::<_, _, true>::new(ring, Enter, nops, fill);
        let clock = Clock::calibrate(&Root::system());
        let schedule =
            Schedule { start_ns: 0, end_ns: u64::MAX, slice_ns: u64::MAX };
        let mut recorder = Recorder::new(clock, schedule, true);
        for _ in 0..100 {
            work.round(&mut recorder).expect("a round");
        }
        let kept = recorder.into_kept();
        assert!(kept.latencies.len() >= 100);
        Some(kept.shared_ns / kept.latencies.len())
    }

    #[test]
    fn ops_share_a_stamp_where_several_go_into_a_call_and_only_there() {
        let (Some(one), Some(many)) = (shared_ns(1), shared_ns(32)) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        assert_eq!(one, 0);
        assert!(many > 0, "32 ops were seen complete at once");
    }

    #[test]
    fn a_completion_of_no_request_is_wrong_and_keeps_nobody_waiting() {
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let text = Setup::Plain.build(2).ok().map(|ring| {
                let entry = opcode::Nop::new().build().user_data(7);
                let fill = Fill { depth: 2, batch: 2, want: 1 };
                let stray = Stray(entry);
                let mut work =
                    RingWork::<_, _, true>::new(ring, Enter, stray, fill);
                let clock = Clock::calibrate(&Root::system());
                let mut recorder = Recorder::prepare(clock, 1, true);
                // A signal may bring a round back with nothing.
                let error =
                    (0..1_000).find_map(|_| work.round(&mut recorder).err());
                error.map(|error| error.to_string())
            });
            // The test may have given up.
            let _ = said.send(text);
        });
        let text = heard.recv_timeout(Duration::from_secs(120));
        match text.expect("the ring is let go") {
            None => eprintln!("SKIPPED: no io_uring"),
            Some(text) => {
                let text = text.expect("an error");
                assert!(text.contains("names request 7"), "{text}");
            }
        }
    }
}
