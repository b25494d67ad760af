//! `bypass list`: what there is, what it needs, and whether it runs here; with
//! `--devices` what may be done to this machine's devices.

use clap::Args;
use harness::{
    machine::{
        allowed::allowed_cpus, cpu_set::Cpu, placement::default_cpus,
        root::Root, topology::Topology,
    },
    run::{
        exit::Exit,
        filter::{Filter, SWEEP, matching},
        output,
        probes::probe_each,
    },
    suite::{Availability, DeviceReport, Experiment, Role, Suite},
};

/// A target is made, or opened, by a run only.
const WITHOUT_TARGET: &str = "tried without a target: `depends on` is what a \
    run finds out about its own\n";

/// Arguments of `bypass list`.
#[derive(Debug, Args)]
pub struct List {
    /// Globs on ids and `key=value` terms.
    filters: Vec<Filter>,
    /// The devices of this machine instead: what each is, whether it may be
    /// read and written, and the word that allows writing.
    #[arg(long, conflicts_with = "filters")]
    devices: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

impl List {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        if self.devices {
            return self.show_devices(suites);
        }
        let selected = matching(suites, &self.filters, None)?;
        // Points of a sweep have the variants of others, and a line each.
        let is_told = |e: &Experiment| self.json || !e.tags.contains(&SWEEP);
        let asked: Vec<&Experiment> = selected
            .iter()
            .map(|(_, experiment)| experiment)
            .filter(|experiment| is_told(experiment))
            .collect();
        let cpus = usable_cpus();
        let on_these = asked.iter().map(|e| (*e, cpus.as_slice()));
        let mut probed = probe_each(on_these).into_iter();
        let text = if self.json {
            let list: Vec<_> = asked
                .iter()
                .zip(probed)
                .map(|(experiment, probed)| {
                    experiment_json(experiment, &probed)
                })
                .collect();
            format!("{:#}\n", serde_json::Value::from(list))
        } else {
            let mut text = String::new();
            for (i, suite) in suites.iter().enumerate() {
                let mut own =
                    selected.iter().filter(|(of, _)| *of == i).peekable();
                if own.peek().is_none() {
                    continue;
                }
                text.push_str(&format!("{}: {}\n\n", suite.id, suite.about));
                for (_, experiment) in own {
                    // In the order in which they were asked.
                    let probed = match is_told(experiment) {
                        true => probed.next().unwrap_or_default(),
                        false => Vec::new(),
                    };
                    text.push_str(&experiment_text(experiment, &probed));
                }
            }
            text.push_str(WITHOUT_TARGET);
            text
        };
        crate::printed(output::write_stdout(&text))
    }

    fn show_devices(&self, suites: &[Suite]) -> anyhow::Result<Exit> {
        let root = Root::system();
        let devices: Vec<DeviceReport> =
            suites.iter().flat_map(|suite| (suite.devices)(&root)).collect();
        let text = if self.json {
            let list: Vec<_> = devices.iter().map(device_json).collect();
            format!("{:#}\n", serde_json::Value::from(list))
        } else if devices.is_empty() {
            "no block device that has a size\n".to_owned()
        } else {
            devices.iter().map(device_text).collect()
        };
        crate::printed(output::write_stdout(&text))
    }
}

fn device_text(device: &DeviceReport) -> String {
    let read = device.no_read.as_deref().unwrap_or("yes");
    let write = match &device.word {
        Some(word) => format!("yes, with --allow-destroy {word}"),
        None => format!("no: {}", device.no_write.join("; ")),
    };
    format!(
        "{}  {}\n    read   {read}\n    write  {write}\n",
        device.path, device.about
    )
}

fn device_json(device: &DeviceReport) -> serde_json::Value {
    serde_json::json!({
        "path": device.path,
        "about": device.about,
        "readable": device.no_read.is_none(),
        "no_read": device.no_read,
        "writable": device.word.is_some(),
        "no_write": device.no_write,
        "allow_destroy": device.word,
    })
}

/// In order of preference; empty if the machine cannot be read, and then the
/// probes tell.
fn usable_cpus() -> Vec<Cpu> {
    let topology = Topology::read(&Root::system());
    let allowed = allowed_cpus();
    match (topology, allowed) {
        (Ok(topology), Ok(allowed)) => {
            default_cpus(&topology, &allowed, allowed.len())
        }
        _ => Vec::new(),
    }
}

fn experiment_text(experiment: &Experiment, probed: &[Availability]) -> String {
    let tags = match experiment.tags {
        [] => String::new(),
        tags => format!("  [{}]", tags.join(" ")),
    };
    // Points of a sweep differ in a parameter only: a line each will do.
    if experiment.tags.contains(&SWEEP) {
        return format!("{}{tags}\n", experiment.key());
    }
    let mut text =
        format!("{}{tags}\n    {}\n", experiment.key(), experiment.about);
    let width = experiment.variants.iter().map(|v| v.id.len()).max();
    let width = width.unwrap_or(0);
    for (variant, probed) in experiment.variants.iter().zip(probed) {
        text.push_str(&format!(
            "    {:width$}  {:9}  {}\n",
            variant.id,
            role(variant.role),
            variant.about
        ));
        let told = match probed {
            Availability::Available => continue,
            Availability::Undecided { by } => format!("depends on {by}"),
            Availability::Unavailable { reason, remedy } => {
                format!("not here: {reason}; {remedy}")
            }
        };
        let indent = width + 6;
        text.push_str(&format!("{:indent$}{told}\n", ""));
    }
    text.push('\n');
    text
}

fn experiment_json(
    experiment: &Experiment,
    probed: &[Availability],
) -> serde_json::Value {
    let variants: Vec<_> = experiment
        .variants
        .iter()
        .zip(probed)
        .map(|(variant, probed)| {
            let (available, decides, lack) = match probed {
                Availability::Available => (Some(true), None, None),
                Availability::Undecided { by } => (None, Some(by), None),
                Availability::Unavailable { reason, remedy } => {
                    (Some(false), None, Some((reason, remedy)))
                }
            };
            serde_json::json!({
                "variant": variant.id,
                "about": variant.about,
                "role": role(variant.role),
                "bound": variant.bound,
                "available": available,
                "depends_on": decides,
                "reason": lack.map(|(reason, _)| reason),
                "remedy": lack.map(|(_, remedy)| remedy),
            })
        })
        .collect();
    serde_json::json!({
        "experiment": experiment.id,
        "params": experiment.params,
        "about": experiment.about,
        "tags": experiment.tags,
        "variants": variants,
    })
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Baseline => "baseline",
        Role::Contender => "contender",
        Role::Bound => "bound",
    }
}
