//! Checks of the image, the sources of its referrers, and where else they may be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oci_content::{
    Capability, Digest, ErrorCode, Manifest, Reference, SourceKind, Tag, WarningCode, media_type,
    with_causes,
};
use oci_referrers::{
    FoldedProblem, ImageDepth, ImageTree, Problem, ReferrerGraph, RegistryManifests,
    RegistrySources, ResolveError, SubjectReport, resolve,
};
use registry_client::Repository;

use super::finding::Finding;
use crate::exit::Exit;
use crate::render;

/// How many tags are read to find an index that has the image as a platform.
const MAX_TAGS: usize = 50;

/// What to do if the API is blocked for a readable image.
const UNBLOCK: &str = "ask for access to the API; if the registry has none (Harbor before 2.8 answers 401), \
                       configure registries.HOST.referrers_api: unsupported";

/// The image that is diagnosed.
pub(super) struct Image<'a> {
    pub(super) reference: &'a Reference,
    pub(super) repository: Repository,
    /// The configured capability of the registry's referrers API.
    pub(super) configured: Option<Capability>,
    /// The time limit of one discovery.
    pub(super) timeout: Duration,
}

impl Image<'_> {
    /// Runs all checks of the image.
    pub(super) async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let manifest = self.resolve(&mut findings).await;
        let subject = match (&manifest, self.reference.digest()) {
            (Some(manifest), _) => manifest.digest().clone(),
            // Lists may still name referrers of an image that is gone.
            (None, Some(digest)) => digest.clone(),
            (None, None) => return findings,
        };
        let mut tree = None;
        if let Some(manifest) = manifest.filter(|manifest| manifest.children().next().is_some()) {
            let manifests = RegistryManifests::new(self.repository.clone());
            tree = Some(ImageTree::walk(&manifests, manifest, &[], ImageDepth::Indexes).await);
        }
        let roots = tree
            .as_ref()
            .map_or_else(|| vec![subject.clone()], ImageTree::subjects);
        let graph = self.discover(roots).await;
        if let Some(report) = graph.report(&subject) {
            findings.push(api(report));
            findings.push(referrers_tag(report));
            findings.push(legacy_tags(report, &graph));
        }
        findings.push(self.referrers(&subject, tree.as_ref(), &graph).await);
        findings.extend(gone(&graph));
        findings
    }

    async fn discover(&self, roots: Vec<Digest>) -> ReferrerGraph {
        RegistrySources::new(self.repository.clone())
            .configured(self.configured)
            .discovery(Some(self.timeout))
            .children(Some(ImageDepth::Indexes))
            .run(roots)
            .await
    }

    async fn resolve(&self, findings: &mut Vec<Finding>) -> Option<Manifest> {
        const CHECK: &str = "image";
        match resolve(&self.repository, self.reference).await {
            Ok(resolved) => {
                let manifest = resolved.manifest;
                let what = kind_of(&manifest);
                findings.push(
                    Finding::good(CHECK, format!("it is there, {what}"))
                        .details([format!("{}", manifest.digest())]),
                );
                if let Some(now) = resolved.tag_moved_to {
                    let tag = self.reference.tag().map(ToString::to_string);
                    let tag = tag.unwrap_or_default();
                    findings.push(
                        Finding::notice("tag", format!("{tag} is at {now} now"))
                            .cause("the image was rebuilt; referrers of the new one do not refer to this one")
                            .remedy(format!(
                                "for the new one: stellaops registry diagnose {}/{}:{tag}",
                                self.reference.registry(),
                                self.reference.repository()
                            )),
                    );
                }
                Some(manifest)
            }
            Err(ResolveError::NotFound { said, .. }) => {
                findings.push(self.not_found(&said).await);
                None
            }
            Err(error) => {
                let code = match &error {
                    ResolveError::Failed { problem, .. } => problem.code,
                    _ => ErrorCode::Network,
                };
                let (cause, remedy) = advice(code);
                findings.push(
                    Finding::failed(CHECK, exit_of(code), with_causes(&error))
                        .cause(cause)
                        .remedy(remedy),
                );
                None
            }
        }
    }

    /// Distinguishes a missing tag or digest from a missing repository.
    async fn not_found(&self, said: &str) -> Finding {
        let tags = self.tags().await;
        let failed = |seen: String| Finding::failed("image", Exit::Access, seen);
        let name = self.reference.repository();
        match (tags, self.reference.digest(), self.reference.tag()) {
            (Some(tags), Some(digest), _) => failed(format!(
                "the repository exists, the digest does not{said}"
            ))
            .details([format!("{digest}"), listed(&tags)])
            .cause(
                "the image was deleted, was removed by a retention policy, or is in another repository; pushing a tag \
                 again leaves its old digest without a name",
            )
            .remedy("use a tag to find the current digest"),
            (Some(tags), None, tag) => failed(format!(
                "the repository exists, the tag {} does not{said}",
                tag.map(ToString::to_string).unwrap_or_default()
            ))
            .details([listed(&tags)])
            .cause("the tag is misspelt, was deleted, or was never pushed")
            .remedy("use one of the existing tags"),
            (None, ..) => failed(format!("there is no repository {name} for this user{said}"))
                .cause("its name is misspelt, or it is private, which registries answer alike")
                .remedy(format!("check the name {name}; docker login {}", self.reference.registry())),
        }
    }

    /// Returns the plain tags of the first page: neither referrers tags nor legacy tags. `None` if the
    /// answer is not a list of tags.
    async fn tags(&self) -> Option<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let response = self.repository.tags(None).await.ok()?;
        if response.status().as_u16() != 200 {
            return None;
        }
        let list: List = serde_json::from_slice(response.body()).ok()?;
        // A document without `tags` is not an empty list.
        let mut tags = list.tags?;
        tags.retain(|tag| !tag.starts_with("sha256-") && !tag.starts_with("sha512-"));
        Some(tags)
    }

    /// Reports the referrers of the image, or where else they may be.
    async fn referrers(
        &self,
        subject: &Digest,
        tree: Option<&ImageTree>,
        graph: &ReferrerGraph,
    ) -> Finding {
        const CHECK: &str = "referrers";
        let problems = FoldedProblem::fold(graph.errors());
        let problems = problems.iter().map(folded_line).collect::<Vec<_>>();
        if let Some(problem) = graph.errors().next() {
            let (cause, remedy) = if problem.settled_by_tag && problem.code == ErrorCode::Denied {
                (
                    "the referrers API is blocked, and no tag answers instead",
                    UNBLOCK,
                )
            } else {
                advice(problem.code)
            };
            let known = render::count(graph.referrers.len(), "referrer");
            return Finding::failed(
                CHECK,
                exit_of(problem.code),
                format!("{known} found, but not everything could be read"),
            )
            .details(problems)
            .cause(cause)
            .remedy(remedy);
        }
        let own = graph.referrers_of(subject).count();
        let children = tree.map_or_else(Vec::new, |tree| on_children(tree, graph));
        let elsewhere: usize = children.iter().map(|(_, count)| count).sum();
        let per_child = children
            .iter()
            .map(|(name, count)| format!("{name}: {count}"));
        let reference = self.reference;
        match (own, elsewhere) {
            (0, 0) => match self.on_index(subject, tree).await {
                Some(finding) => finding,
                None => Finding::notice(CHECK, "nothing refers to it")
                    .cause(
                        "nothing was attached; or it was attached to another digest, such as that of an earlier \
                         build; or the registry has deleted it",
                    )
                    .remedy(format!(
                        "compare {} with the digest that the build attached to",
                        render::short(subject)
                    )),
            },
            (0, _) => Finding::notice(
                CHECK,
                format!(
                    "nothing refers to the index itself, {} refer to its platforms",
                    elsewhere
                ),
            )
            .details(per_child)
            .cause("the build attached to each platform's image and not to the index")
            .remedy(format!(
                "stellaops referrers discover {reference} --platforms; bundle export takes them along anyway"
            )),
            (own, elsewhere) => {
                let verb = if own == 1 { "refers" } else { "refer" };
                let seen = match elsewhere {
                    0 => format!("{own} {verb} to it"),
                    _ => format!("{own} {verb} to it, {elsewhere} more to its platforms"),
                };
                Finding::good(CHECK, seen)
                    .details(by_category(subject, graph))
                    .details(per_child)
            }
        }
    }

    /// Looks for an index that has the image as a platform, and has the referrers.
    async fn on_index(&self, subject: &Digest, tree: Option<&ImageTree>) -> Option<Finding> {
        if tree.is_some() {
            return None;
        }
        let tags = self.tags().await?;
        for tag in tags.iter().take(MAX_TAGS) {
            let tag: Tag = tag.parse().ok()?;
            let Ok(response) = self.repository.get_manifest(&tag).await else {
                continue;
            };
            if response.status().as_u16() != 200 {
                continue;
            }
            let content_type = response.header("content-type").map(str::to_owned);
            let Ok(index) = Manifest::parse(response.body().clone(), content_type.as_deref())
            else {
                continue;
            };
            let child = index.children().find(|child| child.digest == *subject);
            let Some(child) = child else { continue };
            let graph = self.discover(vec![index.digest().clone()]).await;
            let count = graph.referrers_of(index.digest()).count();
            if count == 0 {
                continue;
            }
            let platform = child
                .platform
                .as_ref()
                .map_or("a platform".to_owned(), ToString::to_string);
            let (registry, name) = (self.reference.registry(), self.reference.repository());
            return Some(
                Finding::notice(
                    "referrers",
                    format!(
                        "nothing refers to it, {} to the index {tag} that it is {platform} of",
                        match count {
                            1 => "1 refers".to_owned(),
                            count => format!("{count} refer"),
                        }
                    ),
                )
                .details([format!("{}", index.digest())])
                .cause("the build attached to the index and not to each platform's image")
                .remedy(format!("use the index: {registry}/{name}:{tag}")),
            );
        }
        None
    }
}

