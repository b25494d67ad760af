//! `--dry-run`: what a run would do.

use harness::{
    machine::{cpu_set::CpuSet, topology::size},
    run::{
        exit::Exit, options::RunOptions, output, preview::Preview,
        progress::human_duration,
    },
    suite::{Availability, Experiment, Forecast},
};

/// The rate by which the wear of trials that write is told: how fast they
/// write is not known before.
const WRITTEN_GIB_PER_SECOND: f64 = 1.0;

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
        .map(|refusal| refusal.kind.into())
        .max()
        .unwrap_or(Exit::Done))
}

/// The variants that a run may have to leave out, in the order of the plan,
/// each once for what it says.
fn unsure(preview: &Preview) -> Vec<(String, Availability)> {
    let mut unsure: Vec<(String, Availability)> = Vec::new();
    for (planned, said) in preview.planned.iter().zip(&preview.probed) {
        let Experiment { id, variants, .. } = &planned.experiment;
        let suite = id.split('/').next().unwrap_or(id);
        for (variant, said) in variants.iter().zip(said) {
            let told = (format!("{suite} {}", variant.id), said.clone());
            if told.1 != Availability::Available && !unsure.contains(&told) {
                unsure.push(told);
            }
        }
    }
    unsure
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
        "\n{} session(s) of {} blocks, {} trials of {:.1} s at most: about \
         {}\n",
        options.sessions,
        options.blocks,
        preview.trials,
        trial_seconds(options),
        human_duration(preview.duration)
    ));
    for (suite, forecast) in &preview.forecasts {
        match forecast {
            Ok(forecast) => text.push_str(&written(suite, forecast)),
            Err(refusal) => {
                text.push_str(&format!("{suite}: refused: {refusal}\n"));
            }
        }
    }
    if preview.writing > 0 {
        let seconds = preview.writing as f64 * trial_seconds(options);
        text.push_str(&format!(
            "{} of the trials overwrite that as fast as they can, {seconds:.0} \
             s together: {:.0} GiB at {WRITTEN_GIB_PER_SECOND} GiB/s, which is \
             assumed\n",
            preview.writing,
            seconds * WRITTEN_GIB_PER_SECOND,
        ));
    }
    text
}

/// What a suite writes before its trials, and touches.
fn written(suite: &str, forecast: &Forecast) -> String {
    let touches = forecast.touches.iter().map(|touch| format!("; {touch}"));
    format!(
        "{suite}: writes {} to set up each session{}\n",
        size(Some(forecast.bytes_written)),
        touches.collect::<String>()
    )
}

fn trial_seconds(options: &RunOptions) -> f64 {
    (options.warmup_ns + options.window_ns) as f64 / 1e9
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
                "overwriting": f.overwriting,
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
        "trials_writing": preview.writing,
        "seconds_writing": preview.writing as f64 * trial_seconds(options),
        "duration_s": preview.duration.as_secs_f64(),
        "suites": forecasts,
    })
}
