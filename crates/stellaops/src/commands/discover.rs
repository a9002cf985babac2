mod explain;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use oci_content::{
    Capability, Completeness, Digest, DiscoveryMethod, ErrorCode, Manifest, Reference, Registry,
    SourceKind, WarningCode, media_type,
};
use oci_referrers::{
    Child, DiscoveryDocument, FoldedProblem, ImageDepth, ImageTree, Problem, Referrer,
    ReferrerGraph, RegistryManifests, RegistrySources, ResolveError, SubjectReport, Warning,
    resolve,
};
use serde_json::json;

use crate::arguments::LegacyTagsArg;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure, chain};
use crate::log::{LogLevel, escape};
use crate::render::{self, Table, Tree};

/// List everything that refers to an image, at every level
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct DiscoverArgs {
    #[arg(help = "The image: REGISTRY/REPOSITORY[:TAG][@DIGEST]")]
    pub(crate) reference: Reference,
    /// Show referrers of this artifact type only
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Vec<String>,
    /// Levels of referrers to follow [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,
    /// Ask for the referrers of the index's children as well
    #[arg(long)]
    pub(crate) platforms: bool,
    /// Show what was asked and what each source answered
    #[arg(long)]
    pub(crate) explain: bool,
    /// Legacy tags to look for
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) legacy_tags: LegacyTagsArg,
    /// Seconds for the whole discovery
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<NonZeroU64>,
    /// Form of the result
    #[arg(long, default_value = "tree", value_name = "FORMAT")]
    pub(crate) format: DiscoverFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiscoverFormat {
    Tree,
    Table,
    Json,
}

const EXAMPLES: &str = "\
    stellaops referrers discover registry.example.com/team/app:1.0\n\
    stellaops referrers discover registry.example.com/team/app:1.0 --platforms --explain\n\
    stellaops referrers discover registry.example.com/team/app:1.0 --artifact-type application/vnd.cyclonedx+json --format json";

impl Run for DiscoverArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(vec![self.reference.registry().clone()])
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &DiscoverArgs) -> Result<(), Failure> {
    let phase = context.progress.discovery(1);
    let found = discover(context, args).await;
    drop(phase);
    announce(
        context,
        &args.reference,
        found.root_report(),
        &found.graph,
        found.timeout,
        found.resolve_failure.is_some(),
    );
    match args.format {
        DiscoverFormat::Json => render::json(&found.document(args, context.requests()))?,
        DiscoverFormat::Table => render::text(&found.table(args))?,
        DiscoverFormat::Tree => render::text(&found.tree(args, context.requests()))?,
    }
    found.outcome(&args.reference)
}

/// What a discovery of one reference found out.
pub(crate) struct Found {
    /// What the reference leads to; `None` when it could not be read.
    manifest: Option<Manifest>,
    /// The digest that was asked about; known for a reference by digest even without a manifest.
    subject: Option<Digest>,
    children: Vec<Child>,
    pub(crate) graph: ReferrerGraph,
    warnings: Vec<Warning>,
    errors: Vec<Problem>,
    resolve_failure: Option<(Exit, String)>,
    timeout: Duration,
}

pub(crate) async fn discover(context: &Context, args: &DiscoverArgs) -> Found {
    let reference = &args.reference;
    let default = context.config.export.referrer_discovery.timeout_seconds;
    let timeout = Duration::from_secs(args.timeout.unwrap_or(default).get());
    let started = Instant::now();
    let left = || timeout.saturating_sub(started.elapsed());
    let repository = context
        .client
        .repository(reference.registry(), reference.repository());
    let mut found = Found {
        manifest: None,
        subject: reference.digest().cloned(),
        children: Vec::new(),
        graph: ReferrerGraph::default(),
        warnings: Vec::new(),
        errors: Vec::new(),
        resolve_failure: None,
        timeout,
    };
    match tokio::time::timeout(timeout, resolve(&repository, reference)).await {
        Ok(Ok(resolved)) => {
            found.subject = Some(resolved.manifest.digest().clone());
            if let Some(now) = resolved.tag_moved_to {
                context.log.warn(&format!(
                    "{reference}: the tag is at {now} now; the digest decides"
                ));
            }
            found.manifest = Some(resolved.manifest);
        }
        Ok(Err(error)) => found.resolve_failed(&error),
        Err(_) => {
            let message = format!(
                "{reference} could not be read within {} s",
                timeout.as_secs()
            );
            found
                .errors
                .push(Problem::new(ErrorCode::Timeout, &message));
            found.resolve_failure = Some((Exit::Network, message));
        }
    }
    let Some(subject) = found.subject.clone() else {
        return found;
    };
    let mut roots = match &found.manifest {
        Some(manifest) => ImageTree::names(manifest),
        None => vec![subject],
    };
    if let Some(manifest) = &found.manifest
        && media_type::is_index(manifest.media_type())
    {
        if args.platforms {
            let manifests = RegistryManifests::new(repository.clone()).within(left());
            let tree =
                ImageTree::walk(&manifests, manifest.clone(), &[], ImageDepth::Indexes).await;
            roots = tree.subjects();
            found.children = tree.children;
            found.errors.extend(tree.problems);
        } else if manifest.children().next().is_some() {
            let message =
                "this is an index; --platforms asks for the referrers of its children as well";
            found.warnings.push(
                Warning::new(WarningCode::ChildrenNotWalked, message).about(manifest.digest()),
            );
        }
    }
    let sources = RegistrySources::new(repository)
        .legacy_tags(args.legacy_tags.into())
        .configured(context.configured_api(reference.registry()));
    found.graph = sources
        .discovery(Some(left()))
        .children(args.platforms.then_some(ImageDepth::Indexes))
        .keep_exchanges(args.explain)
        .depth(args.depth)
        .run(roots)
        .await;
    found
        .warnings
        .extend(found.graph.unopened.iter().map(|index| {
        let message =
            "this referrer is an index; --platforms asks for the referrers of its children as well";
        Warning::new(WarningCode::ChildrenNotWalked, message).about(index)
    }));
    found
}

