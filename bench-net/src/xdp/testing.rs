//! What the unit tests of this module share.

use crate::lab::child;

/// What a body that panics on purpose says. It does so in a process of its
/// own: a panic in one thread holds locks that a child forked meanwhile by
/// another test would wait for in vain (see [`child::run`]).
pub(super) fn panic_of(body: impl FnOnce()) -> String {
    let outcome = child::run(|| {
        body();
        Vec::new()
    });
    outcome.expect_err("it panics").to_string()
}
