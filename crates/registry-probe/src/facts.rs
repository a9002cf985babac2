//! Facts beyond the referrers API that can be found out by reading.

use oci_content::{Capability, Digest, Tag, TagKind};
use registry_client::{
    Client, Error, Evidence, MAX_LIST_ENTRIES, ReferrersAnswer, Repository, Response, TagList,
    nobody,
};

use crate::fact::{Fact, FactName};
use crate::report::{ProbeReport, evidence, version_header};

/// An artifact type that no manifest has.
const NO_TYPE: &str = "application/vnd.stellaops.probe.none";

/// Finds out all facts and adds them to the report. `first` is the answer of the referrers API for
/// a subject that cannot exist.
pub(crate) async fn find(client: &Client, report: &mut ProbeReport, first: Option<&Response>) {
    let mut seen: Vec<Response> = first.cloned().into_iter().collect();
    if let Ok(response) = client.ping(&report.registry).await {
        seen.push(response);
    }
    let mut facts = match &report.repository {
        Some(name) => {
            let repository = client.repository(&report.registry, name);
            of_repository(&repository, report, &mut seen).await
        }
        None => {
            let reason = "only a repository can tell; name one";
            let names = [
                FactName::ReferrersPaging,
                FactName::ReferrersFilter,
                FactName::TagPaging,
            ];
            let unknown = names.map(|name| Fact::unknown(name, reason));
            std::iter::once(referrers_api(report))
                .chain(unknown)
                .collect()
        }
    };
    facts.push(proxy(&seen));
    facts.push(rate_limit(&seen));
    facts.push(version(&seen));
    facts.push(Fact::not_asked(
        FactName::OciSubject,
        "not asked: only a push would tell, and a probe never writes",
    ));
    facts.push(Fact::not_asked(
        FactName::BlobMount,
        "not asked: only an upload would tell, and a probe never writes",
    ));
    report.elapsed = seen.iter().map(Response::elapsed).sum();
    report.facts = facts;
}

async fn of_repository(
    repository: &Repository,
    report: &mut ProbeReport,
    seen: &mut Vec<Response>,
) -> Vec<Fact> {
    let (tag_paging, tag) = tag_paging(repository, seen).await;
    let subject = subject(repository, tag, seen).await;
    let mut lists = None;
    if report.capability == Capability::Supported || subject != nobody() {
        let all = repository.referrers(&subject, None).await;
        if let Ok(all) = &all {
            seen.push(all.clone());
            // For a subject that they do not have, Quay before 3.12 and Harbor before 2.11 answer
            // as if they had no API.
            if report.capability != Capability::Supported && entries(all).is_some() {
                let reason = "it answers with a referrers list for a subject that it has";
                report.capability = Capability::Supported;
                report.failure = None;
                report
                    .evidence
                    .insert(0, evidence(all, Capability::Supported, reason));
            }
        }
        lists = Some(all);
    }
    let lists = match lists.filter(|_| report.capability == Capability::Supported) {
        Some(Ok(all)) => referrers_lists(repository, &subject, &all, seen).await,
        Some(Err(error)) => [
            no_answer(FactName::ReferrersPaging, &error),
            no_answer(FactName::ReferrersFilter, &error),
        ],
        None => [FactName::ReferrersPaging, FactName::ReferrersFilter]
            .map(|name| Fact::unknown(name, "the referrers API gave no list")),
    };
    let mut facts = vec![referrers_api(report)];
    facts.extend(lists);
    facts.push(tag_paging);
    facts
}

fn referrers_api(report: &ProbeReport) -> Fact {
    let reason = report
        .evidence
        .first()
        .map_or("no answer", |evidence| evidence.reason.as_str());
    let evidence = report.evidence.iter().take(1).cloned();
    Fact::new(FactName::ReferrersApi, report.capability, reason).because(evidence)
}

fn tags(response: &Response) -> Option<Vec<String>> {
    if response.status().as_u16() != 200 {
        return None;
    }
    let list = TagList::parse(response.body(), MAX_LIST_ENTRIES).ok()?;
    Some(list.tags)
}

