//! Where runs are, and how a person names them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use harness::run::bench::workspace_root;
use results::schema::RunFile;

/// A name that no run has, or that too many have.
#[derive(Debug, thiserror::Error)]
pub enum NoSuchRun {
    /// A directory without `run.json`.
    #[error(
        "{} is not the directory of a run: it holds no {}; `bypass run` \
         prints the directory at its end", .0.display(), RunFile::FILE
    )]
    NotARun(PathBuf),
    /// Nothing of that name.
    #[error(
        "no run `{name}`: neither a directory, nor the beginning of a name \
         or a label in {}, which has {known}", .root.display()
    )]
    Unknown {
        /// As given.
        name: String,
        /// Where runs are looked for.
        root: PathBuf,
        /// The newest of those that exist.
        known: String,
    },
    /// Several.
    #[error(
        "`{name}` begins the names of several runs ({found}); write more of \
         the one, or all of them with commas between"
    )]
    Ambiguous {
        /// As given.
        name: String,
        /// What it could be.
        found: String,
    },
}

/// Names told in an error.
const KNOWN_MAX: usize = 6;

/// Names the directory of all runs for every command, so that `compare` looks
/// where `run` writes.
const VARIABLE: &str = "BYPASS_RESULTS";

/// The directory of all runs: the one given, that of `BYPASS_RESULTS`, or
/// `results/` of the workspace, or of the working directory.
pub fn results_root(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let given = given.map(Path::to_owned).or(variable.map(PathBuf::from));
    let root = match given {
        Some(directory) => directory,
        None => {
            let here = std::env::current_dir().context("working directory")?;
            let home: &Path = workspace_root(&here).unwrap_or(&here);
            home.join("results")
        }
    };
    std::path::absolute(&root)
        .with_context(|| format!("--results {}", root.display()))
}

/// The runs that a word names, words with commas between naming them all.
///
/// A word is the directory of a run, `latest` or `previous`, the beginning of
/// one run's name, or a label: then all runs of that label, so that sessions
/// measured in turn come together.
pub fn find(root: &Path, words: &str) -> Result<Vec<PathBuf>, NoSuchRun> {
    let known = known_runs(root);
    let mut found = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        for run in find_one(root, &known, word)? {
            if !found.contains(&run) {
                found.push(run);
            }
        }
    }
    if found.is_empty() {
        return Err(unknown(root, &known, words));
    }
    Ok(found)
}

/// The one run that a word names, as for [`find`].
pub fn find_single(root: &Path, word: &Path) -> Result<PathBuf, NoSuchRun> {
    // The path need not be UTF-8.
    if word.join(RunFile::FILE).is_file() {
        return Ok(word.to_owned());
    }
    let word = word.to_string_lossy();
    let found = find_one(root, &known_runs(root), &word)?;
    match found.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(NoSuchRun::Ambiguous {
            name: word.into_owned(),
            found: names(several),
        }),
    }
}

/// By name, which begins with the time.
fn known_runs(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(RunFile::FILE).is_file())
        .filter(|path| name(path).starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    runs.sort_unstable();
    runs
}

fn find_one(
    root: &Path,
    known: &[PathBuf],
    word: &str,
) -> Result<Vec<PathBuf>, NoSuchRun> {
    let path = Path::new(word);
    if path.join(RunFile::FILE).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let back = match word {
        "latest" => Some(1),
        "previous" => Some(2),
        _ => None,
    };
    if let Some(back) = back {
        let index = known.len().checked_sub(back);
        let run = index.and_then(|index| known.get(index));
        return match run {
            Some(run) => Ok(vec![run.clone()]),
            None => Err(unknown(root, known, word)),
        };
    }
    if path.is_dir() {
        return Err(NoSuchRun::NotARun(path.to_owned()));
    }
    let begins: Vec<PathBuf> = known
        .iter()
        .filter(|run| name(run).starts_with(word))
        .cloned()
        .collect();
    // A name that is itself the beginning of another is meant as it stands.
    if let Some(exact) = begins.iter().find(|run| name(run) == word) {
        return Ok(vec![exact.clone()]);
    }
    match begins.len() {
        0 => {}
        1 => return Ok(begins),
        _ => {
            return Err(NoSuchRun::Ambiguous {
                name: word.to_owned(),
                found: names(&begins),
            });
        }
    }
    let labelled: Vec<PathBuf> = known
        .iter()
        .filter(|run| RunFile::read(run).is_ok_and(|f| f.label == word))
        .cloned()
        .collect();
    if labelled.is_empty() {
        return Err(unknown(root, known, word));
    }
    Ok(labelled)
}

fn unknown(root: &Path, known: &[PathBuf], word: &str) -> NoSuchRun {
    NoSuchRun::Unknown {
        name: word.to_owned(),
        root: root.to_owned(),
        known: match known {
            [] => "no runs".to_owned(),
            known => names(known),
        },
    }
}

/// The newest names.
fn names(runs: &[PathBuf]) -> String {
    let names: Vec<&str> =
        runs.iter().rev().take(KNOWN_MAX).map(|run| name(run)).collect();
    let more = runs.len().saturating_sub(KNOWN_MAX);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} older", names.join(", ")),
    }
}

fn name(run: &Path) -> &str {
    run.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, name: &str, label: &str) -> PathBuf {
        let path = root.join(name);
        fs::create_dir(&path).expect("directory");
        let file = RunFile {
            schema_version: results::schema::SCHEMA_VERSION,
            label: label.to_owned(),
            ..RunFile::default()
        };
        file.write(&path).expect("run.json");
        path
    }

    #[test]
    fn runs_are_named_in_several_ways() {
        let root = tempfile::tempdir().expect("directory");
        let root = root.path();
        let one = make(root, "20261121T044500Z-1a2b3c4d-before", "before");
        let two = make(root, "20261121T044600Z-1a2b3c4d-after", "after");
        let three = make(root, "20261121T044700Z-1a2b3c4d-before", "before");
        // No run by its name, as the committed example.
        make(root, "example", "before");
        fs::create_dir(root.join("20261121T044800Z-not-a-run")).expect("dir");
        let find = |words: &str| find(root, words);
        let only = |word: &str| match find(word).expect("a run").as_slice() {
            [one] => one.clone(),
            several => panic!("{several:?}"),
        };
        let path = two.display().to_string();
        assert_eq!(only(&path), two);
        assert_eq!(only("latest"), three);
        assert_eq!(only("previous"), two);
        assert_eq!(only("20261121T0446"), two);
        assert_eq!(
            find("before").expect("label"),
            [one.clone(), three.clone()]
        );
        assert_eq!(
            find("20261121T0445,latest,latest").expect("list"),
            [one, three.clone()]
        );
        let single = |word: &str| find_single(root, Path::new(word));
        assert_eq!(single("latest").expect("latest"), three);
        assert_eq!(single(&path).expect("path"), two);
        let message = single("before").expect_err("two").to_string();
        assert!(message.contains("several runs"), "{message}");
        let message = |words| find(words).expect_err("no run").to_string();
        assert!(message("20261121T044").contains("several runs"));
        assert!(message("bef").contains("1a2b3c4d-before"));
        assert!(message("").contains("no run"));
        let directory = root.display().to_string();
        assert!(message(&directory).contains("run.json"));
    }
}
