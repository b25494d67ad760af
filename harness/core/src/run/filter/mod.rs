//! Filters: globs on ids and `key=value` terms.
//!
//! All terms with `=` must hold; of the others one must match. A word without
//! `*` matches anywhere in an id, as in `cargo test`; with `*` it is a glob on
//! the whole id. A glob with two slashes also names a variant:
//! `storage/randread-4k/uring*` keeps the baseline and the bounds beside it,
//! and `storage/randread-4k/pread` is these alone.
//!
//! Terms in one word with spaces, `randread depth=32`, hold together, and such
//! a group stands beside other patterns: `'randread depth=32' ping-pong`.
//!
//! A tag selects the experiments that carry it. An experiment that carries
//! `noise:ring` is selected by `noise` as well, with that contender only.
//!
//! Points of a sweep carry the tag `sweep`. A run leaves them out unless a tag
//! asks for them, or a `key=value` term that no other experiment of the same id
//! satisfies, or nothing else is left.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::suite::{Experiment, Role, Suite, Variant};

/// One term of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Filter {
    /// A parameter has this value.
    Param {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
    },
    /// The id contains this word or matches this glob.
    Id(String),
    /// All of these, as one pattern among others.
    All(Vec<Filter>),
}

/// Why a filter selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// `=value` or an empty word.
    #[error(
        "filter `{0}` is incomplete; write a word, a glob such as \
         `storage/*` or a term such as `depth=32`"
    )]
    Incomplete(String),
    /// No experiment has such a parameter.
    #[error("no experiment has a parameter `{key}`{}; `bypass list` shows all",
        suggestion(.close))]
    UnknownKey {
        /// As written.
        key: String,
        /// The closest that exists.
        close: Option<String>,
    },
    /// The parts match, the whole does not: no such parameters.
    #[error("no experiment matches `{filter}`; there is {exist}")]
    NoPoint {
        /// As written.
        filter: String,
        /// What matches without the parameters.
        exist: String,
    },
    /// No experiment carries such a tag.
    #[error("no experiment has the tag `{tag}`{}; `bypass list` shows all",
        suggestion(.close))]
    UnknownTag {
        /// As written.
        tag: String,
        /// The closest that exists.
        close: Option<String>,
    },
    /// Nothing matches.
    #[error("no experiment matches `{filter}`{}; `bypass list` shows all",
        suggestion(.close))]
    NoMatch {
        /// As written.
        filter: String,
        /// The closest id.
        close: Option<String>,
    },
}

fn suggestion(close: &Option<String>) -> String {
    close
        .as_ref()
        .map(|close| format!(" (did you mean `{close}`?)"))
        .unwrap_or_default()
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() > 1 {
            let terms = words.into_iter().map(str::parse);
            return Ok(Self::All(terms.collect::<Result<_, _>>()?));
        }
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Ok(Self::Param { key: key.into(), value: value.into() })
            }
            None if !text.is_empty() => Ok(Self::Id(text)),
            _ => Err(FilterError::Incomplete(text)),
        }
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param { key, value } => write!(f, "{key}={value}"),
            Self::Id(pattern) => f.write_str(pattern),
            Self::All(terms) => f.write_str(&joined(terms)),
        }
    }
}

impl Filter {
    /// Whether it names this experiment, and not only its suite.
    pub fn names(&self, experiment: &Experiment) -> bool {
        match self {
            Self::Param { .. } => false,
            Self::All(terms) => terms.iter().any(|t| t.names(experiment)),
            Self::Id(pattern) => {
                let part = pattern.split('/').nth(1).unwrap_or(pattern);
                !part.trim_matches('*').is_empty()
                    && id_matches(part, experiment.name())
            }
        }
    }
}

fn joined(terms: &[Filter]) -> String {
    let terms: Vec<String> = terms.iter().map(ToString::to_string).collect();
    terms.join(" ")
}

/// The tag of the points of a sweep.
pub const SWEEP: &str = "sweep";

/// What a run of these filters and this tag measures: all that matches, but
/// points of a sweep only where they were asked for.
///
/// # Errors
/// As `matching`.
pub fn select(
    suites: &[Suite],
    filters: &[Filter],
    tag: Option<&str>,
) -> Result<Vec<(usize, Experiment)>, FilterError> {
    let all = matching(suites, filters, tag)?;
    if tag.is_some() {
        return Ok(all);
    }
    let swept = |e: &Experiment| e.tags.contains(&SWEEP);
    let fixed: Vec<&str> =
        all.iter().filter(|(_, e)| !swept(e)).map(|(_, e)| e.id).collect();
    let asked: Vec<_> = all
        .iter()
        .filter(|(_, e)| {
            !swept(e) || (is_point(e, filters) && !fixed.contains(&e.id))
        })
        .cloned()
        .collect();
    Ok(if asked.is_empty() { all } else { asked })
}

