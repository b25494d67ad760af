//! The `kernels` targets of `cargo bench`: short pieces of code timed
//! in-process by Criterion.
//!
//! Criterion compares with a baseline recorded earlier, which drift makes
//! unsound (it called an identical empty closure 21 % improved). So it keeps
//! none here: times are printed and written to `kernels.csv`, without verdict
//! or change.

use std::{
    cell::RefCell,
    process::ExitCode,
    time::{Duration, Instant},
};

use criterion::Criterion;
use results::{
    schema::KernelRow,
    writer::{WriteError, append_kernels},
};

use super::{bench, directory, error::RunError, host::Host, output::tell};
use crate::machine::{
    cpu_set::{Cpu, CpuSet},
    placement::{default_cpus, pin_current_thread},
    root::Root,
};

/// Samples of a kernel, and the time for all of them: some 20 kernels stay
/// well below a minute.
const SAMPLES: usize = 20;
const WARMUP: Duration = Duration::from_millis(200);
const MEASUREMENT: Duration = Duration::from_millis(800);

/// Times the kernels of one package.
pub struct Kernels {
    criterion: Criterion,
    suite: &'static str,
    rows: Vec<KernelRow>,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

/// `main` of a `kernels` bench target.
pub fn main_for(suite: &'static str, time: fn(&mut Kernels)) -> ExitCode {
    match run(suite, time) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error}"));
            error.exit().into()
        }
    }
}

fn run(suite: &'static str, time: fn(&mut Kernels)) -> Result<(), RunError> {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let host = Host::read(&Root::system())?;
    let cpu = pin(&host);
    // Criterion looks for an earlier baseline in its output directory; in a
    // fresh one there is none.
    let scratch = tempfile::tempdir().map_err(|source| WriteError::Io {
        path: std::env::temp_dir(),
        source,
    })?;
    let criterion = Criterion::default()
        .output_directory(scratch.path())
        .without_plots()
        .sample_size(SAMPLES)
        .warm_up_time(WARMUP)
        .measurement_time(MEASUREMENT)
        .configure_from_args();
    let mut kernels = Kernels { criterion, suite, rows: Vec::new() };
    time(&mut kernels);
    kernels.criterion.final_summary();
    if !is_bench || kernels.rows.is_empty() {
        return Ok(());
    }
    let (directory, _) =
        directory::open(&bench::options(), &bench::destination(), &host)?;
    let cpus = cpu.map(CpuSet::single).unwrap_or_default().to_string();
    for row in &mut kernels.rows {
        row.run_id = directory.run_id().to_owned();
        row.cpus.clone_from(&cpus);
    }
    append_kernels(directory.path(), &kernels.rows)?;
    Ok(())
}

/// Pins to the first CPU that a suite would use; without, the row says so by
/// an empty cell.
fn pin(host: &Host) -> Option<Cpu> {
    let cpu = *default_cpus(&host.topology, &host.allowed, 1).first()?;
    pin_current_thread(&CpuSet::single(cpu)).ok()?;
    Some(cpu)
}

impl Kernels {
    /// Times `kernel`, which performs one iteration a call.
    pub fn time<T>(&mut self, name: &str, mut kernel: impl FnMut() -> T) {
        let samples: RefCell<Vec<(u64, Duration)>> = RefCell::default();
        let id = format!("{}/{name}", self.suite);
        self.criterion.bench_function(&id, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    std::hint::black_box(kernel());
                }
                let elapsed = start.elapsed();
                samples.borrow_mut().push((iterations, elapsed));
                elapsed
            });
        });
        // The samples come last; before them stand the warm-up's.
        let samples = samples.into_inner();
        let kept = &samples[samples.len().saturating_sub(SAMPLES)..];
        self.rows.extend(summarise(self.suite, name, kept));
    }
}

/// None if a filter left the kernel out.
fn summarise(
    suite: &str,
    kernel: &str,
    samples: &[(u64, Duration)],
) -> Option<KernelRow> {
    let mut times_ns: Vec<f64> = samples
        .iter()
        .filter(|(iterations, _)| *iterations > 0)
        .map(|(n, elapsed)| elapsed.as_secs_f64() * 1e9 / *n as f64)
        .collect();
    times_ns.sort_by(f64::total_cmp);
    Some(KernelRow {
        suite: suite.to_owned(),
        kernel: kernel.to_owned(),
        samples: times_ns.len() as u64,
        iterations: samples.iter().map(|(n, _)| n).sum(),
        time_min_ns: *times_ns.first()?,
        time_median_ns: stats::summary::median(&times_ns)?,
        time_max_ns: *times_ns.last()?,
        ..KernelRow::default()
    })
}
