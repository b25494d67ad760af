//! `--dry-run`: what a run would do.

use harness::{
    machine::cpu_set::CpuSet,
    run::{
        exit::Exit, options::RunOptions, output, progress::human_duration,
        runner::Preview,
    },
    suite::{Availability, RefusalKind},
};

use super::probes::{Question, probe_all};

/// Prints the plan, the time, the bytes to be written and the devices touched.
pub fn show(
    preview: &Preview,
    options: &RunOptions,
    json: bool,
) -> anyhow::Result<Exit> {
    let unsure = unsure(preview);
    let text = if json {
        format!("{:#}\n", preview_json(preview, options, &unsure))
    } else {
        preview_text(preview, options, &unsure)
    };
    crate::printed(output::write_stdout(&text))?;
    let kinds = preview.forecasts.iter().filter_map(|(_, f)| f.as_ref().err());
    Ok(kinds
        .chain(&preview.refusals)
        .map(|refusal| match refusal.kind {
            RefusalKind::Usage => Exit::Usage,
            RefusalKind::Environment => Exit::Environment,
            RefusalKind::UnsafeTarget => Exit::UnsafeTarget,
        })
        .max()
        .unwrap_or(Exit::Done))
}

/// The variants that a run may have to leave out, each once, in the order of
/// the plan: what is asked differs little between experiments.
fn unsure(preview: &Preview) -> Vec<(String, Availability)> {
    let mut questions: Vec<Question<'_>> = Vec::new();
    for planned in preview.planned.iter().filter(|p| p.lack.is_none()) {
        for variant in &planned.experiment.variants {
            let (experiment, cpus) = (&planned.experiment, &planned.cpus);
            let question = Question { experiment, variant, cpus };
            if questions.iter().all(|q| name(q) != name(&question)) {
                questions.push(question);
            }
        }
    }
    let answers = probe_all(&questions);
    let told = questions.iter().map(name).zip(answers);
    told.filter(|(_, answer)| *answer != Availability::Available).collect()
}

/// Suite and variant.
fn name(question: &Question<'_>) -> String {
    let experiment = question.experiment.id;
    let suite = experiment.split('/').next().unwrap_or(experiment);
    format!("{suite} {}", question.variant.id)
}

fn unsure_text((variant, answer): &(String, Availability)) -> String {
    match answer {
        Availability::Available => String::new(),
        Availability::Undecided { by } => {
            format!("{variant} depends on {by}\n")
        }
        Availability::Unavailable { reason, remedy } => {
            format!("{variant} not here: {reason}; {remedy}\n")
        }
    }
}

fn preview_text(
    preview: &Preview,
    options: &RunOptions,
    unsure: &[(String, Availability)],
) -> String {
    let mut text = String::new();
    for planned in &preview.planned {
        let variants: Vec<&str> =
            planned.experiment.variants.iter().map(|v| v.id).collect();
        let cpus = CpuSet::from_iter(planned.cpus.iter().copied());
        let place = match &planned.lack {
            Some((reason, remedy)) => format!("skipped: {reason}; {remedy}"),
            None => format!("on CPUs {cpus}"),
        };
        text.push_str(&format!(
            "{}\n  {place}\n  {}\n",
            planned.experiment.key(),
            variants.join(" ")
        ));
    }
    if !unsure.is_empty() {
        text.push('\n');
        text.extend(unsure.iter().map(unsure_text));
    }
    text.push_str(&format!(
        "\n{} session(s) of {} blocks, {} trials of {:.1} s: about {}\n",
        options.sessions,
        options.blocks,
        preview.trials,
        (options.warmup_ns + options.window_ns) as f64 / 1e9,
        human_duration(preview.duration)
    ));
    for (suite, forecast) in &preview.forecasts {
        match forecast {
            Ok(forecast) => {
                text.push_str(&format!(
                    "{suite}: writes {} bytes per session{}\n",
                    forecast.bytes_written,
                    forecast
                        .touches
                        .iter()
                        .map(|touch| format!("; {touch}"))
                        .collect::<String>()
                ));
            }
            Err(refusal) => {
                text.push_str(&format!("{suite}: refused: {refusal}\n"));
            }
        }
    }
    text
}

fn preview_json(
    preview: &Preview,
    options: &RunOptions,
    unsure: &[(String, Availability)],
) -> serde_json::Value {
    let experiments: Vec<_> = preview
        .planned
        .iter()
        .map(|p| {
            serde_json::json!({
                "experiment": p.experiment.id,
                "params": p.experiment.params,
                "cpus": p.cpus,
                "skipped": p.lack.as_ref().map(|(reason, _)| reason),
                "variants": p.experiment.variants.iter()
                    .map(|v| v.id).collect::<Vec<_>>(),
            })
        })
        .collect();
    let forecasts: Vec<_> = preview
        .forecasts
        .iter()
        .map(|(suite, forecast)| match forecast {
            Ok(f) => serde_json::json!({
                "suite": suite,
                "bytes_written": f.bytes_written,
                "touches": f.touches,
            }),
            Err(refusal) => serde_json::json!({
                "suite": suite,
                "refused": refusal.to_string(),
            }),
        })
        .collect();
    serde_json::json!({
        "options": options,
        "experiments": experiments,
        "unsure": unsure
            .iter()
            .map(|told| unsure_text(told).trim_end().to_owned())
            .collect::<Vec<_>>(),
        "trials": preview.trials,
        "duration_s": preview.duration.as_secs_f64(),
        "suites": forecasts,
    })
}
