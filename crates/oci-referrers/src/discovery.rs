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

/// From this many subjects on, one complete tag listing is cheaper than asking for each tag.
const MANY_SUBJECTS: usize = 25;

/// Finds everything that refers to some subjects: the union of what all sources name, verified and followed to
/// the last level.
///
/// - A source that fails makes the result incomplete, never smaller in silence.
/// - Every claim is checked against the manifest itself: its digest, its `subject`, its artifact type.
/// - Each subject is asked for once, so lists that name each other end.
///
/// # Cancellation
///
/// Dropping the future ends all requests. To stop after a time and keep what was found, give the sources a
/// deadline: their failures then end the walk.
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
    /// Creates a discovery without sources, which reads and verifies manifests through `manifests`.
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

    /// Stops after so many levels of referrers, because the caller wants no more; all levels by default.
    #[must_use]
    pub fn depth(mut self, depth: Option<u32>) -> Self {
        self.depth = depth;
        self
    }

    /// Tells that this run is one of many in the same repository, so that one tag listing may answer for all.
    #[must_use]
    pub fn one_of_many(mut self, many: bool) -> Self {
        self.many = many;
        self
    }

    /// Tells what is known about the referrers API where no source asks it; `Unknown` by default.
    #[must_use]
    pub fn configured(mut self, capability: Capability) -> Self {
        self.configured = capability;
        self
    }

    /// Keeps the manifests of the referrers in the graph.
    #[must_use]
    pub fn keep_manifests(mut self, keep: bool) -> Self {
        self.keep.manifests = keep;
        self
    }

    /// Keeps what was asked and answered for every subject. Without it, that is kept for the roots, and for those below
    /// them for which a source failed.
    #[must_use]
    pub fn keep_exchanges(mut self, keep: bool) -> Self {
        self.keep.exchanges = keep;
        self
    }

    /// Asks for the referrers of the children too where a referrer is an index, as for the children of an image: at each
    /// level, within the limits of [`ImageTree::walk`]. Not by default: then each such referrer that is in reach is named
    /// in [`ReferrerGraph::unopened`].
    ///
    /// With [`ImageDepth::Indexes`], attestations that BuildKit keeps in an index are left out; with
    /// [`ImageDepth::Manifests`] they are asked for as well, and every manifest is read and verified.
    #[must_use]
    pub fn children(mut self, depth: Option<ImageDepth>) -> Self {
        self.children = depth;
        self
    }

    /// Runs the discovery.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all requests, and what was found is lost.
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

    /// Asks one source. Each answer is used as it comes: a source that is slow, or silent until the time is over, does
    /// not keep what the others name from being read.
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

/// A question that was answered.
enum Done {
    /// By the source at this place.
    Answered(Digest, usize, (SourceKind, Answer)),
    Read(Digest, Digest, Box<Result<Facts, ManifestFailure>>),
    Below(Box<ImageTree>),
}