/// Requests one tag per page, and the next page. Also returns a tag of the repository.
async fn tag_paging(repository: &Repository, seen: &mut Vec<Response>) -> (Fact, Option<String>) {
    let fact = |capability, reason: &str, responses: &[&Response]| {
        let evidence = responses
            .iter()
            .map(|response| evidence(response, capability, reason));
        Fact::new(FactName::TagPaging, capability, reason).because(evidence)
    };
    let first = match repository.tags(Some(1)).await {
        Ok(response) => response,
        Err(error) => return (no_answer(FactName::TagPaging, &error), None),
    };
    seen.push(first.clone());
    let Some(page) = tags(&first) else {
        let reason = format!("{} instead of a list of tags", first.status().as_u16());
        return (fact(Capability::Unknown, &reason, &[&first]), None);
    };
    let tag = page
        .iter()
        .find(|tag| !is_referrers_tag(tag))
        .or(page.first());
    let mut tag = tag.cloned();
    if page.len() > 1 {
        let reason = format!("n=1 was asked for, {} tags came", page.len());
        return (fact(Capability::Unsupported, &reason, &[&first]), tag);
    }
    let next = match repository.next_link(&first) {
        Ok(next) => next,
        Err(error) => {
            let reason = format!("the Link cannot be followed: {}", error.with_causes());
            return (fact(Capability::Unsupported, &reason, &[&first]), tag);
        }
    };
    let other = match &next {
        Some(next) => repository.get_page(next).await,
        None => repository.tags(None).await,
    };
    let other = match other {
        Ok(response) => response,
        Err(error) => return (no_answer(FactName::TagPaging, &error), tag),
    };
    seen.push(other.clone());
    let second = tags(&other);
    if tag.as_deref().is_none_or(is_referrers_tag)
        && let Some(image) = second.iter().flatten().find(|tag| !is_referrers_tag(tag))
    {
        tag = Some(image.clone());
    }
    let (capability, reason) = match (next.is_some(), second) {
        (_, None) => (
            Capability::Unknown,
            format!("{} instead of a list of tags", other.status().as_u16()),
        ),
        (true, Some(second)) if second == page && !page.is_empty() => (
            Capability::Unsupported,
            "the next page is the first one again".to_owned(),
        ),
        (true, Some(_)) => (
            Capability::Supported,
            "n=1 brought one tag and a Link to the next page".to_owned(),
        ),
        (false, Some(all)) if all.len() > page.len() => (
            Capability::Unsupported,
            "n=1 cut the list off without a Link to the rest".to_owned(),
        ),
        (false, Some(_)) => (
            Capability::Unknown,
            "the repository has too few tags to tell".to_owned(),
        ),
    };
    (fact(capability, &reason, &[&first, &other]), tag)
}

/// Returns whether a tag belongs to another manifest, rather than naming an image.
fn is_referrers_tag(tag: &str) -> bool {
    let tag = tag.parse::<Tag>();
    tag.is_ok_and(|tag| tag.kind() != TagKind::Plain)
}

/// Finds a subject that the repository has: one with referrers shows more than one that cannot
/// exist.
async fn subject(repository: &Repository, tag: Option<String>, seen: &mut Vec<Response>) -> Digest {
    let Some(tag) = tag.and_then(|tag| tag.parse::<Tag>().ok()) else {
        return nobody();
    };
    let Ok(response) = repository.head_manifest(&tag).await else {
        return nobody();
    };
    let digest = response.content_digest();
    let found = response.status().as_u16() == 200;
    seen.push(response);
    digest.filter(|_| found).unwrap_or_else(nobody)
}

/// Requests the page after `all`, the referrers of a subject, and the referrers of an artifact type
/// that no manifest has.
async fn referrers_lists(
    repository: &Repository,
    subject: &Digest,
    all: &Response,
    seen: &mut Vec<Response>,
) -> [Fact; 2] {
    let paging = paging(repository, all, seen).await;
    let filtered = match repository.referrers(subject, Some(NO_TYPE)).await {
        Ok(response) => response,
        Err(error) => return [paging, no_answer(FactName::ReferrersFilter, &error)],
    };
    seen.push(filtered.clone());
    [paging, filter(all, &filtered)]
}

fn entries(response: &Response) -> Option<usize> {
    match response.referrers_answer() {
        ReferrersAnswer::List(list) => Some(list.entries.len()),
        _ => None,
    }
}

async fn paging(repository: &Repository, page: &Response, seen: &mut Vec<Response>) -> Fact {
    let name = FactName::ReferrersPaging;
    let (capability, reason) = match (entries(page), repository.next_link(page)) {
        (None, _) => (
            Capability::Unknown,
            format!("{} instead of a list", page.status().as_u16()),
        ),
        (Some(count), Ok(None)) => (
            Capability::Unknown,
            format!("the list fitted into one page of {}", counted(count)),
        ),
        (Some(_), Err(error)) => (
            Capability::Unsupported,
            format!("the Link cannot be followed: {}", error.with_causes()),
        ),
        (Some(count), Ok(Some(next))) => match repository.get_page(&next).await {
            Err(error) => return no_answer(name, &error),
            Ok(second) => {
                let after = entries(&second);
                seen.push(second);
                match after {
                    Some(_) => (
                        Capability::Supported,
                        format!("a page of {} and a Link to the next", counted(count)),
                    ),
                    None => (
                        Capability::Unknown,
                        "the page after the first could not be read".to_owned(),
                    ),
                }
            }
        },
    };
    let evidence = evidence(page, capability, &reason);
    Fact::new(name, capability, reason).because([evidence])
}

