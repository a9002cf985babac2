use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::config::{Config, Hook, JobTarget, Secret};
use crate::small_file;

/// The longest file that is looked into.
const MAX_BYTES: u64 = 1 << 20;
/// A shorter secret is found in texts that have nothing to do with it.
const MIN_LENGTH: usize = 4;
const HIDDEN: &str = "***";

/// Every secret of the installation that can be found, so that none of them is in what is collected, wherever it comes from.
#[derive(Default)]
pub(super) struct Secrets {
    texts: Vec<String>,
    /// The users of the logins.
    users: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.texts.len())
    }
}

impl Secrets {
    /// Finds the secrets that the configuration names, those of logins, and those in the environment.
    pub(super) fn of(config: &Config, logins: &[PathBuf]) -> Self {
        let mut secrets = Self::default();
        for registry in config.registries.values() {
            registry.client_key.iter().for_each(|key| secrets.read(key));
        }
        for job in config.jobs.values() {
            if let JobTarget::Bundle(to) = &job.to {
                to.sign_key.iter().for_each(|key| secrets.read(key));
            }
            for notify in &job.notify {
                notify.secret.iter().for_each(|secret| secrets.read(secret));
                match &notify.url {
                    Hook::Secret(secret) => secrets.read(secret),
                    Hook::Url(url) => {
                        secrets.add(url.as_str());
                        // Services put their secret into the path or the query.
                        if let Some(parts) = url.path_segments() {
                            parts
                                .filter(|part| part.len() >= 8)
                                .for_each(|part| secrets.add(part));
                        }
                        url.query_pairs().for_each(|(_, value)| secrets.add(&value));
                        secrets.add(url.password().unwrap_or_default());
                    }
                }
            }
        }
        if let Some(tls) = &config.center.tls {
            secrets.read(&tls.key);
        }
        for file in logins {
            secrets.of_logins(file);
        }
        for (name, value) in std::env::vars() {
            let name = name.to_ascii_uppercase();
            let is_secret = [
                "PASSWORD",
                "PASSWD",
                "SECRET",
                "TOKEN",
                "CREDENTIAL",
                "_KEY",
            ];
            if is_secret.iter().any(|word| name.contains(word)) {
                secrets.add(&value);
            }
            // A proxy may have a login.
            let login = value
                .split_once("://")
                .and_then(|(_, rest)| rest.split_once('@'));
            if let Some((_, password)) = login.and_then(|(login, _)| login.split_once(':')) {
                secrets.add(password);
            }
        }
        secrets
            .texts
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.texts.dedup();
        secrets
    }

    fn read(&mut self, secret: &Secret) {
        // What cannot be read cannot be in what is collected either.
        if let Ok(value) = secret.read() {
            self.add(&String::from_utf8_lossy(value.as_bytes()));
        }
    }

    /// Adds a secret, and its lines if it has several, as keys have.
    pub(super) fn add(&mut self, secret: &str) {
        let lines = secret.lines().map(str::trim);
        let lines = lines.filter(|line| !line.starts_with("-----"));
        for text in lines.chain([secret.trim()]) {
            if text.len() >= MIN_LENGTH && !self.texts.iter().any(|known| known == text) {
                self.texts.push(text.to_owned());
            }
        }
    }

    /// Adds the passwords and tokens of a file of logins.
    fn of_logins(&mut self, file: &Path) {
        let Ok(bytes) = small_file::read(file, MAX_BYTES) else {
            return;
        };
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
            return;
        };
        let entries = document.get("auths").unwrap_or(&document).as_object();
        for entry in entries.into_iter().flat_map(|entries| entries.values()) {
            for key in ["auth", "password", "identitytoken", "registrytoken"] {
                let Some(text) = entry.get(key).and_then(Value::as_str) else {
                    continue;
                };
                self.add(text);
                let login = STANDARD.decode(text).ok();
                let login = login.and_then(|login| String::from_utf8(login).ok());
                if let Some((user, password)) =
                    login.as_deref().and_then(|login| login.split_once(':'))
                {
                    self.add(password);
                    self.users.push(user.to_owned());
                }
            }
        }
    }

    /// Returns the users of the logins.
    pub(super) fn users(&self) -> &[String] {
        &self.users
    }

    /// Returns a text in which every secret is replaced.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.texts {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
            // As JSON and logs write it.
            let escaped = serde_json::to_string(secret).unwrap_or_default();
            let escaped = escaped.trim_matches('"');
            if escaped != secret && text.contains(escaped) {
                text = text.replace(escaped, HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_logins_and_webhooks_are_found_and_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let logins = folder.path().join("auth.json");
        // robot:hunter2
        let auths = r#"{"auths": {"r.test": {"auth": "cm9ib3Q6aHVudGVyMg=="}, "q.test": {"identitytoken": "tok\"en-1"}}}"#;
        std::fs::write(&logins, auths).unwrap();
        let config = Config::parse(
            "jobs: {j: {images: [{reference: r.test/a}], to: {oci: f}, notify: [{url: \"https://h.test/hooks/T0SECRET?k=sesame\", on: [failed]}]}}\n",
            "c.yaml",
        )
        .unwrap();
        let secrets = Secrets::of(&config, &[logins, folder.path().join("none")]);
        for text in [
            "Authorization: Basic cm9ib3Q6aHVudGVyMg==",
            "password hunter2!",
            r#"{"token": "tok\"en-1"}"#,
            "POST https://h.test/hooks/T0SECRET?k=sesame",
            "T0SECRET",
            "sesame",
        ] {
            let hidden = secrets.hidden_in(text);
            assert!(hidden.contains("***"), "{hidden}");
            for secret in ["cm9i", "hunter2", "en-1", "T0SECRET", "sesame"] {
                assert!(!hidden.contains(secret), "{hidden}");
            }
        }
        assert_eq!(secrets.hidden_in("r.test/a"), "r.test/a");
    }
}
