//! Reads what the machine and this process did around a window.
//!
//! A thread that sleeps through the window takes two looks, just before it and
//! just after, so that reading `/proc` does not disturb what is measured.

use std::collections::BTreeMap;

use super::{
    cost::{
        Accounting, ProcessCost, process_cpu_ns, scale_to_window, thread_cpu_ns,
    },
    counters::{Counters, Counts},
    interrupts::{Interrupts, elsewhere_percent, interrupts},
    kernel_threads::{KernelThread, kernel_threads},
    tasks::{Task, TaskKind, all_told, tasks},
    trial::Trial,
    validity::Signals,
};
use crate::machine::{cpu_set::Cpu, environment::IrqAccounting, root::Root};

/// Looks at the machine before and after a window.
#[derive(Debug)]
pub struct Observer {
    root: Root,
    used: Vec<Cpu>,
    own_interrupts: Vec<String>,
    window_ns: u64,
    clock: super::clock::Clock,
    accounting: Accounting,
    counters: Counters,
    opened: Look,
}

#[derive(Debug, Default)]
struct Look {
    at_ns: u64,
    process_cpu_ns: u64,
    counts: Counts,
    tasks: BTreeMap<u32, Task>,
    stat: Option<CpuTimes>,
    kernel_threads: BTreeMap<u32, KernelThread>,
    interrupts: Option<Interrupts>,
    usage: Option<Usage>,
    throttle_events: Option<u64>,
    frequency_min_khz: Option<u64>,
    storage_read_bytes: Option<u64>,
}

/// Sums over used CPUs from `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    /// User, nice and system: what tasks did. An interrupt that hits an idle
    /// CPU is charged to nobody, and here it is mostly the trial's own.
    tasks_ns: u64,
    interrupts_ns: u64,
    steal_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    faults_minor: u64,
    faults_major: u64,
    switches_voluntary: u64,
    switches_involuntary: u64,
}

impl Observer {
    /// Prepares to look; opens counters, so it comes before any thread starts.
    pub fn new(trial: &Trial) -> Self {
        let mut used = trial.cpus().to_vec();
        used.sort_unstable();
        used.dedup();
        Self {
            used,
            own_interrupts: own_interrupts(&trial.spec.target),
            window_ns: trial.spec.window_ns,
            clock: trial.spec.clock,
            accounting: accounting(trial.spec.irq_accounting),
            counters: Counters::open(),
            opened: Look::default(),
            root: trial.root.clone(),
        }
    }

    /// The first look, just before the window. Whatever is read last is read
    /// closest to it.
    pub fn open(&mut self) {
        // What takes long to read comes first.
        let kernel_threads = kernel_threads(&self.root);
        let tasks = tasks(&self.root);
        let mut look = Look { kernel_threads, tasks, ..self.sums() };
        look.counts = self.counters.read();
        look.process_cpu_ns = exact_process_cpu_ns(&self.root);
        look.at_ns = self.clock.now_ns();
        self.opened = look;
    }

    /// The second look, just after the window; in the opposite order.
    pub fn close(self) -> (ProcessCost, Signals) {
        let at_ns = self.clock.now_ns();
        let process_cpu_ns = exact_process_cpu_ns(&self.root);
        let counts = self.counters.read();
        let look = Look { at_ns, process_cpu_ns, counts, ..self.sums() };
        let tasks = tasks(&self.root);
        let kernel_threads = kernel_threads(&self.root);
        let look = Look { tasks, kernel_threads, ..look };
        (self.cost(&look), self.signals(&look))
    }

    /// What is read from a few files, whatever the number of processes.
    fn sums(&self) -> Look {
        Look {
            stat: cpu_times(&self.root, &self.used),
            interrupts: self.interrupts(),
            usage: usage(),
            throttle_events: throttle_events(&self.root, &self.used),
            frequency_min_khz: frequency_min_khz(&self.root, &self.used),
            storage_read_bytes: storage_read_bytes(&self.root),
            ..Look::default()
        }
    }