fn filter(all: &Response, filtered: &Response) -> Fact {
    let says = filtered.filter_applied("artifactType");
    let (capability, reason) = match (entries(all), entries(filtered), says) {
        (Some(all), Some(0), true) if all > 0 => (
            Capability::Supported,
            "OCI-Filters-Applied names it, and the list is filtered",
        ),
        (Some(all), Some(0), false) if all > 0 => (
            Capability::Supported,
            "the list is filtered, without OCI-Filters-Applied to say so",
        ),
        (Some(_), Some(left), true) if left > 0 => (
            Capability::Unsupported,
            "OCI-Filters-Applied names it, but the list is not filtered",
        ),
        (Some(0), Some(0), false) => (
            Capability::Unknown,
            "there is nothing to filter, and no OCI-Filters-Applied",
        ),
        (Some(_), Some(_), false) => (
            Capability::Unsupported,
            "the filter is ignored: no OCI-Filters-Applied",
        ),
        (Some(_), Some(_), true) => (
            Capability::Unknown,
            "OCI-Filters-Applied names it, but there is nothing to filter",
        ),
        _ => (Capability::Unknown, "the filtered list could not be read"),
    };
    let asked = format!("asked for artifactType={NO_TYPE}: {reason}");
    let evidence = [
        evidence(all, capability, "asked without a filter"),
        evidence(filtered, capability, &asked),
    ];
    Fact::new(FactName::ReferrersFilter, capability, reason).because(evidence)
}

/// Headers that only a proxy between client and registry sets.
const PROXY_HEADERS: [&str; 8] = [
    "via",
    "x-cache",
    "x-cache-hits",
    "x-served-by",
    "x-proxy-cache",
    "cf-ray",
    "x-amz-cf-id",
    "age",
];

fn proxy(seen: &[Response]) -> Fact {
    let name = FactName::Proxy;
    for response in seen {
        if let Some((header, value)) = first_header(response, &PROXY_HEADERS) {
            let reason = format!("{header}: {value}");
            let evidence = evidence(response, Capability::Supported, &reason);
            return Fact::new(name, Capability::Supported, reason).because([evidence]);
        }
    }
    // The API sends JSON; a page for people comes from something in front of it.
    let html = |response: &&Response| response.media_type().as_deref() == Some("text/html");
    if let Some(response) = seen.iter().find(html) {
        let reason = format!(
            "{} with a page of HTML, which a registry's API does not send",
            response.status().as_u16()
        );
        let evidence = evidence(response, Capability::Supported, &reason);
        return Fact::new(name, Capability::Supported, reason).because([evidence]);
    }
    if let Some(response) = seen
        .iter()
        .find(|response| response.is_foreign() && response.url().path().contains("/manifests/"))
    {
        let reason = format!(
            "manifests come from {}",
            response.url().origin().ascii_serialization()
        );
        let evidence = evidence(response, Capability::Supported, &reason);
        return Fact::new(name, Capability::Supported, reason).because([evidence]);
    }
    Fact::unknown(name, "no sign of one, which proves nothing")
}

const RATE_HEADERS: [&str; 6] = [
    "ratelimit-remaining",
    "ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-limit",
    "docker-ratelimit-source",
    "retry-after",
];

fn rate_limit(seen: &[Response]) -> Fact {
    let name = FactName::RateLimit;
    // The last answer has counted the requests before it.
    for response in seen.iter().rev() {
        let said: Vec<_> = RATE_HEADERS
            .iter()
            .filter_map(|header| Some(format!("{header}: {}", response.header(header)?)))
            .collect();
        let throttled = response.status().as_u16() == 429;
        if said.is_empty() && !throttled {
            continue;
        }
        let mut reason = said.join(", ");
        if throttled {
            reason = format!("429, it throttles now {reason}")
                .trim_end()
                .to_owned();
        }
        let evidence = evidence(response, Capability::Supported, &reason);
        return Fact::new(name, Capability::Supported, reason).because([evidence]);
    }
    Fact::unknown(name, "no answer spoke of a limit")
}

fn version(seen: &[Response]) -> Fact {
    let name = FactName::VersionHeader;
    for response in seen {
        if let Some((header, value)) = version_header(response) {
            let reason = format!("{header}: {value}; it decides nothing");
            let evidence = evidence(response, Capability::Supported, &reason);
            return Fact::new(name, Capability::Supported, reason).because([evidence]);
        }
    }
    if seen.is_empty() {
        Fact::unknown(name, "there was no answer")
    } else {
        Fact::new(name, Capability::Unsupported, "no answer had one")
    }
}

fn first_header<'a>(
    response: &'a Response,
    names: &[&'static str],
) -> Option<(&'static str, &'a str)> {
    names
        .iter()
        .find_map(|name| Some((*name, response.header(name)?)))
}

fn no_answer(name: FactName, error: &Error) -> Fact {
    let reason = error.with_causes();
    let request = error
        .url()
        .map_or_else(|| error.registry().to_string(), |url| format!("GET {url}"));
    let evidence = Evidence::new(request, Capability::Unknown, reason.clone());
    Fact::unknown(name, reason).because([evidence])
}

fn counted(entries: usize) -> String {
    match entries {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}
