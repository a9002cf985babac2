//! What is to be mirrored, as the configuration writes it.

use std::num::NonZeroUsize;

use mirror_plan::{ImageRule, RepositoryGlob, TagOrder, TagPattern, TagRule, VersionRange};
use oci_content::{Reference, SourceRepository};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::parsed;

/// One image, or the tags that a rule selects.
#[derive(Clone, Debug)]
pub(crate) struct ImageConfig {
    pub(crate) rule: ImageRule,
    /// Whether it is an error if nothing is selected.
    pub(crate) required: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default, deserialize_with = "parsed")]
    reference: Option<Reference>,
    #[serde(default, deserialize_with = "parsed")]
    repository: Option<SourceRepository>,
    #[serde(default, deserialize_with = "parsed")]
    repositories: Option<RepositoryGlob>,
    tags: Option<TagKeys>,
    required: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TagKeys {
    #[serde(deserialize_with = "parsed")]
    semver: Option<VersionRange>,
    #[serde(deserialize_with = "parsed")]
    regex: Option<TagPattern>,
    #[serde(deserialize_with = "parsed")]
    exclude: Option<TagPattern>,
    newest: Option<NonZeroUsize>,
    order: Order,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Semver,
    Alphabetical,
    Created,
}

impl From<TagKeys> for TagRule {
    fn from(keys: TagKeys) -> Self {
        let mut rule = Self::default();
        rule.semver = keys.semver;
        rule.regex = keys.regex;
        rule.exclude = keys.exclude;
        rule.newest = keys.newest;
        rule.order = match keys.order {
            Order::Semver => TagOrder::Semver,
            Order::Alphabetical => TagOrder::Alphabetical,
            Order::Created => TagOrder::Created,
        };
        rule
    }
}

impl<'de> Deserialize<'de> for ImageConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        let of_one_image = keys.tags.is_some() || keys.required.is_some();
        let tags = || keys.tags.map(TagRule::from).unwrap_or_default();
        let rule = match (keys.reference, keys.repository, keys.repositories) {
            (Some(_), None, None) if of_one_image => {
                let message = "`tags` and `required` go with `repository` or `repositories`, not with `reference`";
                return Err(D::Error::custom(message));
            }
            (Some(reference), None, None) => ImageRule::Image(reference),
            (None, Some(repository), None) => ImageRule::Repository(repository, tags()),
            (None, None, Some(glob)) => ImageRule::Repositories(glob, tags()),
            _ => {
                let message = "give exactly one of `reference`, `repository` and `repositories` for each entry";
                return Err(D::Error::custom(message));
            }
        };
        Ok(Self {
            rule,
            required: keys.required.unwrap_or_default(),
        })
    }
}