/// Whether a term names a parameter of this experiment.
fn is_point(experiment: &Experiment, filters: &[Filter]) -> bool {
    filters.iter().any(|filter| match filter {
        Filter::Param { .. } => true,
        Filter::All(terms) => {
            is_point(experiment, terms)
                && narrow(experiment.clone(), terms).is_some()
        }
        Filter::Id(_) => false,
    })
}

/// The experiments of `suites` that pass, each with its suite's index and
/// only the variants that pass.
///
/// # Errors
/// A term that no experiment at all satisfies is a mistake, never an empty
/// run.
pub fn matching(
    suites: &[Suite],
    filters: &[Filter],
    tag: Option<&str>,
) -> Result<Vec<(usize, Experiment)>, FilterError> {
    let all: Vec<(usize, Experiment)> = suites
        .iter()
        .enumerate()
        .flat_map(|(i, suite)| {
            (suite.experiments)().into_iter().map(move |e| (i, e))
        })
        .collect();
    check_terms(&all, filters)?;
    if let Some(tag) = tag {
        check_tag(&all, tag)?;
    }
    let selected: Vec<_> = all
        .iter()
        .cloned()
        .filter_map(|(i, e)| match tag {
            Some(tag) => tagged(e, tag).map(|e| (i, e)),
            None => Some((i, e)),
        })
        .filter_map(|(i, e)| narrow(e, filters).map(|e| (i, e)))
        .collect();
    check_each(&all, filters)?;
    if selected.is_empty() && !filters.is_empty() {
        return Err(FilterError::NoMatch {
            filter: joined(filters),
            close: None,
        });
    }
    Ok(selected)
}

/// Keeps an experiment that carries a tag; `tag:VARIANT` keeps that contender
/// and the baseline only.
fn tagged(mut experiment: Experiment, tag: &str) -> Option<Experiment> {
    if experiment.tags.contains(&tag) {
        return Some(experiment);
    }
    let only = only_contender(&experiment, tag)?;
    experiment.variants.retain(|v| match v.role {
        Role::Baseline => true,
        Role::Contender => v.id == only,
        Role::Bound => false,
    });
    Some(experiment)
}

fn only_contender(experiment: &Experiment, tag: &str) -> Option<&'static str> {
    let of_tag = |t: &&'static str| t.strip_prefix(tag)?.strip_prefix(':');
    experiment.tags.iter().find_map(of_tag)
}

/// A tag of no experiment at all is a mistake, unless there is none to ask.
fn check_tag(
    all: &[(usize, Experiment)],
    tag: &str,
) -> Result<(), FilterError> {
    let has = |e: &Experiment| {
        e.tags.contains(&tag) || only_contender(e, tag).is_some()
    };
    if all.is_empty() || all.iter().any(|(_, e)| has(e)) {
        return Ok(());
    }
    let tags = all
        .iter()
        .flat_map(|(_, e)| e.tags)
        .map(|tag| tag.split_once(':').map_or(*tag, |(before, _)| before));
    Err(FilterError::UnknownTag {
        tag: tag.to_owned(),
        close: closest(tag, tags),
    })
}

/// Keeps an experiment, perhaps with fewer variants, or drops it.
fn narrow(
    mut experiment: Experiment,
    filters: &[Filter],
) -> Option<Experiment> {
    let mut patterns = Vec::new();
    for filter in filters {
        match filter {
            Filter::Param { key, value } => {
                if experiment.params.get(key) != Some(value.as_str()) {
                    return None;
                }
            }
            pattern => patterns.push(pattern),
        }
    }
    if patterns.is_empty() {
        return Some(experiment);
    }
    let kept: Vec<Experiment> = patterns
        .into_iter()
        .filter_map(|pattern| match pattern {
            Filter::Id(pattern) => narrow_by_id(experiment.clone(), pattern),
            Filter::All(terms) => narrow(experiment.clone(), terms),
            Filter::Param { .. } => None,
        })
        .collect();
    let is_kept = |v: &Variant| kept.iter().any(|e| e.variant(v.id).is_some());
    experiment.variants.retain(is_kept);
    (!kept.is_empty()).then_some(experiment)
}

fn narrow_by_id(
    mut experiment: Experiment,
    pattern: &str,
) -> Option<Experiment> {
    if id_matches(pattern, experiment.id) {
        return Some(experiment);
    }
    let id = experiment.id;
    let named = |v: &Variant| id_matches(pattern, &format!("{id}/{}", v.id));
    let any = experiment.variants.iter().any(named);
    experiment.variants.retain(|v| v.role != Role::Contender || named(v));
    any.then_some(experiment)
}

