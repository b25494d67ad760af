//! A configuration file: TOML with the settings as keys, and experiments with
//! matrices.

use std::{fs, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Key, NO_PERMISSION, Origin, PERMISSION, Settings,
    keys::{self, Kind},
};

/// The key of `[[experiment]]`.
const EXPERIMENT: &str = "experiment";

/// Reads a file. Relative paths in it are relative to the file.
///
/// # Errors
/// Unknown keys, values that cannot be, permissions; each with its line.
pub fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| {
        ConfigError::Read { path: path.to_owned(), source }
    })?;
    parse(path, &text)
}

/// A parsed file, with what is needed to tell a place in it.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        file.error(error.span().unwrap_or(0..0), error.message().to_owned())
    })?;
    let mut settings = Settings::default();
    for (name, value) in table.get_ref() {
        if name.get_ref() == EXPERIMENT {
            let groups = file.experiments(value)?;
            if table.get_ref().contains_key("filters") {
                return Err(file.error(
                    name.span(),
                    "filters and [[experiment]] both select; use one of them"
                        .to_owned(),
                ));
            }
            settings.set("filters", groups, file.origin(name.span()));
            continue;
        }
        let key = file.key(name)?;
        let texts = file.value(key, value)?;
        settings.set(key.name, texts, file.origin(name.span()));
    }
    Ok(settings)
}

impl File<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    fn error(&self, span: Range<usize>, what: String) -> ConfigError {
        let line = self.line(&span);
        ConfigError::File { path: self.path.to_owned(), line, what }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let line = self.line(&span);
        Origin::File { path: self.path.to_owned(), line }
    }

    fn key(
        &self,
        name: &Spanned<impl AsRef<str>>,
    ) -> Result<&'static Key, ConfigError> {
        let word = name.get_ref().as_ref();
        if let Some(key) = keys::find(word) {
            return Ok(key);
        }
        let what = if word.to_lowercase().starts_with(PERMISSION) {
            NO_PERMISSION.to_owned()
        } else {
            unknown(word, keys::close_to(word))
        };
        Err(self.error(name.span(), what))
    }

    /// The texts of a setting's value.
    fn value(
        &self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<String>, ConfigError> {
        let texts = match (key.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(items)) => items
                .iter()
                .map(|item| self.scalar(Kind::Text, key.name, item))
                .collect::<Result<_, _>>()?,
            (Kind::List, _) => {
                vec![self.scalar(Kind::Text, key.name, value)?]
            }
            (kind, _) => vec![self.scalar(kind, key.name, value)?],
        };
        key.check_all(&texts).map_err(|what| self.error(value.span(), what))?;
        // A run may be started from anywhere; the file stays where it is.
        if matches!(key.name, "target" | "results") {
            let home = self.path.parent().unwrap_or(Path::new(""));
            let path = |text: String| home.join(text).display().to_string();
            return Ok(texts.into_iter().map(path).collect());
        }
        Ok(texts)
    }

    fn scalar(
        &self,
        kind: Kind,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<String, ConfigError> {
        match (kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => Ok(text.to_string()),
            (Kind::Number, DeValue::Integer(number))
                if number.radix() == 10 =>
            {
                Ok(number.as_str().to_owned())
            }
            (Kind::Switch, DeValue::Boolean(switch)) => Ok(switch.to_string()),
            (_, found) => {
                let wanted = match kind {
                    Kind::Text | Kind::List => "a string",
                    Kind::Number => "a whole number in decimal",
                    Kind::Switch => "true or false",
                };
                let found = found.type_str();
                let what = format!("{name} wants {wanted}, not {found}");
                Err(self.error(value.span(), what))
            }
        }
    }

    /// Each `[[experiment]]` as groups of terms, one for each of its filters
    /// and each point of its matrix.
    fn experiments(
        &self,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<String>, ConfigError> {
        let DeValue::Array(items) = value.get_ref() else {
            let what = "write [[experiment]], in two pairs of brackets";
            return Err(self.error(value.span(), what.to_owned()));
        };
        let mut groups = Vec::new();
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                let what = "an experiment is a table with filter and matrix";
                return Err(self.error(item.span(), what.to_owned()));
            };
            groups.extend(self.experiment(item.span(), table)?);
        }
        if groups.is_empty() {
            let what = "experiment is an empty list; it would select all";
            return Err(self.error(value.span(), what.to_owned()));
        }
        Ok(groups)
    }

    fn experiment(
        &self,
        span: Range<usize>,
        table: &DeTable<'_>,
    ) -> Result<Vec<String>, ConfigError> {
        let filters = keys::find("filters");
        let mut groups = Vec::new();
        let mut points = vec![String::new()];
        for (name, value) in table {
            match (name.get_ref().as_ref(), filters) {
                ("filter", Some(key)) => groups = self.value(key, value)?,
                ("matrix", _) => points = self.matrix(value)?,
                (word, _) => {
                    let known = ["filter", "matrix"].into_iter();
                    let close = harness::run::filter::closest(word, known);
                    return Err(self.error(name.span(), unknown(word, close)));
                }
            }
        }
        if groups.is_empty() {
            let what = "an experiment needs a filter, such as \
                        filter = \"storage/randread-4k\"";
            return Err(self.error(span, what.to_owned()));
        }
        let is_bare = |group: &String| {
            group.split_whitespace().all(|term| term.contains('='))
        };
        if groups.iter().any(is_bare) {
            let what = "an experiment's filter names it, such as \
                        filter = \"randread\"; parameters go into matrix";
            return Err(self.error(span, what.to_owned()));
        }
        let all = groups.iter().flat_map(|group| {
            points.iter().map(move |point| format!("{group}{point}"))
        });
        Ok(all.collect())
    }

    /// ` depth=1`, ` depth=8`: each point as terms, each with a space before.
    fn matrix(
        &self,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<String>, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            let what = "matrix wants a table such as { depth = [1, 32] }";
            return Err(self.error(value.span(), what.to_owned()));
        };
        let mut points = vec![String::new()];
        for (name, values) in table {
            let items = match values.get_ref() {
                DeValue::Array(items) => items
                    .iter()
                    .map(|item| self.parameter(name.get_ref(), item))
                    .collect::<Result<Vec<_>, _>>()?,
                _ => vec![self.parameter(name.get_ref(), values)?],
            };
            // No point at all would leave no filter, which selects all.
            if items.is_empty() {
                let name = name.get_ref();
                let what = format!("{name} has no value; leave it out for all");
                return Err(self.error(values.span(), what));
            }
            points = points
                .iter()
                .flat_map(|point| {
                    items.iter().map(move |item| {
                        format!("{point} {}={item}", name.get_ref())
                    })
                })
                .collect();
        }
        Ok(points)
    }

    fn parameter(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<String, ConfigError> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => {
                number.as_str().to_owned()
            }
            _ => String::new(),
        };
        if text.is_empty() || text.contains(char::is_whitespace) {
            let what = format!("{name} wants numbers or words");
            return Err(self.error(value.span(), what));
        }
        Ok(text)
    }
}

