//! `docs/doctor.md`: the list of all checks, held to the code by this test.

use std::{fs, path::Path};

use harness::run::doctor;

const HEAD: &str = "# The doctor's checks

Generated from the checks themselves; after a change of theirs, renew it with
`UPDATE_DOCS=1 cargo test -p bypass doctor`.

`bypass doctor` reads settings of the machine and judges them. It measures
nothing, writes nothing and runs nothing: a fix is text. Each run does the same
and keeps the findings that touch its suites in `run.json`.

| status | meaning |
|---|---|
| fail | not as wanted, and results are worth less: it caps the verdict |
| warn | not as wanted, and a reader should know |
| unknown | a file is missing, refuses, or makes no sense; never taken for a pass |
| pass | as wanted |
| not applicable | the machine proves that the question does not arise |

| verdict | what a run here is good for |
|---|---|
| publishable | figures may stand for this hardware |
| comparison only | variants of one run may be compared; the figures are of this place and hour |
| functional only | it shows that things work |

The verdict is the worst that any check caps it at. A check with a cap that is
`unknown` caps at *comparison only*: a figure to publish needs a machine that
shows its settings; a comparison within one run does not. A check without a cap
warns at worst.

A virtual machine hides what its host decides (frequency, boost, sleep states,
temperature). Where a hypervisor is known to be below and the files are
missing, the check is `unknown` and says that the host decides.

`bypass doctor --fix-script` prints a shell script with `apply` and `undo`; the
undo holds the values that were read when it was printed. What an undo could
not put back (SMT, a device's scheduler with its settings) is left to a person.
";

const TAIL: &str = "
## Showing others what the doctor saw
`bypass doctor --capture FILE` writes the files that the checks and the readers
of `harness/core/src/machine` look at into one text, and nothing else. `FILE`
must not exist yet. Host name, machine-id, serial numbers, hardware and IP
addresses, UUIDs, names of users, processes and control groups, names that
people gave interfaces and power supplies, mount sources and unknown parts of the kernel's command line are left out or replaced, the
same name by the same word. Read it before you show it all the same.

```
=== sys/devices/system/cpu/cpu{0-3}/cpufreq/scaling_governor
performance
=== sys/class/net/eth0 -> ../../devices/virtual/net/eth0
=== sys/class/power_supply/
```

A header names a file (numbers in braces: several with the same text), a link,
or an empty directory.

## Adding a machine to the tests
The fixtures in `harness/core/tests/fixtures/doctor` have the same form. To add
one: put the capture there as `NAME.tree` with a comment at its top that says
what it is, add the name to `MACHINES` in `harness/cli/tests/doctor_support` and
to `harness/cli/tests/doctor_mutation.rs`, run

```
UPDATE_FIXTURES=1 cargo test -p bypass --test doctor_fixtures
```

and read `NAME.expected`: one line for each check. A check that reads a file
which no capture takes yet needs a line in `machine/capture/files.rs`; the
fixture that holds the file makes the test say so.
";

fn page() -> String {
    let listed = doctor::checks(crate::SUITES);
    let mut page = HEAD.to_owned();
    page.push_str(&format!("\n## All {} checks\n\n", listed.len()));
    page.push_str("| id | what is looked at | wanted | why | caps at | touches | source |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for one in &listed {
        let check = &one.check;
        let caps = check.limit.map_or(String::new(), |limit| limit.to_string());
        let touches = match one.touches.as_slice() {
            [] => "all".to_owned(),
            suites => suites.join(", "),
        };
        page.push_str(&format!(
            "| `{}` | {} | {} | {} | {caps} | {touches} | {} |\n",
            check.id, check.about, check.wanted, check.why, check.source
        ));
    }
    page.push_str(TAIL);
    page
}

#[test]
fn the_page_lists_the_checks_as_they_are() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).expect("write docs/doctor.md");
    }
    let found = fs::read_to_string(&path).expect("docs/doctor.md");
    assert!(
        found == page(),
        "docs/doctor.md is stale: UPDATE_DOCS=1 cargo test -p bypass doctor"
    );
}

#[test]
fn every_check_is_complete_and_named_once() {
    let listed = doctor::checks(crate::SUITES);
    let mut ids: Vec<&str> = listed.iter().map(|one| one.check.id).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "two checks have one id");
    assert!(count >= 100, "{count} checks");
    for one in &listed {
        let check = &one.check;
        let good = |text: &str| {
            !text.is_empty() && !text.contains('\n') && !text.contains('|')
        };
        assert!(check.id.contains('.'), "{}", check.id);
        for text in
            [check.about, check.why, check.wanted, check.fix, check.source]
        {
            assert!(good(text), "{}: `{text}`", check.id);
        }
    }
}
