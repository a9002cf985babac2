use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use oci_content::{Tag, TagKind};
use semver::Version;

use super::pattern::TagPattern;
use super::range::{VersionRange, version};
use super::verdict::{JudgedTag, TagVerdict};

/// Which tags of a repository are selected. By default all are, except referrers tags and legacy
/// tags, which no rule selects.
///
/// The conditions apply one after the other: version, pattern, exclusion, and then the number of
/// newest among what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagRule {
    /// The versions; tags that are not versions are not selected.
    pub semver: Option<VersionRange>,
    /// What a tag must match.
    pub regex: Option<TagPattern>,
    /// What a tag must not match.
    pub exclude: Option<TagPattern>,
    /// The number of newest tags.
    pub newest: Option<NonZeroUsize>,
    /// What the newest are newest by; without [`newest`](Self::newest) it has no effect.
    pub order: TagOrder,
}

/// The order of tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TagOrder {
    /// By version; tags that are not versions are not selected.
    #[default]
    Semver,
    /// By the bytes of the text; the last is the newest.
    Alphabetical,
    /// By the date of the image's config, or the newest of its platforms' configs.
    ///
    /// What has no config with a date has the date of its annotation
    /// `org.opencontainers.image.created`; what has neither is older than everything with a date,
    /// and ordered by version and text.
    Created,
}

impl TagOrder {
    /// Returns the word for configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Semver => "semver",
            Self::Alphabetical => "alphabetical",
            Self::Created => "created",
        }
    }
}

/// The dates of tags, if the order needs them.
pub(crate) type Dates = BTreeMap<Tag, Option<SystemTime>>;

impl TagRule {
    /// Judges tags without asking a registry: those that are selected come first, newest first, then
    /// the others in alphabetical order.
    ///
    /// `dates` holds the dates of the tags that have one; only the order
    /// [`Created`](TagOrder::Created) uses them.
    pub fn judge(
        &self,
        tags: impl IntoIterator<Item = Tag>,
        dates: &BTreeMap<Tag, Option<SystemTime>>,
    ) -> Vec<JudgedTag> {
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for tag in tags {
            match self.condition(&tag) {
                None => kept.push(tag),
                Some(verdict) => others.push(JudgedTag { tag, verdict }),
            }
        }
        self.sort(&mut kept, dates);
        let newest = self.newest.map_or(usize::MAX, NonZeroUsize::get);
        let older = kept.split_off(newest.min(kept.len())).into_iter();
        others.extend(older.map(|tag| JudgedTag {
            tag,
            verdict: TagVerdict::Older,
        }));
        others.sort_by(|a, b| a.tag.cmp(&b.tag));
        let selected = kept.into_iter().map(|tag| JudgedTag {
            tag,
            verdict: TagVerdict::Selected,
        });
        selected.chain(others).collect()
    }

    /// Returns the first condition that a tag does not meet, without looking at other tags.
    pub(crate) fn condition(&self, tag: &Tag) -> Option<TagVerdict> {
        if tag.kind() != TagKind::Plain {
            return Some(TagVerdict::DigestTag);
        }
        let text = tag.as_str();
        let by_version = self.newest.is_some() && self.order == TagOrder::Semver;
        if self.semver.is_some() || by_version {
            let Some(version) = version(text) else {
                return Some(TagVerdict::NotAVersion);
            };
            if self
                .semver
                .as_ref()
                .is_some_and(|range| !range.contains(&version))
            {
                return Some(TagVerdict::OutsideRange);
            }
        }
        let found = |pattern: &TagPattern| pattern.is_found_in(text);
        if self.regex.as_ref().is_some_and(|regex| !found(regex)) {
            return Some(TagVerdict::NotMatched);
        }
        if self.exclude.as_ref().is_some_and(found) {
            return Some(TagVerdict::Excluded);
        }
        None
    }

    /// Returns the tags whose dates decide which are selected; none if no dates are needed.
    pub(crate) fn to_date(&self, tags: &[Tag]) -> Vec<Tag> {
        let Some(newest) = self.newest.filter(|_| self.order == TagOrder::Created) else {
            return Vec::new();
        };
        let tags = tags.iter().filter(|tag| self.condition(tag).is_none());
        let tags: Vec<Tag> = tags.cloned().collect();
        if tags.len() > newest.get() {
            tags
        } else {
            Vec::new()
        }
    }

