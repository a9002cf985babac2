/// The number of calls that are dropped before their end, each after one more step than the one
/// before.
pub(super) const DROPS: usize = 12;

/// Polls a future up to `steps` times, waiting for its wake-up in between, and drops it.
pub(super) async fn drop_after<T>(future: impl Future<Output = T> + Send, steps: usize) {
    let mut future = std::pin::pin!(future);
    for step in 0..steps {
        if step > 0 {
            // The future wakes this task.
            futures::pending!();
        }
        if futures::poll!(&mut future).is_ready() {
            return;
        }
    }
}
