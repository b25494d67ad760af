//! The rounds of one thread: write a batch, drop it op by op, and see what is
//! left.

use std::fs::File;

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use super::{
    Trim,
    ground::Ground,
    plot::{Looker, Plot, batch_buffer, sync},
};

/// One thread that writes batches and drops them.
#[derive(Debug)]
pub struct Trimming<'a, T: Trim> {
    ground: &'a Ground,
    plot: Plot<'a>,
    looker: Looker,
    trim: T,
    file: File,
    /// What is written.
    batch: Buffer,
}

impl<'a, T: Trim> Trimming<'a, T> {
    /// Writes the neighbours; no batch was written yet.
    ///
    /// # Errors
    /// No memory, or the target cannot be written.
    pub fn new(
        ground: &'a Ground,
        place: &Place,
        trim: T,
    ) -> Result<Self, TrialError> {
        let file = ground.open()?;
        let mut batch = batch_buffer(place)?;
        let plot = Plot::new(ground, place, place.thread, &file, &mut batch)?;
        let looker = Looker::new(ground, place)?;
        Ok(Self { ground, plot, looker, trim, file, batch })
    }
}

impl<T: Trim> Work for Trimming<'_, T> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        if self.plot.is_dropped() {
            self.plot.write(&self.file, &mut self.batch)?;
        }
        let span = self.plot.next_span();
        let begun_ns = recorder.stamp_ns();
        let trimmed = self.trim.trim(span);
        let ended_ns = recorder.stamp_ns();
        trimmed?;
        if !T::DROPS {
            recorder.count(1);
            return Ok(());
        }
        recorder.complete(1, ended_ns - begun_ns);
        if self.plot.is_due_for_a_look() {
            self.looker.look(&self.plot, self.plot.place())?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        while !self.plot.is_dropped() {
            let span = self.plot.next_span();
            self.trim.trim(span)?;
        }
        sync(&self.file)?;
        let plots = std::iter::once(&self.plot);
        let mut evidence =
            self.looker.look_at_all(self.ground, plots, T::DROPS)?;
        evidence.prove("trim", self.trim.name());
        if T::DROPS {
            let made = self.trim.calls();
            evidence.calls = Some(Calls { made, ops: self.plot.ops() });
        }
        self.plot.restore(&self.file, &mut self.batch)?;
        sync(&self.file)?;
        Ok(evidence)
    }
}
