//! What can be found out about a configuration without a network: the files that it names, keys, schedules.
//!
//! `config check` looks at all of it. A start and a reload of the service demand what needs no other file: files may come and
//! go while the service runs, and whatever uses one says so.

use std::fmt;
use std::iter::{once, successors};
use std::path::Path;

use bundle_format::{SigningKey, StreamName};
use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan as _};
use mirror_plan::JobName;
use oci_content::{Registry, with_causes};
use registry_client::ClientOptions;

use super::job::{BundleTo, JobConfig, JobTarget, MirrorTo};
use super::schedule::{Hook, NotifyConfig, ScheduleConfig};
use super::{CenterConfig, Config, RegistryConfig, Secret};
use crate::arguments::{output, policy};
use crate::center::token::Tokens;
use crate::exit::{Exit, Failure};
use crate::small_file;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Something that is wrong with a configuration that could be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The path of the value, as keys and numbers of items.
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
    pub(crate) severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    /// It may be right in the environment of the service.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.message)
    }
}

/// Checks a configuration and the files that it names, in the order of its sections.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    check(config, true)
}

/// Refuses a configuration that the service can never do, whatever is in the files that it names.
pub(crate) fn demand(config: &Config) -> Result<(), Failure> {
    let mut findings = check(config, false).into_iter();
    match findings.find(|finding| finding.severity == Severity::Error) {
        Some(error) => Err(Failure::new(Exit::Usage, format!("configuration: {error}"))),
        None => Ok(()),
    }
}

fn check(config: &Config, reads_files: bool) -> Vec<Finding> {
    let mut check = Check {
        reads_files,
        path: Vec::new(),
        findings: Vec::new(),
    };
    check.at("export", |check| {
        if let Some(base) = &config.export.base {
            check.at("base", |check| check.file(base));
        }
    });
    check.at("registries", |check| {
        for (name, registry) in &config.registries {
            check.at(name.as_str(), |check| check.registry(name, registry));
        }
    });
    check.at("jobs", |check| {
        for (name, job) in &config.jobs {
            check.at(name.as_str(), |check| {
                check.job(job);
                check.at("to", |check| check.series(config, name, job));
            });
        }
    });
    check.at("center", |check| check.center(&config.center));
    check.findings
}

/// A walk through the configuration.
struct Check {
    /// Whether files and secrets are looked at.
    reads_files: bool,
    path: Vec<String>,
    findings: Vec<Finding>,
}

