use std::sync::Arc;
use std::time::Duration;

use oci_content::Registry;

use crate::allowance::Bytes;
use crate::observer::{RequestObserver, WaitEvent, WaitReason};

/// What one transfer of a blob owes to the limit of bytes per second of its registry.
///
/// Bytes that have arrived cannot be sent back, so they are paid for before the next ones, and by
/// the others if there are no next ones.
#[derive(Debug)]
pub(crate) struct Toll {
    bytes: Arc<Bytes>,
    registry: Registry,
    observer: Option<Arc<dyn RequestObserver>>,
    owed: u64,
    is_reported: bool,
}

impl Toll {
    pub(crate) fn new(
        bytes: Arc<Bytes>,
        registry: &Registry,
        observer: Option<&Arc<dyn RequestObserver>>,
    ) -> Self {
        Self {
            bytes,
            registry: registry.clone(),
            observer: observer.cloned(),
            owed: 0,
            is_reported: false,
        }
    }

    /// Adds bytes that were transferred.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed += bytes as u64;
    }

    /// Waits until more bytes may be transferred, and pays for the ones before.
    ///
    /// # Cancellation
    /// The bytes are still owed.
    pub(crate) async fn pay(&mut self) {
        let wait = self.bytes.pace.estimate();
        if !wait.is_zero() && !self.is_reported {
            self.is_reported = true;
            let event = WaitEvent {
                registry: &self.registry,
                wait,
                waited: Duration::ZERO,
                status: None,
                reason: WaitReason::Bytes(self.bytes.rate),
            };
            event.report(self.observer.as_ref());
        }
        let turn = self.bytes.pace.turn().await;
        turn.pass(std::mem::take(&mut self.owed));
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        self.bytes.pace.charge(self.owed);
    }
}
