//! `bypass run`: plan, measure, decide.

use std::{os::unix::fs::FileTypeExt, path::PathBuf};

use anyhow::Context;
use clap::Args;
use harness::{
    machine::cpu_set::CpuSet,
    run::{
        exit::Exit,
        filter::{Filter, FilterError},
        options::{Mode, RunOptions, fresh_seed},
        output::{self, Format},
        plan::PlanError,
        preview as plan,
        runner::{self, Destination, RunError},
    },
    suite::Suite,
};

use crate::config::{
    self, BLOCKS_MAX, Origin, PASSES_MAX, SESSIONS_MAX, Settings,
};

use super::{
    preview,
    runs::{find_single, results_root},
    values::{ProgressForm, duration_ns, ratio, some_cpus, two_interfaces},
};

/// Arguments of `bypass run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Globs on ids and `key=value` terms; all experiments if none.
    /// `randread depth=32`, `storage/*`, `ipc/ping-pong/ring`.
    filters: Vec<Filter>,
    /// Take settings from a TOML file; flags and variables such as
    /// BYPASS_BLOCKS go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show the settings as they come together, each with its origin, and
    /// measure nothing.
    #[arg(long)]
    print_config: bool,
    /// Directory of all runs [default: results/ of the workspace, or of the
    /// working directory].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Appended to the name of the run's directory.
    #[arg(long)]
    label: Option<String>,
    /// 10 blocks of 0.5 s.
    #[arg(long, conflicts_with = "precise")]
    quick: bool,
    /// 30 blocks of 2 s.
    #[arg(long)]
    precise: bool,
    /// One block, whatever its worth: shows that everything runs, on a machine
    /// too busy or too slow for a verdict.
    #[arg(long, conflicts_with_all = ["quick", "precise", "blocks", "strict"])]
    smoke: bool,
    /// Blocks per session: one trial of each variant each [default: 12].
    #[arg(long, allow_hyphen_values = true,
          value_parser = clap::value_parser!(u64).range(1..=BLOCKS_MAX))]
    blocks: Option<u64>,
    /// Sessions: everything set up anew for each. Comparing runs needs 4
    /// [default: 1].
    #[arg(long, allow_hyphen_values = true,
          value_parser = clap::value_parser!(u64).range(1..=SESSIONS_MAX))]
    sessions: Option<u64>,
    /// Measured time of a trial, such as 500ms or 2s [default: 2s].
    #[arg(long, allow_hyphen_values = true, value_parser = duration_ns)]
    window: Option<u64>,
    /// Load before the window, such as 300ms [default: 500ms].
    #[arg(long, allow_hyphen_values = true, value_parser = duration_ns)]
    warmup: Option<u64>,
    /// Least effect that gets a verdict, such as 2% or 0.02 [default: 2%].
    #[arg(long, allow_hyphen_values = true, value_parser = ratio)]
    practical: Option<f64>,
    /// Decides orders, addresses and contents [default: a fresh one].
    #[arg(long, allow_hyphen_values = true)]
    seed: Option<u64>,
    /// CPUs to use, in the kernel's list format [default: a sensible choice].
    #[arg(long, value_name = "LIST", value_parser = some_cpus)]
    cpus: Option<CpuSet>,
    /// What storage works on: a directory in which files are created, an
    /// existing file or a block device (both are only read; see
    /// --allow-destroy).
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// Lets experiments that write destroy what is on the block device that
    /// --target names: the word that `bypass list --devices` prints for it.
    /// It is stored nowhere: --resume needs it again.
    #[arg(long, value_name = "WORD", requires = "target")]
    allow_destroy: Option<String>,
    /// How often what storage works on is written whole before the first trial
    /// of each session, in order and with data that does not compress: SNIA's
    /// PTS asks for 2. A block device is written from end to end then, which
    /// needs --allow-destroy even if trials only read [default: files once, of
    /// a device the part that trials write to].
    #[arg(long, value_name = "PASSES", allow_hyphen_values = true,
          value_parser = clap::value_parser!(u32).range(1..=PASSES_MAX.into()))]
    precondition: Option<u32>,
    /// Two network interfaces, joined by a wire, that packets go over in
    /// place of a veth pair. Both have to be down and without an address: they
    /// are lent to the run, and come back as they were, also after a kill.
    #[arg(long, value_name = "A,B", value_parser = two_interfaces)]
    interfaces: Option<[String; 2]>,
    /// Only experiments that carry this tag, such as `core`.
    #[arg(long)]
    tag: Option<String>,
    /// Go on with an interrupted run, in the same order: its directory, the
    /// beginning of its name, or `latest`.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filters", "results", "label", "quick", "precise", "smoke", "blocks",
        "sessions", "window", "warmup", "practical", "seed", "cpus", "target",
        "precondition", "interfaces", "tag", "dry_run", "config", "print_config",
    ])]
    resume: Option<PathBuf>,
    /// Show the plan, the time, the bytes to be written and the devices
    /// touched; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refuse a machine that is not fit for a result to publish.
    #[arg(long)]
    strict: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// How standard error tells of progress.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressForm,
}

