//! What unit tests share.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use harness::testing::two_cpus;
use harness::{
    machine::cpu_set::Cpu,
    measure::trial::Trial,
    suite::{Availability, Params, ProbeRequest},
};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::{
    lab::{Lab, LabError, LabSpec, Wire, child},
    ways::Way,
};

/// A short trial of a variant.
pub(crate) fn trial(variant: &str, cpus: &[Cpu]) -> Trial {
    let params = Params::new().with("op_bytes", 64);
    harness::testing::trial("net/test", params, variant, cpus)
}

/// Whether this way can run here; if not, says why.
pub(crate) fn can_run<W: Way>() -> bool {
    let (params, target) = (Params::new(), Default::default());
    let request = ProbeRequest::new(&params, &[], &target);
    match (W::PROBE)(&request) {
        Availability::Available | Availability::Undecided { .. } => true,
        Availability::Unavailable { reason, remedy } => {
            eprintln!("SKIPPED: {}: {reason}; {remedy}", W::ID);
            false
        }
    }
}

/// Held while a test's threads keep CPUs busy.
static CPUS: RwLock<()> = RwLock::new(());

/// Threads that spin on the same two CPUs take turns, test by test.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    CPUS.write().unwrap_or_else(PoisonError::into_inner)
}

/// For a test of one thread that nothing waits for: beside others like it, and
/// beside none that spins.
pub(crate) fn beside_its_like() -> RwLockReadGuard<'static, ()> {
    CPUS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a check in a child that has a lab; where this user cannot have one,
/// says so and does nothing.
pub(crate) fn with_lab(check: impl FnOnce(Lab)) {
    in_child(|| {
        let lab = Lab::new(&LabSpec::default(), &Wire::Veth)?;
        check(lab);
        Ok(())
    });
}

/// The same for a check that makes its own.
/// Whether the check was made.
pub(crate) fn in_child(check: impl FnOnce() -> Result<(), LabError>) -> bool {
    let said = child::run(|| match check() {
        Ok(()) => Vec::new(),
        Err(error) if is_lack(&error) => error.to_string().into_bytes(),
        Err(error) => panic!("{error}; {}", error.remedy()),
    });
    let said = said.unwrap_or_else(|error| panic!("{error}"));
    if !said.is_empty() {
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&said));
    }
    said.is_empty()
}

/// Whether this user can have a lab on this machine; if not, says why.
pub(crate) fn can_have_lab() -> bool {
    in_child(|| Lab::new(&LabSpec::default(), &Wire::Veth).map(drop))
}

/// What the machine does not have or does not allow, as in a container. All
/// else is a fault of the lab.
fn is_lack(error: &LabError) -> bool {
    match error {
        LabError::UserNamespace { .. }
        | LabError::NetworkNamespace { .. }
        | LabError::NoVeth(_)
        | LabError::NoIp { .. } => true,
        LabError::Enter(source)
        | LabError::Netlink { source, .. }
        | LabError::Ethtool { source, .. }
        | LabError::File { source, .. } => matches!(
            source.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::EROFS | libc::EAFNOSUPPORT)
        ),
        _ => false,
    }
}

/// Drops all capabilities of this child: capset(2) with three empty sets.
pub(crate) fn without_rights() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let sets = [0_u32; 6];
    // SAFETY: the header names version 3 and this thread; that version has
    // two structures of three words, which `sets` holds.
    let status = unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr())
    };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

/// From now on a system call (with this first argument) fails in this child.
pub(crate) fn refuse_call(
    call: libc::c_long,
    first: Option<libc::c_int>,
    errno: i32,
) {
    let rules = first
        .map(|value| {
            let condition = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                u64::try_from(value).expect("a family"),
            );
            SeccompRule::new(vec![condition.expect("condition")]).expect("rule")
        })
        .into_iter()
        .collect();
    let filter = SeccompFilter::new(
        [(call, rules)].into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        TargetArch::try_from(std::env::consts::ARCH).expect("architecture"),
    )
    .expect("filter");
    let program: BpfProgram = filter.try_into().expect("program");
    seccompiler::apply_filter(&program).expect("seccomp");
}