fn unknown(word: &str, close: Option<String>) -> String {
    match close {
        Some(close) => {
            format!("unknown key `{word}`; did you mean `{close}`?")
        }
        None => format!("unknown key `{word}`; docs/configuration.md has all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Settings, ConfigError> {
        parse(Path::new("/x/bench.toml"), text)
    }

    fn message(text: &str) -> String {
        of(text).expect_err(text).to_string()
    }

    #[test]
    fn a_file_has_settings_and_experiments() {
        let settings = of("# nightly\nlabel = \"nightly\"\nblocks = 20\n\
             window = \"1s\"\ntarget = \"disk\"\nstrict = true\n\
             [[experiment]]\nfilter = \"randread\"\n\
             matrix = { depth = [1, 32], pattern = \"random\" }\n\
             [[experiment]]\nfilter = [\"ipc/*\"]\n")
        .expect("settings");
        assert_eq!(settings.text("label"), Some("nightly"));
        assert_eq!(settings.text("blocks"), Some("20"));
        assert_eq!(settings.text("strict"), Some("true"));
        assert_eq!(settings.text("target"), Some("/x/disk"));
        let blocks = settings.get("blocks").expect("blocks");
        assert_eq!(blocks.origin.to_string(), "/x/bench.toml:3");
        assert_eq!(
            settings.get("filters").expect("filters").texts,
            [
                "randread depth=1 pattern=random",
                "randread depth=32 pattern=random",
                "ipc/*"
            ]
        );
        assert_eq!(of("").expect("empty"), Settings::default());
    }

    #[test]
    fn mistakes_have_their_line_and_a_suggestion() {
        for (text, expected) in [
            (
                "\nblcoks = 3\n",
                "bench.toml:2: unknown key `blcoks`; did you \
              mean `blocks`?",
            ),
            ("frobnicate = 1", "docs/configuration.md"),
            (
                "blocks = \"3\"",
                "blocks wants a whole number in decimal, not string",
            ),
            ("blocks = 0", "between 1 and 200"),
            ("blocks = 0x10", "in decimal, not integer"),
            ("window = \"3h\"", "unit `h`"),
            ("mode = \"fast\"", "quick, default or precise"),
            ("strict = \"yes\"", "true or false"),
            ("blocks = ", "bench.toml:1: "),
            ("blocks = 1\nblocks = 2", "bench.toml:2: "),
            ("filters = [\"=1\"]", "incomplete"),
            ("\nfilters = []", "bench.toml:2: filters is an empty list"),
            ("\nexperiment = []", "bench.toml:2: experiment is an empty"),
            ("[[experiment]]\nfilter = []", "bench.toml:2: filters is an"),
            (
                "[[experiment]]\nfilter = \"x\"\n\
                 matrix = { depth = [1], op_bytes = [] }",
                "bench.toml:3: op_bytes has no value",
            ),
            ("[experiment]\nfilter = \"x\"", "two pairs of brackets"),
            ("[[experiment]]\nmatrix = { depth = 1 }", "needs a filter"),
            ("[[experiment]]\nfilter = \"depth=1\"", "parameters go into"),
            ("[[experiment]]\nfilters = \"x\"", "did you mean `filter`?"),
            ("[[experiment]]\nfilter = \"x\"\nmatrix = 3", "wants a table"),
            (
                "[[experiment]]\nfilter = \"x\"\nmatrix = { a = [1.5] }",
                "bench.toml:3: a wants numbers or words",
            ),
            (
                "filters = \"x\"\n[[experiment]]\nfilter = \"x\"",
                "use one of them",
            ),
        ] {
            let message = message(text);
            assert!(message.contains(expected), "{text}\n{message}");
        }
    }

    #[test]
    fn no_file_permits_destroying_data() {
        for key in ["allow_destroy", "allow-destroy", "AllowDestroy"] {
            let message = message(&format!("\n\n{key} = \"Samsung-1234\""));
            assert!(message.contains(":3: permission"), "{message}");
        }
    }
}
