//! What the threads of this process did, those among them that the kernel made
//! for io_uring.

use std::collections::BTreeMap;

use super::cost::thread_cpu_ns;
use crate::machine::root::Root;

/// A thread so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    pub kind: TaskKind,
    /// Its CPU time.
    pub ran_ns: u64,
    /// How long it waited for a CPU, where the kernel tells.
    pub waited_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskKind {
    Own,
    IoWq,
    SqPoll,
    /// Its name cannot be read: any of the three.
    Untold,
}

/// All threads of this process: their CPU time, and from proc(5)'s `schedstat`
/// (CONFIG_SCHED_INFO) the time spent waiting on a run queue. Its time spent
/// running is as old as the last tick.
pub(super) fn tasks(root: &Root) -> BTreeMap<u32, Task> {
    let directory = "proc/self/task";
    root.entries(directory)
        .iter()
        .filter_map(|name| {
            let tid = name.parse().ok()?;
            let path = format!("{directory}/{name}");
            let comm = root.read(format!("{path}/comm"));
            // One that has ended meanwhile has no files any more.
            if comm.is_none() && !root.exists(&path) {
                return None;
            }
            let stat = root.read(format!("{path}/schedstat"));
            let mut times = stat
                .iter()
                .flat_map(|stat| stat.split_whitespace())
                .map(|number| number.parse::<u64>().ok());
            let (ran_ns, waited_ns) = (times.next(), times.next());
            let ran_ns = thread_cpu_ns(tid).or(ran_ns.flatten());
            let task = Task {
                kind: comm.map_or(TaskKind::Untold, |comm| kind(&comm)),
                ran_ns: ran_ns.unwrap_or(0),
                waited_ns: waited_ns.flatten(),
            };
            Some((tid, task))
        })
        .collect()
}

fn kind(comm: &str) -> TaskKind {
    if comm.starts_with("iou-wrk") {
        TaskKind::IoWq
    } else if comm.starts_with("iou-sqp") {
        TaskKind::SqPoll
    } else {
        TaskKind::Own
    }
}

/// Whether each thread's name could be read: where not, the kernel's workers
/// may be among them.
pub(super) fn all_told(tasks: &BTreeMap<u32, Task>) -> bool {
    let told = |task: &Task| task.kind != TaskKind::Untold;
    !tasks.is_empty() && tasks.values().all(told)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Above the number of any thread: PID_MAX_LIMIT of the kernel is 4 Mi.
    const TID: u32 = 100_000_000;

    fn thread(tree: &Path, tid: u32, files: &[(&str, &str)]) {
        let directory = tree.join(format!("proc/self/task/{tid}"));
        std::fs::create_dir_all(&directory).expect("mkdir");
        for (name, text) in files {
            std::fs::write(directory.join(name), text).expect("write");
        }
    }

    #[test]
    fn a_thread_is_kept_whatever_of_it_cannot_be_read() {
        let tree = tempfile::tempdir().expect("temporary directory");
        let root = Root::at(tree.path());
        assert!(!all_told(&tasks(&root)), "nothing is told of no thread");
        let times = ("schedstat", "70 20 3\n");
        thread(tree.path(), TID, &[("comm", "iou-wrk-77\n"), times]);
        thread(tree.path(), TID + 1, &[("comm", "iou-sqp-77\n")]);
        let found = tasks(&root);
        let worker =
            Task { kind: TaskKind::IoWq, ran_ns: 70, waited_ns: Some(20) };
        assert_eq!(found[&TID], worker);
        let poller =
            Task { kind: TaskKind::SqPoll, ran_ns: 0, waited_ns: None };
        assert_eq!(found[&(TID + 1)], poller);
        assert!(all_told(&found));
        thread(tree.path(), TID + 2, &[times]);
        let found = tasks(&root);
        let untold =
            Task { kind: TaskKind::Untold, ran_ns: 70, waited_ns: Some(20) };
        assert_eq!(found[&(TID + 2)], untold);
        assert!(!all_told(&found));
    }

    #[test]
    fn the_threads_of_this_process_are_told() {
        let found = tasks(&Root::system());
        assert!(all_told(&found), "{found:?}");
        assert!(found.values().any(|task| task.kind == TaskKind::Own));
    }
}