    fn cost(&self, closed: &Look) -> ProcessCost {
        let seen_ns = closed.at_ns - self.opened.at_ns;
        let scale = |ns| scale_to_window(ns, seen_ns, self.window_ns);
        let process = closed.process_cpu_ns - self.opened.process_cpu_ns;
        let interrupts_ns = match (self.accounting, closed.stat) {
            (Accounting::Separate, Some(after)) => {
                self.opened.stat.map(|before| {
                    scale(
                        after
                            .interrupts_ns
                            .saturating_sub(before.interrupts_ns),
                    )
                })
            }
            _ => None,
        };
        // Booked apart, softirqs include those of ksoftirqd.
        let softirq_threads_ns = (self.accounting
            == Accounting::InterruptsInTasks)
            .then(|| scale(self.kernel_threads_ns(closed, |t| t.softirqs)));
        let counts = closed.counts.since(&self.opened.counts);
        ProcessCost {
            cpu_ns: scale(process)
                + interrupts_ns.unwrap_or(0)
                + softirq_threads_ns.unwrap_or(0),
            kernel_threads_ns: scale(
                self.ran_ns(closed, TaskKind::IoWq)
                    + self.ran_ns(closed, TaskKind::SqPoll),
            ),
            interrupts_ns,
            softirq_threads_ns,
            accounting: self.accounting,
            interrupts_elsewhere_percent: elsewhere_percent(
                self.opened.interrupts,
                closed.interrupts,
            ),
            counts: Counts {
                cycles: counts.cycles.map(scale),
                instructions: counts.instructions.map(scale),
                cache_misses: counts.cache_misses.map(scale),
            },
        }
    }

    fn signals(&self, closed: &Look) -> Signals {
        let before = &self.opened;
        let seen_ns = closed.at_ns - before.at_ns;
        let own_ns = closed.process_cpu_ns - before.process_cpu_ns;
        let stat = closed.stat.zip(before.stat);
        let usage = closed.usage.zip(before.usage);
        let since = |pick: fn(&Usage) -> u64| {
            usage.map(|(now, then)| pick(&now).saturating_sub(pick(&then)))
        };
        let difference = |now: Option<u64>, then: Option<u64>| {
            Some(now?.saturating_sub(then?))
        };
        Signals {
            seen_ns,
            used_cpus: self.used.len(),
            foreign_cpu_ns: stat.map(|(now, then)| {
                now.tasks_ns
                    .saturating_sub(then.tasks_ns)
                    .saturating_sub(own_ns)
                    .saturating_sub(
                        self.kernel_threads_ns(closed, |t| !t.foreign),
                    )
            }),
            steal_ns: stat
                .map(|(now, then)| now.steal_ns.saturating_sub(then.steal_ns)),
            run_queue_wait_ns: self.longest_wait_ns(closed),
            switches_voluntary: since(|u| u.switches_voluntary),
            switches_involuntary: since(|u| u.switches_involuntary),
            foreign_interrupts: difference(
                closed.interrupts.map(|all| all.foreign),
                before.interrupts.map(|all| all.foreign),
            ),
            faults_minor: since(|u| u.faults_minor),
            faults_major: since(|u| u.faults_major),
            // Only the suite knows better.
            major_faults_are_ops: false,
            throttle_events: difference(
                closed.throttle_events,
                before.throttle_events,
            ),
            temperature_max_millicelsius: temperature_max(&self.root),
            frequency_min_khz: closed
                .frequency_min_khz
                .into_iter()
                .chain(before.frequency_min_khz)
                .min(),
            storage_read_bytes: difference(
                closed.storage_read_bytes,
                before.storage_read_bytes,
            ),
            threads_told: all_told(&closed.tasks),
            io_wq_threads: closed
                .tasks
                .values()
                .filter(|task| task.kind == TaskKind::IoWq)
                .count(),
            io_wq_cpu_ns: self.ran_ns(closed, TaskKind::IoWq),
            sqpoll_cpu_ns: self.ran_ns(closed, TaskKind::SqPoll),
        }
    }

