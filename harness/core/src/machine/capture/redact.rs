//! Takes out of files what names the machine, its owner or its neighbours.
//!
//! Two ways, one behind the other: files with free text in them (mount table,
//! control groups, command line) keep only words known to be harmless; then
//! everything passes a scan for addresses and identifiers by their form. The
//! same name always gets the same replacement, and what is redacted stays as
//! it is when it is redacted again. Names that people choose for interfaces
//! and power supplies have no form and are looked for by their place.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use super::known;
use crate::machine::{environment::performance_parameters, root::Root};

/// The shortest run of hexadecimal digits that is an identifier (a WWN has
/// 16, a container 64) rather than a mask.
const IDENTIFIER_DIGITS: usize = 16;

/// Addresses set aside for documentation (RFC 5737, RFC 3849), and what stands
/// for other identifiers.
const MAC: &str = "02:00:00:00:00:";
const IPV4: &str = "192.0.2.";
const IPV6: &str = "2001:db8::";
const UUID: &str = "00000000-0000-0000-0000-";

/// Remembers which name got which replacement.
#[derive(Debug)]
pub(super) struct Redactor {
    host: Option<String>,
    /// Names of interfaces that are not the kernel's or systemd's.
    interfaces: Vec<String>,
    replacements: BTreeMap<String, String>,
}

impl Redactor {
    pub(super) fn new(root: &Root) -> Self {
        let host = root
            .read_word("proc/sys/kernel/hostname")
            // `vm` and `cpu` are words that files need.
            .filter(|host| host.len() > 3 && !known::is_path_part(host));
        let mut interfaces = root.entries("sys/class/net");
        interfaces.retain(|name| !known::is_interface(name));
        Self { host, interfaces, replacements: BTreeMap::new() }
    }

    /// A file's text without what names anything.
    pub(super) fn content(&mut self, path: &str, text: &str) -> String {
        let name = path.rsplit('/').next().unwrap_or(path);
        let text = match (path, name) {
            ("proc/cmdline", _) => match performance_parameters(text) {
                // An empty file would count as one that cannot be read.
                none if none.is_empty() && !text.is_empty() => "quiet".into(),
                some => some,
            },
            ("proc/cpuinfo", _) => thinned(text),
            // Long, or telling names; only that it is there counts.
            ("proc/lockdep" | "run/.containerenv" | ".dockerenv", _) => {
                String::new()
            }
            ("proc/interrupts", _) => self.lines(text, Self::interrupt_line),
            ("proc/stat", _) => cut_intr(text),
            ("proc/1/environ", _) => container_of(text),
            ("proc/self/mountinfo", _) => self.lines(text, Self::mount_line),
            ("proc/self/cgroup" | "proc/1/cgroup", _) => {
                self.lines(text, |this, line| {
                    // The path may hold colons itself; cgroups(7).
                    let mut fields = line.splitn(3, ':');
                    match (fields.next(), fields.next(), fields.next()) {
                        (Some(id), Some(kinds), Some(path)) => {
                            format!("{id}:{kinds}:{}", this.path(path))
                        }
                        _ => this.path(line),
                    }
                })
            }
            ("proc/swaps", _) => self.lines(text, Self::first_path),
            ("proc/self/status", _) => kept(text, known::is_status),
            // That of the supply, with other signs between its words.
            (_, "name") if path.contains("/power_supply/") => "supply".into(),
            (_, "backing_file") => self.path(text.trim()),
            (_, "comm") if !known::is_process(text.trim()) => "x".to_owned(),
            _ if path.starts_with("boot/") => kept(text, known::is_config),
            _ => text.to_owned(),
        };
        if has_versions(path, name) { text } else { self.scrub(&text) }
    }

    /// The path of a file as it may be shown.
    pub(super) fn path_of(&mut self, path: &str) -> String {
        match path.starts_with("sys/fs/cgroup/") {
            true => {
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                let shown = format!("{}/{name}", self.path(dir));
                self.scrub(&shown)
            }
            false => {
                let shown = self.places(path);
                self.scrub(&shown)
            }
        }
    }

    /// A path without the names of interfaces and power supplies.
    fn places(&mut self, path: &str) -> String {
        let mut class = "";
        let mut parts = Vec::new();
        for part in path.split('/') {
            parts.push(match class {
                // `/proc/sys/net` has settings, not interfaces.
                "net" if !path.starts_with("proc/") => self.interface(part),
                "power_supply" if !known::is_power_supply(part) => {
                    self.replacement(part, "supply", "")
                }
                _ => part.to_owned(),
            });
            class = part;
        }
        parts.join("/")
    }

