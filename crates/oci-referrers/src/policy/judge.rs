//! Judges a bundle by one rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use oci_content::{ArtifactCategory, Digest};

use super::date;
use super::judged::{JudgedBundle, JudgedImage, JudgedReferrer};
use super::repository_pattern::RepositoryPattern;
use super::rule::{Age, Per, Requirement, Rule, Signed, Unused};
use super::violation::{Violation, ViolationKind};

/// How far in the future a date may be, since clocks differ. Without the limit, a wrong date would
/// keep a document recent forever.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn rule(rule: &Rule, bundle: &JudgedBundle, now: SystemTime) -> Vec<Violation> {
    let selected = bundle.images.iter();
    let selected: Vec<_> = selected
        .filter(|image| rule.selects(&image.reference, image.target.as_deref()))
        .collect();
    let mut judge = Judge {
        rule,
        now,
        violations: Vec::new(),
    };
    if selected.is_empty() {
        if rule.unused == Unused::Allow {
            return judge.violations;
        }
        let patterns: Vec<_> = rule.images.iter().map(RepositoryPattern::as_str).collect();
        let of = if patterns.is_empty() {
            String::new()
        } else {
            format!(" of {}", patterns.join(", "))
        };
        let into: Vec<_> = rule.target.iter().map(RepositoryPattern::as_str).collect();
        let into = if into.is_empty() {
            String::new()
        } else {
            format!(" that goes into {}", into.join(", "))
        };
        let expected = format!("an image{of}{into} for {}", judge.name());
        let found = match bundle.images.len() {
            1 => "none; the bundle has one image".to_owned(),
            count => format!("none; the bundle has {count} images"),
        };
        judge.add(ViolationKind::RuleUnused, None, expected, found);
        return judge.violations;
    }
    if rule.signed.contains(&Signed::Bundle) && !bundle.signed {
        let expected = format!("a bundle that is signed, as {} demands", judge.name());
        let found = "no signature that a key was given for".to_owned();
        judge.add(
            ViolationKind::RequiredSignatureMissing,
            None,
            expected,
            found,
        );
    }
    for image in selected {
        judge.image(image);
    }
    judge.violations
}

struct Judge<'a> {
    rule: &'a Rule,
    now: SystemTime,
    violations: Vec<Violation>,
}

/// The referrers of each subject, each once.
type BySubject<'a> = BTreeMap<&'a Digest, Vec<&'a JudgedReferrer>>;

