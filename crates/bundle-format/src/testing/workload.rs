/// Bytes that differ from one place to the next, and from one `size` to another.
pub(super) fn content(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// Runs tasks at the same time, each on a thread of its own. What one of them says when it panics
/// is said here.
pub(super) fn at_once(tasks: impl Iterator<Item = impl FnOnce() + Send>) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = tasks.map(|task| scope.spawn(task)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
