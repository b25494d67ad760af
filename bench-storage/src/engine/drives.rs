//! How a ring is driven: by system calls, or by a kernel thread that polls it.

use std::io;

use harness::{
    machine::{Cpu, CpuSet, Root},
    measure::trial::Evidence,
};
use io_uring::EnterFlags;

use super::{
    ring::{Entries, Ring, Small},
    rounds::Drive,
};

/// One `io_uring_enter` per round submits and waits.
#[derive(Debug)]
pub struct Enter;

impl<E: Entries> Drive<E> for Enter {
    #[inline(always)]
    fn drive(&mut self, ring: &mut Ring<E>, want: u32) -> io::Result<()> {
        let queued = ring.publish();
        // Deferred completions are only worked off by a call that asks for
        // events.
        ring.enter(queued, want, EnterFlags::GETEVENTS)
    }

    fn prove(&self, _: &Ring<E>, _: &mut Evidence) {}
}

/// A kernel thread takes submissions; the issuer makes no system call as long
/// as that thread is awake.
#[derive(Debug)]
pub struct Poller {
    cpu: Cpu,
    shared: bool,
    wakeups: u64,
    root: Root,
}

impl Poller {
    /// The poller runs on `cpu`. Where it has to share that with the issuer
    /// (`shared`), the issuer sleeps while it waits: spinning against the
    /// thread that one waits for ends only when the scheduler steps in.
    pub fn new(cpu: Cpu, shared: bool, root: Root) -> Self {
        Self { cpu, shared, wakeups: 0, root }
    }
}

impl Drive<Small> for Poller {
    #[inline(always)]
    fn drive(&mut self, ring: &mut Ring, want: u32) -> io::Result<()> {
        ring.publish();
        if ring.sq().need_wakeup() {
            self.wakeups += 1;
            ring.enter(0, 0, EnterFlags::SQ_WAKEUP)?;
        }
        if self.shared {
            return ring.enter(0, want, EnterFlags::GETEVENTS);
        }
        let want = usize::try_from(want).unwrap_or(usize::MAX);
        loop {
            ring.cq().sync();
            if ring.cq().len() >= want {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    fn prove(&self, ring: &Ring, evidence: &mut Evidence) {
        evidence.prove("sqpoll_wakeups", self.wakeups);
        match poller_cpus(&self.root, ring) {
            Some(cpus) => {
                evidence.prove("sqpoll_cpu", &cpus);
                if cpus != CpuSet::single(self.cpu) {
                    evidence.degraded.push(format!(
                        "the SQPOLL thread may run on CPU {cpus}, not on CPU \
                         {} alone",
                        self.cpu
                    ));
                }
            }
            None => evidence.prove("sqpoll_cpu", "unknown"),
        }
        if self.shared {
            evidence.degraded.push(format!(
                "SQPOLL shares the issuer's CPU {}; give the trial a second \
                 CPU",
                self.cpu
            ));
        }
    }
}

/// The CPUs that the ring's poller may run on. `fdinfo` of the ring names the
/// thread (io_uring_show_fdinfo in the kernel).
fn poller_cpus(root: &Root, ring: &Ring) -> Option<CpuSet> {
    let info = root.read(format!("proc/self/fdinfo/{}", ring.fd()))?;
    let thread: u32 = field(&info, "SqThread:")?.parse().ok()?;
    let status = root.read(format!("proc/self/task/{thread}/status"))?;
    field(&status, "Cpus_allowed_list:")?.parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}
