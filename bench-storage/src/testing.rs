//! What unit tests share.

use std::path::PathBuf;

/// Where this test was built: a real file system mostly, where `/tmp` is often
/// none. Nothing is made among the sources: all would be built again.
pub(crate) fn build_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    test.parent().expect("it lies in a directory").to_owned()
}
