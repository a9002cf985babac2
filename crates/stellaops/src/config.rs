mod center;
mod check;
mod cron;
mod images;
mod job;
mod key;
mod keys;
mod place;
mod reference;
mod schedule;
mod schema;
mod secret;
#[cfg(test)]
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mirror_plan::JobName;
use oci_content::Registry;
use registry_client::RequestRate;
use serde::{Deserialize, Deserializer};

pub(crate) use self::center::{CenterConfig, TlsConfig};
pub(crate) use self::check::{Finding, Severity, demand, findings};
pub(crate) use self::cron::Cron;
pub(crate) use self::images::ImageConfig;
pub(crate) use self::job::{BundlePath, BundleTo, JobConfig, JobTarget, MirrorTo};
pub(crate) use self::place::Places;
pub(crate) use self::reference::markdown;
pub(crate) use self::schedule::{Hook, NotifyConfig, RunEnd, ScheduleConfig, is_loopback};
pub(crate) use self::schema::schema;
pub(crate) use self::secret::Secret;

use crate::budget;
use crate::exit::{Exit, Failure};
use crate::small_file::read_option;
use crate::window::{Hours, Zone};
use crate::yaml_error;

/// The configuration file. Unknown keys are errors that name the key and the line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) export: ExportConfig,
    pub(crate) import: ImportConfig,
    /// Settings by registry, named as in references.
    #[serde(deserialize_with = "by_registry")]
    pub(crate) registries: BTreeMap<Registry, RegistryConfig>,
    /// What is mirrored where, by name.
    pub(crate) jobs: BTreeMap<JobName, JobConfig>,
    /// The settings of the service.
    pub(crate) center: CenterConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportConfig {
    pub(crate) output: Option<PathBuf>,
    /// The bundle that a delta is based on.
    pub(crate) base: Option<PathBuf>,
    pub(crate) images: Vec<ImageConfig>,
    #[serde(deserialize_with = "platforms")]
    pub(crate) platforms: Vec<oci_content::Platform>,
    pub(crate) referrer_discovery: DiscoveryConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ImportConfig {
    /// The only stream whose bundles are accepted.
    #[serde(deserialize_with = "parsed")]
    pub(crate) stream: Option<bundle_format::StreamName>,
    /// Whether bundles without a sequence are refused.
    pub(crate) require_sequence: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DiscoveryConfig {
    /// Seconds for one image.
    pub(crate) timeout_seconds: NonZeroU64,
    pub(crate) max_concurrent_discoveries: NonZeroUsize,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            timeout_seconds: NonZeroU64::new(120).unwrap_or(NonZeroU64::MIN),
            max_concurrent_discoveries: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistryConfig {
    pub(crate) plain_http: Option<bool>,
    pub(crate) max_in_flight: Option<NonZeroUsize>,
    #[serde(deserialize_with = "budget::requests")]
    pub(crate) requests_per_second: Option<RequestRate>,
    #[serde(deserialize_with = "budget::bytes")]
    pub(crate) bytes_per_second: Option<NonZeroU64>,
    /// The time of day in which requests may go to the registry.
    pub(crate) window: Option<Hours>,
    /// The zone of `window`; by default the machine's.
    pub(crate) time_zone: Option<Zone>,
    #[serde(deserialize_with = "referrers_api")]
    pub(crate) referrers_api: Option<ApiConfig>,
    /// Certificates to trust for this registry: those of authorities, or its own.
    pub(crate) ca_file: Option<PathBuf>,
    /// A client certificate for this registry only; its key follows.
    pub(crate) client_cert: Option<PathBuf>,
    #[serde(deserialize_with = "secret::optional_key")]
    pub(crate) client_key: Option<Secret>,
    /// Whether verification of the registry's certificate is switched off.
    pub(crate) insecure_skip_verify: bool,
}

/// What an administrator knows about a registry although its answers do not show it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApiConfig {
    Unsupported,
}

/// Reads `referrers_api`. That a registry has the API is for its answers to show: a wrong claim
/// would change nothing or hide an error.
fn referrers_api<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ApiConfig>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let reason = match text.as_str() {
        "unsupported" => return Ok(Some(ApiConfig::Unsupported)),
        "supported" => "whether a registry has the referrers API is found out by asking it",
        _ => "it is not a value of referrers_api",
    };
    Err(serde::de::Error::custom(format!(
        "{text:?}: {reason}; only `unsupported` can be configured"
    )))
}

/// Reads the registries; a name that no reference can have is an error, since its settings would never apply.
fn by_registry<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Registry, RegistryConfig>, D::Error> {
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(try_from = "String")]
    struct Name(Registry);
    impl TryFrom<String> for Name {
        type Error = oci_content::ReferenceError;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse().map(Self)
        }
    }
    let registries = BTreeMap::<Name, RegistryConfig>::deserialize(deserializer)?;
    Ok(registries
        .into_iter()
        .map(|(name, registry)| (name.0, registry))
        .collect())
}

