//! A tree of small text files as one text that a person can read and diff.
//!
//! ```text
//! Lines before the first header are a comment.
//! === sys/devices/system/cpu/cpu{0-3}/cpufreq/scaling_governor
//! performance
//! === sys/class/net/eth0 -> ../../devices/virtual/net/eth0
//! === sys/class/hwmon/
//! ```
//!
//! A header names a file, whose text follows up to the next header; or a
//! symbolic link; or, with `/` at its end, an empty directory. Numbers in
//! braces stand for one file each, all with the same text. A line of a file
//! that looks like a header has a `\` before it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Component, Path},
};

use crate::machine::cpu_set::{Cpu, CpuSet};

const HEADER: &str = "=== ";
const ARROW: &str = " -> ";

/// So many entries are more than the largest machine has; braces in a text
/// from a stranger could stand for billions.
const ENTRIES_MAX: usize = 200_000;

/// The largest number that goes into braces, that of [`CpuSet`].
const NUMBER_MAX: u32 = 65_535;

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A file with this text.
    File(String),
    /// A symbolic link with this relative target.
    Link(String),
    /// A directory without anything in it.
    Directory,
}

/// A text that is no archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A header is not understood.
    #[error("line {line}: `{header}`: {problem}")]
    Header {
        /// Its line, counted from 1.
        line: usize,
        /// The whole header.
        header: String,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
}

/// Files, links and empty directories by their path below a root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Paths have neither a leading `/` nor `..` in them.
    entries: BTreeMap<String, Entry>,
    /// What stands before the first header.
    comment: String,
}

impl Archive {
    /// An archive of nothing, with a comment that says what it is of.
    pub fn new(comment: impl Into<String>) -> Self {
        Self { entries: BTreeMap::new(), comment: comment.into() }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// When a header is wrong; nothing that leads out of the root is taken.
    pub fn parse(text: &str) -> Result<Self, ArchiveError> {
        let mut archive = Self::default();
        let mut open: Vec<String> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some(header) = line.strip_prefix(HEADER) else {
                archive.append(&open, line);
                continue;
            };
            let problem = |problem| ArchiveError::Header {
                line: number + 1,
                header: line.to_owned(),
                problem,
            };
            let (paths, entry) = parse_header(header).map_err(problem)?;
            for path in &paths {
                if archive.insert(path.clone(), entry.clone()).is_some() {
                    return Err(problem("this path was there before"));
                }
            }
            if archive.entries.len() > ENTRIES_MAX {
                return Err(problem("too many files"));
            }
            open = match entry {
                Entry::File(_) => paths,
                _ => Vec::new(),
            };
        }
        archive.check_links()?;
        Ok(archive)
    }

