//! The runner's side of a trial: starts a worker, waits with a deadline, and
//! turns whatever happens into a reply or a reason.

use std::{
    io::{Read, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{
    interrupt::Interrupts,
    worker::{WORKER_WORD, die_with_parent},
};
use crate::measure::trial::{Reply, TrialSpec};

/// A reply holds some hundred kilobytes; more is nonsense.
const REPLY_LIMIT_BYTES: u64 = 64 << 20;

/// What is kept of a worker's standard error for the reason.
const STDERR_LIMIT_BYTES: u64 = 4 << 10;

/// How often a second Ctrl-C is looked for.
const POLL: Duration = Duration::from_millis(50);
/// How long the last words of a worker that has replied are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of a worker.
#[derive(Debug)]
pub enum Ending {
    /// It replied.
    Replied {
        /// Its process id.
        pid: u32,
        /// What it said.
        reply: Reply,
    },
    /// It did not, for this reason.
    Failed {
        /// Its process id, if it could be started.
        pid: Option<u32>,
        /// What happened, in one line.
        reason: String,
    },
    /// The person wants to stop now.
    Interrupted,
}

/// Runs one trial in a fresh process, which has hung if it takes longer than
/// warm-up, window and this grace.
pub fn run(
    spec: &TrialSpec,
    grace: Duration,
    interrupts: &Interrupts,
) -> Ending {
    let mut child = match start() {
        Ok(child) => child,
        Err(error) => {
            return Ending::Failed {
                pid: None,
                reason: format!("cannot start a worker: {}", why(&error)),
            };
        }
    };
    let pid = child.id();
    let deadline =
        grace + Duration::from_nanos(spec.warmup_ns + spec.window_ns);
    let ending = converse(&mut child, spec, deadline, interrupts);
    // Whatever happened, the worker does not outlive its trial.
    let _ = child.kill();
    let status = child.wait();
    match ending {
        Ok(text) => judge(pid, &text, status),
        Err(Stop::Interrupted) => Ending::Interrupted,
        Err(Stop::TimedOut) => Ending::Failed {
            pid: Some(pid),
            reason: format!(
                "worker hung: no reply after {} s, killed",
                deadline.as_secs()
            ),
        },
        Err(Stop::Pipe(error)) => Ending::Failed {
            pid: Some(pid),
            reason: format!("talking to the worker: {}", why(&error)),
        },
    }
}

struct Output {
    reply: Vec<u8>,
    complaint: String,
}

enum Stop {
    Interrupted,
    TimedOut,
    Pipe(std::io::Error),
}

fn start() -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(WORKER_WORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C on the terminal is the runner's to
        // handle, the block in progress goes on.
        .process_group(0);
    let runner = std::process::id();
    // SAFETY: the closure runs between fork and exec and makes only
    // async-signal-safe system calls: prctl, getppid.
    unsafe {
        command.pre_exec(move || die_with_runner(runner));
    }
    command.spawn()
}

/// Between fork and exec: from here on the worker does not outlive us.
fn die_with_runner(runner: u32) -> std::io::Result<()> {
    die_with_parent()?;
    // The runner may have died before the request; then nobody would tell.
    // SAFETY: getppid always succeeds.
    let parent = unsafe { libc::getppid() };
    if u32::try_from(parent) == Ok(runner) {
        Ok(())
    } else {
        Err(std::io::Error::other("the runner is gone"))
    }
}

fn converse(
    child: &mut Child,
    spec: &TrialSpec,
    deadline: Duration,
    interrupts: &Interrupts,
) -> Result<Output, Stop> {
    let text =
        serde_json::to_vec(spec).map_err(|error| Stop::Pipe(error.into()))?;
    let (done, replies) = mpsc::channel();
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let (said, complaints) = mpsc::channel();
    if let Some(pipe) = pipes.1.take() {
        in_thread(move || {
            let _ = said.send(read_limited(pipe, STDERR_LIMIT_BYTES));
        })?;
    }
    if let Some(pipe) = pipes.0.take() {
        in_thread(move || {
            let reply = read_limited(pipe, REPLY_LIMIT_BYTES);
            // The receiver has gone after a time-out: nothing to tell.
            let _ = done.send(reply);
        })?;
    }
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(&text)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(Stop::Pipe(error));
    }
    let started = Instant::now();
    let reply = loop {
        match replies.recv_timeout(POLL) {
            Ok(reply) => break reply,
            Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupts.now() {
            return Err(Stop::Interrupted);
        }
        if started.elapsed() > deadline {
            return Err(Stop::TimedOut);
        }
    };
    // A worker that has replied has at most its end to say.
    let complaint = complaints.recv_timeout(LAST_WORDS).unwrap_or_default();
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint =
        complaint.trim().lines().next_back().unwrap_or("").to_owned();
    Ok(Output { reply, complaint })
}

/// A limit on threads is the machine's matter and no bug of ours.
fn in_thread(work: impl FnOnce() + Send + 'static) -> Result<(), Stop> {
    match thread::Builder::new().spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => Err(Stop::Pipe(error)),
    }
}

/// An error, and what to do where there are too many processes (fork(2)).
fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => format!(
            "{error}: too many processes or threads, raise `ulimit -u` \
             (RLIMIT_NPROC) or pids.max of the cgroup"
        ),
        _ => error.to_string(),
    }
}

/// Reads to the end and keeps the first bytes, so that a worker that writes
/// without end neither fills memory nor blocks.
fn read_limited(mut pipe: impl Read + AsRawFd, limit: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    // A broken pipe ends the reply; what is there is judged by its content.
    let _ = pipe.by_ref().take(limit).read_to_end(&mut kept);
    let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    kept
}

fn judge(
    pid: u32,
    output: &Output,
    status: std::io::Result<ExitStatus>,
) -> Ending {
    if let Ok(reply) = serde_json::from_slice(&output.reply) {
        return Ending::Replied { pid, reply };
    }
    let how = match status {
        Ok(status) => describe(status),
        Err(error) => format!("could not be waited for: {error}"),
    };
    let mut reason = if output.reply.is_empty() {
        format!("worker {how} without a reply")
    } else {
        format!(
            "worker {how} after a reply of {} bytes that is nonsense",
            output.reply.len()
        )
    };
    if !output.complaint.is_empty() {
        reason.push_str(": ");
        reason.push_str(&output.complaint);
    }
    Ending::Failed { pid: Some(pid), reason }
}

/// Those that a program gets for what it does; signal(7).
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// A worker that is still alive here was killed by us after it had closed its
/// output, which counts as ended.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(libc::SIGKILL)) => "was killed (SIGKILL)".to_owned(),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("crashed ({name}, signal {signal})"),
            None => format!("crashed (signal {signal})"),
        },
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_on_processes_is_told_with_its_remedy() {
        let limit = std::io::Error::from_raw_os_error(libc::EAGAIN);
        assert!(why(&limit).contains("ulimit -u"), "{}", why(&limit));
        let other = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(why(&other), other.to_string());
    }
}