impl Judge<'_> {
    fn name(&self) -> String {
        format!("the rule {:?}", self.rule.name)
    }

    fn add(
        &mut self,
        kind: ViolationKind,
        image: Option<&JudgedImage>,
        expected: String,
        found: String,
    ) {
        self.violations.push(Violation {
            kind,
            image: image.map(|image| image.reference.clone()),
            expected,
            found,
        });
    }

    fn image(&mut self, image: &JudgedImage) {
        let rule = self.rule;
        let mut seen = BTreeSet::new();
        let mut by_subject = BySubject::new();
        for referrer in &image.referrers {
            // A manifest under two tags is one referrer, but the suffixes can put it into two
            // categories.
            if seen.insert((&referrer.subject, &referrer.digest, referrer.category)) {
                by_subject
                    .entry(&referrer.subject)
                    .or_default()
                    .push(referrer);
            }
        }
        for require in &rule.require {
            for (subject, place) in self.places(image, require.per) {
                self.require(image, require, &by_subject, subject, &place);
            }
        }
        for signed in &rule.signed {
            match signed {
                Signed::Bundle => {}
                Signed::Image => self.signed(image, &by_subject, &image.digest, "the image"),
                Signed::Platform => {
                    for (subject, place) in self.places(image, Per::Platform) {
                        self.signed(image, &by_subject, subject, &place);
                    }
                }
                Signed::Each(category) => {
                    let each = by_subject.values().flatten();
                    let each: BTreeSet<_> = each
                        .filter(|referrer| referrer.category == *category)
                        .map(|referrer| &referrer.digest)
                        .collect();
                    for digest in each {
                        self.signed(
                            image,
                            &by_subject,
                            digest,
                            &format!("the {category} {digest}"),
                        );
                    }
                }
            }
        }
        for deny in &rule.deny {
            let all = by_subject.values().flatten();
            for referrer in all.filter(|referrer| deny.matches(referrer)) {
                let expected = format!("no referrer of {deny}, as {} demands", self.name());
                let of = referrer.artifact_type.as_deref().unwrap_or("no type");
                let found = format!("{} of {of}, on {}", referrer.digest, referrer.subject);
                self.add(ViolationKind::DeniedReferrer, Some(image), expected, found);
            }
        }
    }

    /// Returns the digests that a rule applies to, each with a name for people.
    fn places<'a>(&mut self, image: &'a JudgedImage, per: Per) -> Vec<(&'a Digest, String)> {
        if per == Per::Image {
            return vec![(&image.digest, "the image".to_owned())];
        }
        if image.platforms.is_empty() {
            let expected = format!("a platform that {} can judge", self.name());
            let found = "an index without one".to_owned();
            let kind = ViolationKind::RequiredReferrerMissing;
            self.add(kind, Some(image), expected, found);
        }
        let platforms = image.platforms.iter();
        platforms
            .map(|(digest, name)| match &**name {
                "" => (digest, format!("the platform {digest}")),
                name => (digest, format!("the platform {name} ({digest})")),
            })
            .collect()
    }

    fn require(
        &mut self,
        image: &JudgedImage,
        require: &Requirement,
        by_subject: &BySubject<'_>,
        subject: &Digest,
        place: &str,
    ) {
        let matching = |subject: &Digest| {
            let all = by_subject.get(subject).into_iter().flatten();
            let mut digests = BTreeSet::new();
            all.filter(|referrer| require.what.matches(referrer))
                .filter(|referrer| digests.insert(referrer.digest.clone()))
                .copied()
                .collect::<Vec<_>>()
        };
        let there = matching(subject);
        let count = match require.min {
            1 => "a referrer".to_owned(),
            min => format!("{min} referrers"),
        };
        let age = require.max_age.as_ref();
        let of_age = age.map(|age| format!(" of at most {}", age.text));
        let expected = format!(
            "{count} of {}{} on {place}, as {} demands",
            require.what,
            of_age.unwrap_or_default(),
            self.name()
        );
        if there.len() < require.min {
            let mut found = match there.len() {
                0 => "none".to_owned(),
                count => format!("{count}"),
            };
            let platforms = image
                .platforms
                .iter()
                .filter(|(digest, _)| digest != subject);
            let elsewhere: usize = platforms.map(|(digest, _)| matching(digest).len()).sum();
            if require.per == Per::Image && elsewhere > 0 {
                found.push_str(&format!(
                    " ({elsewhere} on its platforms, for which `per: platform` asks)"
                ));
            } else if require.per == Per::Platform && !matching(&image.digest).is_empty() {
                found.push_str(" (the image itself has some, for which `per: image` asks)");
            }
            let kind = ViolationKind::RequiredReferrerMissing;
            self.add(kind, Some(image), expected, found);
            return;
        }
        let Some(age) = age else { return };
        let young = there.iter().filter(|referrer| match referrer.created {
            Some(created) => self.is_young(created, age),
            None => require.undated_counts,
        });
        if young.count() < require.min {
            let found = self.ages(&there);
            self.add(ViolationKind::ReferrerTooOld, Some(image), expected, found);
        }
    }

    fn is_young(&self, created: SystemTime, age: &Age) -> bool {
        match self.now.duration_since(created) {
            Ok(old) => old <= age.duration,
            Err(ahead) => ahead.duration() <= MAX_CLOCK_SKEW,
        }
    }

    /// Describes the ages of referrers that are too old.
    fn ages(&self, there: &[&JudgedReferrer]) -> String {
        let mut parts = Vec::new();
        let dates = there.iter().filter_map(|referrer| referrer.created);
        let (past, ahead): (Vec<_>, Vec<_>) =
            dates.partition(|date| *date <= self.now + MAX_CLOCK_SKEW);
        if let Some(newest) = past.iter().max() {
            let days = self
                .now
                .duration_since(*newest)
                .unwrap_or_default()
                .as_secs()
                / 86_400;
            let day = date::day(*newest);
            parts.push(format!("the newest is of {day}, {days} days ago"));
        }
        if let Some(date) = ahead.iter().min() {
            let day = date::day(*date);
            parts.push(format!("{} dated in the future ({day})", ahead.len()));
        }
        let undated = there.len() - past.len() - ahead.len();
        if undated > 0 {
            parts.push(format!("{undated} without a date"));
        }
        parts.join("; ")
    }

    fn signed(
        &mut self,
        image: &JudgedImage,
        by_subject: &BySubject<'_>,
        subject: &Digest,
        what: &str,
    ) {
        let mut all = by_subject.get(subject).into_iter().flatten();
        if !all.any(|referrer| referrer.category == ArtifactCategory::Signature) {
            let expected = format!("a signature on {what}, as {} demands", self.name());
            let kind = ViolationKind::RequiredSignatureMissing;
            self.add(kind, Some(image), expected, "none".to_owned());
        }
    }
}