impl Found {
    fn resolve_failed(&mut self, error: &ResolveError) {
        let (exit, problem) = match error {
            ResolveError::NotFound { .. } => (
                Exit::Access,
                Problem::new(ErrorCode::Denied, error.to_string()),
            ),
            ResolveError::Failed { problem, .. } => {
                let exit = match problem.code {
                    ErrorCode::Denied => Exit::Access,
                    ErrorCode::Malformed | ErrorCode::Integrity | ErrorCode::Limit => {
                        Exit::Incomplete
                    }
                    _ => Exit::Network,
                };
                (exit, problem.clone())
            }
            _ => (
                Exit::Network,
                Problem::new(ErrorCode::Network, chain(error)),
            ),
        };
        self.errors.push(problem);
        self.resolve_failure = Some((exit, with_next_step(exit, chain(error))));
    }

    fn root_report(&self) -> Option<&SubjectReport> {
        self.graph.report(self.subject.as_ref()?)
    }

    fn status(&self) -> Completeness {
        match self.errors.is_empty()
            && self.graph.status() == Completeness::Complete
            && self.manifest.is_some()
        {
            true => Completeness::Complete,
            false => Completeness::Incomplete,
        }
    }

    fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().chain(self.graph.warnings())
    }

    fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.errors.iter().chain(self.graph.errors())
    }

    pub(crate) fn outcome(&self, reference: &Reference) -> Result<(), Failure> {
        if let Some((exit, message)) = &self.resolve_failure {
            return Err(Failure::new(*exit, message));
        }
        if self.status() == Completeness::Complete {
            return Ok(());
        }
        let folded = FoldedProblem::fold(self.errors());
        let first = folded.first().map(|first| {
            let way_out = way_out(first.problem, reference.registry());
            format!(": {first}{way_out}")
        });
        let first = first.unwrap_or_default();
        let message = format!(
            "{reference}: discovery is incomplete: {} failed{first}",
            render::count(self.errors().count(), "lookup"),
        );
        Err(Failure::new(Exit::Incomplete, message))
    }

    fn shown<'a>(&'a self, args: &'a DiscoverArgs) -> impl Iterator<Item = &'a Referrer> {
        self.graph
            .referrers
            .iter()
            .filter(|referrer| wanted(referrer, args))
    }

    fn document(&self, args: &DiscoverArgs, requests: u64) -> DiscoveryDocument {
        let reference = args.reference.clone();
        let mut document = DiscoveryDocument::new(reference, self.subject.as_ref(), &self.graph)
            .errors(self.errors.iter().cloned())
            .warnings(self.warnings.iter().cloned())
            .only(|referrer| wanted(referrer, args))
            .requests(requests);
        if let Some(manifest) = &self.manifest {
            document = document.manifest(manifest);
        }
        if args.platforms {
            document = document.children(&self.children);
        }
        if args.explain {
            document = document.exchanges(&self.graph);
        }
        for problem in &mut document.errors {
            let way_out = way_out(problem, args.reference.registry());
            problem.message.push_str(&way_out);
        }
        document
    }

    fn table(&self, args: &DiscoverArgs) -> String {
        let mut table = Table::new([
            "DEPTH",
            "CATEGORY",
            "ARTIFACT TYPE",
            "DIGEST",
            "SUBJECT",
            "SIZE",
            "FOUND BY",
        ]);
        for referrer in self.shown(args) {
            table.row([
                referrer.depth.to_string(),
                referrer.category.to_string(),
                render::foreign(referrer.artifact_type.as_deref().unwrap_or("-")),
                referrer.digest.to_string(),
                render::short(&referrer.subject),
                referrer.size.to_string(),
                found_by(referrer),
            ]);
        }
        table.to_string()
    }

    pub(crate) fn tree(&self, args: &DiscoverArgs, requests: u64) -> String {
        let Some(subject) = &self.subject else {
            return format!("{}\n", args.reference);
        };
        let children = match self
            .children
            .iter()
            .filter(|child| !child.is_attestation())
            .count()
        {
            0 => String::new(),
            count => format!("  index of {}", render::count(count, "platform")),
        };
        let mut tree = Tree::new(format!(
            "{}  {}{children}",
            args.reference,
            render::short(subject)
        ));
        let mut seen = HashSet::new();
        self.branches(&mut tree, subject, args, &mut seen);
        for name in self.manifest.iter().flat_map(ImageTree::names) {
            self.branches(&mut tree, &name, args, &mut seen);
        }
        for child in &self.children {
            tree.push(self.child_branch(child, args, &mut seen));
        }
        let mut text = tree.to_string();
        if args.explain {
            text.push_str(&self.explanation());
        }
        text.push_str(&self.closing(args, requests));
        text
    }

    /// Returns what is below a referrer that is an index.
    fn children_of(&self, referrer: &Digest) -> &[Child] {
        let tree = self.graph.indexes.get(referrer);
        tree.map_or(&[], |tree| &tree.children)
    }

    fn child_branch(&self, child: &Child, args: &DiscoverArgs, seen: &mut HashSet<Digest>) -> Tree {
        let digest = &child.descriptor.digest;
        let platform = child
            .descriptor
            .platform
            .as_ref()
            .map_or("manifest".to_owned(), |platform| {
                render::foreign(&platform.to_string())
            });
        let name = if child.is_attestation() {
            "attestation in the index".to_owned()
        } else {
            platform
        };
        let mut branch = Tree::new(format!("[{name}]  {}", render::short(digest)));
        self.branches(&mut branch, digest, args, seen);
        branch
    }

    fn branches(
        &self,
        tree: &mut Tree,
        subject: &Digest,
        args: &DiscoverArgs,
        seen: &mut HashSet<Digest>,
    ) {
        if !seen.insert(subject.clone()) {
            return;
        }
        for referrer in self.graph.referrers_of(subject) {
            let mut branch = Tree::new(line(referrer, args.explain));
            self.branches(&mut branch, &referrer.digest, args, seen);
            for child in self.children_of(&referrer.digest) {
                let below = self.child_branch(child, args, seen);
                if args.artifact_type.is_empty() || !below.is_leaf() {
                    branch.push(below);
                }
            }
            // A branch that the filter refuses stays when something below it is wanted.
            if wanted(referrer, args) || !branch.is_leaf() {
                tree.push(branch);
            }
        }
    }

    /// Says which artifact types there are, to somebody who has asked for another one.
    fn types_there(&self) -> String {
        const SHOWN: usize = 10;
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        for referrer in &self.graph.referrers {
            *types
                .entry(referrer.artifact_type.as_deref().unwrap_or("-"))
                .or_default() += 1;
        }
        let shown = types.iter().take(SHOWN);
        let shown = shown.map(|(name, count)| format!("{} ({count})", render::foreign(name)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = match types.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("hint: none has this artifact type; those that are there: {shown}{more}\n")
    }

    fn closing(&self, args: &DiscoverArgs, requests: u64) -> String {
        let mut text = String::from("\n");
        for folded in FoldedProblem::fold(self.errors()) {
            let problem = folded.problem;
            let about = problem
                .digest
                .as_ref()
                .map(|digest| format!(" {}", render::short(digest)))
                .unwrap_or_default();
            let way_out = way_out(problem, args.reference.registry());
            let said = escape(&format!("{folded}{way_out}"));
            text.push_str(&format!("error {}{about}: {said}\n", problem.code));
        }
        for (warning, times) in folded_warnings(self.warnings()) {
            let about = warning
                .digest
                .as_ref()
                .map(|digest| format!(" {}", render::short(digest)))
                .unwrap_or_default();
            text.push_str(&format!(
                "warning {}{about}: {}{times}\n",
                warning.code,
                escape(&warning.message)
            ));
        }
        let shown = self.shown(args).count();
        let all = self.graph.referrers.len();
        let number = match shown == all {
            true => render::count(all, "referrer"),
            false => format!("{shown} of {}", render::count(all, "referrer")),
        };
        if shown == 0 && all > 0 {
            text.push_str(&self.types_there());
        }
        let (capability, method) = self
            .root_report()
            .map_or((Capability::Unknown, "-"), |report| {
                (report.capability, report.method.as_str())
            });
        text.push_str(&format!(
            "{}: {number}, method {method}, referrers API {capability}, {}\n",
            self.status(),
            render::count(usize::try_from(requests).unwrap_or(usize::MAX), "request"),
        ));
        text
    }
}

fn wanted(referrer: &Referrer, args: &DiscoverArgs) -> bool {
    args.artifact_type.is_empty()
        || referrer
            .artifact_type
            .as_ref()
            .is_some_and(|own| args.artifact_type.contains(own))
}

fn line(referrer: &Referrer, explain: bool) -> String {
    let artifact_type = referrer
        .artifact_type
        .as_deref()
        .map_or("(no artifact type)".into(), render::foreign);
    let mut line = format!(
        "{}  {artifact_type}  {}",
        referrer.category,
        render::short(&referrer.digest)
    );
    let suffix = referrer
        .tag
        .as_ref()
        .and_then(|tag| tag.as_str().rsplit('.').next());
    match (suffix, explain) {
        (Some(suffix), true) => line.push_str(&format!("  ({} .{suffix})", found_by(referrer))),
        (None, true) => line.push_str(&format!("  ({})", found_by(referrer))),
        (Some(suffix), false) => line.push_str(&format!("  tag .{suffix}")),
        (None, false) => {}
    }
    line
}

fn found_by(referrer: &Referrer) -> String {
    let names: Vec<_> = referrer
        .sources
        .iter()
        .map(|source| source.as_str())
        .collect();
    names.join(", ")
}

/// Says what to configure where an operator can know better than a registry says.
fn way_out(problem: &Problem, registry: &Registry) -> String {
    match problem.code {
        ErrorCode::Denied if problem.settled_by_tag => format!(
            "; if the registry has no referrers API, configure registries.{registry}.referrers_api: unsupported"
        ),
        _ => String::new(),
    }
}

/// Brings warnings together that say the same of different subjects, each with what to write after it.
pub(crate) fn folded_warnings<'a>(
    warnings: impl Iterator<Item = &'a Warning>,
) -> Vec<(&'a Warning, String)> {
    let mut folded: Vec<(&Warning, usize)> = Vec::new();
    let mut places = HashMap::new();
    for warning in warnings {
        let key = (warning.code, &warning.digest, &warning.message);
        let place = *places.entry(key).or_insert(folded.len());
        match folded.get_mut(place) {
            Some((_, times)) => *times += 1,
            None => folded.push((warning, 1)),
        }
    }
    let said = folded.into_iter().map(|(warning, times)| match times {
        1 => (warning, String::new()),
        times => (warning, format!(" ({times} subjects)")),
    });
    said.collect()
}

