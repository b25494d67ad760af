//! Settings of a run from several places: flag over environment over file over
//! default, each with its origin.
//!
//! All settings are text until they are lowered to `RunOptions` once; flags
//! have been checked by then, the others are checked where they are read.

mod file;
mod keys;
mod print;

use std::{collections::BTreeMap, fmt, path::PathBuf};

pub use file::read;
pub use keys::{BLOCKS_MAX, PASSES_MAX, SESSIONS_MAX};
use keys::{KEYS, Key};
pub use print::print;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment(String),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => {
                write!(f, "{}:{line}", path.display())
            }
        }
    }
}

/// A setting: one text, or several for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As a person writes it.
    pub texts: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
}

/// Settings by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, Setting>);

/// Why a configuration does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading {}: {source}; give the path of a TOML file", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or says what cannot be.
    #[error("{}:{line}: {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, with the next step.
        what: String,
    },
    /// An environment variable.
    #[error("{name}: {what}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong, with the next step.
        what: String,
    },
}

/// Words that permit destroying data begin so, in whatever spelling.
const PERMISSION: &str = "allow";

/// Why a permission is refused wherever it would be found unseen.
const NO_PERMISSION: &str = "permission to destroy data is given on the \
    command line only, never by a file or an environment variable";

const ENVIRONMENT_PREFIX: &str = "BYPASS_";

impl Settings {
    /// Sets a key, which must be one of [`KEYS`].
    pub fn set(&mut self, key: &str, texts: Vec<String>, origin: Origin) {
        if let Some(key) = keys::find(key) {
            self.0.insert(key.name, Setting { texts, origin });
        }
    }

    /// A setting.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    /// The text of a setting that is no list.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.texts.first().map(String::as_str)
    }

    /// These over others.
    #[must_use]
    pub fn over(mut self, others: Self) -> Self {
        for (key, setting) in others.0 {
            self.0.entry(key).or_insert(setting);
        }
        self
    }

    /// From variables such as `BYPASS_BLOCKS`; those of others are left alone.
    ///
    /// # Errors
    /// A value that cannot be, a name that is almost one of ours, and a
    /// permission.
    pub fn from_environment(
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let word = rest.to_lowercase();
            let error = |what: String| ConfigError::Environment {
                name: name.clone(),
                what,
            };
            if word.starts_with(PERMISSION) {
                return Err(error(NO_PERMISSION.to_owned()));
            }
            let Some(key) = keys::find(&word) else {
                match keys::close_to(&word) {
                    Some(close) => {
                        return Err(error(format!(
                            "no such setting; did you mean \
                             {ENVIRONMENT_PREFIX}{}?",
                            close.to_uppercase()
                        )));
                    }
                    None => continue,
                }
            };
            let texts = key.split(&value);
            key.check_all(&texts).map_err(error)?;
            settings.set(key.name, texts, Origin::Environment(name.clone()));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, value: &str) -> Result<Settings, ConfigError> {
        let variables = [(name.to_owned(), value.to_owned())];
        Settings::from_environment(variables.into_iter())
    }

    #[test]
    fn the_nearer_place_wins() {
        let mut flags = Settings::default();
        flags.set("blocks", vec!["30".to_owned()], Origin::Flag);
        let variables = environment("BYPASS_BLOCKS", "20").expect("blocks");
        let label = environment("BYPASS_LABEL", "x").expect("label");
        let merged = flags.over(variables).over(label);
        assert_eq!(merged.text("blocks"), Some("30"));
        assert_eq!(merged.text("label"), Some("x"));
        assert_eq!(merged.text("window"), None);
    }

    #[test]
    fn the_environment_is_checked_and_gives_no_permission() {
        let message = |name, value| {
            environment(name, value).expect_err("wrong").to_string()
        };
        assert!(message("BYPASS_BLOCKS", "0").contains("between 1 and 200"));
        assert!(message("BYPASS_BLOCK", "3").contains("BYPASS_BLOCKS"));
        for nothing in ["", " "] {
            let message = message("BYPASS_FILTERS", nothing);
            assert!(message.contains("an empty list"), "{message}");
        }
        for name in ["BYPASS_ALLOW_DESTROY", "BYPASS_ALLOWDESTROY"] {
            assert!(message(name, "x").contains("command line only"));
        }
        // Of the build, of another program.
        for name in ["BYPASS_GIT_COMMIT", "BLOCKS", "PATH"] {
            assert_eq!(
                environment(name, "x").expect(name),
                Settings::default()
            );
        }
        let two = environment("BYPASS_FILTERS", "randread depth=32");
        let two = two.expect("filters");
        let texts = &two.get("filters").expect("filters").texts;
        assert_eq!(texts, &["randread", "depth=32"]);
    }
}