    /// What kernel threads did is mostly the trial's own effect (kblockd
    /// dispatches its requests, a `kworker` finishes its direct writes that
    /// are to be durable), so it is not held against the machine, but for
    /// those that are known to work for others.
    fn kernel_threads_ns(
        &self,
        closed: &Look,
        meant: impl Fn(&KernelThread) -> bool,
    ) -> u64 {
        closed
            .kernel_threads
            .iter()
            .filter(|(_, thread)| self.used.contains(&thread.cpu))
            .filter(|(_, thread)| meant(thread))
            .map(|(pid, thread)| match self.opened.kernel_threads.get(pid) {
                // One that was elsewhere before is left out: how much of its
                // time belongs here cannot be told.
                Some(before) if !self.used.contains(&before.cpu) => 0,
                Some(before) => thread.ran_ns.saturating_sub(before.ran_ns),
                // It was made meanwhile, as workers are that many writes wait
                // in at once: all that it ran, it ran since.
                None => thread.ran_ns,
            })
            .sum()
    }

    fn ran_ns(&self, closed: &Look, kind: TaskKind) -> u64 {
        let ran = |(tid, task): (&u32, &Task)| {
            let before = self.opened.tasks.get(tid).map_or(0, |t| t.ran_ns);
            task.ran_ns.saturating_sub(before)
        };
        closed.tasks.iter().filter(|(_, t)| t.kind == kind).map(ran).sum()
    }

    /// Over the load threads; the observer itself sleeps and does not matter.
    fn longest_wait_ns(&self, closed: &Look) -> Option<u64> {
        let own_pid = std::process::id();
        closed
            .tasks
            .iter()
            .filter(|(tid, task)| {
                **tid != own_pid && task.kind != TaskKind::IoWq
            })
            .filter_map(|(tid, task)| {
                let before = self.opened.tasks.get(tid)?.waited_ns?;
                Some(task.waited_ns?.saturating_sub(before))
            })
            .max()
    }

    fn interrupts(&self) -> Option<Interrupts> {
        let table = self.root.read("proc/interrupts")?;
        Some(interrupts(&table, &self.used, &self.own_interrupts))
    }
}

/// A suite names the interrupt lines of its device under `interrupts`.
fn own_interrupts(target: &serde_json::Value) -> Vec<String> {
    target["interrupts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

fn accounting(irq_accounting: IrqAccounting) -> Accounting {
    match irq_accounting {
        IrqAccounting::InTasks => Accounting::InterruptsInTasks,
        IrqAccounting::Separate => Accounting::Separate,
        IrqAccounting::Unknown => Accounting::Unknown,
    }
}

/// CPU time of this process up to this instant.
fn exact_process_cpu_ns(root: &Root) -> u64 {
    for name in root.entries("proc/self/task") {
        // For what asking does, see `process_cpu_ns`.
        let _ = name.parse().ok().and_then(thread_cpu_ns);
    }
    process_cpu_ns()
}

/// proc(5): user nice system idle iowait irq softirq steal, in ticks of
/// 1/100 s (USER_HZ, fixed for user space).
fn cpu_times(root: &Root, used: &[Cpu]) -> Option<CpuTimes> {
    const NS_PER_TICK: u64 = 10_000_000;
    let stat = root.read("proc/stat")?;
    let mut sum = CpuTimes::default();
    let mut seen = 0;
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let Some(cpu) = fields
            .next()
            .and_then(|name| name.strip_prefix("cpu"))
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        if !used.contains(&Cpu(cpu)) {
            continue;
        }
        let ticks: Vec<u64> =
            fields.map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks[..]
        else {
            return None;
        };
        sum.tasks_ns += (user + nice + system) * NS_PER_TICK;
        sum.interrupts_ns += (irq + softirq) * NS_PER_TICK;
        sum.steal_ns += steal * NS_PER_TICK;
        seen += 1;
    }
    (seen == used.len()).then_some(sum)
}

fn usage() -> Option<Usage> {
    // SAFETY: an all-zero rusage is a valid value of that plain C structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage, as getrusage(2) asks.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    (status == 0).then_some(Usage {
        faults_minor: usage.ru_minflt.unsigned_abs(),
        faults_major: usage.ru_majflt.unsigned_abs(),
        switches_voluntary: usage.ru_nvcsw.unsigned_abs(),
        switches_involuntary: usage.ru_nivcsw.unsigned_abs(),
    })
}

