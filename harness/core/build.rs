//! Tells the program which compiler and commit it was built from; both go
//! into `run.json`.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output(&rustc, &["--version"]).unwrap_or_default();
    println!("cargo::rustc-env=BYPASS_RUSTC={version}");
    if let Some(commit) = output("git", &["rev-parse", "HEAD"]) {
        println!("cargo::rustc-env=BYPASS_GIT_COMMIT={commit}");
        let changes = output("git", &["status", "--porcelain"]);
        let dirty = u8::from(changes.is_some_and(|c| !c.is_empty()));
        println!("cargo::rustc-env=BYPASS_GIT_DIRTY={dirty}");
    }
    // A commit moves the log of HEAD, an edit its source file; without git (a
    // source archive) there is nothing to watch.
    let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    let sources = ["../../harness", "../../bench-storage", "../../bench-net"];
    let watched = sources.map(str::to_owned).into_iter().chain(log);
    for path in watched.chain(["../../bench-ipc".to_owned()]) {
        if std::path::Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// What a command printed, if it could be run and went well.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
