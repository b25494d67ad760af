//! Makes run directories with known truths, the way the harness would.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part of this"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use results::schema::{
    Better, CpuAccounting, LatencyKind, LoadMode, Role, RunFile,
    SCHEMA_VERSION, Settings, Status, TrialRow, WindowRow, format_params,
};
use results::writer::{BlockRows, Metric, RunDirectory, RunWriter};

pub const WINDOW_NS: u64 = 2_000_000_000;

/// One variant: its truth and what it is for.
#[derive(Clone, Debug)]
pub struct Variant {
    pub name: &'static str,
    pub role: Role,
    pub ops_per_s: f64,
    pub bound: &'static str,
    /// It runs in the first so many blocks of a session.
    pub blocks: u32,
}

/// A run to be: a sentence of what it holds, then `write`.
pub struct Synthetic {
    pub settings: Settings,
    pub noise: f64,
    seed: u64,
    experiments: Vec<(&'static str, u32, Vec<Variant>)>,
    skipped: Vec<(&'static str, &'static str, &'static str)>,
    alter: Box<dyn Fn(&mut TrialRow)>,
}

pub fn run() -> Synthetic {
    Synthetic {
        settings: Settings::default(),
        noise: 0.01,
        seed: 1,
        experiments: Vec::new(),
        skipped: Vec::new(),
        alter: Box::new(|_| {}),
    }
}

impl Synthetic {
    pub fn blocks(mut self, blocks: u32) -> Synthetic {
        self.settings.blocks = blocks;
        self
    }

    pub fn sessions(mut self, sessions: u32) -> Synthetic {
        self.settings.sessions = sessions;
        self
    }

    pub fn noise(mut self, noise: f64) -> Synthetic {
        self.noise = noise;
        self
    }

    pub fn seed(mut self, seed: u64) -> Synthetic {
        self.seed = seed;
        self
    }

    /// Begins an experiment with its baseline and the baseline's twin.
    pub fn experiment(
        mut self,
        name: &'static str,
        depth: u32,
        baseline_ops_per_s: f64,
    ) -> Synthetic {
        let variant = |name, role| Variant {
            name,
            role,
            ops_per_s: baseline_ops_per_s,
            bound: "",
            blocks: u32::MAX,
        };
        let variants = vec![
            variant("pread-pool", Role::Baseline),
            variant("pread-pool#aa", Role::AaTwin),
        ];
        self.experiments.push((name, depth, variants));
        self
    }

    /// Adds a contender, so many times as fast as the baseline.
    pub fn contender(self, name: &'static str, times: f64) -> Synthetic {
        self.variant(name, Role::Contender, times, "", u32::MAX)
    }

    /// Adds a contender with its own ceiling, which runs in 3 blocks.
    pub fn bounded(
        self,
        name: &'static str,
        times: f64,
        bound: &'static str,
        bound_times: f64,
    ) -> Synthetic {
        self.variant(name, Role::Contender, times, bound, u32::MAX).variant(
            bound,
            Role::Bound,
            bound_times,
            "",
            3,
        )
    }

    /// Adds a contender that is not available.
    pub fn skipped(
        mut self,
        name: &'static str,
        why: &'static str,
    ) -> Synthetic {
        let (experiment, _, _) = self.experiments.last().expect("begun");
        self.skipped.push((experiment, name, why));
        self
    }

    /// Changes rows before they are written: statuses, paths, figures.
    pub fn alter(
        mut self,
        alter: impl Fn(&mut TrialRow) + 'static,
    ) -> Synthetic {
        self.alter = Box::new(alter);
        self
    }

    fn variant(
        mut self,
        name: &'static str,
        role: Role,
        times: f64,
        bound: &'static str,
        blocks: u32,
    ) -> Synthetic {
        let (_, _, variants) = self.experiments.last_mut().expect("begun");
        let ops_per_s = variants[0].ops_per_s * times;
        variants.push(Variant { name, role, ops_per_s, bound, blocks });
        self
    }

    /// Writes the run below `root` and gives its directory.
    pub fn write(&self, root: &Path) -> PathBuf {
        let directory = RunDirectory::create(
            root,
            "20261121T044500Z",
            "1a2b3c4d",
            "test run",
        )
        .unwrap();
        let path = directory.path().to_path_buf();
        run_file(&directory, &self.settings).write(&path).unwrap();
        let (mut writer, _) = RunWriter::open(directory).unwrap();
        let mut random = Random(self.seed);
        for session in 1..=self.settings.sessions {
            for (name, depth, variants) in &self.experiments {
                self.write_skipped(&mut writer, (session, name, *depth));
                for block in 1..=self.settings.blocks {
                    let place = (session, *name, *depth, block);
                    self.write_block(&mut writer, place, variants, &mut random);
                }
            }
        }
        path
    }

    fn write_skipped(
        &self,
        writer: &mut RunWriter,
        (session, experiment, depth): (u32, &str, u32),
    ) {
        let mut block = writer.block();
        for (_, variant, why) in
            self.skipped.iter().filter(|(name, _, _)| *name == experiment)
        {
            block.push_trial(TrialRow {
                session,
                suite: "storage".to_owned(),
                experiment: experiment.to_owned(),
                params: format_params([("depth", depth)]),
                variant: (*variant).to_owned(),
                status: Status::Skipped,
                reasons: (*why).to_owned(),
                ..TrialRow::default()
            });
        }
        writer.append_block(block).unwrap();
    }

    /// Writes a block, and once more if a trial made it void.
    fn write_block(
        &self,
        writer: &mut RunWriter,
        (session, name, depth, number): (u32, &str, u32, u32),
        variants: &[Variant],
        random: &mut Random,
    ) {
        for attempt in 1..=2 {
            let mut block = writer.block();
            let drift = random.near(0.05);
            let mut void = false;
            let mut present: Vec<_> =
                variants.iter().filter(|v| number <= v.blocks).collect();
            random.shuffle(&mut present);
            for variant in present {
                let noise = drift * random.near(self.noise);
                let mut row = TrialRow {
                    session,
                    experiment: name.to_owned(),
                    params: format_params([("depth", depth)]),
                    block: Some(number),
                    attempt: Some(attempt),
                    seed: Some(random.next()),
                    ..trial(variant, noise)
                };
                (self.alter)(&mut row);
                void |= row.role != Role::Bound && !row.status.is_usable();
                push(&mut block, row, random);
            }
            writer.append_block(block).unwrap();
            if !void {
                return;
            }
        }
    }
}

pub fn run_file(directory: &RunDirectory, settings: &Settings) -> RunFile {
    RunFile {
        schema_version: SCHEMA_VERSION,
        run_id: directory.run_id().to_owned(),
        settings: settings.clone(),
        ..RunFile::default()
    }
}

/// A clean trial of a variant, its rates made from integers.
pub fn trial(variant: &Variant, noise: f64) -> TrialRow {
    let window_s = WINDOW_NS as f64 / 1e9;
    let ops = whole(variant.ops_per_s * noise * window_s);
    let rate = ops as f64 * 1e9 / WINDOW_NS as f64;
    let cpu_ns = whole(ops as f64 * 20_000.0 / noise);
    let p50 = binned(whole(8e8 / rate));
    TrialRow {
        suite: "storage".to_owned(),
        experiment: "randread-4k".to_owned(),
        session: 1,
        variant: variant.name.to_owned(),
        role: variant.role,
        bound: variant.bound.to_owned(),
        block: Some(1),
        attempt: Some(1),
        status: Status::Ok,
        started_at_utc: "2026-11-21T04:45:00Z".to_owned(),
        path: "direct=yes;io_wq=no".to_owned(),
        load_mode: Some(LoadMode::Closed),
        threads: Some(1),
        cpus: "0-3,8".to_owned(),
        warmup_ns: Some(WINDOW_NS / 2),
        window_ns: Some(WINDOW_NS),
        ops: Some(ops),
        bytes: Some(ops * 4096),
        errors: Some(0),
        ops_per_s: Some(rate),
        latency_kind: Some(LatencyKind::Service),
        latency_count: Some(100),
        latency_p50_ns: Some(p50),
        latency_p99_ns: Some(binned(p50 * 3)),
        cpu_ns: Some(cpu_ns),
        cpu_accounting: Some(CpuAccounting::Separate),
        cpu_per_op_ns: Some(cpu_ns as f64 / ops as f64),
        busy_cpus: Some(cpu_ns as f64 / WINDOW_NS as f64),
        ..TrialRow::default()
    }
}

/// Adds a trial with what belongs to it.
pub fn push(block: &mut BlockRows, row: TrialRow, random: &mut Random) {
    let measured = row.status != Status::Skipped;
    let ops = row.ops.unwrap_or(0);
    let p50 = row.latency_p50_ns.unwrap_or(1000);
    let p99 = row.latency_p99_ns.unwrap_or(2 * p50);
    block.push_trial(row);
    if !measured {
        return;
    }
    block.push_metric(Metric {
        thread: Some(0),
        name: "ops_short",
        unit: "ops",
        better: Better::Lower,
        value: random.near(0.1),
    });
    for window_index in 0..3 {
        block.push_window(WindowRow {
            window_index,
            duration_ns: 100_000_000,
            // All in one slice: their sum is what has to be right.
            ops: if window_index == 1 { ops } else { 0 },
            ..WindowRow::default()
        });
    }
    let mut histogram = empty();
    histogram.record_n(p50, 98).unwrap();
    histogram.record_n(p99, 2).unwrap();
    block
        .push_histogram(Duration::from_secs(1_795_322_700), &histogram)
        .unwrap();
}

fn empty() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

/// As a histogram gives a value back.
fn binned(value: u64) -> u64 {
    empty().highest_equivalent(value)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "test figures are positive and far below 2^53"
)]
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// SplitMix64: the same run from the same seed everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A factor about 1, at most `spread` away from it.
    pub fn near(&mut self, spread: f64) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        1.0 + spread * (2.0 * unit - 1.0)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let pick = self.next() % (last as u64 + 1);
            items.swap(last, usize::try_from(pick).unwrap());
        }
    }
}
