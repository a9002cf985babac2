use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use oci_content::{Capability, Digest, Manifest, SourceKind};

use crate::graph::ReferrerGraph;
use crate::held::Held;
use crate::image::{ImageDepth, ImageTree};
use crate::limits::Limits;
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::{Answer, Query, ReferrerSource};
use crate::verify::Facts;
use crate::walk::{Keep, Task, Walk};

/// The number of subjects from which one complete tag listing is cheaper than a request for each
/// tag.
const MANY_SUBJECTS: usize = 25;

/// Finds everything that refers to a set of subjects: the union of what all sources name, verified
/// and followed to the last level.
///
/// - A source that fails makes the result incomplete; it never silently makes it smaller.
/// - Every claim is checked against the manifest itself: its digest, its `subject`, its artifact
///   type.
/// - Each subject is asked about once, so the walk ends even if referrers name each other.
///
/// # Cancellation
///
/// Dropping the future of [`run`](Self::run) cancels all requests. To stop after some time and keep
/// what was found, give the sources a deadline: the walk then ends with their failures.
#[derive(Clone, Debug)]
pub struct Discovery {
    sources: Vec<Arc<dyn ReferrerSource>>,
    manifests: Arc<dyn ManifestSource>,
    limits: Limits,
    depth: Option<u32>,
    many: bool,
    keep: Keep,
    children: Option<ImageDepth>,
    configured: Capability,
}

impl Discovery {
    /// Creates a discovery without sources that reads manifests from `manifests`.
    pub fn new(manifests: Arc<dyn ManifestSource>) -> Self {
        Self {
            sources: Vec::new(),
            manifests,
            limits: Limits::default(),
            depth: None,
            many: false,
            keep: Keep::default(),
            children: None,
            configured: Capability::Unknown,
        }
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn ReferrerSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Stops after `depth` levels of referrers; by default, all levels are followed.
    #[must_use]
    pub fn depth(mut self, depth: Option<u32>) -> Self {
        self.depth = depth;
        self
    }

    /// Says whether this run is one of many in the same repository, so that one tag listing can
    /// serve them all; not by default. Runs of 25 subjects or more always share one.
    #[must_use]
    pub fn one_of_many(mut self, many: bool) -> Self {
        self.many = many;
        self
    }

    /// Sets the capability to report when no source asks the referrers API; `Unknown` by default.
    #[must_use]
    pub fn configured(mut self, capability: Capability) -> Self {
        self.configured = capability;
        self
    }

    /// Sets whether the graph keeps the manifests of the referrers; not by default.
    #[must_use]
    pub fn keep_manifests(mut self, keep: bool) -> Self {
        self.keep.manifests = keep;
        self
    }

    /// Sets whether requests and answers are kept for every subject. By default they are kept for
    /// the roots, and for deeper subjects for which a source failed.
    #[must_use]
    pub fn keep_exchanges(mut self, keep: bool) -> Self {
        self.keep.exchanges = keep;
        self
    }

    /// Also finds the referrers of the children of each referrer that is an index, at every level
    /// and within the limits of [`ImageTree::walk`]. By default children are not walked, and every
    /// such referrer within reach is listed in [`ReferrerGraph::unopened`].
    ///
    /// With [`ImageDepth::Indexes`], attestations that BuildKit keeps in an index are left out.
    /// With [`ImageDepth::Manifests`] they are included, and every manifest is read and verified.
    #[must_use]
    pub fn children(mut self, depth: Option<ImageDepth>) -> Self {
        self.children = depth;
        self
    }

    /// Finds everything that refers to `roots`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels all requests and loses what was found.
    pub async fn run(&self, roots: impl IntoIterator<Item = Digest>) -> ReferrerGraph {
        let held = Arc::new(Held::new(self.limits.max_bytes));
        let mut walk = Walk::new(self.sources.len(), self.depth, self.limits, self.keep)
            .held(Arc::clone(&held))
            .children(self.children);
        for root in roots {
            walk.place(None, root, 0);
        }
        let many = self.many || walk.subjects() >= MANY_SUBJECTS;
        let mut active = FuturesUnordered::new();
        loop {
            while active.len() < self.limits.max_active.get() {
                match walk.next_task() {
                    Some(Task::Ask(subject, place)) => {
                        let direct = !many && walk.is_root(&subject);
                        active.push(self.ask(subject, place, direct));
                    }
                    Some(Task::Read(subject, digest)) => active.push(self.read(subject, digest)),
                    Some(Task::Below(index)) => active.push(self.below(index, &held)),
                    None => break,
                }
            }
            match active.next().await {
                Some(Done::Answered(subject, place, answer)) => {
                    walk.answered(&subject, place, answer);
                }
                Some(Done::Read(subject, digest, facts)) => walk.read(&subject, digest, *facts),
                Some(Done::Below(tree)) => walk.below(*tree),
                None => break,
            }
        }
        walk.finish(self.configured)
    }

    /// Asks one source. Each answer is used as it comes, so a source that is slow or times out does
    /// not hold up the reading of what the others name.
    fn ask(&self, subject: Digest, place: usize, direct: bool) -> BoxFuture<'_, Done> {
        async move {
            let query = if direct {
                Query::direct(subject.clone())
            } else {
                Query::one_of_many(subject.clone())
            };
            let source = &self.sources[place];
            let answer = source.referrers(&query).await;
            Done::Answered(subject, place, (source.kind(), answer))
        }
        .boxed()
    }

    fn read(&self, subject: Digest, digest: Digest) -> BoxFuture<'_, Done> {
        async move {
            let manifest = self.manifests.manifest(&digest).await;
            let facts = manifest.map(|manifest| Facts::of(manifest, self.keep.manifests));
            Done::Read(subject, digest, Box::new(facts))
        }
        .boxed()
    }

    fn below<'a>(&'a self, index: Manifest, held: &'a Held) -> BoxFuture<'a, Done> {
        let depth = self.children.unwrap_or(ImageDepth::Indexes);
        async move {
            let tree = ImageTree::walk_within(&*self.manifests, index, &[], depth, held).await;
            Done::Below(Box::new(tree))
        }
        .boxed()
    }
}

/// A task that is done.
enum Done {
    /// The source at this index has answered.
    Answered(Digest, usize, (SourceKind, Answer)),
    Read(Digest, Digest, Box<Result<Facts, ManifestFailure>>),
    Below(Box<ImageTree>),
}
