//! A bar on a terminal, and nothing but text elsewhere.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

/// As few blocks as a verdict may have.
const SIX_BLOCKS: [&str; 2] = ["--blocks", "6"];

/// A short run; its table goes nowhere.
fn run(root: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bypass"));
    command
        .args(["run", "ipc/ping-pong/futex", "op_bytes=8"])
        .args(["--window", "20ms", "--warmup", "20ms"])
        .args(more)
        .arg("--results")
        .arg(root.join("results"))
        // What an earlier run of this user left would be told of.
        .env("XDG_STATE_HOME", root.join("state"))
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("bypass progress ")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory")
}

/// Whether the machine has the two CPUs that the run needs.
fn can_run() -> bool {
    let enough =
        std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !enough {
        eprintln!("SKIPPED: needs 2 CPUs");
    }
    enough
}

/// A terminal of 100 columns: our end, and the program's.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size =
        libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors and the size outlive the call, which fills the
    // first two and only reads the last; null asks for no name and the
    // default settings (openpty(3)).
    let result = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty has just opened both and nobody else knows of them.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// All that a command says on a terminal as its standard error.
fn on_terminal(mut command: Command) -> String {
    let (mut ours, theirs) = terminal();
    assert!(theirs.as_raw_fd() > 2);
    command.stderr(Stdio::from(theirs));
    let mut child = command.spawn().expect("bypass");
    // The command holds the program's end open; without it reading ends.
    drop(command);
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    // The last one to close a terminal leaves EIO for its other end.
    while let Ok(n) = ours.read(&mut buffer) {
        if n == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..n]);
    }
    child.wait().expect("wait");
    String::from_utf8_lossy(&said).into_owned()
}

fn elsewhere(mut command: Command) -> String {
    let output = command.stderr(Stdio::piped()).output().expect("bypass");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bar_with_the_time_left_is_drawn_on_a_terminal() {
    let directory = scratch();
    if !can_run() {
        return;
    }
    let said = on_terminal(run(directory.path(), &SIX_BLOCKS));
    assert!(said.contains('\x1b'), "{said:?}");
    assert!(said.contains(" %  "), "{said:?}");
    assert!(said.contains(" left  "), "{said:?}");
    assert!(said.contains('█'), "{said:?}");
    // Cursor movements only: no colour that NO_COLOR could forbid.
    let colours = said.split("\x1b[").skip(1).any(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .starts_with('m')
    });
    assert!(!colours, "{said:?}");
}

#[test]
fn elsewhere_there_is_one_plain_line_a_block() {
    let directory = scratch();
    if !can_run() {
        return;
    }
    let said = elsewhere(run(directory.path(), &SIX_BLOCKS));
    assert!(!said.contains('\x1b'), "{said:?}");
    let blocks: Vec<&str> =
        said.lines().filter(|line| line.contains(" block ")).collect();
    assert!(blocks.len() >= 6, "{said}");
    for line in blocks {
        assert!(line.starts_with('['), "{line}");
        assert!(line.contains(" left] ipc/ping-pong"), "{line}");
    }
}

#[test]
fn the_form_can_be_chosen() {
    if !can_run() {
        return;
    }
    let directory = scratch();
    let plain = run(directory.path(), &["--smoke", "--progress", "plain"]);
    let said = on_terminal(plain);
    assert!(said.contains(" block "), "{said:?}");
    assert!(!said.contains('\x1b'), "{said:?}");
    let json = [&SIX_BLOCKS[..], &["--progress", "json"]].concat();
    let said = elsewhere(run(directory.path(), &json));
    let blocks = said
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect(line)
        })
        .filter(|value| value["event"] == "block")
        .count();
    assert!(blocks >= 6, "{said}");
    let none = run(directory.path(), &["--smoke", "--progress", "none"]);
    assert_eq!(elsewhere(none), "");
}
