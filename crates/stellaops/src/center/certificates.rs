//! Watches the certificates of the registries, so that an alert can fire before they expire.

use std::time::Duration;

use tokio::time::sleep;

use super::center::Center;
use crate::commands::diagnose::certificate_end;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(12 * 60 * 60);
/// The time for one registry.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sets the gauge of each registry that speaks TLS, for as long as this is polled.
pub(super) async fn watch(center: Center) {
    loop {
        let current = center.current();
        let context = &current.context;
        for registry in context.config.registries() {
            let ends = certificate_end(&registry, &context.options, TIMEOUT).await;
            if let Some(ends) = ends {
                context.metrics.certificate_ends(&registry, ends);
            }
        }
        drop(current);
        sleep(LOOK).await;
    }
}
