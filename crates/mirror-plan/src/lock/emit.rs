//! The one encoding of a lock file.

use super::{JobLock, LockFile, pinned};

impl LockFile {
    /// Writes the file in its one encoding.
    pub fn to_yaml(&self) -> String {
        let mut out = format!("format: {}\n", Self::FORMAT);
        if self.jobs.is_empty() {
            out.push_str("jobs: {}\n");
            return out;
        }
        out.push_str("jobs:\n");
        for (name, job) in &self.jobs {
            job.emit(&mut out, name.as_str());
        }
        out
    }
}

impl JobLock {
    fn emit(&self, out: &mut String, name: &str) {
        if self.rules.is_empty() {
            out.push_str(&format!("  {}: []\n", quote(name)));
            return;
        }
        out.push_str(&format!("  {}:\n", quote(name)));
        for (rule, pins) in &self.rules {
            out.push_str(&format!("  - rule: {}\n", quote(rule)));
            if pins.is_empty() {
                out.push_str("    pins: []\n");
                continue;
            }
            out.push_str("    pins:\n");
            for (image, digest) in pins {
                let pin = pinned(image, digest).to_string();
                out.push_str(&format!("    - {}\n", quote(&pin)));
            }
        }
    }
}

/// Quotes a text without control characters, as YAML does between single quotes.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