/// Describes a manifest in a few words.
pub(super) fn kind_of(manifest: &Manifest) -> String {
    match manifest.entries().len() {
        0 if media_type::is_index(manifest.media_type()) => "an empty index".to_owned(),
        0 => "an image for one platform".to_owned(),
        count => format!("an index of {}", render::count(count, "manifest")),
    }
}

fn listed(tags: &[String]) -> String {
    const SHOWN: usize = 8;
    match tags.len() {
        0 => "it has no tags".to_owned(),
        count if count > SHOWN => {
            format!("it has the tags {} and others", tags[..SHOWN].join(", "))
        }
        _ => format!("it has the tags {}", tags.join(", ")),
    }
}

pub(super) fn on_children(tree: &ImageTree, graph: &ReferrerGraph) -> Vec<(String, usize)> {
    let children = tree.children.iter().filter(|child| !child.is_attestation());
    children
        .filter_map(|child| {
            let digest = &child.descriptor.digest;
            let count = graph.referrers_of(digest).count();
            let platform = child.descriptor.platform.as_ref();
            let name = platform.map_or_else(|| render::short(digest), ToString::to_string);
            (count > 0).then_some((name, count))
        })
        .collect()
}

pub(super) fn by_category(subject: &Digest, graph: &ReferrerGraph) -> Option<String> {
    let mut categories: BTreeMap<String, usize> = BTreeMap::new();
    for referrer in graph.referrers_of(subject) {
        *categories.entry(referrer.category.to_string()).or_default() += 1;
    }
    let kinds: Vec<_> = categories
        .iter()
        .map(|(category, count)| format!("{category}: {count}"))
        .collect();
    (!kinds.is_empty()).then(|| kinds.join(", "))
}

