//! Writes a target whole before its first trial, as often as it takes, and
//! tells how far it is.
//!
//! What is there already is written as SNIA's PTS 2.0.2 has it (workload
//! independent preconditioning): in order, 128 KiB at a time, with data that
//! does not compress; some of it in flight, so that a drive is kept busy. A
//! file that is only just growing is written by one thread in larger pieces:
//! several at its end would take turns there, and leave it in pieces.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    machine::Buffer,
    run::progress::human_duration,
    suite::{Meanwhile, Refusal},
};

use super::{place::size_text, refusals};
use crate::contents::{BLOCK_BYTES, Seeded};

/// PTS 2.0.2: sequential writes of 128 KiB.
const ORDERED_BYTES: usize = 128 << 10;

/// In flight at once, where what is there is written over.
const WRITERS: usize = 8;

/// Per write to a file that grows: enough for full device bandwidth.
const GROWING_BYTES: usize = 4 << 20;

/// Between two looks at how far it is, and at whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is to be written, and how often.
#[derive(Debug)]
pub(super) struct Fill<'a> {
    /// Open for writing, with O_DIRECT wherever that means something: written
    /// past the page cache, there is nothing to drop from it later.
    pub file: &'a File,
    /// How a person knows it: by its directory, if it is a file that grows.
    pub path: &'a Path,
    /// In whole blocks.
    pub bytes: u64,
    /// What stands there in the end.
    pub contents: Seeded,
    /// How often it is written; at least once.
    pub passes: u32,
    /// Whether there is nothing yet to write over.
    pub grows: bool,
    /// Who wants to know.
    pub meanwhile: &'a Meanwhile,
}

/// Why it is not written.
#[derive(Debug)]
enum FillError {
    Failed { doing: String, error: io::Error },
    Stopped,
}

/// What the writers of one pass share.
#[derive(Debug, Default)]
struct Pass {
    next: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl Fill<'_> {
    /// Writes all of it and makes it durable.
    ///
    /// # Errors
    /// What write(2) or fsync(2) said, and where; or that the person stopped
    /// it.
    pub(super) fn write(&self) -> Result<(), Refusal> {
        let begun = Instant::now();
        for pass in 1..=self.passes.max(1) {
            self.pass(pass, begun).map_err(|error| self.refusal(error))?;
        }
        self.file.sync_all().map_err(|error| {
            refusals::failed("fsync after writing", self.path, &error)
        })
    }

