//! The rules of a policy, as written in its file.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use oci_content::{ArtifactCategory, Reference};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::judged::JudgedReferrer;
use super::repository_pattern::{RepositoryPattern, matches_type};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "version")]
    _version: Version,
    pub(super) rules: Rules,
    #[serde(default)]
    pub(super) unused: Unused,
}

/// What happens with a rule that applies to no image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unused {
    #[default]
    Refuse,
    Allow,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "u64")]
struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(version: u64) -> Result<Self, String> {
        match version {
            1 => Ok(Self),
            other => Err(format!(
                "version {other} of a policy is not known to this release, which reads version 1"
            )),
        }
    }
}

/// At least one rule, all with different names.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<Rule>")]
pub(super) struct Rules(pub(super) Vec<Rule>);

impl TryFrom<Vec<Rule>> for Rules {
    type Error = String;

    fn try_from(rules: Vec<Rule>) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        match rules.iter().find(|rule| !names.insert(&*rule.name)) {
            Some(twice) => Err(format!("two rules are called {:?}", twice.name)),
            None if rules.is_empty() => Err("a policy without rules judges nothing".into()),
            None => Ok(Self(rules)),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RuleFields")]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) images: Vec<RepositoryPattern>,
    pub(super) except: Vec<RepositoryPattern>,
    /// The repositories that the image is imported into.
    pub(super) target: Vec<RepositoryPattern>,
    pub(super) unused: Unused,
    pub(super) require: Vec<Requirement>,
    pub(super) deny: Vec<Selector>,
    pub(super) signed: Vec<Signed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFields {
    name: String,
    #[serde(default)]
    images: Vec<RepositoryPattern>,
    #[serde(default)]
    except: Vec<RepositoryPattern>,
    #[serde(default)]
    target: Vec<RepositoryPattern>,
    #[serde(default)]
    unused: Unused,
    #[serde(default, deserialize_with = "one_or_more")]
    require: Vec<Requirement>,
    #[serde(default, deserialize_with = "one_or_more")]
    deny: Vec<Selector>,
    #[serde(default)]
    signed: Vec<Signed>,
}

/// The most characters of a rule's name, since names are part of findings, whose length is limited.
const MAX_NAME_CHARS: usize = 64;

impl TryFrom<RuleFields> for Rule {
    type Error = String;

    fn try_from(fields: RuleFields) -> Result<Self, String> {
        let name = fields.name;
        let printable = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
        if name.trim().is_empty()
            || name.chars().count() > MAX_NAME_CHARS
            || !name.chars().all(printable)
        {
            return Err(format!(
                "a rule's name has 1 to {MAX_NAME_CHARS} characters that can be printed"
            ));
        }
        if fields.require.is_empty() && fields.deny.is_empty() && fields.signed.is_empty() {
            return Err(format!(
                "the rule {name:?} has none of `require`, `deny` and `signed`, so it demands nothing"
            ));
        }
        Ok(Self {
            name,
            images: fields.images,
            except: fields.except,
            target: fields.target,
            unused: fields.unused,
            require: fields.require,
            deny: fields.deny,
            signed: fields.signed,
        })
    }
}

impl Rule {
    /// Returns whether the rule applies to an image.
    pub(super) fn selects(&self, image: &Reference, target: Option<&str>) -> bool {
        let name = format!("{}/{}", image.registry(), image.repository());
        let any = |patterns: &[RepositoryPattern], name: &str| {
            patterns.iter().any(|pattern| pattern.matches(name))
        };
        let goes_there =
            self.target.is_empty() || target.is_some_and(|target| any(&self.target, target));
        (self.images.is_empty() || any(&self.images, &name))
            && !any(&self.except, &name)
            && goes_there
    }

    pub(super) fn needs_dates(&self) -> bool {
        self.require.iter().any(|require| require.max_age.is_some())
    }

    pub(super) fn needs_date_of(&self, referrer: &JudgedReferrer) -> bool {
        self.require
            .iter()
            .any(|require| require.max_age.is_some() && require.what.matches(referrer))
    }
}

/// A referrer that is required.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RequirementFields")]
pub(super) struct Requirement {
    pub(super) what: Selector,
    pub(super) min: usize,
    pub(super) per: Per,
    pub(super) max_age: Option<Age>,
    pub(super) undated_counts: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementFields {
    category: Option<Category>,
    artifact_type: Option<String>,
    min: Option<NonZeroU32>,
    #[serde(default)]
    per: Per,
    max_age: Option<Age>,
    undated: Option<Undated>,
}

impl TryFrom<RequirementFields> for Requirement {
    type Error = String;

    fn try_from(fields: RequirementFields) -> Result<Self, String> {
        if fields.undated.is_some() && fields.max_age.is_none() {
            return Err(
                "`undated` says what a document without a date is to `max_age`, which is not given"
                    .into(),
            );
        }
        let min = fields.min.unwrap_or(NonZeroU32::MIN).get();
        Ok(Self {
            what: Selector::new(fields.category, fields.artifact_type)?,
            min: usize::try_from(min).unwrap_or(usize::MAX),
            per: fields.per,
            max_age: fields.max_age,
            undated_counts: matches!(fields.undated, Some(Undated::Allow)),
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Per {
    #[default]
    Image,
    Platform,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Undated {
    Allow,
    Deny,
}

/// The referrers that a rule is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "SelectorFields")]
pub(super) enum Selector {
    Category(ArtifactCategory),
    ArtifactType(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorFields {
    category: Option<Category>,
    artifact_type: Option<String>,
}

impl TryFrom<SelectorFields> for Selector {
    type Error = String;

    fn try_from(fields: SelectorFields) -> Result<Self, String> {
        Self::new(fields.category, fields.artifact_type)
    }
}

impl Selector {
    fn new(category: Option<Category>, artifact_type: Option<String>) -> Result<Self, String> {
        match (category, artifact_type) {
            (Some(category), None) => Ok(Self::Category(category.0)),
            (None, Some(pattern)) if !pattern.is_empty() => Ok(Self::ArtifactType(pattern)),
            _ => Err("give either `category` or `artifact_type`".into()),
        }
    }

    pub(super) fn matches(&self, referrer: &JudgedReferrer) -> bool {
        match self {
            Self::Category(category) => referrer.category == *category,
            Self::ArtifactType(pattern) => {
                let own = referrer.artifact_type.as_deref();
                own.is_some_and(|own| matches_type(pattern, own))
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Category(category) => write!(f, "the category {category}"),
            Self::ArtifactType(pattern) => write!(f, "the artifact type {pattern}"),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Category(ArtifactCategory);

impl TryFrom<String> for Category {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = ArtifactCategory::from_name(&name);
        known.map(Self).ok_or_else(|| {
            let names = ArtifactCategory::ALL
                .map(ArtifactCategory::as_str)
                .join(", ");
            format!("{name:?} is no category; there are {names}")
        })
    }
}

/// What has to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Signed {
    Image,
    Platform,
    Bundle,
    Each(ArtifactCategory),
}

impl TryFrom<String> for Signed {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match (&*name, ArtifactCategory::from_name(&name)) {
            ("image", _) => Ok(Self::Image),
            ("platform", _) => Ok(Self::Platform),
            ("bundle", _) => Ok(Self::Bundle),
            (_, Some(ArtifactCategory::Signature)) => {
                Err("a signature is not asked for a signature of its own".into())
            }
            (_, Some(category)) => Ok(Self::Each(category)),
            _ => Err(format!(
                "{name:?} is nothing that can be signed: name image, platform, bundle, or a category"
            )),
        }
    }
}

/// The most age of something, with the text it was read from.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Age {
    pub(super) text: String,
    pub(super) duration: Duration,
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let seconds = match text.chars().last()? {
                'h' => 3_600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return None,
            };
            let number = &text[..text.len() - 1];
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number: u64 = digits.then(|| number.parse().ok())??;
            number.checked_mul(seconds).map(Duration::from_secs)
        };
        match parse() {
            Some(duration) if !duration.is_zero() => Ok(Self { duration, text }),
            _ => Err(format!(
                "{text:?} is no age: write hours, days or weeks, as in 12h, 30d or 6w"
            )),
        }
    }
}

/// Reads one item, or a list of items.
fn one_or_more<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct OneOrMore<T>(PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping, or a list of mappings")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = sequence.next_element()? {
                all.push(one);
            }
            if all.is_empty() {
                Err(A::Error::custom("an empty list demands nothing"))
            } else {
                Ok(all)
            }
        }
    }

    deserializer.deserialize_any(OneOrMore(PhantomData))
}