/// Summarises the answers to a source: the first, and the number of further pages.
fn answers(report: &SubjectReport, source: SourceKind) -> String {
    let mut exchanges = report
        .exchanges
        .iter()
        .filter(|exchange| exchange.source == source)
        .map(|exchange| exchange.answer.as_str());
    let first = exchanges.next().unwrap_or("not asked");
    match exchanges.count() {
        0 => first.to_owned(),
        more => format!("{first}, and {} more", render::count(more, "page")),
    }
}

fn warnings(report: &SubjectReport, codes: &[WarningCode]) -> Vec<String> {
    report
        .warnings
        .iter()
        .filter(|warning| codes.contains(&warning.code))
        .map(|warning| format!("{}: {}", warning.code, warning.message))
        .collect()
}

fn problem_of(report: &SubjectReport, source: SourceKind) -> Option<&Problem> {
    report
        .errors
        .iter()
        .find(|problem| problem.source == Some(source))
}

fn problem_line(problem: &Problem) -> String {
    let about = problem.digest.as_ref().map(render::short);
    match about {
        Some(about) => format!("{} {about}: {}", problem.code, problem.message),
        None => format!("{}: {}", problem.code, problem.message),
    }
}

pub(super) fn folded_line(folded: &FoldedProblem<'_>) -> String {
    let problem = folded.problem;
    match problem.digest.as_ref().map(render::short) {
        Some(about) => format!("{} {about}: {folded}", problem.code),
        None => format!("{}: {folded}", problem.code),
    }
}

fn failed(check: &'static str, problem: &Problem) -> Finding {
    let (cause, remedy) = advice(problem.code);
    Finding::failed(check, exit_of(problem.code), problem_line(problem))
        .cause(cause)
        .remedy(remedy)
}

fn api(report: &SubjectReport) -> Finding {
    const CHECK: &str = "referrers API";
    let answers = answers(report, SourceKind::ReferrersApi);
    let answers = answers.strip_prefix("no answer: ").unwrap_or(&answers);
    let noticed = warnings(
        report,
        &[
            WarningCode::CapabilityBlocked,
            WarningCode::False200,
            WarningCode::ContentType,
        ],
    );
    if let Some(problem) = problem_of(report, SourceKind::ReferrersApi) {
        return failed(CHECK, problem).details(noticed);
    }
    match report.capability {
        Capability::Supported => {
            Finding::good(CHECK, format!("it has it: {answers}")).details(noticed)
        }
        Capability::Unsupported => Finding::notice(CHECK, format!("it has none ({answers})"))
            .details(noticed)
            .cause("the registry does not implement this part of the specification, or a proxy stops it")
            .remedy("nothing: the referrers tag and legacy tags are asked instead, as the specification says"),
        _ => Finding::notice(CHECK, format!("it gave no answer ({answers})"))
            .details(noticed)
            .cause("the API is blocked for this user, or something in front of the registry answers in its place")
            .remedy(format!("nothing while the referrers tag answers; else {UNBLOCK}")),
    }
}

