//! Limits of this process, lowered for as long as a function runs.

/// RLIMIT_FSIZE fails writes beyond it, those of the whole process; its signal
/// is ignored meanwhile.
pub fn with_file_size_limit<T>(bytes: u64, f: impl FnOnce() -> T) -> T {
    let set = |soft: u64| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls get a live structure of the right type.
        unsafe {
            libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit);
            let old = limit.rlim_cur;
            limit.rlim_cur = soft;
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            old
        }
    };
    // SAFETY: ignoring a signal runs no code in a handler.
    let handler = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let old = set(bytes);
    let result = f();
    set(old);
    // SAFETY: what was there before is put back.
    unsafe { libc::signal(libc::SIGXFSZ, handler) };
    result
}
