use oci_content::{Reference, Tag};
use oci_referrers::list_tags;
use semver::{Version, VersionReq};

use crate::config::TagsConfig;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// How many tags of a repository are read.
const MAX_TAGS: usize = 100_000;

/// Lists the tags of a repository that a rule selects; without a rule, all except referrers tags and legacy tags.
pub(crate) async fn select(
    context: &Context,
    repository: &Reference,
    rule: Option<&TagsConfig>,
) -> Result<Vec<Reference>, Failure> {
    let client = context
        .client
        .repository(repository.registry(), repository.repository());
    let named = || format!("{}/{}", repository.registry(), repository.repository());
    let tags = list_tags(&client, MAX_TAGS).await.map_err(|problem| {
        let exit = match problem.code {
            oci_content::ErrorCode::Denied => Exit::Access,
            oci_content::ErrorCode::Limit => Exit::Limit,
            _ => Exit::Network,
        };
        Failure::new(
            exit,
            format!(
                "the tags of {} could not be listed: {}",
                named(),
                problem.message
            ),
        )
    })?;
    let requirement = match rule.and_then(|rule| rule.semver.as_deref()) {
        Some(text) => Some(VersionReq::parse(text).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("configuration: {text:?} is not a version requirement: {error}"),
            )
        })?),
        None => None,
    };
    let newest = rule.and_then(|rule| rule.newest).map(usize::from);
    let chosen = choose(tags, requirement.as_ref(), newest);
    if chosen.is_empty() {
        return Err(Failure::new(
            Exit::Access,
            format!("no tag of {} is selected by the rule", named()),
        ));
    }
    let reference = |tag| {
        Reference::with_tag(
            repository.registry().clone(),
            repository.repository().clone(),
            tag,
        )
    };
    Ok(chosen.into_iter().map(reference).collect())
}

fn choose(tags: Vec<Tag>, requirement: Option<&VersionReq>, newest: Option<usize>) -> Vec<Tag> {
    let tags = tags.into_iter().filter(|tag| !is_digest_tag(tag));
    if requirement.is_none() && newest.is_none() {
        return tags.collect();
    }
    let mut versions: Vec<(Version, Tag)> = tags
        .filter_map(|tag| Some((version(tag.as_str())?, tag)))
        .filter(|(version, _)| requirement.is_none_or(|requirement| requirement.matches(version)))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.truncate(newest.unwrap_or(usize::MAX));
    versions.into_iter().map(|(_, tag)| tag).collect()
}

/// Parses a tag as a version; a leading `v` and missing parts are allowed, as in `v1.2`.
fn version(tag: &str) -> Option<Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let core_end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(core_end);
    let padded = match core.split('.').count() {
        1 => format!("{core}.0.0{rest}"),
        2 => format!("{core}.0{rest}"),
        _ => text.to_owned(),
    };
    Version::parse(&padded).ok()
}

/// Returns whether a tag is a referrers tag or a legacy tag, and so not an image.
fn is_digest_tag(tag: &Tag) -> bool {
    let is_hex =
        |rest: &str| rest.len() >= 64 && rest.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit);
    ["sha256-", "sha512-"]
        .iter()
        .any(|prefix| tag.as_str().strip_prefix(prefix).is_some_and(is_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_the_newest_versions_that_it_allows() {
        let all = [
            "1.1.0",
            "v1.2",
            "1.10.3",
            "1.9",
            "2.0.0",
            "latest",
            "1.2.0-rc1",
            "2024",
        ];
        let tags = || {
            all.iter()
                .map(|tag| tag.parse().unwrap())
                .collect::<Vec<Tag>>()
        };
        let digest_tag: Tag = format!("sha256-{}.sig", "a".repeat(64)).parse().unwrap();
        let names = |chosen: Vec<Tag>| chosen.iter().map(ToString::to_string).collect::<Vec<_>>();
        let requirement = VersionReq::parse(">=1.2, <2").unwrap();
        assert_eq!(
            names(choose(tags(), Some(&requirement), Some(2))),
            ["1.10.3", "1.9"]
        );
        assert_eq!(
            names(choose(tags(), Some(&requirement), None)),
            ["1.10.3", "1.9", "v1.2"]
        );
        assert_eq!(names(choose(tags(), None, Some(1))), ["2024"]);
        assert_eq!(
            choose([tags(), vec![digest_tag]].concat(), None, None).len(),
            all.len()
        );
    }
}