pub(super) fn referrers_tag(report: &SubjectReport) -> Finding {
    const CHECK: &str = "referrers tag";
    if let Some(problem) = problem_of(report, SourceKind::ReferrersTag) {
        return failed(CHECK, problem);
    }
    let answers = answers(report, SourceKind::ReferrersTag);
    let noticed = warnings(
        report,
        &[
            WarningCode::NotAnIndex,
            WarningCode::TagIsSubject,
            WarningCode::StaleTagIndex,
            WarningCode::TagDenied,
        ],
    );
    if noticed.is_empty() {
        Finding::good(CHECK, answers)
    } else {
        Finding::notice(CHECK, answers).details(noticed)
    }
}

pub(super) fn legacy_tags(report: &SubjectReport, graph: &ReferrerGraph) -> Finding {
    const CHECK: &str = "legacy tags";
    if let Some(problem) = problem_of(report, SourceKind::LegacyTag) {
        return failed(CHECK, problem);
    }
    let found: BTreeSet<_> = graph
        .referrers_of(&report.subject)
        .filter_map(|referrer| referrer.tag.as_ref())
        .filter_map(|tag| tag.as_str().rsplit_once('.'))
        .map(|(_, suffix)| format!(".{suffix}"))
        .collect();
    let noticed = warnings(
        report,
        &[WarningCode::TagListDenied, WarningCode::TagScanLimited],
    );
    let seen = if found.is_empty() {
        "none".to_owned()
    } else {
        found.into_iter().collect::<Vec<_>>().join(", ")
    };
    if noticed.is_empty() {
        Finding::good(CHECK, seen)
    } else {
        Finding::notice(CHECK, seen).details(noticed).cause(
            "tags with suffixes other than .sig, .att and .sbom are only found in a complete list",
        )
    }
}

/// Reports referrers that are listed but missing.
pub(super) fn gone(graph: &ReferrerGraph) -> Option<Finding> {
    let gone: Vec<_> = graph
        .warnings()
        .filter(|warning| warning.code == WarningCode::DanglingReferrer)
        .filter_map(|warning| warning.digest.as_ref())
        .map(ToString::to_string)
        .collect();
    if gone.is_empty() {
        return None;
    }
    let verb = if gone.len() == 1 { "is" } else { "are" };
    Some(
        Finding::notice(
            "gone",
            format!(
                "{} {verb} listed but missing",
                render::count(gone.len(), "referrer")
            ),
        )
        .details(gone)
        .cause("a retention policy or garbage collection has deleted what has no tag")
        .remedy("attach them again, and exempt referrers from the retention policy"),
    )
}

fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Denied => Exit::Access,
        ErrorCode::Network
        | ErrorCode::RateLimited
        | ErrorCode::ServerError
        | ErrorCode::Timeout => Exit::Network,
        _ => Exit::Incomplete,
    }
}

fn advice(code: ErrorCode) -> (&'static str, &'static str) {
    match code {
        ErrorCode::Denied => (
            "this user may not read that part of the repository",
            "log in as a user who may; ask for pull access",
        ),
        ErrorCode::RateLimited => (
            "the registry throttles this user or address",
            "log in for a higher limit; wait; send fewer requests at a time (registries.HOST.max_in_flight)",
        ),
        ErrorCode::Timeout | ErrorCode::Network => (
            "the registry is slow or the connection bad",
            "raise export.referrer_discovery.timeout_seconds; try again from a better connection",
        ),
        ErrorCode::ServerError => (
            "the registry does not work for this request",
            "try again later; then ask the registry's operator",
        ),
        ErrorCode::Integrity => (
            "what the registry sent is not what the digest names: a damaged store or a cache in between",
            "do not use it; ask the registry's operator",
        ),
        ErrorCode::Limit => (
            "there is more than this program reads by default",
            "see the limits in the documentation",
        ),
        ErrorCode::UntrustedLink => (
            "the registry names another host for the rest of a list, and credentials are not sent there",
            "ask the operator of the registry or of the proxy in front of it",
        ),
        _ => (
            "the registry's answer breaks the specification or ends half-way",
            "try again; then ask the registry's operator",
        ),
    }
}