fn throttle_events(root: &Root, used: &[Cpu]) -> Option<u64> {
    used.iter()
        .map(|cpu| {
            let directory =
                format!("sys/devices/system/cpu/cpu{}/thermal_throttle", cpu.0);
            let core =
                root.read_u64(format!("{directory}/core_throttle_count"))?;
            let package = root
                .read_u64(format!("{directory}/package_throttle_count"))
                .unwrap_or(0);
            Some(core + package)
        })
        .sum()
}

fn frequency_min_khz(root: &Root, used: &[Cpu]) -> Option<u64> {
    used.iter()
        .filter_map(|cpu| {
            root.read_u64(format!(
                "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq",
                cpu.0
            ))
        })
        .min()
}

fn temperature_max(root: &Root) -> Option<i64> {
    let class = "sys/class/hwmon";
    root.entries(class)
        .iter()
        .flat_map(|monitor| {
            let directory = format!("{class}/{monitor}");
            root.entries(&directory)
                .into_iter()
                .filter(|name| {
                    name.starts_with("temp") && name.ends_with("_input")
                })
                .map(move |name| format!("{directory}/{name}"))
                .collect::<Vec<_>>()
        })
        .filter_map(|path| root.read(&path)?.parse().ok())
        .max()
}

/// proc(5): `read_bytes` is what this process made the block layer fetch.
pub fn storage_read_bytes(root: &Root) -> Option<u64> {
    own_bytes(root, "read_bytes:")
}

/// proc(5): `write_bytes` is what this process gave the block layer to write,
/// or the page cache of a file system that has a device.
pub fn storage_written_bytes(root: &Root) -> Option<u64> {
    own_bytes(root, "write_bytes:")
}

