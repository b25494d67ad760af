//! The report for a person: the verdict and what caps it, then what to do.

use harness::machine::doctor::{Finding, Report, Status, Verdict};

/// Where a line ends.
const WIDTH: usize = 96;
/// What stands in front of the details of a finding.
const INDENT: usize = 10;

/// The whole report. `all` also shows what is as it should be.
pub(super) fn text(report: &Report, suites: &[&str], all: bool) -> String {
    let mut out = head(report, suites);
    for (status, heading) in [
        (Status::Fail, "These cap what results are worth"),
        (Status::Warn, "These are worth a look"),
    ] {
        let findings: Vec<&Finding> = report.with(status).collect();
        if findings.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{heading}:\n"));
        for finding in findings {
            out.push_str(&details(finding));
        }
    }
    if all {
        out.push_str(&the_rest(report));
    }
    let count = |status| report.with(status).count();
    out.push_str(&format!(
        "\n{} fail, {} warn, {} pass, {} unknown, {} not applicable",
        count(Status::Fail),
        count(Status::Warn),
        count(Status::Pass),
        count(Status::Unknown),
        count(Status::NotApplicable),
    ));
    out.push_str(match all {
        true => "\n",
        false => "; --all shows them\n",
    });
    if report.findings.iter().any(|f| !f.writes.is_empty()) {
        out.push_str(
            "`bypass doctor --fix-script` prints what a script could set, \
             with its undo; nothing is ever set by this program.\n",
        );
    }
    out
}

/// What the verdict means to who reads it.
fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Publishable => "figures may stand for this hardware",
        Verdict::ComparisonOnly => {
            "variants may be compared with each other within a run; the \
             figures themselves say little"
        }
        Verdict::FunctionalOnly => "a run shows that things work, not how fast",
    }
}

fn head(report: &Report, suites: &[&str]) -> String {
    let verdict = report.verdict;
    let mut out = format!("{verdict} ({})\n", suites.join(", "));
    out.push_str(&wrap("", meaning(verdict), INDENT));
    let caps = report.caps();
    let (unknown, seen): (Vec<&Finding>, Vec<&Finding>) =
        caps.iter().partition(|f| f.status == Status::Unknown);
    for finding in &seen {
        let limit = match finding.caps {
            Some(caps) if caps != verdict => format!(" ({caps})"),
            _ => String::new(),
        };
        let line = format!("{}: {}{limit}", finding.id, finding.observed);
        out.push_str(&wrap("because", &line, INDENT));
    }
    if !unknown.is_empty() {
        let ids: Vec<&str> = unknown.iter().map(|f| f.id.as_str()).collect();
        out.push_str(&wrap("and", "it cannot be told:", INDENT));
        out.push_str(&wrap("", &ids.join(", "), INDENT));
    }
    out
}

/// Everything about one finding that asks for something to be done.
fn details(finding: &Finding) -> String {
    let touches = match finding.touches.as_slice() {
        [] => String::new(),
        suites => format!("  ({})", suites.join(", ")),
    };
    let mut out = format!("  {}{touches}\n", finding.id);
    for (name, value) in [
        ("is", &finding.observed),
        ("wanted", &finding.wanted),
        ("why", &finding.why),
        ("fix", &finding.fix),
    ] {
        if !value.is_empty() {
            out.push_str(&wrap(name, value, INDENT));
        }
    }
    out
}

/// What passed in a line each; what cannot be told with its reason.
fn the_rest(report: &Report) -> String {
    let mut out = String::new();
    for (status, heading) in [
        (Status::Unknown, "Cannot be told"),
        (Status::Pass, "As it should be"),
        (Status::NotApplicable, "Does not apply"),
    ] {
        let findings: Vec<&Finding> = report.with(status).collect();
        if findings.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{heading}:\n"));
        let width = findings.iter().map(|f| f.id.len()).max().unwrap_or(0);
        for finding in findings {
            let fix = match finding.fix.as_str() {
                "" => String::new(),
                fix => format!(": {fix}"),
            };
            let told = format!("{}{fix}", finding.observed);
            let id = format!("  {:width$}", finding.id);
            out.push_str(&hang(&id, &told, width + 4));
        }
    }
    out
}

/// A named value, indented below the id it belongs to.
fn wrap(name: &str, value: &str, indent: usize) -> String {
    hang(&format!("  {name:>7}"), value, indent)
}

/// `head`, then the words, those of later lines below the first.
fn hang(head: &str, words: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut line = format!("{head:indent$}");
    let mut is_empty = true;
    // A file may hold anything; only its text goes to the terminal.
    let words: String =
        words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for word in words.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if length > WIDTH && !is_empty {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_hang_below_their_first_word() {
        let out = wrap("why", &"word ".repeat(40), INDENT);
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() > 2, "{out}");
        assert!(lines[0].starts_with("      why word"), "{out}");
        assert!(lines[1].starts_with("          word"), "{out}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{out}");
    }

    #[test]
    fn what_a_file_holds_cannot_move_the_cursor() {
        let out = wrap("is", "a\u{1b}[2Jb\rc\nd", INDENT);
        assert_eq!(out.lines().count(), 1);
        assert!(!out.trim_end().contains(char::is_control), "{out:?}");
    }
}
