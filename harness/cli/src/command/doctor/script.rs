//! The fix as a shell script to read, with its undo. Printed, never run.

use harness::machine::doctor::{Finding, Report, Status, Write};

const HEAD: &str = "#!/bin/sh
# What `bypass doctor` would have set on this machine, and how to put it back.
# Read it first. It changes nothing unless called with `apply` or `undo`, as
# root; what it sets is lost at the next boot anyway. The undo restores the
# values that were read when this script was printed.

put() {
    if printf '%s\\n' \"$2\" >\"$1\"; then
        printf 'set %s to %s\\n' \"$1\" \"$2\"
    else
        printf 'could not set %s to %s\\n' \"$1\" \"$2\" >&2
        failed=1
    fi
}
failed=0
";

const TAIL: &str = "
case \"${1-}\" in
apply) apply ;;
undo) undo ;;
*)
    printf 'usage: %s apply|undo\\n' \"$0\" >&2
    exit 2
    ;;
esac
exit \"$failed\"
";

/// The script for POSIX `sh`.
pub(super) fn text(report: &Report) -> String {
    let wrong: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|f| matches!(f.status, Status::Fail | Status::Warn))
        .collect();
    let mut out = HEAD.to_owned();
    out.push_str("\napply() {\n    :\n");
    for finding in wrong.iter().filter(|f| !f.writes.is_empty()) {
        out.push_str(&comment(&format!(
            "{} is {}, wanted {}",
            finding.id, finding.observed, finding.wanted
        )));
        for write in &finding.writes {
            out.push_str(&put(&write.path, &write.value));
        }
    }
    out.push_str("}\n\nundo() {\n    :\n");
    let writes: Vec<&Write> = wrong.iter().flat_map(|f| &f.writes).collect();
    for write in writes.iter().rev() {
        out.push_str(&put(&write.path, &write.was));
    }
    out.push_str("}\n");
    let by_hand: Vec<&&Finding> =
        wrong.iter().filter(|f| f.writes.is_empty()).collect();
    if !by_hand.is_empty() {
        out.push_str("\n# Not for a script:\n");
        for finding in by_hand {
            let line = format!(
                "# {} is {}: {}",
                finding.id, finding.observed, finding.fix
            );
            out.push_str(&one_line(&line));
            out.push('\n');
        }
    }
    out.push_str(TAIL);
    out
}

fn comment(text: &str) -> String {
    format!("    # {}\n", one_line(text))
}

fn put(path: &str, value: &str) -> String {
    format!("    put {} {}\n", quoted(path), quoted(value))
}

/// A comment must not end before its text does, whatever a file held.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As one word of a POSIX shell, whatever it holds: nothing is special
/// between single quotes but the quote itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use harness::machine::doctor::Verdict;

    use super::*;

    fn finding(observed: &str, writes: Vec<Write>) -> Finding {
        Finding {
            id: "cpu.governor".into(),
            status: Status::Fail,
            observed: observed.into(),
            wanted: "performance".into(),
            why: String::new(),
            fix: "by hand".into(),
            writes,
            source: String::new(),
            touches: Vec::new(),
            caps: Some(Verdict::ComparisonOnly),
        }
    }

    /// Runs it on files of ours.
    #[test]
    fn apply_sets_and_undo_puts_back_whatever_the_files_hold() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let canary = dir.path().join("canary");
        let nasty = format!("x'; touch {}; '$(id)`id`\"", canary.display());
        let odd = dir.path().join("it's $HOME; a file");
        fs::write(&odd, &nasty).expect("write");
        let write = Write {
            path: odd.display().to_string(),
            value: "performance".into(),
            was: nasty.clone(),
        };
        let observed = format!("two\ntouch {}\nlines", canary.display());
        let report = Report::new(vec![
            finding(&observed, vec![write]),
            finding(&observed, Vec::new()),
        ]);
        let script = dir.path().join("fix.sh");
        fs::write(&script, text(&report)).expect("write");
        let run = |argument: &str| {
            let status = Command::new("sh").arg(&script).arg(argument).status();
            status.expect("sh").code()
        };
        let holds = || fs::read_to_string(&odd).expect("read");
        assert_eq!(run("look"), Some(2));
        assert_eq!(holds(), nasty, "without a word it changes nothing");
        assert_eq!(run("apply"), Some(0));
        assert_eq!(holds(), "performance\n");
        assert_eq!(run("undo"), Some(0));
        assert_eq!(holds(), format!("{nasty}\n"));
        assert!(!canary.exists(), "a value was run as a command");
        fs::remove_file(&odd).expect("remove");
        fs::create_dir(&odd).expect("a directory in its place");
        assert_eq!(run("apply"), Some(1), "a failure shows");
    }
}