    /// Sorts tags, the newest first.
    fn sort(&self, tags: &mut [Tag], dates: &Dates) {
        let version = |tag: &Tag| -> Option<Version> { version(tag.as_str()) };
        match self.order {
            TagOrder::Semver => tags.sort_by_cached_key(|tag| Reverse((version(tag), tag.clone()))),
            TagOrder::Alphabetical => tags.sort_by(|a, b| b.cmp(a)),
            TagOrder::Created => tags.sort_by_cached_key(|tag| {
                let date = dates.get(tag).copied().flatten();
                Reverse((date, version(tag), tag.clone()))
            }),
        }
    }
}

/// Writes the rule in one spelling: two rules that select by the same conditions have the same
/// text, and two that do not have different ones.
impl fmt::Display for TagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let quoted = |text: &dyn fmt::Display| quote(&text.to_string());
        parts.extend(
            self.semver
                .as_ref()
                .map(|own| format!("semver: {}", quoted(own))),
        );
        parts.extend(
            self.regex
                .as_ref()
                .map(|own| format!("regex: {}", quoted(own))),
        );
        parts.extend(
            self.exclude
                .as_ref()
                .map(|own| format!("exclude: {}", quoted(own))),
        );
        if let Some(newest) = self.newest {
            parts.push(format!("newest: {newest}"));
            if self.order != TagOrder::default() {
                parts.push(format!("order: {}", self.order.as_str()));
            }
        }
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Quotes a text without control characters, as YAML and JSON do.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TAGS: [&str; 9] = [
        "1.1.0",
        "v1.2",
        "1.10.3",
        "1.9",
        "2.0.0",
        "latest",
        "1.2.0-rc1",
        "2024",
        "1.9-alpine",
    ];

    fn rule(change: impl FnOnce(&mut TagRule)) -> TagRule {
        let mut rule = TagRule::default();
        change(&mut rule);
        rule
    }

    fn judged(rule: &TagRule, tags: &[&str], dates: &Dates) -> Vec<JudgedTag> {
        let digest_tags = [
            format!("sha256-{}", "a".repeat(64)),
            format!("sha256-{}.sig", "a".repeat(64)),
            format!("sha256-{}.my-own", "a".repeat(64)),
            format!("sha512-{}", "a".repeat(64)),
        ];
        let tags = tags.iter().map(|tag| (*tag).to_owned()).chain(digest_tags);
        rule.judge(tags.map(|tag| tag.parse().unwrap()), dates)
    }

    fn selected(rule: &TagRule) -> Vec<String> {
        names(judged(rule, &TAGS, &Dates::new()))
    }

    fn names(judged: Vec<JudgedTag>) -> Vec<String> {
        judged
            .into_iter()
            .filter(|judged| judged.verdict == TagVerdict::Selected)
            .map(|judged| judged.tag.to_string())
            .collect()
    }

    fn number(number: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(number)
    }

    #[test]
    fn each_condition_selects_what_it_says() {
        let range = Some(">=1.2, <2".parse().unwrap());
        let version = Some("^v?[0-9]".parse().unwrap());
        for (rule, expected) in [
            (
                rule(|rule| rule.semver.clone_from(&range)),
                &["1.10.3", "1.9", "v1.2"][..],
            ),
            (
                rule(|rule| {
                    rule.semver.clone_from(&range);
                    rule.newest = number(2);
                }),
                &["1.10.3", "1.9"],
            ),
            (rule(|rule| rule.newest = number(1)), &["2024"]),
            (
                rule(|rule| {
                    rule.regex = Some("^1[.]".parse().unwrap());
                    rule.exclude = Some("-(rc|alpine)".parse().unwrap());
                }),
                &["1.10.3", "1.9", "1.1.0"],
            ),
            (
                rule(|rule| {
                    rule.regex = version;
                    rule.order = TagOrder::Alphabetical;
                    rule.newest = number(2);
                }),
                &["v1.2", "2024"],
            ),
            (
                rule(|rule| {
                    rule.order = TagOrder::Alphabetical;
                    rule.newest = number(100);
                }),
                &[
                    "v1.2",
                    "latest",
                    "2024",
                    "2.0.0",
                    "1.9-alpine",
                    "1.9",
                    "1.2.0-rc1",
                    "1.10.3",
                    "1.1.0",
                ],
            ),
            (rule(|rule| rule.regex = Some("^x".parse().unwrap())), &[]),
        ] {
            assert_eq!(selected(&rule), expected, "{rule}");
        }
        assert_eq!(selected(&TagRule::default()).len(), TAGS.len());
    }

    #[test]
    fn every_tag_that_is_not_selected_says_why() {
        let rule = rule(|rule| {
            rule.semver = Some(">=1.2, <2".parse().unwrap());
            rule.regex = Some("^[v1]".parse().unwrap());
            rule.exclude = Some("[.]3$".parse().unwrap());
            rule.newest = number(1);
        });
        let judged = judged(&rule, &TAGS, &Dates::new());
        let of = |tag: &str| {
            let found = judged.iter().find(|judged| judged.tag.as_str() == tag);
            let verdict = found.unwrap().verdict;
            (verdict.as_str(), verdict.reason(&rule))
        };
        for (tag, word, reason) in [
            ("1.9", "selected", "among the newest 1 by version"),
            ("v1.2", "older", "not among the newest 1 by version"),
            ("1.10.3", "excluded", "excluded by [.]3$"),
            ("latest", "not-a-version", "not a version"),
            ("1.1.0", "outside-range", "not in the range >=1.2, <2"),
            ("1.2.0-rc1", "outside-range", "not in the range >=1.2, <2"),
        ] {
            assert_eq!(of(tag), (word, reason.to_owned()), "{tag}");
        }
        let digest_tag = format!("sha256-{}.sig", "a".repeat(64));
        assert_eq!(of(&digest_tag).0, "digest-tag");
        assert_eq!(judged.len(), TAGS.len() + 4);
        let others: Vec<_> = judged[1..].iter().map(|judged| &judged.tag).collect();
        assert!(others.is_sorted(), "{others:?}");
    }

    #[test]
    fn no_rule_selects_a_tag_that_contains_a_digest() {
        for rule in [
            TagRule::default(),
            rule(|rule| rule.regex = Some("^sha256-".parse().unwrap())),
        ] {
            let judged = judged(&rule, &[], &Dates::new());
            assert_eq!(names(judged), [""; 0], "{rule}");
        }
    }

    #[test]
    fn the_newest_by_date_are_those_with_the_latest_dates_and_no_date_is_the_oldest() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let dates = Dates::from([
            ("a".parse().unwrap(), at(3)),
            ("b".parse().unwrap(), at(9)),
            ("c".parse().unwrap(), at(0)),
            ("1.0".parse().unwrap(), None),
        ]);
        let rule = rule(|rule| {
            rule.order = TagOrder::Created;
            rule.newest = number(10);
        });
        let all = judged(&rule, &["2.0", "1.0", "a", "b", "c", "d"], &dates);
        assert_eq!(names(all), ["b", "a", "c", "2.0", "1.0", "d"]);
    }

    #[test]
    fn a_rule_has_one_text_and_no_two_rules_share_one() {
        let pattern = |text: &str| Some(text.parse::<TagPattern>().unwrap());
        let texts = [
            TagRule::default(),
            rule(|rule| rule.semver = Some(" >=1.2,<2".parse().unwrap())),
            rule(|rule| rule.regex = pattern("a")),
            rule(|rule| rule.exclude = pattern("a")),
            rule(|rule| rule.regex = pattern("a\", exclude: \"b")),
            rule(|rule| {
                rule.regex = pattern("a");
                rule.exclude = pattern("b");
            }),
            rule(|rule| rule.newest = number(3)),
            rule(|rule| {
                rule.newest = number(3);
                rule.order = TagOrder::Created;
            }),
        ]
        .map(|rule| rule.to_string());
        assert_eq!(texts[0], "{}");
        assert_eq!(texts[1], "{semver: \">=1.2, <2\"}");
        assert_eq!(texts[7], "{newest: 3, order: created}");
        let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len());
        // Without `newest` the order has no effect.
        let ordered = rule(|rule| rule.order = TagOrder::Created);
        assert_eq!(ordered.to_string(), texts[0]);
    }
}
