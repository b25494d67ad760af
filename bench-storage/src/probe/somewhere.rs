//! What can be said of a variant before there is a target: whether any device
//! of this machine has what it needs.

use harness::{machine::Root, suite::Availability};

use super::no_polling;

/// Devices with poll queues.
pub(super) fn polling(root: &Root) -> Availability {
    let known: Vec<(String, bool)> = root
        .entries("sys/block")
        .into_iter()
        .filter_map(|name| {
            let polls = format!("sys/block/{name}/queue/io_poll");
            Some((name, root.read_bool(polls)?))
        })
        .collect();
    let with: Vec<String> = known
        .iter()
        .filter(|(_, polls)| *polls)
        .map(|(name, _)| format!("/dev/{name}"))
        .collect();
    match (with.is_empty(), known.is_empty()) {
        (true, false) => Availability::unavailable(
            "no block device here has poll queues: /sys/block/*/queue/io_poll \
             is 0 of all",
            format!(
                "{}, with `nvme.poll_queues=2` or `virtio_blk.poll_queues=2` \
                 on the kernel command line",
                no_polling()
            ),
        ),
        (true, true) => Availability::undecided(
            "whether the target's device has poll queues, of which this \
             kernel tells nothing",
        ),
        (false, _) => Availability::undecided(format!(
            "whether the target's device has poll queues, as {} has",
            with.join(", ")
        )),
    }
}

/// NVMe namespaces with a character device.
pub(super) fn namespaces(root: &Root) -> Availability {
    let found: Vec<String> = root
        .entries("sys/class/nvme-generic")
        .into_iter()
        .map(|name| format!("/dev/{name}"))
        .collect();
    if found.is_empty() {
        return Availability::unavailable(
            "no NVMe namespace here that takes commands: \
             /sys/class/nvme-generic is empty",
            "an NVMe drive, and Linux 5.13 or later",
        );
    }
    Availability::undecided(format!(
        "`--target`: the whole block device beside {}",
        found.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let tree = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent"))
                .expect("mkdir");
            fs::write(path, text).expect("write");
        }
        let root = Root::at(tree.path());
        (tree, root)
    }

    fn text(answer: &Availability) -> (&'static str, &str) {
        match answer {
            Availability::Available => ("available", ""),
            Availability::Undecided { by } => ("undecided", by),
            Availability::Unavailable { reason, .. } => ("lacking", reason),
        }
    }

    #[test]
    fn what_no_device_has_is_lacking_and_what_one_has_is_undecided() {
        let vda = ("sys/block/vda/queue/io_poll", "0\n");
        let (_tree, root) = tree(&[vda]);
        let answer = polling(&root);
        assert_eq!(text(&answer).0, "lacking");
        let (_tree, root) =
            tree(&[vda, ("sys/block/nvme0n1/queue/io_poll", "1\n")]);
        let answer = polling(&root);
        assert_eq!(text(&answer).0, "undecided");
        assert!(text(&answer).1.contains("/dev/nvme0n1"), "{answer:?}");
        assert!(!text(&answer).1.contains("vda"), "{answer:?}");
        // Nothing can be seen: nothing is claimed.
        let (_tree, root) = tree(&[]);
        assert_eq!(text(&polling(&root)).0, "undecided");
    }

    #[test]
    fn commands_need_a_namespace() {
        let (_empty, root) = tree(&[]);
        assert_eq!(text(&namespaces(&root)).0, "lacking");
        let (_tree, root) = tree(&[("sys/class/nvme-generic/ng0n1/dev", "1")]);
        let answer = namespaces(&root);
        assert_eq!(text(&answer).0, "undecided");
        assert!(text(&answer).1.contains("/dev/ng0n1"), "{answer:?}");
    }
}
