use std::path::Path;

use crate::config::{Config, findings};
use crate::yaml_error;

/// Returns the text of a configuration without what may be secret in it, and what is wrong with it.
pub(super) fn describe(path: &Path) -> (String, String) {
    let text = match Config::text(path) {
        Ok(text) => text,
        Err(failure) => return (String::new(), format!("{failure}\n")),
    };
    match Config::parse(&text, &Config::name(path)) {
        Ok(config) => {
            let findings: String = findings(&config)
                .iter()
                .map(|finding| format!("{finding}\n"))
                .collect();
            (yaml_error::without_secrets(&text), findings)
        }
        // A file that cannot be parsed does not show which values are secret, so none is shown.
        Err(failure) => {
            let quote = failure.quote().join("\n");
            let findings = format!("{failure}\n{quote}\n");
            (yaml_error::without_values(&text), findings)
        }
    }
}
