//! The jobs of a mirror, as the configuration writes them.

use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use bundle_format::VolumeSize;
use mirror_import::{ImportError, MapRule, Mapping};
use oci_content::{Platform, Registry, RepositoryName};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::images::ImageConfig;
use super::schedule::{AuditConfig, NotifyConfig, ScheduleConfig};
use super::secret::{self, Secret};
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
    pub(crate) schedule: Option<ScheduleConfig>,
    /// When a registry is asked whether what the job brought is still there.
    pub(crate) audit: Option<AuditConfig>,
    #[serde(default)]
    pub(crate) notify: Vec<NotifyConfig>,
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
    /// A series of bundles.
    Bundle(BundleTo),
}

/// The target as the command line takes it, or the path of the series.
impl fmt::Display for JobTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mirror(MirrorTo::Registry(to)) => match &to.mapping.prefix {
                Some(prefix) => write!(f, "{}/{prefix}", to.registry),
                None => write!(f, "{}", to.registry),
            },
            Self::Mirror(MirrorTo::Layout(folder)) => write!(f, "oci:{}", folder.display()),
            Self::Bundle(to) => write!(f, "{}", to.path),
        }
    }
}

/// A series of bundles.
#[derive(Clone, Debug)]
pub(crate) struct BundleTo {
    pub(crate) path: BundlePath,
    pub(crate) sign_key: Option<Secret>,
    pub(crate) volume_size: Option<VolumeSize>,
    /// Every `full_every`th bundle is a full one, with deltas between; all are full if it is absent.
    pub(crate) full_every: Option<NonZeroU64>,
    /// The number of bundles that are kept, besides those that they are deltas on; all are if it is absent.
    pub(crate) keep: Option<NonZeroU64>,
}

/// The path of a series of bundles, in whose file name `{sequence}` stands for the number of each.
#[derive(Clone, Debug)]
pub(crate) struct BundlePath {
    folder: PathBuf,
    before: String,
    after: String,
}

impl BundlePath {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const SEQUENCE: &str = "{sequence}";
        if text.is_empty() {
            return Err("`to.bundle` names no file");
        }
        if text.replace(SEQUENCE, "").contains(['{', '}']) {
            return Err("`to.bundle` has braces around something other than {sequence}");
        }
        let (folder, name) = match text.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((folder, name)) => (folder, name),
            None => ("", text),
        };
        match name.split_once(SEQUENCE) {
            Some((before, after)) if !after.contains(SEQUENCE) && !folder.contains(SEQUENCE) => {
                Ok(Self {
                    folder: folder.into(),
                    before: before.to_owned(),
                    after: after.to_owned(),
                })
            }
            None if !folder.contains(SEQUENCE) => {
                Err("`to.bundle` has no {sequence}, so each bundle would replace the one before")
            }
            _ => Err("`to.bundle` has {sequence} once, in the name of the file"),
        }
    }

    /// Returns the file of a bundle.
    pub(crate) fn file(&self, sequence: u64) -> PathBuf {
        self.folder
            .join(format!("{}{sequence}{}", self.before, self.after))
    }

    /// Returns the folder of the series; empty for the current one.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the number of a bundle of the series by its file name; `None` for other files, such as the checksum or the
    /// volumes of a bundle.
    pub(crate) fn sequence(&self, file_name: &str) -> Option<u64> {
        let number = file_name.strip_prefix(&self.before)?;
        let number = number.strip_suffix(&self.after)?;
        let is_canonical = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        is_canonical.then(|| number.parse().ok()).flatten()
    }
}

/// The path, as the configuration writes it.
impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{}{{sequence}}{}", self.before, self.after);
        write!(f, "{}", self.folder.join(name).display())
    }
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
    #[serde(default, deserialize_with = "secret::optional_key")]
    sign_key: Option<Secret>,
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
                let number = |key: &str, number: Option<u64>| {
                    let number = number.map(|number| {
                        NonZeroU64::new(number)
                            .ok_or_else(|| format!("`to.{key}` must be at least 1"))
                    });
                    number.transpose()
                };
                Ok(Self::Bundle(BundleTo {
                    path: BundlePath::parse(&path)?,
                    sign_key: keys.sign_key,
                    volume_size: keys.volume_size,
                    full_every: number("full_every", keys.full_every)?,
                    keep: number("keep", keys.keep)?,
                }))
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

/// Reads the images of a job, of which there is at least one.
fn some_images<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ImageConfig>, D::Error> {
    let images = Vec::deserialize(deserializer)?;
    if images.is_empty() {
        return Err(D::Error::custom("a job has at least one entry in `images`"));
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_series_has_its_sequence_once_in_the_file_name() {
        for (text, third) in [
            ("/srv/nightly-{sequence}.tgz", "/srv/nightly-3.tgz"),
            ("/{sequence}.tgz", "/3.tgz"),
            ("{sequence}", "3"),
            ("a/b-{sequence}", "a/b-3"),
        ] {
            let path = BundlePath::parse(text).unwrap();
            assert_eq!(path.file(3), Path::new(third));
            assert_eq!(path.to_string(), text);
        }
        for text in [
            "",
            "/srv/nightly.tgz",
            "/srv/{sequence}/nightly.tgz",
            "/srv/{date}-{sequence}.tgz",
            "{sequence}-{sequence}.tgz",
            "{sequence}/",
        ] {
            assert!(BundlePath::parse(text).is_err(), "{text}");
        }
        let path = BundlePath::parse("/srv/n-{sequence}.tgz").unwrap();
        for (name, sequence) in [
            ("n-0.tgz", Some(0)),
            ("n-12.tgz", Some(12)),
            ("n-012.tgz", None),
            ("n-.tgz", None),
            ("n-1.tgz.sha256", None),
            (".n-1.tgz.partial", None),
            ("n-99999999999999999999.tgz", None),
        ] {
            assert_eq!(path.sequence(name), sequence, "{name}");
        }
    }
}