    fn interface(&mut self, name: &str) -> String {
        match self.interfaces.iter().any(|other| other == name) {
            true => self.replacement(name, "x", ""),
            false => name.to_owned(),
        }
    }

    /// Drivers name an interrupt `lan0`, `lan0-TxRx-1` or `i40e-lan0-TxRx-1`.
    fn interrupt_line(&mut self, line: &str) -> String {
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut line = line.to_owned();
        for name in self.interfaces.clone() {
            let mut from = 0;
            while let Some(at) = line[from..].find(&name) {
                let (start, end) = (from + at, from + at + name.len());
                let stands_alone = !line[..start].ends_with(in_name)
                    && !line[end..].starts_with(in_name);
                from = end;
                if stands_alone {
                    let new = self.replacement(&name, "x", "");
                    line.replace_range(start..end, &new);
                    from = start + new.len();
                }
            }
        }
        line
    }

    fn lines(
        &mut self,
        text: &str,
        change: impl Fn(&mut Self, &str) -> String,
    ) -> String {
        let changed = text.lines().map(|line| change(self, line) + "\n");
        changed.collect()
    }

    /// See proc_pid_mountinfo(5).
    fn mount_line(&mut self, line: &str) -> String {
        let mut fields: Vec<String> =
            line.split(' ').map(str::to_owned).collect();
        let Some(dash) = fields.iter().position(|field| field == "-") else {
            return String::new();
        };
        if dash < 6 || fields.len() != dash + 4 {
            return String::new();
        }
        let kind = fields[dash + 1].clone();
        let source = &fields[dash + 2];
        let plain = [kind.as_str(), "none", "systemd-1", "udev"];
        fields[dash + 2] = match plain.contains(&source.as_str()) {
            true => source.clone(),
            false => self.path(&source.clone()),
        };
        for place in [3, 4] {
            let field = fields[place].clone();
            fields[place] = self.path(&field);
        }
        for place in [5, dash + 3] {
            fields[place] = options(&fields[place]);
        }
        fields.join(" ")
    }

    fn first_path(&mut self, line: &str) -> String {
        match line.split_once(char::is_whitespace) {
            Some((path, rest)) if path.starts_with('/') => {
                format!("{}\t{}", self.path(path), rest.trim_start())
            }
            _ => line.to_owned(),
        }
    }

    /// A path of which only the known parts are kept.
    fn path(&mut self, path: &str) -> String {
        let parts: Vec<String> = path
            .split('/')
            .map(|part| match known::is_path_part(part) {
                true => part.to_owned(),
                false => {
                    let kind = known::container(part).unwrap_or("x");
                    self.replacement(part, kind, "")
                }
            })
            .collect();
        parts.join("/")
    }

    /// `start` and a number, always the same for the same name.
    fn replacement(&mut self, name: &str, start: &str, pad: &str) -> String {
        if let Some(known) = self.replacements.get(name) {
            return known.clone();
        }
        let next = self.replacements.len() + 1;
        let rest = name.strip_prefix(start).map(|rest| rest.trim_matches('-'));
        let is_redacted = rest.is_some_and(|rest| {
            rest.len() <= pad.len().max(4)
                && rest.bytes().all(|byte| byte.is_ascii_digit())
        });
        let new = if is_redacted {
            name.to_owned()
        } else if pad.is_empty() {
            let dash = if start == "x" { "" } else { "-" };
            format!("{start}{dash}{next}")
        } else {
            format!("{start}{next:0width$}", width = pad.len())
        };
        self.replacements.insert(name.to_owned(), new.clone());
        new
    }