    /// What it is, in front of the path.
    fn kind(&self) -> &'static str {
        if self.grows { " a file in" } else { "" }
    }

    fn refusal(&self, error: FillError) -> Refusal {
        match error {
            FillError::Failed { doing, error } if self.grows => {
                refusals::failed(&doing, self.path, &error)
            }
            FillError::Failed { doing, error } => refusals::environment(
                format!(
                    "{doing} {}: {}",
                    self.path.display(),
                    refusals::describe(&error)
                ),
                "it failed, or there is no room in what it is made of, as the \
                 kernel log (`dmesg`) tells; name another `--target`",
            ),
            FillError::Stopped => refusals::environment(
                format!(
                    "writing{} {} was stopped before it was done",
                    self.kind(),
                    self.path.display()
                ),
                "what was written of it counts for nothing: begin again",
            ),
        }
    }

    fn pass(&self, number: u32, begun: Instant) -> Result<(), FillError> {
        let (writers, chunk_bytes) = match self.grows && number == 1 {
            true => (1, GROWING_BYTES),
            false => (WRITERS, ORDERED_BYTES),
        };
        // The last one leaves the contents that trials expect; no pass finds
        // its own data there already, which a drive might notice.
        let seed = u64::from(self.passes.max(1) - number);
        let contents =
            Seeded { seed: self.contents.seed ^ seed, ..self.contents };
        let pass = Pass::default();
        thread::scope(|scope| {
            let (ended, endings) = mpsc::channel();
            for _ in 0..writers {
                let (ended, pass) = (ended.clone(), &pass);
                let work = move || {
                    // Whoever listens is there until all have ended.
                    let _ = ended.send(self.write_turns(
                        chunk_bytes,
                        contents,
                        pass,
                    ));
                };
                thread::Builder::new().spawn_scoped(scope, work).map_err(
                    |error| {
                        pass.stop.store(true, Ordering::Relaxed);
                        let doing = "a thread to write".to_owned();
                        FillError::Failed { doing, error }
                    },
                )?;
            }
            drop(ended);
            self.watch(number, begun, &pass, &endings)
        })
    }

    /// One thread's share: whatever comes next.
    fn write_turns(
        &self,
        chunk_bytes: usize,
        contents: Seeded,
        pass: &Pass,
    ) -> Result<(), FillError> {
        let mut chunk =
            Buffer::new(chunk_bytes, BLOCK_BYTES, None).map_err(|error| {
                FillError::Failed {
                    doing: format!("{chunk_bytes} bytes of memory to write"),
                    error: io::Error::other(error),
                }
            })?;
        while !pass.stop.load(Ordering::Relaxed) {
            let offset =
                pass.next.fetch_add(chunk_bytes as u64, Ordering::Relaxed);
            if offset >= self.bytes {
                break;
            }
            let length = usize::try_from(self.bytes - offset)
                .map_or(chunk_bytes, |rest| rest.min(chunk_bytes));
            contents.fill(offset, &mut chunk[..length]);
            self.file.write_all_at(&chunk[..length], offset).map_err(
                |error| FillError::Failed {
                    doing: format!(
                        "writing {length} bytes at offset {offset} of{}",
                        self.kind()
                    ),
                    error,
                },
            )?;
            pass.done.fetch_add(length as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Tells how far it is until all writers have ended.
    fn watch(
        &self,
        number: u32,
        begun: Instant,
        pass: &Pass,
        endings: &mpsc::Receiver<Result<(), FillError>>,
    ) -> Result<(), FillError> {
        let mut result = Ok(());
        loop {
            let done = pass.done.load(Ordering::Relaxed);
            let line = self.line(number, done, begun.elapsed());
            if self.meanwhile.tell(&line).is_break() && result.is_ok() {
                result = Err(FillError::Stopped);
            }
            match endings.recv_timeout(LOOK_EVERY) {
                Ok(Err(error)) if result.is_ok() => result = Err(error),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if result.is_err() {
                pass.stop.store(true, Ordering::Relaxed);
            }
        }
        result
    }

    /// `writing /dev/nvme1n1, pass 1 of 2: 12.5 GiB of 238.5 GiB, 1.2 GiB/s, 6
    /// min 20 s left`.
    fn line(&self, number: u32, done: u64, elapsed: Duration) -> String {
        let passes = self.passes.max(1);
        let pass = match passes {
            1 => String::new(),
            _ => format!(", pass {number} of {passes}"),
        };
        let of_all = u64::from(number - 1) * self.bytes + done;
        let left = u64::from(passes) * self.bytes - of_all;
        let per_s = u128::from(of_all) * 1_000 / elapsed.as_millis().max(1);
        let per_s = u64::try_from(per_s).unwrap_or(u64::MAX);
        let rate = match left.checked_div(per_s) {
            Some(left_s) => format!(
                ", {}/s, {} left",
                size_text(per_s),
                human_duration(Duration::from_secs(left_s))
            ),
            None => String::new(),
        };
        format!(
            "writing{} {}{pass}: {} of {}{rate}",
            self.kind(),
            self.path.display(),
            size_text(done),
            size_text(self.bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ops::ControlFlow,
        sync::{Arc, Mutex},
    };

    use super::*;

    const CONTENTS: Seeded = Seeded { run_id: 7, seed: 11 };

    /// Not a whole number of either kind of chunk.
    const BYTES: u64 = (5 << 20) + 3 * BLOCK_BYTES as u64;

    fn fill<'a>(
        file: &'a File,
        passes: u32,
        meanwhile: &'a Meanwhile,
    ) -> Fill<'a> {
        Fill {
            file,
            path: Path::new("/a"),
            bytes: BYTES,
            contents: CONTENTS,
            passes,
            grows: true,
            meanwhile,
        }
    }

    fn whole(file: &File) -> Vec<u8> {
        let length = file.metadata().expect("metadata").len();
        let mut found = vec![0; usize::try_from(length).expect("small")];
        file.read_exact_at(&mut found, 0).expect("read");
        found
    }

    /// Keeps all that is told, and stops at lines with this in them.
    fn listener(stop_at: &'static str) -> (Meanwhile, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        let meanwhile = Meanwhile::new(move |line| {
            keep.lock().expect("lock").push(line.to_owned());
            match line.contains(stop_at) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        (meanwhile, told)
    }

    #[test]
    fn the_last_pass_leaves_the_contents_and_each_pass_is_told() {
        for passes in [0, 1, 2, 3] {
            let file = tempfile::tempfile().expect("temporary file");
            let (meanwhile, told) = listener("never");
            fill(&file, passes, &meanwhile).write().expect("written");
            let found = whole(&file);
            assert_eq!(found.len() as u64, BYTES, "{passes}");
            assert_eq!(CONTENTS.verify(0, &found), Ok(()), "{passes}");
            let told = told.lock().expect("lock").join("\n");
            let first = "writing a file in /a, pass 1 of 2: 0 B of 5.0 MiB";
            assert_eq!(told.contains(first), passes == 2, "{told}");
            assert_eq!(told.contains("pass 3 of 3: "), passes == 3, "{told}");
        }
    }

    #[test]
    fn stopped_in_a_later_pass_it_is_not_what_trials_expect() {
        let file = tempfile::tempfile().expect("temporary file");
        let (meanwhile, told) = listener("pass 2 of 3");
        let refusal = fill(&file, 3, &meanwhile).write().expect_err("stopped");
        let text = refusal.to_string();
        assert!(text.contains("a file in /a was stopped"), "{text}");
        // The first pass was whole, and the third never began.
        assert_eq!(whole(&file).len() as u64, BYTES);
        let told = told.lock().expect("lock").join("\n");
        assert!(!told.contains("pass 3"), "{told}");
        assert!(CONTENTS.verify(0, &whole(&file)).is_err());
    }

    #[test]
    fn what_cannot_be_written_says_where_and_why() {
        let full = File::options().write(true).open("/dev/full");
        let meanwhile = Meanwhile::default();
        let full = full.expect("/dev/full");
        let refusal = fill(&full, 2, &meanwhile).write().expect_err("full");
        let text = refusal.to_string();
        assert!(text.contains("at offset 0 of a file in /a: ENOSPC"), "{text}");
        assert!(text.contains("free some space"), "{text}");
    }

    #[test]
    fn progress_tells_bytes_rate_and_time_left() {
        let file = tempfile::tempfile().expect("temporary file");
        let meanwhile = Meanwhile::default();
        let fill = Fill { bytes: 4 << 30, ..fill(&file, 2, &meanwhile) };
        let line = fill.line(2, 1 << 30, Duration::from_secs(10));
        assert_eq!(
            line,
            "writing a file in /a, pass 2 of 2: 1 GiB of 4 GiB, 512 MiB/s, 6 s \
             left"
        );
        let line = fill.line(1, 0, Duration::ZERO);
        assert_eq!(line, "writing a file in /a, pass 1 of 2: 0 B of 4 GiB");
    }
}