impl Run {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        let report = match &self.resume {
            Some(named) => {
                let directory = &find_single(&results_root(None)?, named)?;
                let progress = self.progress.start();
                let word = self.allow_destroy.clone();
                runner::resume(suites, directory, word, Some(progress))?
            }
            None => {
                let settings = self.settings()?;
                if self.print_config {
                    let text = config::print(&settings);
                    return crate::printed(output::write_stdout(&text));
                }
                let options = self.options(&settings)?;
                tell_idle_word(&options);
                let root = path_of(&self.results, &settings, "results");
                let root = results_root(root.as_deref())?;
                if self.dry_run {
                    let preview = plan::preview(suites, &options, &root)
                        .map_err(|error| blamed(error, &settings))?;
                    return preview::show(&preview, &options, self.json);
                }
                let progress = self.progress.start();
                let destination = Destination::New(root);
                runner::run(suites, &options, &destination, Some(progress))
                    .map_err(|error| blamed(error, &settings))?
            }
        };
        let format = if self.json { Format::Json } else { Format::Text };
        crate::printed(output::print(&report, format))?;
        Ok(report.end())
    }

    /// What the flags say.
    fn flags(&self) -> Settings {
        let mut settings = Settings::default();
        let mut set = |key, text: Option<String>| {
            if let Some(text) = text {
                settings.set(key, vec![text], Origin::Flag);
            }
        };
        let milliseconds = |ns: u64| format!("{}ms", ns as f64 / 1e6);
        let path = |path: &PathBuf| path.display().to_string();
        set("tag", self.tag.clone());
        set("mode", (self.quick || self.smoke).then(|| "quick".to_owned()));
        set("mode", self.precise.then(|| "precise".to_owned()));
        let one = self.smoke.then_some(1);
        set("blocks", self.blocks.or(one).map(|n| n.to_string()));
        set("sessions", self.sessions.map(|n| n.to_string()));
        set("window", self.window.map(milliseconds));
        set("warmup", self.warmup.map(milliseconds));
        set("practical", self.practical.map(|share| share.to_string()));
        set("seed", self.seed.map(|n| n.to_string()));
        set("cpus", self.cpus.as_ref().map(ToString::to_string));
        set("target", self.target.as_ref().map(path));
        set("precondition", self.precondition.map(|n| n.to_string()));
        set("results", self.results.as_ref().map(path));
        set("label", self.label.clone());
        set("strict", self.strict.then(|| "true".to_owned()));
        if !self.filters.is_empty() {
            let texts = self.filters.iter().map(ToString::to_string).collect();
            settings.set("filters", texts, Origin::Flag);
        }
        settings
    }

    /// Flag over environment over file.
    fn settings(&self) -> anyhow::Result<Settings> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let environment = Settings::from_environment(variables)?;
        let file = match &self.config {
            Some(path) => config::read(path)?,
            None => Settings::default(),
        };
        Ok(self.flags().over(environment).over(file))
    }

    fn options(&self, settings: &Settings) -> anyhow::Result<RunOptions> {
        let mode = match settings.text("mode") {
            Some("quick") => Mode::Quick,
            Some("precise") => Mode::Precise,
            _ => Mode::Default,
        };
        let seed = match settings.text("seed") {
            Some(seed) => seed.parse()?,
            None => fresh_seed(),
        };
        let mut options = RunOptions::new(mode, seed);
        if let Some(filters) = settings.get("filters") {
            let filters = filters.texts.iter().map(|text| text.parse());
            options.filters = filters.collect::<Result<_, _>>()?;
        }
        options.tag = settings.text("tag").map(str::to_owned);
        options.strict = settings.text("strict") == Some("true");
        if self.smoke {
            options.smoke = true;
            options.label = "smoke".to_owned();
        }
        if let Some(label) = settings.text("label") {
            options.label = label.to_owned();
        }
        if let Some(blocks) = settings.text("blocks") {
            options.blocks = blocks.parse()?;
        }
        if let Some(sessions) = settings.text("sessions") {
            options.sessions = sessions.parse()?;
        }
        if let Some(passes) = settings.text("precondition") {
            options.precondition = passes.parse()?;
        }
        let invalid = anyhow::Error::msg::<String>;
        if let Some(window) = settings.text("window") {
            options.window_ns = duration_ns(window).map_err(invalid)?;
        }
        if let Some(warmup) = settings.text("warmup") {
            options.warmup_ns = duration_ns(warmup).map_err(invalid)?;
        }
        if let Some(practical) = settings.text("practical") {
            options.practical_ratio = ratio(practical).map_err(invalid)?;
        }
        if let Some(cpus) = settings.text("cpus") {
            options.cpus = Some(some_cpus(cpus).map_err(invalid)?);
        }
        // From the command line alone: no file and no variable can give them.
        options.allow_destroy.clone_from(&self.allow_destroy);
        options.interfaces.clone_from(&self.interfaces);
        if let Some(target) = path_of(&self.target, settings, "target") {
            // Sessions and resumption may have another working directory.
            let absolute = std::path::absolute(&target);
            options.target =
                Some(absolute.with_context(|| {
                    format!("--target {}", target.display())
                })?);
        }
        Ok(options)
    }
}