impl Check {
    fn at<T>(&mut self, step: &str, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step.to_owned());
        let value = walk(self);
        self.path.pop();
        value
    }

    fn found(&mut self, severity: Severity, message: impl Into<String>) {
        self.findings.push(Finding {
            path: self.path.clone(),
            message: message.into(),
            severity,
        });
    }

    fn error(&mut self, message: impl Into<String>) {
        self.found(Severity::Error, message);
    }

    /// Notes an error, if there is one.
    fn good<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }

    fn file(&mut self, path: &Path) {
        if !self.reads_files {
            return;
        }
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                self.error(format!("{} is a folder", path.display()));
            }
            Ok(_) => {}
            Err(error) => self.error(format!("{}: {error}", path.display())),
        }
    }

    /// Checks the folder of a file that will be written; an empty path is the current folder.
    fn folder_of(&mut self, path: &Path) {
        let folder = path.parent().unwrap_or(path);
        if self.reads_files && !folder.as_os_str().is_empty() && !folder.is_dir() {
            self.error(format!("there is no folder {}", folder.display()));
        }
    }

    /// Reads a secret. A variable may be set for the service only.
    fn secret(&mut self, secret: &Secret) -> Option<Vec<u8>> {
        if !self.reads_files {
            return None;
        }
        match secret.read() {
            Ok(value) => Some(value.as_bytes().to_vec()),
            Err(error) => {
                let severity = match secret.file() {
                    Some(_) => Severity::Error,
                    None => Severity::Warning,
                };
                self.found(severity, error);
                None
            }
        }
    }

    fn registry(&mut self, name: &Registry, registry: &RegistryConfig) {
        if let Some(path) = &registry.ca_file {
            self.at("ca_file", |check| check.roots(path));
        }
        match (&registry.client_cert, &registry.client_key) {
            (Some(certificate), Some(key)) => {
                let pem = self.at("client_cert", |check| check.bytes(certificate));
                let key = self.at("client_key", |check| check.secret(key));
                if let (Some(mut pem), Some(key)) = (pem, key) {
                    pem.push(b'\n');
                    pem.extend(key);
                    pem.push(b'\n');
                    let checked = ClientOptions::check_identity(&pem);
                    let checked = checked.map_err(|error| with_causes(&error));
                    self.at("client_cert", |check| check.good(checked));
                }
            }
            (None, None) => {}
            _ => self.error("client_cert and client_key go together, and one is missing"),
        }
        if registry.time_zone.is_some() && registry.window.is_none() {
            self.at("time_zone", |check| {
                check.error("it is that of the window, and there is no window");
            });
        }
        if registry.insecure_skip_verify && !name.is_loopback() {
            self.at("insecure_skip_verify", |check| {
                let message =
                    "anyone who answers at the registry's address is trusted and sees what is sent";
                check.found(Severity::Warning, message);
            });
        }
    }

    fn bytes(&mut self, path: &Path) -> Option<Vec<u8>> {
        if !self.reads_files {
            return None;
        }
        let read = small_file::read(path, MAX_BYTES);
        self.good(read.map_err(|error| format!("{}: {error}", path.display())))
    }

    fn roots(&mut self, path: &Path) {
        if let Some(pem) = self.bytes(path) {
            let checked = ClientOptions::check_roots(&pem);
            self.good(
                checked.map_err(|error| format!("{}: {}", path.display(), with_causes(&error))),
            );
        }
    }

    fn job(&mut self, job: &JobConfig) {
        if let Some(path) = job.policy.as_ref().filter(|_| self.reads_files) {
            self.at("policy", |check| {
                let policy = policy::of_file(path, &path.display().to_string());
                check.good(policy.map_err(|failure| failure.to_string()));
            });
        }
        self.at("to", |check| match &job.to {
            JobTarget::Bundle(to) => check.bundle(to),
            JobTarget::Mirror(_) => {}
        });
        if let Some(schedule) = &job.schedule {
            self.at("schedule", |check| check.schedule(schedule));
        }
        if let Some(audit) = &job.audit {
            self.at("audit", |check| {
                check.schedule(&audit.schedule);
                if !matches!(job.to, JobTarget::Mirror(MirrorTo::Registry(_))) {
                    check.error("only registries are audited: it goes with `to.registry`");
                }
            });
        }
        self.at("notify", |check| {
            for (at, notify) in job.notify.iter().enumerate() {
                check.at(&at.to_string(), |check| check.notify(notify));
            }
        });
    }

    fn bundle(&mut self, to: &BundleTo) {
        self.at("bundle", |check| {
            check.folder_of(&to.path.file(1));
            let fits = output::check(&to.path.file(1), "to.bundle");
            check.good(fits.map_err(|failure| failure.to_string()));
        });
        if let Some(secret) = &to.sign_key {
            self.at("sign_key", |check| {
                if let Some(pem) = check.secret(secret) {
                    let key = SigningKey::from_pem(&String::from_utf8_lossy(&pem));
                    check.good(key.map_err(|error| format!("{secret}: {error}")));
                }
            });
        }
    }

    /// Refuses two jobs that write the same files, and a job whose name is not that of a stream.
    fn series(&mut self, config: &Config, name: &JobName, job: &JobConfig) {
        let JobTarget::Bundle(to) = &job.to else {
            return;
        };
        if let Err(reason) = name.as_str().parse::<StreamName>() {
            self.error(format!(
                "its bundles are a stream of that name, and {reason}"
            ));
        }
        let is_same = |other: &JobConfig| match &other.to {
            JobTarget::Bundle(other) => other.path.file(1) == to.path.file(1),
            JobTarget::Mirror(_) => false,
        };
        let earlier = config.jobs.range::<JobName, _>(..name);
        if let Some((other, _)) = earlier.into_iter().find(|(_, other)| is_same(other)) {
            self.at("bundle", |check| {
                check.error(format!("job {other} writes the same files"));
            });
        }
    }

    fn schedule(&mut self, schedule: &ScheduleConfig) {
        let cron = &schedule.cron;
        let now = Timestamp::now().to_zoned_datetime(schedule.zone());
        let Some(first) = cron.next_after(now.datetime()) else {
            self.at("cron", |check| {
                check.error(format!("{:?} never comes", cron.as_str()));
            });
            return;
        };
        let Some(hours) = schedule.window else {
            return;
        };
        // Every day that fits has the same times of day, so these are all of them.
        let after = successors(Some(first), |time| cron.next_after(*time)).skip(1);
        let rest = after.take_while(|time| time.time() != first.time());
        let times: Vec<_> = once(first).chain(rest).collect();
        let jitter = i64::from(schedule.jitter_seconds).seconds();
        let outside = |time: &&DateTime| !hours.contains(time.time());
        let late = |time: &&DateTime| {
            let last = time.checked_add(jitter);
            last.is_ok_and(|last| !hours.contains(last.time()))
        };
        self.at("window", |check| {
            if times.iter().all(|time| outside(&time)) {
                check.error(format!("no run of {:?} begins in {hours}", cron.as_str()));
            } else if let Some(time) = times.iter().find(outside) {
                check.found(
                    Severity::Warning,
                    format!("the run at {time} begins outside {hours}"),
                );
            } else if times.iter().any(|time| late(&time)) {
                let seconds = schedule.jitter_seconds;
                check.found(
                    Severity::Warning,
                    format!("a run that is {seconds} s late begins outside {hours}"),
                );
            }
        });
    }

    fn notify(&mut self, notify: &NotifyConfig) {
        if let Hook::Secret(secret) = &notify.url {
            self.at("url", |check| {
                if check.secret(secret).is_some() {
                    check.good(notify.url.resolved());
                }
            });
        }
        if let Some(secret) = &notify.secret {
            self.at("secret", |check| check.secret(secret));
        }
    }

    fn center(&mut self, center: &CenterConfig) {
        if self.reads_files && center.state.exists() && !center.state.is_dir() {
            self.at("state", |check| {
                check.error(format!("{} is not a folder", center.state.display()));
            });
        }
        // The default one is made when the service is installed.
        if center.log_file != CenterConfig::default().log_file {
            self.at("log_file", |check| check.folder_of(&center.log_file));
        }
        if !center.listen.ip().is_loopback() {
            let mut missing = Vec::new();
            if center.tls.is_none() {
                missing.push("tls");
            }
            if center.tokens.is_none() {
                missing.push("tokens");
            }
            if !missing.is_empty() {
                let missing = missing.join(" and ");
                self.at("listen", |check| {
                    check.error(format!(
                        "{} is not loopback, which requires {missing}; without center.tls and center.tokens the service \
                         listens on 127.0.0.1 only",
                        center.listen
                    ));
                });
            }
        }
        if let Some(tls) = &center.tls {
            self.at("tls", |check| {
                let cert = check.at("cert", |check| check.bytes(&tls.cert));
                let key = check.at("key", |check| check.secret(&tls.key));
                if let (Some(cert), Some(key)) = (cert, key) {
                    let config = registry_server::tls_config(&cert, &key);
                    let config = config.map_err(|error| with_causes(&error));
                    check.at("cert", |check| check.good(config.map(drop)));
                }
                if let Some(path) = &tls.client_ca {
                    check.at("client_ca", |check| check.roots(path));
                }
            });
        }
        if let Some(path) = center.tokens.as_ref().filter(|_| self.reads_files) {
            self.at("tokens", |check| {
                let tokens = Tokens::read(path);
                check.good(tokens.map_err(|failure| failure.to_string()));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(yaml: &str) -> Vec<String> {
        let config = Config::parse(yaml, "c.yaml").unwrap();
        findings(&config).iter().map(ToString::to_string).collect()
    }

    fn of_schedule(schedule: &str) -> Vec<String> {
        let job = "images: [{reference: r.test/a}], to: {oci: f}";
        found(&format!(
            "jobs:\n  j: {{{job}, schedule: {{{schedule}}}}}\n"
        ))
    }

    #[test]
    fn a_schedule_comes_and_its_runs_begin_in_its_window() {
        for good in [
            "cron: \"0 2 * * *\", window: \"01:00-05:00\", jitter_seconds: 300",
            "cron: \"30 23 * * *\", window: \"22:00-06:00\", jitter_seconds: 3600",
            "cron: \"0 0 29 2 *\"",
        ] {
            assert_eq!(of_schedule(good), [""; 0], "{good}");
        }
        for (schedule, message) in [
            (
                "cron: \"0 0 30 2 *\"",
                "schedule.cron: \"0 0 30 2 *\" never comes",
            ),
            (
                "cron: \"0 12 * * *\", window: \"01:00-05:00\"",
                "schedule.window: no run of \"0 12 * * *\" begins in 01:00-05:00",
            ),
            (
                "cron: \"0 4,5 * * *\", window: \"01:00-05:00\"",
                "begins outside 01:00-05:00",
            ),
            (
                "cron: \"55 4 * * *\", window: \"01:00-05:00\", jitter_seconds: 300",
                "a run that is 300 s late begins outside",
            ),
        ] {
            let found = of_schedule(schedule);
            assert!(found.len() == 1 && found[0].contains(message), "{found:?}");
        }
    }

    #[test]
    fn a_window_far_ahead_is_compared_with_frequent_runs_as_well() {
        for hour in 0..24 {
            let hours = format!("{hour:02}:00-{:02}:00", hour + 1);
            let found = of_schedule(&format!("cron: \"* * * * *\", window: \"{hours}\""));
            let message = format!("begins outside {hours}");
            assert!(
                found.len() == 1 && found[0].ends_with(&message),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_is_named_has_to_be_there() {
        for (yaml, message) in [
            (
                "export: {base: none.tgz}\n",
                "export.base: none.tgz: No such file",
            ),
            (
                "registries: {r.test: {ca_file: none.pem}}\n",
                "registries.r.test.ca_file: none.pem",
            ),
            (
                "registries: {r.test: {client_cert: c.pem}}\n",
                "one is missing",
            ),
            (
                "registries: {r.test: {time_zone: UTC}}\n",
                "there is no window",
            ),
            (
                "registries: {r.test: {insecure_skip_verify: true}}\n",
                "is trusted",
            ),
            (
                "center: {listen: \"0.0.0.0:1\"}\n",
                "requires tls and tokens",
            ),
            ("center: {tokens: none}\n", "center.tokens: "),
            (
                "center: {tls: {cert: none.pem, key: Cargo.toml}}\n",
                "center.tls.cert: none.pem",
            ),
            (
                "center: {state: Cargo.toml}\n",
                "Cargo.toml is not a folder",
            ),
            (
                "center: {log_file: none/x.log}\n",
                "there is no folder none",
            ),
            (
                "jobs: {j: {images: [{reference: r.test/a}], to: {bundle: \"none/{sequence}\"}}}\n",
                "jobs.j.to.bundle: there is no folder none",
            ),
            (
                "jobs: {j: {images: [{reference: r.test/a}], to: {bundle: \"{sequence}\", sign_key: Cargo.toml}}}\n",
                "jobs.j.to.sign_key: Cargo.toml: ",
            ),
            (
                "jobs: {j: {images: [{reference: r.test/a}], to: {oci: f}, policy: Cargo.toml}}\n",
                "jobs.j.policy: Cargo.toml",
            ),
            (
                "jobs: {j: {images: [{reference: r.test/a}], to: {oci: f}, notify: [{url: \"https://a.test\", on: [failed], \
                 secret: env:STELLAOPS_NO_SUCH_VARIABLE}]}}\n",
                "jobs.j.notify.0.secret: there is no variable",
            ),
        ] {
            let found = found(yaml);
            assert!(found.len() == 1 && found[0].contains(message), "{found:?}");
        }
        let job = "{images: [{reference: r.test/a}], to: {bundle: \"{sequence}\"}}";
        let found = found(&format!("jobs: {{a: {job}, b: {job}}}\n"));
        assert_eq!(found, ["jobs.b.to.bundle: job a writes the same files"]);
    }
}
