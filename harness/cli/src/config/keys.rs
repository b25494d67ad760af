//! The settings: one line each.

use harness::run::filter::{Filter, closest};

use crate::command::values::{duration_ns, ratio, some_cpus};

/// Blocks beyond this add nothing that a longer window would not.
pub const BLOCKS_MAX: u64 = 200;

/// Sessions beyond this take days.
pub const SESSIONS_MAX: u64 = 100;

/// Passes beyond this only wear a drive out: SNIA's PTS asks for 2.
pub const PASSES_MAX: u32 = 10;

/// A setting that a file or the environment can give.
pub struct Key {
    /// Its name in a file; `BYPASS_` and capitals in the environment.
    pub name: &'static str,
    /// Its form in a file.
    pub kind: Kind,
    /// Whether a text can be its value.
    check: fn(&str) -> Result<(), String>,
    /// What it is where nobody sets it.
    pub default: &'static str,
}

/// The form of a setting in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A list of strings; one string stands for a list of one.
    List,
}

/// All of them, in the order in which they are printed.
pub const KEYS: &[Key] = &[
    key("filters", Kind::List, filter, "all experiments"),
    key("tag", Kind::Text, some, "any"),
    key("mode", Kind::Text, mode, "default"),
    key("blocks", Kind::Number, blocks, "12; 10 quick, 30 precise"),
    key("sessions", Kind::Number, sessions, "1"),
    key("window", Kind::Text, duration, "2s; 500ms quick"),
    key("warmup", Kind::Text, duration, "500ms; 300ms quick"),
    key("practical", Kind::Text, share, "2%"),
    key("seed", Kind::Number, seed, "a fresh one"),
    key("cpus", Kind::Text, cpus, "a sensible choice"),
    key("target", Kind::Text, some, "a file beside the results"),
    key("precondition", Kind::Number, passes, "a file once, no drive"),
    key("results", Kind::Text, some, "results/ of the workspace"),
    key("label", Kind::Text, some, "run, quick or precise"),
    key("strict", Kind::Switch, switch, "false"),
];

const fn key(
    name: &'static str,
    kind: Kind,
    check: fn(&str) -> Result<(), String>,
    default: &'static str,
) -> Key {
    Key { name, kind, check, default }
}

impl Key {
    /// Whether texts can be its value. A list of nothing would select all
    /// where a person meant to select less.
    pub fn check_all(&self, texts: &[String]) -> Result<(), String> {
        if texts.is_empty() {
            return Err(format!(
                "{} is an empty list; name something, or leave it out",
                self.name
            ));
        }
        texts.iter().try_for_each(|text| (self.check)(text))
    }

    /// A value of the environment, where lists are separated by spaces.
    pub fn split(&self, value: &str) -> Vec<String> {
        match self.kind {
            Kind::List => value.split_whitespace().map(str::to_owned).collect(),
            _ => vec![value.to_owned()],
        }
    }
}

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What a misspelt name may mean.
pub fn close_to(name: &str) -> Option<String> {
    closest(name, KEYS.iter().map(|key| key.name))
}

fn filter(text: &str) -> Result<(), String> {
    text.parse::<Filter>().map(|_| ()).map_err(|error| error.to_string())
}

fn some(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

fn mode(text: &str) -> Result<(), String> {
    match text {
        "quick" | "default" | "precise" => Ok(()),
        _ => Err(format!("`{text}` is not quick, default or precise")),
    }
}

fn blocks(text: &str) -> Result<(), String> {
    within(text, BLOCKS_MAX)
}

fn sessions(text: &str) -> Result<(), String> {
    within(text, SESSIONS_MAX)
}

fn passes(text: &str) -> Result<(), String> {
    within(text, PASSES_MAX.into())
}

fn within(text: &str, most: u64) -> Result<(), String> {
    match text.parse::<u64>() {
        Ok(number) if (1..=most).contains(&number) => Ok(()),
        _ => Err(format!("{text} is no whole number between 1 and {most}")),
    }
}

fn duration(text: &str) -> Result<(), String> {
    duration_ns(text).map(|_| ())
}

fn share(text: &str) -> Result<(), String> {
    ratio(text).map(|_| ())
}

fn seed(text: &str) -> Result<(), String> {
    let number = text.parse::<u64>();
    number.map(|_| ()).map_err(|_| format!("{text} is no whole number"))
}

fn cpus(text: &str) -> Result<(), String> {
    some_cpus(text).map(|_| ())
}

fn switch(text: &str) -> Result<(), String> {
    let switch = text.parse::<bool>();
    switch.map(|_| ()).map_err(|_| format!("`{text}` is not true or false"))
}
