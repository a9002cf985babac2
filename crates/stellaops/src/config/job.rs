//! The jobs of a mirror, as the configuration writes them.

use std::path::PathBuf;

use bundle_format::VolumeSize;
use mirror_import::{ImportError, MapRule, Mapping};
use oci_content::{Platform, Registry, RepositoryName};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::images::ImageConfig;
use super::schedule::{NotifyConfig, ScheduleConfig};
use super::{parsed, platforms};
use crate::window::DailyWindow;

/// What is mirrored where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobConfig {
    #[serde(deserialize_with = "some_images")]
    pub(crate) images: Vec<ImageConfig>,
    #[serde(default, deserialize_with = "platforms")]
    pub(crate) platforms: Vec<Platform>,
    /// The file of the policy that the images must satisfy.
    pub(crate) policy: Option<PathBuf>,
    pub(crate) to: JobTarget,
    schedule: Option<ScheduleConfig>,
    #[serde(default)]
    #[expect(dead_code, reason = "checked here, and sent by the service")]
    notify: Vec<NotifyConfig>,
}

impl JobConfig {
    /// Returns the time of day in which the job may speak to registries.
    pub(crate) fn window(&self) -> Option<DailyWindow> {
        self.schedule.as_ref()?.window()
    }
}

/// Where a job puts what it mirrors.
#[derive(Clone, Debug)]
pub(crate) enum JobTarget {
    Mirror(MirrorTo),
    /// A series of bundles. Its settings are checked here, and used by the service.
    Bundle,
}

/// A place for images.
#[derive(Clone, Debug)]
pub(crate) enum MirrorTo {
    Registry(RegistryTo),
    /// An image layout folder.
    Layout(PathBuf),
}

/// `REGISTRY[/PREFIX]`.
#[derive(Clone, Debug)]
pub(crate) struct RegistryTo {
    pub(crate) registry: Registry,
    /// How repositories are named there.
    pub(crate) mapping: Mapping,
    /// Whether each run removes what no rule selects any more.
    pub(crate) prune: bool,
    /// The most tags that a prune removes without being asked to.
    pub(crate) max_prune: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    registry: Option<String>,
    oci: Option<PathBuf>,
    bundle: Option<String>,
    keep_host: Option<bool>,
    #[serde(default)]
    map: Vec<MapRuleText>,
    prune: Option<bool>,
    max_prune: Option<u64>,
    sign_key: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    volume_size: Option<VolumeSize>,
    full_every: Option<u64>,
    keep: Option<u64>,
}

/// `REGISTRY/REPOSITORY=REPOSITORY`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct MapRuleText(MapRule);

impl TryFrom<String> for MapRuleText {
    type Error = ImportError;

    fn try_from(text: String) -> Result<Self, ImportError> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for JobTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Keys::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JobTarget {
    fn read(keys: Keys) -> Result<Self, String> {
        let of_registry = keys.prune.is_some()
            || keys.max_prune.is_some()
            || keys.keep_host.is_some()
            || !keys.map.is_empty();
        let of_bundle = keys.sign_key.is_some()
            || keys.volume_size.is_some()
            || keys.full_every.is_some()
            || keys.keep.is_some();
        if of_registry && keys.registry.is_none() {
            return Err("`prune`, `max_prune`, `keep_host` and `map` go with `to.registry`".into());
        }
        if of_bundle && keys.bundle.is_none() {
            return Err(
                "`sign_key`, `volume_size`, `full_every` and `keep` go with `to.bundle`".into(),
            );
        }
        match (keys.registry, keys.oci, keys.bundle) {
            (Some(registry), None, None) => {
                let (registry, prefix) = registry_and_prefix(&registry)?;
                let mut mapping = Mapping::default();
                mapping.prefix = prefix;
                mapping.keep_host = keys.keep_host.unwrap_or_default();
                mapping.rules = keys.map.into_iter().map(|rule| rule.0).collect();
                Ok(Self::Mirror(MirrorTo::Registry(RegistryTo {
                    registry,
                    mapping,
                    prune: keys.prune.unwrap_or_default(),
                    max_prune: keys.max_prune,
                })))
            }
            (None, Some(folder), None) if folder.as_os_str().is_empty() => {
                Err("`to.oci` names no folder".into())
            }
            (None, Some(folder), None) => Ok(Self::Mirror(MirrorTo::Layout(folder))),
            (None, None, Some(path)) => {
                check_bundle(&path)?;
                for (key, number) in [("full_every", keys.full_every), ("keep", keys.keep)] {
                    if number == Some(0) {
                        return Err(format!("`to.{key}` must be at least 1"));
                    }
                }
                Ok(Self::Bundle)
            }
            _ => Err("give exactly one of `registry`, `oci` and `bundle` in `to`".into()),
        }
    }
}

fn registry_and_prefix(text: &str) -> Result<(Registry, Option<RepositoryName>), String> {
    let (registry, prefix) = match text.trim_end_matches('/').split_once('/') {
        Some((registry, prefix)) => (registry, Some(prefix)),
        None => (text.trim_end_matches('/'), None),
    };
    let registry = registry
        .parse()
        .map_err(|error| format!("`to.registry` is written REGISTRY[/PREFIX]: {error}"))?;
    let prefix = prefix.map(str::parse).transpose();
    let prefix =
        prefix.map_err(|error| format!("`to.registry` is written REGISTRY[/PREFIX]: {error}"))?;
    Ok((registry, prefix))
}

/// Checks the path of a series of bundles, in which `{sequence}` stands for the number of each.
fn check_bundle(path: &str) -> Result<(), String> {
    let rest = path.replace("{sequence}", "");
    if path.is_empty() {
        Err("`to.bundle` names no file".into())
    } else if rest.contains(['{', '}']) {
        Err("`to.bundle` has braces around something other than {sequence}".into())
    } else if rest == path {
        Err("`to.bundle` has no {sequence}, so each bundle would replace the one before".into())
    } else {
        Ok(())
    }
}

/// Reads the images of a job, of which there is at least one.
fn some_images<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ImageConfig>, D::Error> {
    let images = Vec::deserialize(deserializer)?;
    if images.is_empty() {
        return Err(D::Error::custom("a job has at least one entry in `images`"));
    }
    Ok(images)
}
