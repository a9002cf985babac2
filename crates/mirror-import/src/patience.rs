use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The time that a target has to show what it has accepted. Registries that replicate their state
/// show tags and lists some seconds late.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    next: Duration,
}

impl Patience {
    /// Creates a patience with this much time in total.
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            left: time,
            next: FIRST_WAIT,
        }
    }

    /// Waits twice as long as the last time, and returns whether there was any time left.
    pub(crate) async fn wait(&mut self) -> bool {
        let wait = self.next.min(self.left);
        self.left -= wait;
        self.next = wait * 2;
        tokio::time::sleep(wait).await;
        !wait.is_zero()
    }
}
