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
    },
    suite::{
        Availability, CpuNeed, DeviceReport, Experiment, ProbeRequest, Role,
        Suite,
    },
};

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
        let cpus = usable_cpus();
        let text = if self.json {
            let list: Vec<_> = selected
                .iter()
                .map(|(_, experiment)| experiment_json(experiment, &cpus))
                .collect();
            format!("{:#}\n", serde_json::Value::from(list))
        } else {
            let mut text = String::new();
            for (i, suite) in suites.iter().enumerate() {
                let experiments: Vec<&Experiment> = selected
                    .iter()
                    .filter(|(suite, _)| *suite == i)
                    .map(|(_, experiment)| experiment)
                    .collect();
                if experiments.is_empty() {
                    continue;
                }
                text.push_str(&format!("{}: {}\n\n", suite.id, suite.about));
                for experiment in experiments {
                    text.push_str(&experiment_text(experiment, &cpus));
                }
            }
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

fn lack(experiment: &Experiment, cpus: &[Cpu]) -> Option<String> {
    match experiment.cpus {
        CpuNeed::Exactly(n) if cpus.len() < n => {
            Some(format!("needs {n} CPUs, {} allowed", cpus.len()))
        }
        _ => None,
    }
}

fn probe(
    experiment: &Experiment,
    index: usize,
    cpus: &[Cpu],
) -> Result<(), (String, String)> {
    if let Some(lack) = lack(experiment, cpus) {
        return Err((lack, "run on more CPUs".to_owned()));
    }
    let request = ProbeRequest {
        params: &experiment.params,
        cpus,
        target: &serde_json::Value::Null,
    };
    match (experiment.variants[index].probe)(&request) {
        Availability::Available => Ok(()),
        Availability::Unavailable { reason, remedy } => Err((reason, remedy)),
    }
}

fn experiment_text(experiment: &Experiment, cpus: &[Cpu]) -> String {
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
    for (index, variant) in experiment.variants.iter().enumerate() {
        text.push_str(&format!(
            "    {:width$}  {:9}  {}\n",
            variant.id,
            role(variant.role),
            variant.about
        ));
        if let Err((reason, remedy)) = probe(experiment, index, cpus) {
            let indent = width + 6;
            text.push_str(&format!(
                "{:indent$}not here: {reason}; {remedy}\n",
                ""
            ));
        }
    }
    text.push('\n');
    text
}

fn experiment_json(experiment: &Experiment, cpus: &[Cpu]) -> serde_json::Value {
    let variants: Vec<_> = experiment
        .variants
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let probed = probe(experiment, index, cpus);
            serde_json::json!({
                "variant": variant.id,
                "about": variant.about,
                "role": role(variant.role),
                "bound": variant.bound,
                "available": probed.is_ok(),
                "reason": probed.as_ref().err().map(|(reason, _)| reason),
                "remedy": probed.as_ref().err().map(|(_, remedy)| remedy),
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