/// Reads a value that is written as text.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn platforms<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<oci_content::Platform>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        oci_content::Platform::parse(text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not OS/ARCH or OS/ARCH/VARIANT"))
        })
    };
    texts.iter().map(parse).collect()
}

impl Config {
    /// Returns the configured registries: those with settings, and those of the images and targets.
    pub(crate) fn registries(&self) -> BTreeSet<Registry> {
        let jobs = || self.jobs.values();
        let images = self.export.images.iter();
        let images = images.chain(jobs().flat_map(|job| &job.images));
        let of_images = images.map(|image| image.rule.registry());
        let of_targets = jobs().filter_map(|job| match &job.to {
            JobTarget::Mirror(MirrorTo::Registry(to)) => Some(&to.registry),
            JobTarget::Mirror(MirrorTo::Layout(_)) | JobTarget::Bundle(_) => None,
        });
        let named = of_images.chain(of_targets).cloned();
        self.registries.keys().cloned().chain(named).collect()
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(&Self::text(path)?, &Self::name(path))
    }

    /// Returns how messages call the configuration in a file.
    pub(crate) fn name(path: &Path) -> String {
        format!("configuration {}", path.display())
    }

    /// Reads the text of a configuration.
    pub(crate) fn text(path: &Path) -> Result<String, Failure> {
        let text = read_option(path, "configuration")?;
        String::from_utf8(text).map_err(|_| {
            let message = format!("{}: it is not UTF-8 text", Self::name(path));
            Failure::new(Exit::Usage, message)
        })
    }

    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map(|place| (place.line(), place.column()));
            // The lines after the first quote the file, including secrets.
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            yaml_error::failure(name, text, place, reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_keys_are_read() {
        let config = Config::parse(
            "export:\n  output: bundle.tgz\n  images:\n  - reference: registry.example.com/team/app:1.0\n  - repository: \
             registry.example.com/team/db\n    tags: {semver: \">=1.2, <2\", newest: 3}\n  platforms: [linux/amd64]\n  \
             referrer_discovery:\n    timeout_seconds: 60\n    max_concurrent_discoveries: 2\nregistries:\n  \
             localhost:5000: {plain_http: true, referrers_api: unsupported}\n  \
             Lab.example.com: {ca_file: ca.pem, client_cert: c.pem, client_key: k.pem, insecure_skip_verify: true}\n  \
             hub.example.com: {max_in_flight: 4, requests_per_second: 0.5, bytes_per_second: 20MB, window: \"22:00-06:00\", time_zone: Europe/Berlin}\n",
            "c.yaml",
        )
        .unwrap();
        assert_eq!(config.export.referrer_discovery.timeout_seconds.get(), 60);
        assert_eq!(
            config
                .export
                .referrer_discovery
                .max_concurrent_discoveries
                .get(),
            2
        );
        assert_eq!(config.export.images.len(), 2);
        assert_eq!(config.export.platforms[0].to_string(), "linux/amd64");
        assert!(matches!(
            config.registries["localhost:5000"].referrers_api,
            Some(ApiConfig::Unsupported)
        ));
        let lab = &config.registries["lab.example.com"];
        assert!(lab.insecure_skip_verify);
        for (file, name) in [(&lab.ca_file, "ca.pem"), (&lab.client_cert, "c.pem")] {
            assert_eq!(file.as_deref(), Some(Path::new(name)));
        }
        assert_eq!(lab.client_key, Some(Secret::File("k.pem".into())));
        let hub = &config.registries["hub.example.com"];
        assert_eq!(hub.requests_per_second, RequestRate::per_second(0.5));
        assert_eq!(hub.bytes_per_second, NonZeroU64::new(20_000_000));
        assert_eq!(hub.window, "22:00-06:00".parse().ok());
        assert!(hub.time_zone.is_some());
        let defaults = Config::parse("", "c.yaml")
            .unwrap()
            .export
            .referrer_discovery;
        assert_eq!(
            (
                defaults.timeout_seconds.get(),
                defaults.max_concurrent_discoveries.get()
            ),
            (120, 4)
        );
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_line() {
        for (text, wanted) in [
            (
                "export:\n  referer_discovery: {}\n",
                ["referer_discovery", "2"],
            ),
            (
                "export:\n  referrer_discovery:\n    timeout_seconds: 0\n",
                ["nonzero", "3"],
            ),
            ("export:\n  platforms: [linux]\n", ["linux", "2"]),
            (
                "registries:\n  r.test: {insecure_skip_verfy: true}\n",
                ["insecure_skip_verfy", "2"],
            ),
            ("registries:\n  https://r.test: {}\n", ["registry", "2"]),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags:\n      regex: \"^1[.\"\n",
                ["unclosed character class", "5 | "],
            ),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags: {exclude: \"(?=x)\"}\n",
                ["look-around", "4 | "],
            ),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags: {semver: \"1 || 2\"}\n",
                ["alternatives", "4 | "],
            ),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags: {newest: 0}\n",
                ["nonzero", "4 | "],
            ),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags: {order: date}\n",
                ["date", "4 | "],
            ),
            (
                "export:\n  images:\n  - repository: r.test/a\n    tags: {globs: x}\n",
                ["globs", "4 | "],
            ),
            (
                "export:\n  images:\n  - repositories: r.test/Team/*\n",
                ["'T' is not allowed", "3 | "],
            ),
            (
                "export:\n  images:\n  - reference: r.test/a\n    tags: {newest: 1}\n",
                ["not with `reference`", "3 | "],
            ),
            ("export:\n  images:\n  - {}\n", ["exactly one of", "3 | "]),
            (
                "export:\n  images:\n  - reference: r.test/a\n    repository: r.test/a\n",
                ["exactly one of", "3 | "],
            ),
            (
                "registries:\n  r.test: {referrers_api: supported}\n",
                ["only `unsupported` can be configured", "2"],
            ),
            (
                "registries:\n  r.test: {referrers_api: no}\n",
                ["\"no\"", "2"],
            ),
            (
                "registries:\n  r.test:\n    requests_per_second: 0\n",
                ["\"0\" is not a limit of requests per second", "3"],
            ),
            (
                "registries:\n  r.test: {requests_per_second: -1}\n",
                ["\"-1\"", "2"],
            ),
            (
                "registries:\n  r.test: {requests_per_second: 50/s}\n",
                ["\"50/s\"", "2"],
            ),
            (
                "registries:\n  r.test: {bytes_per_second: 20}\n",
                ["\"20\" is 20 bytes per second", "2"],
            ),
            (
                "registries:\n  r.test: {requests_per_second: .inf}\n",
                [".inf", "2"],
            ),
            (
                "registries:\n  r.test: {window: 22-6}\n",
                ["\"22-6\" is not a window", "2"],
            ),
            (
                "registries:\n  r.test: {time_zone: Europe/Berlln}\n",
                ["\"Europe/Berlln\" is not a time zone", "2"],
            ),
        ] {
            let error = Config::parse(text, "c.yaml").unwrap_err();
            let shown = format!("{error} {:?}", error.quote());
            assert!(wanted.iter().all(|part| shown.contains(part)), "{shown}");
        }
    }
}
