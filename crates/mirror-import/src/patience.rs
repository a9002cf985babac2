use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The time that is given to a target until it shows what it has taken. Registries that keep copies of their state show
/// tags and lists some seconds late.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    next: Duration,
}

impl Patience {
    /// Creates one that waits for so long in all.
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            left: time,
            next: FIRST_WAIT,
        }
    }

    /// Waits, twice as long as the last time; returns whether there was time left to wait.
    pub(crate) async fn wait(&mut self) -> bool {
        let wait = self.next.min(self.left);
        self.left -= wait;
        self.next = wait * 2;
        tokio::time::sleep(wait).await;
        !wait.is_zero()
    }
}