    fn append(&mut self, open: &[String], line: &str) {
        let line = match line.strip_prefix('\\') {
            Some(rest) if rest.trim_start_matches('\\').starts_with(HEADER) => {
                rest
            }
            _ => line,
        };
        if self.entries.is_empty() {
            self.comment += line;
            self.comment.push('\n');
        }
        for path in open {
            if let Some(Entry::File(text)) = self.entries.get_mut(path) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }

    /// What lies below a link would be written to wherever the link leads.
    fn check_links(&self) -> Result<(), ArchiveError> {
        for path in self.entries.keys() {
            for (at, _) in path.match_indices('/') {
                if matches!(self.entries.get(&path[..at]), Some(Entry::Link(_)))
                {
                    return Err(ArchiveError::Header {
                        line: 0,
                        header: format!("{HEADER}{path}"),
                        problem: "it lies below a link; name its real place",
                    });
                }
            }
        }
        Ok(())
    }

    /// Adds an entry; returns what was there before. A text gets the line
    /// break at its end that the form has anyway.
    pub fn insert(&mut self, path: String, mut entry: Entry) -> Option<Entry> {
        if let Entry::File(text) = &mut entry
            && !text.is_empty()
            && !text.ends_with('\n')
        {
            text.push('\n');
        }
        self.entries.insert(path, entry)
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// All entries in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Keeps the entries that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Entry) -> bool) {
        self.entries.retain(|path, entry| keep(path, entry));
    }

    /// The text form.
    pub fn text(&self) -> String {
        let mut out = self.comment.clone();
        for (path, entry) in folded(&self.entries) {
            out += HEADER;
            out += &path;
            match entry {
                Entry::Directory => out += "/\n",
                Entry::Link(target) => {
                    out += ARROW;
                    out += target;
                    out.push('\n');
                }
                Entry::File(text) => {
                    out.push('\n');
                    for line in text.lines() {
                        if line.trim_start_matches('\\').starts_with(HEADER) {
                            out.push('\\');
                        }
                        out += line;
                        out.push('\n');
                    }
                }
            }
        }
        out
    }

    /// Writes the tree into an empty directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unpack(&self, directory: &Path) -> io::Result<()> {
        for (path, entry) in &self.entries {
            let full = directory.join(path);
            let parent = full.parent().unwrap_or(directory);
            fs::create_dir_all(parent)?;
            match entry {
                Entry::File(text) => fs::write(full, text)?,
                Entry::Link(target) => symlink(target, full)?,
                Entry::Directory => fs::create_dir_all(full)?,
            }
        }
        Ok(())
    }
}

type Header = (Vec<String>, Entry);

fn parse_header(header: &str) -> Result<Header, &'static str> {
    let (path, entry) = match header.split_once(ARROW) {
        Some((path, target)) => (path, Entry::Link(target.to_owned())),
        None => match header.strip_suffix('/') {
            Some(path) => (path, Entry::Directory),
            None => (header, Entry::File(String::new())),
        },
    };
    let is_plain = |path: &str| {
        !path.is_empty()
            && Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
    };
    let paths = expand(path)?;
    if !paths.iter().all(|path| is_plain(path)) {
        return Err("write a path below the root, without `..`");
    }
    if let Entry::Link(target) = &entry
        && !paths.iter().all(|path| stays_inside(path, target))
    {
        return Err("the link leads out of the root");
    }
    Ok((paths, entry))
}

/// Whether a relative target, seen from the link, stays below the root.
fn stays_inside(link: &str, target: &str) -> bool {
    let mut depth = link.matches('/').count();
    !target.is_empty()
        && Path::new(target).components().all(|part| match part {
            Component::Normal(_) => {
                depth += 1;
                true
            }
            Component::ParentDir if depth > 0 => {
                depth -= 1;
                true
            }
            Component::CurDir => true,
            _ => false,
        })
}

/// One path for each number in the braces, all combinations of several.
fn expand(path: &str) -> Result<Vec<String>, &'static str> {
    let Some((before, rest)) = path.split_once('{') else {
        return Ok(vec![path.to_owned()]);
    };
    let bad = "write numbers in braces like `{0-3,8}`";
    let (list, after) = rest.split_once('}').ok_or(bad)?;
    let numbers: CpuSet = list.parse().map_err(|_| bad)?;
    let tails = expand(after)?;
    if numbers.is_empty() || numbers.len() * tails.len() > ENTRIES_MAX {
        return Err(bad);
    }
    let join = |number: Cpu| {
        tails.iter().map(move |tail| format!("{before}{number}{tail}"))
    };
    Ok(numbers.iter().flat_map(join).collect())
}

/// A path by its components, each a name or a name that ends in numbers.
type Pattern = Vec<(String, CpuSet)>;

