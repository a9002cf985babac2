/// How often a call is dropped before its end: each time after one more step.
pub(super) const DROPS: usize = 12;

/// Takes up to `steps` steps of a future, waiting for what it waits for between them, and drops it.
pub(super) async fn drop_after<T>(future: impl Future<Output = T> + Send, steps: usize) {
    let mut future = std::pin::pin!(future);
    for step in 0..steps {
        if step > 0 {
            // Woken by what the future waits for.
            futures::pending!();
        }
        if futures::poll!(&mut future).is_ready() {
            return;
        }
    }
}