/// A word for what is no device: nothing there is destroyed, with or without
/// it, and whoever gave it may think of another target.
fn tell_idle_word(options: &RunOptions) {
    let (Some(_), Some(target)) = (&options.allow_destroy, &options.target)
    else {
        return;
    };
    let is_other = target.metadata().is_ok_and(|found| {
        let kind = found.file_type();
        !kind.is_block_device() && !kind.is_char_device()
    });
    if is_other {
        output::tell(format_args!(
            "note: --allow-destroy has no effect: {} is no device",
            target.display()
        ));
    }
}

/// An error about a setting, with the file and line, or the variable, that
/// gave it; a flag is known to whoever wrote it.
fn blamed(error: RunError, settings: &Settings) -> anyhow::Error {
    let key = match &error {
        RunError::Filter(FilterError::UnknownTag { .. }) => "tag",
        RunError::Filter(_) => "filters",
        RunError::Plan(PlanError::CpuNotAllowed { .. }) => "cpus",
        RunError::Plan(PlanError::TooFewBlocks { .. }) => "blocks",
        _ => return error.into(),
    };
    match settings.get(key).map(|setting| &setting.origin) {
        None | Some(Origin::Flag) => error.into(),
        Some(origin) => anyhow::Error::new(error).context(origin.to_string()),
    }
}

/// A path as the flag has it, which need not be UTF-8, or from elsewhere.
fn path_of(
    flag: &Option<PathBuf>,
    settings: &Settings,
    key: &str,
) -> Option<PathBuf> {
    flag.clone().or_else(|| settings.text(key).map(PathBuf::from))
}
