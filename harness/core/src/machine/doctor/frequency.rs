//! How fast the CPUs run, and who decides it.

use super::{Check, Observation, Patient, Unknown, Verdict, support::by_value};
use crate::machine::cpu_set::Cpu;

/// Frequency scaling, boost and throttling.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cpu.driver",
        about: "frequency driver of the measured CPUs",
        why: "the driver decides what the other frequency settings mean",
        wanted: "one driver for all measured CPUs",
        fix: "boot all CPUs with the same driver",
        source: "/sys/devices/system/cpu/cpu*/cpufreq/scaling_driver",
        limit: None,
        examine: driver,
    },
    // Before the governor, so that an undo puts it back after that: under
    // `performance` intel_pstate and amd-pstate-epp refuse other preferences.
    Check {
        id: "cpu.energy_preference",
        about: "energy preference of the measured CPUs",
        why: "the processor itself trades speed for power by this hint",
        wanted: "performance",
        fix: "write performance to energy_performance_preference",
        source: "/sys/devices/system/cpu/cpu*/cpufreq/\
                 energy_performance_preference",
        limit: None,
        examine: preference,
    },
    Check {
        id: "cpu.governor",
        about: "frequency governor of the measured CPUs",
        why: "other governors change the frequency with the load, so that a \
              variant that sleeps more runs slower when it wakes",
        wanted: "performance",
        fix: "cpupower frequency-set -g performance",
        source: "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        limit: Some(Verdict::ComparisonOnly),
        examine: governor,
    },
    Check {
        id: "cpu.turbo",
        about: "boost above the nominal frequency",
        why: "boost depends on temperature and on what other cores do, so \
              that figures drift and scaling looks worse than it is",
        wanted: "off",
        fix: "turn boost off for the time of the run",
        source: "/sys/devices/system/cpu/intel_pstate/no_turbo, \
                 /sys/devices/system/cpu/cpufreq/boost",
        limit: None,
        examine: turbo,
    },
    Check {
        id: "cpu.frequency_range",
        about: "lowest and highest frequency that policy allows",
        why: "between the two the frequency may move during a window",
        wanted: "lowest equal to highest",
        fix: "cpupower frequency-set -d FREQ -u FREQ",
        source: "/sys/devices/system/cpu/cpu*/cpufreq/scaling_{min,max}_freq",
        limit: None,
        examine: range,
    },
    Check {
        id: "cpu.throttled",
        about: "times that heat has slowed the measured CPUs since boot",
        why: "a processor that gets too hot slows down within a window",
        wanted: "0",
        fix: "improve cooling; look again after a run",
        source: "/sys/devices/system/cpu/cpu*/thermal_throttle/\
                 *_throttle_count",
        limit: None,
        examine: throttled,
    },
];

/// A word of each measured CPU's `cpufreq` directory.
fn words(
    patient: &Patient,
    file: &str,
) -> Result<Vec<(Cpu, String, String)>, Unknown> {
    let of_one = |(cpu, path): (Cpu, String)| {
        let word = patient
            .text(&path)
            .map_err(|_| patient.hidden(&path, "frequency"))?;
        Ok((cpu, path, word))
    };
    let files = patient.of_each_cpu(&format!("cpufreq/{file}"))?;
    files.into_iter().map(of_one).collect()
}

fn describe(words: &[(Cpu, String, String)]) -> String {
    by_value(words.iter().map(|(cpu, _, word)| (*cpu, word.clone())))
}

fn driver(patient: &Patient) -> Result<Observation, Unknown> {
    let words = words(patient, "scaling_driver")?;
    let first = &words[0].2;
    let plausible =
        first.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            && first.bytes().any(|b| b.is_ascii_alphabetic());
    if !plausible {
        return Err(Unknown::because(format!("`{first}` is no driver")));
    }
    let same = words.iter().all(|(_, _, word)| word == first);
    Ok(Observation::pass_if(same, describe(&words)))
}

fn governor(patient: &Patient) -> Result<Observation, Unknown> {
    let words = words(patient, "scaling_governor")?;
    let mut seen = Observation::pass_if(
        words.iter().all(|(_, _, word)| word == "performance"),
        format!("governor {}", describe(&words)),
    );
    for (_, path, word) in &words {
        seen = seen.with_write(path, "performance", word);
    }
    Ok(seen)
}

fn preference(patient: &Patient) -> Result<Observation, Unknown> {
    let drivers = words(patient, "scaling_driver")?;
    let has_hint =
        |driver: &str| matches!(driver, "intel_pstate" | "amd-pstate-epp");
    let file = "energy_performance_preference";
    let paths = patient.of_each_cpu(&format!("cpufreq/{file}"))?;
    let absent = paths.iter().all(|(_, path)| !patient.root.exists(path));
    if absent && !drivers.iter().any(|(_, _, word)| has_hint(word)) {
        let told = format!("{} has no such hint", describe(&drivers));
        return Ok(Observation::not_applicable(told));
    }
    let words = words(patient, file)?;
    let mut seen = Observation::pass_if(
        words.iter().all(|(_, _, word)| word == "performance"),
        describe(&words),
    );
    for (_, path, word) in &words {
        seen = seen.with_write(path, "performance", word);
    }
    Ok(seen)
}

fn turbo(patient: &Patient) -> Result<Observation, Unknown> {
    let base = "sys/devices/system/cpu";
    let intel = format!("{base}/intel_pstate/no_turbo");
    let common = format!("{base}/cpufreq/boost");
    let (path, off) = match patient.root.exists(&intel) {
        true => (&intel, "1"),
        false => (&common, "0"),
    };
    if !patient.root.exists(path) {
        return Err(patient.hidden(path, "boost"));
    }
    let now = u8::from(patient.flag(path)?).to_string();
    let is_off = now == off;
    let told = if is_off { "off" } else { "on" };
    Ok(Observation::pass_if(is_off, told).with_write(path, off, now))
}

fn range(patient: &Patient) -> Result<Observation, Unknown> {
    let low = words(patient, "scaling_min_freq")?;
    let high = words(patient, "scaling_max_freq")?;
    let mut told = Vec::new();
    let mut fixed = true;
    for ((cpu, path, low), (_, _, high)) in low.iter().zip(&high) {
        let khz = |text: &String| text.parse::<u64>().ok().filter(|&k| k > 0);
        let (Some(low), Some(high)) = (khz(low), khz(high)) else {
            return Err(patient.lack(path));
        };
        fixed &= low == high;
        told.push((*cpu, format!("{} to {} MHz", low / 1000, high / 1000)));
    }
    Ok(Observation::pass_if(fixed, by_value(told)))
}

fn throttled(patient: &Patient) -> Result<Observation, Unknown> {
    let mut most = 0;
    for (_, dir) in patient.of_each_cpu("thermal_throttle")? {
        for file in ["core_throttle_count", "package_throttle_count"] {
            let path = format!("{dir}/{file}");
            let count = patient.root.read_u64(&path).ok_or_else(|| {
                let lack = patient.hidden(&path, "cooling");
                match patient.is_guest() || patient.root.exists(&path) {
                    true => lack,
                    false => lack.with_fix(
                        "only Intel processors count it: watch the \
                         temperature instead",
                    ),
                }
            })?;
            most = most.max(count);
        }
    }
    Ok(Observation::pass_if(most == 0, format!("{most} times")))
}
