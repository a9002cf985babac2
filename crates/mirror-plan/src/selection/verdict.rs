use oci_content::Tag;

use super::tag_rule::{TagOrder, TagRule};

/// A tag, and whether a rule selects it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JudgedTag {
    /// The tag.
    pub tag: Tag,
    /// Whether it is selected, and why not.
    pub verdict: TagVerdict,
}

/// Whether a rule selects a tag, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TagVerdict {
    /// The rule selects it.
    Selected,
    /// It is a referrers tag or a legacy tag: it is carried with its subject, and is no image.
    DigestTag,
    /// It is not a version, and the rule asks for versions.
    NotAVersion,
    /// It is a version outside the range of the rule.
    OutsideRange,
    /// The rule's pattern does not match.
    NotMatched,
    /// The rule's pattern of exclusions matches.
    Excluded,
    /// The rule takes a number of newest tags, and there are newer ones.
    Older,
    /// The registry lists it and does not have it.
    Vanished,
}

impl TagVerdict {
    /// Returns the word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Selected => "selected",
            Self::DigestTag => "digest-tag",
            Self::NotAVersion => "not-a-version",
            Self::OutsideRange => "outside-range",
            Self::NotMatched => "not-matched",
            Self::Excluded => "excluded",
            Self::Older => "older",
            Self::Vanished => "vanished",
        }
    }

    /// Returns the reason in words; `rule` is the rule that was applied.
    pub fn reason(self, rule: &TagRule) -> String {
        match self {
            Self::Selected => match rule.newest {
                Some(newest) => format!("among the newest {newest} {}", by(rule.order)),
                None => "matches the rule".to_owned(),
            },
            Self::DigestTag => {
                "a referrers tag or legacy tag, which is carried with its subject".to_owned()
            }
            Self::NotAVersion => "not a version".to_owned(),
            Self::OutsideRange => match &rule.semver {
                Some(range) => format!("not in the range {range}"),
                None => "not in the range".to_owned(),
            },
            Self::NotMatched => match &rule.regex {
                Some(pattern) => format!("does not match {pattern}"),
                None => "does not match".to_owned(),
            },
            Self::Excluded => match &rule.exclude {
                Some(pattern) => format!("excluded by {pattern}"),
                None => "excluded".to_owned(),
            },
            Self::Older => match rule.newest {
                Some(newest) => format!("not among the newest {newest} {}", by(rule.order)),
                None => "not among the newest".to_owned(),
            },
            Self::Vanished => "listed, but the registry does not have it".to_owned(),
        }
    }
}

fn by(order: TagOrder) -> &'static str {
    match order {
        TagOrder::Semver => "by version",
        TagOrder::Alphabetical => "in alphabetical order",
        TagOrder::Created => "by date of creation",
    }
}