fn id_matches(pattern: &str, id: &str) -> bool {
    if pattern.contains('*') {
        glob(pattern.as_bytes(), id.as_bytes())
    } else if pattern.contains('/') {
        id == pattern || id.starts_with(&format!("{pattern}/"))
    } else {
        // A bare word is looked for in the experiment's part of the id only,
        // so that `uring` does not select by accident of a variant's name.
        let experiment = id.splitn(3, '/').take(2).collect::<Vec<_>>();
        id.matches('/').count() < 2 && experiment.join("/").contains(pattern)
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            (0..=text.len()).any(|skip| glob(rest, &text[skip..]))
        }
        Some((letter, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| first == letter && glob(rest, text)),
    }
}

fn check_terms(
    all: &[(usize, Experiment)],
    filters: &[Filter],
) -> Result<(), FilterError> {
    for filter in filters {
        match filter {
            Filter::Param { key, .. } => {
                if !all.iter().any(|(_, e)| e.params.get(key).is_some()) {
                    let keys = all
                        .iter()
                        .flat_map(|(_, e)| e.params.iter().map(|(k, _)| k));
                    return Err(FilterError::UnknownKey {
                        key: key.clone(),
                        close: closest(key, keys),
                    });
                }
            }
            Filter::All(terms) => {
                check_terms(all, terms)?;
                check_together(all, terms)?;
            }
            Filter::Id(pattern) => {
                let alone = std::slice::from_ref(filter);
                if !all.iter().any(|(_, e)| narrow(e.clone(), alone).is_some())
                {
                    return Err(FilterError::NoMatch {
                        filter: pattern.clone(),
                        close: closest(pattern, all.iter().map(|(_, e)| e.id)),
                    });
                }
            }
        }
    }
    Ok(())
}

/// A pattern to which the terms leave nothing is a mistake, whatever they
/// leave to others; so are terms alone that leave nothing at all.
fn check_each(
    all: &[(usize, Experiment)],
    filters: &[Filter],
) -> Result<(), FilterError> {
    let is_term = |filter: &Filter| matches!(filter, Filter::Param { .. });
    let (terms, patterns): (Vec<Filter>, Vec<Filter>) =
        filters.iter().cloned().partition(is_term);
    if patterns.is_empty() && !all.is_empty() {
        return check_together(all, &terms);
    }
    patterns.into_iter().try_for_each(|pattern| {
        check_together(all, &[&[pattern], &terms[..]].concat())
    })
}

/// A group that matches nothing is a mistake, whatever else matches.
fn check_together(
    all: &[(usize, Experiment)],
    terms: &[Filter],
) -> Result<(), FilterError> {
    let matching = |terms: &[Filter]| -> Vec<Experiment> {
        all.iter().filter_map(|(_, e)| narrow(e.clone(), terms)).collect()
    };
    if !matching(terms).is_empty() {
        return Ok(());
    }
    let patterns: Vec<Filter> = terms
        .iter()
        .filter(|term| !matches!(term, Filter::Param { .. }))
        .cloned()
        .collect();
    Err(FilterError::NoPoint {
        filter: joined(terms),
        exist: existing(&matching(&patterns), terms),
    })
}

/// What the experiments that were named have in place of the values that
/// none of them has: `depth=1, 2, 4`. Where each value exists and only not
/// together, the experiments themselves.
fn existing(named: &[Experiment], terms: &[Filter]) -> String {
    let mut told = Vec::new();
    for term in terms {
        let Filter::Param { key, value } = term else { continue };
        let mut values: Vec<&str> =
            named.iter().filter_map(|e| e.params.get(key)).collect();
        if values.contains(&value.as_str()) {
            continue;
        }
        values.sort_by_key(|value| (value.parse::<u64>().ok(), *value));
        values.dedup();
        told.push(match values.is_empty() {
            true => format!("no `{key}`"),
            false => format!("{key}={}", values.join(", ")),
        });
    }
    if told.is_empty() {
        let keys: Vec<String> = named.iter().map(Experiment::key).collect();
        return keys.join(", ");
    }
    let mut ids: Vec<&str> = named.iter().map(|e| e.id).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        ..=IDS_TOLD => format!("{} in {}", told.join("; "), ids.join(", ")),
        _ => told.join("; "),
    }
}

/// More ids than these say nothing.
const IDS_TOLD: usize = 4;

/// The candidate with the least edit distance, if it is close at all.
pub fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let bare =
        |text: &str| text.rsplit('/').next().unwrap_or(text).to_lowercase();
    candidates
        .map(|candidate| {
            let whole = edit_distance(word, candidate);
            (whole.min(edit_distance(word, &bare(candidate))), candidate)
        })
        .filter(|(distance, _)| *distance <= word.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
