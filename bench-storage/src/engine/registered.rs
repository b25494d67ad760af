//! Whether a ring has what was to be registered with it: the kernel's word, not
//! the program's.

use harness::{machine::Root, measure::trial::Evidence};

/// What requests state when they have registered something, and the line of
/// the ring's `fdinfo` that counts it (io_uring_show_fdinfo in the kernel).
const COUNTED: [(&str, &str); 2] =
    [("fixed_file", "UserFiles:"), ("fixed_buffers", "UserBufs:")];

/// The kernel leaves lines out while somebody submits, as a poller may.
const LOOKS: u32 = 5;

/// Takes back what the ring open as `fd` does not have.
pub fn confirm(root: &Root, fd: i32, evidence: &mut Evidence) {
    for (key, line) in COUNTED {
        let stated = evidence.path.iter_mut().find(|(name, _)| name == key);
        let Some((_, word)) = stated.filter(|(_, word)| word == "yes") else {
            continue;
        };
        match (0..LOOKS).find_map(|_| count(root, fd, line)) {
            Some(0) => {
                "no".clone_into(word);
                evidence.degraded.push(format!(
                    "the ring has nothing registered, says the kernel \
                     ({line} 0), where {key} was asked for"
                ));
            }
            Some(_) => {}
            None => "unknown".clone_into(word),
        }
    }
}

fn count(root: &Root, fd: i32, line: &str) -> Option<u64> {
    let info = root.read(format!("proc/self/fdinfo/{fd}"))?;
    let found = info.lines().find_map(|text| text.strip_prefix(line))?;
    found.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::engine::ring::Setup;

    fn stated(root: &Root, fd: i32) -> (Vec<String>, usize) {
        let mut evidence = Evidence::default();
        evidence.prove("fixed_file", "yes");
        evidence.prove("fixed_buffers", "no");
        confirm(root, fd, &mut evidence);
        let words = evidence.path.into_iter().map(|(_, word)| word);
        (words.collect(), evidence.degraded.len())
    }

    #[test]
    fn a_ring_has_what_the_kernel_says() {
        let system = Root::system();
        let Ok(mut ring) = Setup::Plain.build(2) else {
            eprintln!("SKIPPED: no io_uring");
            return;
        };
        if count(&system, ring.fd(), "UserFiles:").is_none() {
            eprintln!("SKIPPED: this kernel's fdinfo counts nothing");
            return;
        }
        let nothing = (vec!["no".to_owned(), "no".to_owned()], 1);
        assert_eq!(stated(&system, ring.fd()), nothing);
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let files = [file.as_raw_fd()];
        ring.submitter().register_files(&files).expect("registered");
        let one = (vec!["yes".to_owned(), "no".to_owned()], 0);
        assert_eq!(stated(&system, ring.fd()), one);
        let unseen = (vec!["unknown".to_owned(), "no".to_owned()], 0);
        assert_eq!(stated(&Root::at("/nonexistent"), ring.fd()), unseen);
    }
}