/// Adds where to look when a registry could not be reached.
pub(crate) fn with_next_step(exit: Exit, message: String) -> String {
    match exit {
        Exit::Network => format!("{message}; `stellaops registry diagnose` looks for the cause"),
        _ => message,
    }
}

/// Logs and counts what a discovery found, in the words that the runbook greps for.
pub(crate) fn announce(
    context: &Context,
    reference: &Reference,
    root: Option<&SubjectReport>,
    graph: &ReferrerGraph,
    timeout: Duration,
    unreadable: bool,
) {
    let registry: &Registry = reference.registry();
    let method = root.map_or(DiscoveryMethod::FallbackTag, |report| report.method);
    if !unreadable {
        context.metrics.discovered(registry, method);
    }
    for problem in graph.errors() {
        context.metrics.discovery_failed(registry, problem.code);
    }
    let open = graph.errors().map(|problem| way_out(problem, registry));
    if let Some(way_out) = open.into_iter().find(|way_out| !way_out.is_empty()) {
        context.log.warn(&format!(
            "{reference}: the referrers API is denied, and not every subject has a referrers tag{way_out}"
        ));
    }
    let fields = json!({ "reference": reference, "registry": registry, "method": method });
    let fields = || fields.as_object().cloned().unwrap_or_default();
    if graph
        .errors()
        .any(|problem| problem.code == ErrorCode::Timeout)
    {
        let seconds = timeout.as_secs();
        let message =
            format!("Referrer discovery timed out for image {reference} after {seconds} s");
        context.log.write(LogLevel::Warn, &message, fields());
    }
    if !unreadable && graph.referrers.is_empty() && graph.status() == Completeness::Complete {
        context.log.write(
            LogLevel::Warn,
            &format!("No referrers found for image {reference}"),
            fields(),
        );
    }
    let legacy = graph
        .referrers
        .iter()
        .filter(|r| r.sources.contains(&SourceKind::LegacyTag))
        .count();
    if legacy > 0 && context.log.is_debug() {
        context.log.debug(&format!(
            "{legacy} referrers of {reference} are named by legacy tags"
        ));
    }
}