    /// Replaces addresses, identifiers and the host's name by their form.
    pub(super) fn scrub(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let part = |c: char| c.is_ascii_alphanumeric() || ":.-".contains(c);
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let (token, tail) = rest.split_at(end);
            out += &self.token(token);
            let gap = tail.find(part).unwrap_or(tail.len());
            out += &tail[..gap];
            rest = &tail[gap..];
        }
        out
    }

    fn token(&mut self, token: &str) -> String {
        let core = token.trim_matches([':', '.', '-']);
        if core.is_empty() {
            return token.to_owned();
        }
        if let Some(new) = self.address(core) {
            return token.replacen(core, &new, 1);
        }
        if let Some((found, kind, pad)) = glued(token) {
            let new = self.replacement(&token[found.clone()], kind, pad);
            let before = self.token(&token[..found.start]);
            return before + &new + &self.token(&token[found.end..]);
        }
        let mut out = String::new();
        for word in token.split_inclusive([':', '.', '-']) {
            let bare = word.trim_end_matches([':', '.', '-']);
            out += &self.identifier(bare);
            out += &word[bare.len()..];
        }
        out
    }

    fn address(&mut self, word: &str) -> Option<String> {
        if self.host.as_deref() == Some(word) {
            return Some("host".to_owned());
        }
        let port = word.parse::<SocketAddr>().map(|socket| socket.ip());
        match word.parse::<IpAddr>().or(port).ok()? {
            IpAddr::V4(_) => Some(self.replacement(word, IPV4, "0")),
            IpAddr::V6(_) => Some(self.replacement(word, IPV6, "0")),
        }
    }

    /// Long hexadecimal numbers, bare or as part of a name (`enx` and a
    /// hardware address without colons).
    fn identifier(&mut self, word: &str) -> String {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let has = |test: fn(&u8) -> bool| digits.bytes().any(|b| test(&b));
        let is_long = digits.len() >= IDENTIFIER_DIGITS
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic);
        if is_long {
            return self.replacement(word, "hex", "000");
        }
        // systemd.net-naming-scheme(7): a kind of link, and `x` for a
        // hardware address.
        for kind in ["enx", "wlx", "wwx"] {
            let mac = word.strip_prefix(kind).unwrap_or_default();
            if mac.len() == 12 && is_hex(mac) {
                return self.replacement(word, kind, "0");
            }
        }
        word.to_owned()
    }
}

fn is_hex(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The first hardware address or UUID within a word, whatever is glued to it
/// (`hid-04:0c:ce:e2:1a:4b-battery`), and what stands for such a one.
fn glued(token: &str) -> Option<(Range<usize>, &'static str, &'static str)> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for word in token.split_inclusive([':', '.', '-']) {
        let start = words.last().map_or(0, |last| last.end + 1);
        let bare = word.strip_suffix([':', '.', '-']).unwrap_or(word);
        words.push(start..start + bare.len());
    }
    for (index, first) in words.iter().enumerate() {
        for sign in [":", "-"] {
            let joined = |word: &&Range<usize>| {
                is_hex(&token[(*word).clone()])
                    && (word.start == first.start
                        || token[..word.start].ends_with(sign))
            };
            let run: Vec<&Range<usize>> =
                words[index..].iter().take_while(joined).collect();
            let pairs = run.iter().take_while(|word| word.len() == 2).count();
            if pairs >= 6 {
                return Some((first.start..run[pairs - 1].end, MAC, "00"));
            }
            let lengths = run.iter().map(|word| word.len());
            if sign == "-" && lengths.take(5).eq([8, 4, 4, 4, 12]) {
                return Some((first.start..run[4].end, UUID, "000000000000"));
            }
        }
    }
    None
}

/// Files without names whose versions look like addresses (`22.36.10.10`),
/// or capabilities like identifiers.
fn has_versions(path: &str, name: &str) -> bool {
    let texts = [
        "etc/os-release",
        "proc/self/status",
        "proc/sys/kernel/osrelease",
        "proc/sys/kernel/version",
    ];
    texts.contains(&path)
        || name.starts_with("firmware")
        || name.starts_with("bios_")
}

/// Mount options; a value is shown where it can hold no name.
fn options(list: &str) -> String {
    let shown: Vec<&str> = list
        .split(',')
        .map(|option| match option.split_once('=') {
            Some((name, _)) if !known::is_mount_option(name) => name,
            _ => option,
        })
        .collect();
    shown.join(",")
}

fn kept(text: &str, keep: fn(&str) -> bool) -> String {
    let lines = text.lines().filter(|line| keep(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Without the flags of all CPUs but the first: 2 KB each, the same each time.
fn thinned(cpuinfo: &str) -> String {
    let long = ["flags", "vmx flags", "bugs", "Features"];
    let mut seen: Vec<&str> = Vec::new();
    let mut out = String::new();
    for line in cpuinfo.lines() {
        let key = line.split(':').next().unwrap_or_default().trim();
        if key == "Serial" || seen.contains(&key) {
            continue;
        }
        if long.contains(&key) {
            seen.push(key);
        }
        out += line;
        out.push('\n');
    }
    out
}

/// Thousands of numbers of which `/proc/interrupts` has the interesting ones.
fn cut_intr(stat: &str) -> String {
    let cut = |line: &str| match line.strip_prefix("intr ") {
        Some(rest) => {
            format!("intr {}\n", rest.split(' ').next().unwrap_or_default())
        }
        None => format!("{line}\n"),
    };
    stat.lines().map(cut).collect()
}

/// Of the environment of the first process only what names a container.
fn container_of(environ: &str) -> String {
    let mut words = environ.split('\0').map(str::trim);
    let word = words.find(|word| word.starts_with("container="));
    word.unwrap_or_default().to_owned()
}