/// Files of the same text whose paths differ in one number become one entry
/// with braces, one path component after the other.
fn folded(entries: &BTreeMap<String, Entry>) -> Vec<(String, &Entry)> {
    let mut open: Vec<(Pattern, &Entry)> =
        entries.iter().map(|(path, entry)| (pattern(path), entry)).collect();
    let depth = open.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    for place in 0..depth {
        // What is equal but for the numbers in this place; `false` where the
        // name has none, so that `cpu` stays apart from `cpu0`.
        type Rest<'a> = (Pattern, &'a Entry, bool);
        let mut groups: BTreeMap<Rest, CpuSet> = BTreeMap::new();
        for (mut path, entry) in open {
            let is_file = matches!(entry, Entry::File(_));
            let part = path.get_mut(place).filter(|_| is_file);
            let numbers = part
                .map(|part| std::mem::take(&mut part.1))
                .unwrap_or_default();
            let has_numbers = !numbers.is_empty();
            groups
                .entry((path, entry, has_numbers))
                .or_default()
                .extend(numbers);
        }
        open = groups
            .into_iter()
            .map(|((mut path, entry, has_numbers), numbers)| {
                if has_numbers {
                    path[place].1 = numbers;
                }
                (path, entry)
            })
            .collect();
    }
    open.sort();
    open.into_iter().map(|(path, entry)| (written(&path), entry)).collect()
}

fn pattern(path: &str) -> Pattern {
    let part = |part: &str| {
        let stem = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &part[stem.len()..];
        // `007` would come back as `7`.
        let plain = digits == "0" || !digits.starts_with('0');
        match digits.parse() {
            Ok(number) if plain && number <= NUMBER_MAX => {
                (stem.to_owned(), CpuSet::from_iter([Cpu(number)]))
            }
            _ => (part.to_owned(), CpuSet::new()),
        }
    };
    path.split('/').map(part).collect()
}

fn written(path: &Pattern) -> String {
    let parts: Vec<String> = path
        .iter()
        .map(|(stem, numbers)| match numbers.len() {
            0 => stem.clone(),
            1 => format!("{stem}{numbers}"),
            _ => format!("{stem}{{{numbers}}}"),
        })
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, Entry)]) -> Archive {
        let mut archive = Archive::new("A test.\n");
        for (path, entry) in entries {
            archive.insert((*path).to_owned(), entry.clone());
        }
        archive
    }

    fn file(text: &str) -> Entry {
        Entry::File(text.to_owned())
    }

    #[test]
    fn text_and_back() {
        let all = archive(&[
            ("proc/empty", file("")),
            ("proc/blank", file("\n\n")),
            ("proc/odd", file("=== x\n\\=== y\n\\z\nend\n")),
            ("sys/class/none", Entry::Directory),
            ("sys/class/net/eth0", Entry::Link("../../devices/eth0".into())),
            ("sys/cpu0/a", file("1\n")),
            ("sys/cpu1/a", file("1\n")),
            ("sys/cpu10/a", file("1\n")),
            ("sys/cpu2/a", file("2\n")),
            ("sys/cpu007/a", file("1\n")),
        ]);
        let text = all.text();
        assert_eq!(Archive::parse(&text).expect(&text), all);
    }

    #[test]
    fn equal_files_of_numbered_directories_become_one() {
        let mut all = archive(&[("sys/cpu/x", file("1\n"))]);
        for cpu in 0..4 {
            for index in 0..2 {
                let path = format!("sys/cpu{cpu}/cache/index{index}/size");
                all.insert(path, file("48K\n"));
            }
        }
        assert_eq!(
            all.text(),
            "A test.\n=== sys/cpu/x\n1\n\
             === sys/cpu{0-3}/cache/index{0-1}/size\n48K\n"
        );
        assert_eq!(Archive::parse(&all.text()).expect("good"), all);
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for bad in [
            "=== ../x",
            "=== /etc/passwd",
            "=== a/../../x",
            "=== ",
            "=== a -> /etc",
            "=== a/b -> ../../etc",
            "=== a -> ",
            "=== a -> b\n=== a/c\ntext",
            "=== a{0-3",
            "=== a{x}",
            "=== a{}",
            "=== a{0-99999999}",
            "=== a\n=== a",
        ] {
            assert!(Archive::parse(bad).is_err(), "{bad}");
        }
    }
}