fn own_bytes(root: &Root, name: &str) -> Option<u64> {
    root.read("proc/self/io")?
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Between ticks the kernel does not add up what a thread that runs has
    /// used, unless it is asked for that thread.
    #[test]
    fn the_time_of_a_thread_that_runs_is_not_as_old_as_its_last_tick() {
        use std::{
            sync::atomic::{AtomicBool, Ordering},
            thread,
            time::Duration,
        };
        let root = Root::system();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            // Of looks 0.2 ms apart, those that saw about as much; without
            // asking, a look sees nothing or a tick's whole 1 to 10 ms.
            let seen = (0..4_000).filter(|_| {
                let before = exact_process_cpu_ns(&root);
                thread::sleep(Duration::from_micros(200));
                let ran = exact_process_cpu_ns(&root) - before;
                (150_000..800_000).contains(&ran)
            });
            let seen = seen.take(40).count();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(seen, 40);
        });
    }

    #[test]
    fn interrupts_that_are_booked_apart_are_added_once() {
        let look = |at_ns, process_cpu_ns, interrupts_ns| Look {
            at_ns,
            process_cpu_ns,
            stat: Some(CpuTimes { interrupts_ns, ..CpuTimes::default() }),
            ..Look::default()
        };
        let root = Root::at("/nonexistent");
        let mut observer = observer(&root, look(0, 1_000, 500));
        let closed = look(200, 1_120, 560);
        // Half of the time that was looked at is the window.
        observer.accounting = Accounting::Separate;
        let cost = observer.cost(&closed);
        assert_eq!((cost.interrupts_ns, cost.cpu_ns), (Some(30), 90));
        for other in [Accounting::InterruptsInTasks, Accounting::Unknown] {
            observer.accounting = other;
            let cost = observer.cost(&closed);
            assert_eq!((cost.interrupts_ns, cost.cpu_ns), (None, 60));
        }
    }

    /// A kernel thread's directory below `/proc`.
    fn thread(tree: &Path, pid: u32, name: &str, ran_ns: u64, cpu: u32) {
        let directory = tree.join(format!("proc/{pid}"));
        std::fs::create_dir_all(&directory).expect("mkdir");
        // Fields 3 to 39: the state, the parent, 34 others, the CPU.
        let stat = format!("{pid} ({name}) S 2 {}{cpu} 0", "0 ".repeat(34));
        std::fs::write(directory.join("stat"), stat).expect("stat");
        let times = format!("{ran_ns} 5 1");
        std::fs::write(directory.join("schedstat"), times).expect("schedstat");
    }

    /// Of a trial on CPU 1 with a window of 100 ns.
    fn observer(root: &Root, opened: Look) -> Observer {
        Observer {
            root: root.clone(),
            used: vec![Cpu(1)],
            own_interrupts: Vec::new(),
            window_ns: 100,
            clock: super::super::clock::Clock::monotonic(),
            accounting: Accounting::InterruptsInTasks,
            counters: Counters::open(),
            opened,
        }
    }

    #[test]
    fn workers_made_meanwhile_are_no_foreign_load() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        let look = || Look {
            kernel_threads: kernel_threads(&root),
            ..Look::default()
        };
        thread(tree.path(), 16, "kworker/1:0", 1_000, 1);
        thread(tree.path(), 17, "kworker/u8:0", 5_000, 0);
        let observer = observer(&root, look());
        thread(tree.path(), 16, "kworker/1:0", 1_030, 1);
        // Came from a CPU that the trial does not use.
        thread(tree.path(), 17, "kworker/u8:0", 5_500, 1);
        // Made since, here and elsewhere.
        thread(tree.path(), 18, "kworker/1:1", 700, 1);
        thread(tree.path(), 19, "kworker/0:1", 900, 0);
        assert_eq!(observer.kernel_threads_ns(&look(), |_| true), 730);
    }

    #[test]
    fn softirqs_that_were_put_off_are_part_of_the_cost() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        let look = |at_ns| Look {
            at_ns,
            kernel_threads: kernel_threads(&root),
            ..Look::default()
        };
        thread(tree.path(), 15, "ksoftirqd/1", 1_000, 1);
        thread(tree.path(), 16, "kworker/1:0", 1_000, 1);
        let mut observer = observer(&root, look(0));
        thread(tree.path(), 15, "ksoftirqd/1", 1_080, 1);
        thread(tree.path(), 16, "kworker/1:0", 9_000, 1);
        let closed = look(200);
        // Half of the time that was looked at is the window.
        let cost = observer.cost(&closed);
        assert_eq!((cost.softirq_threads_ns, cost.cpu_ns), (Some(40), 40));
        observer.accounting = Accounting::Separate;
        let cost = observer.cost(&closed);
        assert_eq!((cost.softirq_threads_ns, cost.cpu_ns), (None, 0));
    }

    #[test]
    fn garbled_files_are_unknown() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        std::fs::create_dir(tree.path().join("proc")).expect("proc");
        std::fs::write(tree.path().join("proc/stat"), "cpu0 1 x 3\n")
            .expect("stat");
        assert_eq!(cpu_times(&root, &[Cpu(0)]), None);
        assert_eq!(cpu_times(&root, &[Cpu(1)]), None);
        assert_eq!(storage_read_bytes(&root), None);
        assert!(tasks(&root).is_empty());
    }
}
