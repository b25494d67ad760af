//! The refusals of this suite, in one form: the thing, what was seen, the
//! next step.

use std::{io, path::Path};

use harness::suite::{Refusal, RefusalKind};

/// What helps wherever the place is wrong.
pub(super) const ELSEWHERE: &str = "name a directory on a file system that \
     lies on a local device, such as ext4 or xfs, with `--target DIR`";

/// The machine cannot do it as it is.
pub(super) fn environment(
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    refusal(RefusalKind::Environment, what, remedy)
}

/// The person asked for something that cannot be.
pub(super) fn usage(
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    refusal(RefusalKind::Usage, what, remedy)
}

/// It could destroy somebody's data.
pub(super) fn unsafe_target(
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    refusal(RefusalKind::UnsafeTarget, what, remedy)
}

fn refusal(
    kind: RefusalKind,
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    Refusal { what: what.into(), remedy: remedy.into(), kind }
}

/// A system call failed on this path.
pub(super) fn failed(call: &str, path: &Path, error: &io::Error) -> Refusal {
    let what = format!("{call} {}: {}", path.display(), describe(error));
    let remedy = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "run as a user who may do this there, or name another `--target`"
                .to_owned()
        }
        Some(libc::EROFS) => {
            format!("the file system is mounted read-only; {ELSEWHERE}")
        }
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!("free some space there, or {ELSEWHERE}")
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "raise the limit of open files (`ulimit -n`)".to_owned()
        }
        _ => "name another `--target`".to_owned(),
    };
    environment(what, remedy)
}

/// The message with the name that man pages use.
pub(super) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let name = match error.raw_os_error() {
        Some(libc::EACCES) => "EACCES",
        Some(libc::EPERM) => "EPERM",
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::ENOSPC) => "ENOSPC",
        Some(libc::EDQUOT) => "EDQUOT",
        Some(libc::EROFS) => "EROFS",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        Some(libc::EIO) => "EIO",
        Some(libc::ENOSYS) => "ENOSYS",
        Some(libc::ENOMEM) => "ENOMEM",
        _ => return text,
    };
    format!("{name}: {text}")
}
