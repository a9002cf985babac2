mod explain;
mod folder;
mod tree;

use std::num::NonZeroU64;
use std::slice;
use std::time::Duration;

use clap::{Args, ValueEnum};
use oci_content::{
    Completeness, Digest, ErrorCode, ImageSource, Manifest, Reference, Registry, WarningCode,
    media_type, with_causes,
};
use oci_referrers::{
    Child, Discovery, DiscoveryDocument, FoldedProblem, ImageDepth, ImageTree, ManifestSource,
    Problem, Referrer, ReferrerGraph, RegistryManifests, RegistrySources, ResolveError,
    SubjectReport, Warning, resolve,
};

use crate::announce;
use crate::arguments::LegacyTagsArg;
use crate::arguments::source::{FORM, registries, source};
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::remedy;
use crate::render;

/// List everything that refers to an image, at every level
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct DiscoverArgs {
    #[arg(help = format!("The image: {FORM}"), value_parser = source)]
    pub(crate) reference: ImageSource,
    /// Show only referrers of this artifact type
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Vec<String>,
    /// Levels of referrers to follow [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,
    /// Also ask for the referrers of the index's children
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
    /// Output format
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
    stellaops referrers discover oci:folder:1.0\n\
    stellaops referrers discover registry.example.com/team/app:1.0 --artifact-type application/vnd.cyclonedx+json --format json";

impl Run for DiscoverArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        registries(slice::from_ref(&self.reference))
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &DiscoverArgs) -> Result<(), Failure> {
    let phase = context.progress.discovery(1);
    let found = discover(context, args).await?;
    drop(phase);
    announce::discovered(
        context,
        &args.reference,
        args.reference.registry(),
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

/// The result of the discovery of one reference.
pub(crate) struct Found {
    /// The name that a folder gives to the image.
    name: Option<Reference>,
    /// The manifest of the reference; `None` if it could not be read.
    manifest: Option<Manifest>,
    /// The digest that the discovery starts from; known for a reference by digest even without its manifest.
    subject: Option<Digest>,
    children: Vec<Child>,
    pub(crate) graph: ReferrerGraph,
    warnings: Vec<Warning>,
    errors: Vec<Problem>,
    resolve_failure: Option<Failure>,
    timeout: Duration,
}

/// Fails only if the arguments are wrong: what cannot be read is part of the result.
pub(crate) async fn discover(context: &Context, args: &DiscoverArgs) -> Result<Found, Failure> {
    let default = context.config.export.referrer_discovery.timeout_seconds;
    let timeout = Duration::from_secs(args.timeout.unwrap_or(default).get());
    match &args.reference {
        ImageSource::Registry(reference) => {
            Ok(in_registry(context, args, reference, timeout).await)
        }
        ImageSource::Layout(reference) => folder::discover(context, args, reference, timeout).await,
    }
}

async fn in_registry(
    context: &Context,
    args: &DiscoverArgs,
    reference: &Reference,
    timeout: Duration,
) -> Found {
    let repository = context
        .client
        .repository(reference.registry(), reference.repository());
    let stopwatch = repository.stopwatch();
    let left = || timeout.saturating_sub(stopwatch.elapsed());
    let mut found = Found::nothing(reference.digest().cloned(), timeout);
    let resolved = stopwatch.within(timeout, resolve(&repository, reference));
    match resolved.await {
        Some(Ok(resolved)) => {
            found.subject = Some(resolved.manifest.digest().clone());
            if let Some(now) = resolved.tag_moved_to {
                context.log.warn(&format!(
                    "{reference}: the tag points to {now} now; the digest is used"
                ));
            }
            found.manifest = Some(resolved.manifest);
        }
        Some(Err(error)) => found.resolve_failed(&error),
        None => {
            let message = format!(
                "{reference} could not be read within {} s",
                timeout.as_secs()
            );
            found
                .errors
                .push(Problem::new(ErrorCode::Timeout, &message));
            found.resolve_failure = Some(Failure::new(Exit::Network, message));
        }
    }
    let Some(subject) = found.subject.clone() else {
        return found;
    };
    let manifests = RegistryManifests::new(repository.clone()).within(left());
    let roots = found.roots(&manifests, subject, args.platforms).await;
    let sources = RegistrySources::new(repository)
        .legacy_tags(args.legacy_tags.into())
        .configured(context.configured_api(reference.registry()));
    found
        .search(sources.discovery(Some(left())), roots, args)
        .await;
    found
}

impl Found {
    fn nothing(subject: Option<Digest>, timeout: Duration) -> Self {
        Self {
            name: None,
            manifest: None,
            subject,
            children: Vec::new(),
            graph: ReferrerGraph::default(),
            warnings: Vec::new(),
            errors: Vec::new(),
            resolve_failure: None,
            timeout,
        }
    }

    /// Returns the subjects to ask about; reads the children of an index, if they are wanted.
    async fn roots(
        &mut self,
        manifests: &dyn ManifestSource,
        subject: Digest,
        platforms: bool,
    ) -> Vec<Digest> {
        let Some(manifest) = &self.manifest else {
            return vec![subject];
        };
        if media_type::is_index(manifest.media_type()) {
            if platforms {
                let root = manifest.clone();
                let tree = ImageTree::walk(manifests, root, &[], ImageDepth::Indexes).await;
                let roots = tree.subjects();
                self.children = tree.children;
                self.errors.extend(tree.problems);
                return roots;
            }
            if manifest.children().next().is_some() {
                let message =
                    "this is an index; --platforms asks for the referrers of its children as well";
                let warning = Warning::new(WarningCode::ChildrenNotWalked, message);
                self.warnings.push(warning.about(manifest.digest()));
            }
        }
        ImageTree::names(manifest)
    }

    async fn search(&mut self, discovery: Discovery, roots: Vec<Digest>, args: &DiscoverArgs) {
        self.graph = discovery
            .children(args.platforms.then_some(ImageDepth::Indexes))
            .keep_exchanges(args.explain)
            .depth(args.depth)
            .run(roots)
            .await;
        self.warnings.extend(self.graph.unopened.iter().map(|index| {
            let message =
                "this referrer is an index; --platforms asks for the referrers of its children as well";
            Warning::new(WarningCode::ChildrenNotWalked, message).about(index)
        }));
    }

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
                Problem::new(ErrorCode::Network, with_causes(error)),
            ),
        };
        self.errors.push(problem);
        let failure = Failure::new(exit, with_causes(error));
        self.resolve_failure = Some(failure.mended_by(remedy::of_exit(exit)));
    }

    fn root_report(&self) -> Option<&SubjectReport> {
        self.graph.report(self.subject.as_ref()?)
    }

    fn status(&self) -> Completeness {
        if self.errors.is_empty()
            && self.graph.status() == Completeness::Complete
            && self.manifest.is_some()
        {
            Completeness::Complete
        } else {
            Completeness::Incomplete
        }
    }

    fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().chain(self.graph.warnings())
    }

    fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.errors.iter().chain(self.graph.errors())
    }

    pub(crate) fn outcome(&self, reference: &ImageSource) -> Result<(), Failure> {
        if let Some(failure) = &self.resolve_failure {
            return Err(failure.clone());
        }
        if self.status() == Completeness::Complete {
            return Ok(());
        }
        let folded = FoldedProblem::fold(self.errors());
        let first = folded.first().map(|first| {
            let way_out = remedy::of_problem(first.problem, reference.registry());
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

    pub(crate) fn document(&self, args: &DiscoverArgs, requests: u64) -> DiscoveryDocument {
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
            let way_out = remedy::of_problem(problem, args.reference.registry());
            problem.message.push_str(&way_out);
        }
        document
    }
}

fn wanted(referrer: &Referrer, args: &DiscoverArgs) -> bool {
    args.artifact_type.is_empty()
        || referrer
            .artifact_type
            .as_ref()
            .is_some_and(|own| args.artifact_type.contains(own))
}
