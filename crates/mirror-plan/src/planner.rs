use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    Algorithm, Digest, ErrorCode, Manifest, Reference, Registry, RepositoryName, SourceKind,
    SourceRepository,
};
use oci_referrers::{
    Answer, Discovery, FurtherSources, ImageDepth, ImageTree, ManifestCache, Problem, Query,
    ReferrerSource, RegistryManifests, RegistrySources, resolve_with_cache,
};
use registry_client::{Client, Repository, Stopwatch};
use registry_probe::{Probe, ProbeReport};

use crate::error::{PlanError, PlanErrorKind};
use crate::folder::{self, FolderImage};
use crate::found::{FoundImage, absent_layers};
use crate::observer::{PlanEvent, PlanObserver};
use crate::origin::Origin;
use crate::plan::{Known, MirrorPlan, plan};
use crate::policy::Judged;
use crate::request::PlanRequest;

/// The time limit for the probe of a registry, regardless of the time limit of an image.
const MAX_PROBE_TIME: Duration = Duration::from_secs(30);

/// From this many subjects of one repository on, one listing of its tags is cheaper than asking for
/// each tag.
const MANY_SUBJECTS: usize = 25;

/// Finds what there is to mirror.
#[derive(Clone, Debug)]
pub struct Planner {
    client: Client,
    observer: Arc<dyn PlanObserver>,
    sources: FurtherSources,
    cache: Option<Arc<dyn ManifestCache>>,
}

/// The result of a search: images with their referrers, and the probes of their registries.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found {
    /// The images, sorted by reference.
    pub images: Vec<FoundImage>,
    /// What each registry can do.
    pub probes: Vec<ProbeReport>,
    judged: Judged,
}

impl Found {
    /// Makes a plan of everything that can be carried.
    ///
    /// # Errors
    ///
    /// When no image can be carried.
    pub fn plan(&self, known: &Known) -> Result<MirrorPlan, PlanError> {
        plan(&self.images, known)
    }

    /// Applies the policy of the request, if there is one, to what a plan carries. `signed` says
    /// whether it goes into a signed bundle.
    ///
    /// # Errors
    ///
    /// When the policy forbids it.
    pub fn judge(
        &self,
        plan: &MirrorPlan,
        signed: bool,
        observer: &dyn PlanObserver,
    ) -> Result<(), PlanError> {
        self.judged.check(&plan.graph, signed, observer)
    }
}

/// A repository with images to find, and their number.
struct Source {
    origin: Arc<Origin>,
    repository: Repository,
    sources: RegistrySources,
    /// Sources of the caller.
    further: Vec<Arc<dyn ReferrerSource>>,
    images: usize,
}

/// An image to find.
enum Wanted {
    OfRegistry(Reference),
    OfFolder(FolderImage),
}

/// The time limit of a caller's sources.
#[derive(Clone, Debug)]
struct Bounds {
    stopwatch: Stopwatch,
    limit: Duration,
    /// The time of the whole image, for the message.
    late: Duration,
}

impl Bounds {
    /// Adds the sources of the caller to a discovery.
    fn add(&self, discovery: Discovery, further: &[Arc<dyn ReferrerSource>]) -> Discovery {
        further.iter().fold(discovery, |discovery, further| {
            let (source, bounds) = (Arc::clone(further), self.clone());
            discovery.source(Arc::new(Bounded { source, bounds }))
        })
    }
}

/// A caller's source, with the same time limit as the registry's sources.
#[derive(Debug)]
struct Bounded {
    source: Arc<dyn ReferrerSource>,
    bounds: Bounds,
}

#[async_trait]
impl ReferrerSource for Bounded {
    fn kind(&self) -> SourceKind {
        self.source.kind()
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let asked = self.source.referrers(query);
        let Bounds {
            stopwatch, limit, ..
        } = &self.bounds;
        let answer = stopwatch.within(*limit, asked).await;
        answer.unwrap_or_else(|| {
            let seconds = self.bounds.late.as_secs();
            let message = format!("{} gave no answer within {seconds} s", self.kind());
            Answer::failed(Problem::new(ErrorCode::Timeout, message))
        })
    }
}

impl Planner {
    /// Creates a planner that asks through `client`.
    pub fn new(client: Client, observer: Arc<dyn PlanObserver>) -> Self {
        Self {
            client,
            observer,
            sources: FurtherSources::default(),
            cache: None,
        }
    }

    /// Sets a cache of manifests that earlier runs have read; none by default.
    ///
    /// Lists and tags are always asked for. What a list names and the cache has is planned without
    /// being read again; an image that is in the cache was searched before, so one listing of tags
    /// serves it.
    #[must_use]
    pub fn manifest_cache(mut self, cache: Option<Arc<dyn ManifestCache>>) -> Self {
        self.cache = cache;
        self
    }

    /// Sets further sources of referrers. `sources` is called once for each repository; the sources
    /// that it returns are asked about each subject, in addition to the registry.
    #[must_use]
    pub fn sources(
        mut self,
        sources: impl Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync + 'static,
    ) -> Self {
        self.sources = FurtherSources::new(sources);
        self
    }

    /// Probes the registries, finds all images, and calls `each` with every image as soon as it is
    /// found. An error of `each` ends the search.
    ///
    /// # Errors
    ///
    /// When a folder cannot be read, an image does not exist or cannot be read, has none of the requested platforms, or
    /// lacks a required artifact type. A question about referrers that could not be settled is not
    /// an error: it is part of the result.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all requests; nothing is left behind.
    pub async fn find(
        &self,
        request: &PlanRequest,
        each: impl FnMut(&FoundImage) -> Result<(), PlanError> + Send,
    ) -> Result<Found, PlanError> {
        request.check()?;
        let folders = folder::open(request)?;
        let (probes, spent) = self.probe(request).await;
        let mut images = self.find_images(request, folders, &spent, each).await?;
        require_artifact_types(request, &images)?;
        let judged = Judged::new(request, &mut images).await?;
        Ok(Found {
            images,
            probes,
            judged,
        })
    }

    /// Probes each registry once, before anything else, and returns how long that took.
    ///
    /// The probe decides nothing, so it may take at most half of an image's time, and what it takes
    /// is deducted from that time.
    async fn probe(
        &self,
        request: &PlanRequest,
    ) -> (Vec<ProbeReport>, BTreeMap<Registry, Duration>) {
        let mut registries: BTreeMap<&Registry, &RepositoryName> = BTreeMap::new();
        for reference in &request.images {
            registries
                .entry(reference.registry())
                .or_insert(reference.repository());
        }
        if registries.is_empty() {
            return (Vec::new(), BTreeMap::new());
        }
        self.observer.planning(PlanEvent::Probing {
            registries: registries.len(),
        });
        let time = (request.discovery_timeout / 2).min(MAX_PROBE_TIME);
        let probe = &Probe::new(self.client.clone()).timeout(time);
        let probes = registries
            .into_iter()
            .map(|(registry, repository)| async move {
                let stopwatch = self.client.stopwatch(registry);
                let report = probe.probe(registry, Some(repository)).await;
                (report, (registry.clone(), stopwatch.elapsed()))
            });
        let (reports, spent): (Vec<_>, _) =
            futures::future::join_all(probes).await.into_iter().unzip();
        for report in &reports {
            self.observer.planning(PlanEvent::Probed(report));
        }
        (reports, spent)
    }

    async fn find_images(
        &self,
        request: &PlanRequest,
        folders: Vec<FolderImage>,
        spent: &BTreeMap<Registry, Duration>,
        mut each: impl FnMut(&FoundImage) -> Result<(), PlanError>,
    ) -> Result<Vec<FoundImage>, PlanError> {
        let mut sources: BTreeMap<(Registry, RepositoryName), Source> = BTreeMap::new();
        for reference in &request.images {
            let (registry, name) = (reference.registry().clone(), reference.repository().clone());
            let source = sources.entry((registry, name)).or_insert_with(|| {
                let repository = self
                    .client
                    .repository(reference.registry(), reference.repository());
                let configured = request.configured.get(reference.registry()).copied();
                let sources = RegistrySources::new(repository.clone())
                    .legacy_tags(request.legacy_tags)
                    .configured(configured)
                    .manifest_cache(self.cache.clone());
                Source {
                    origin: Arc::new(Origin::Repository(repository.clone())),
                    repository,
                    sources,
                    further: self.sources.of(&SourceRepository::from(reference)),
                    images: 0,
                }
            });
            source.images += 1;
        }
        let images = request.distinct_images();
        self.observer.planning(PlanEvent::Discovering {
            images: images.len() + folders.len(),
        });
        // Created one by one: a search that waits for its turn takes as much memory as a running
        // one.
        let wanted = images.into_values().cloned().map(Wanted::OfRegistry);
        let wanted = wanted.chain(folders.into_iter().map(Wanted::OfFolder));
        let sources = &sources;
        let finds = stream::iter(wanted).map(|wanted| async move {
            match wanted {
                Wanted::OfRegistry(reference) => {
                    let key = (reference.registry().clone(), reference.repository().clone());
                    let spent = spent.get(&key.0).copied().unwrap_or_default();
                    self.find_image(request, reference, &sources[&key], spent)
                        .await
                }
                Wanted::OfFolder(image) => self.find_in_folder(request, image).await,
            }
        });
        let mut finds = finds.buffer_unordered(request.max_concurrent_discoveries.get());
        let mut found: Vec<FoundImage> = Vec::new();
        while let Some(image) = finds.try_next().await? {
            each(&image)?;
            found.push(image);
        }
        found.sort_by_cached_key(|image| image.reference().to_string());
        Ok(found)
    }

    async fn find_image(
        &self,
        request: &PlanRequest,
        reference: Reference,
        source: &Source,
        spent: Duration,
    ) -> Result<FoundImage, PlanError> {
        let started = Instant::now();
        let stopwatch = source.repository.stopwatch();
        let time = request.discovery_timeout.saturating_sub(spent);
        let left = || time.saturating_sub(stopwatch.elapsed());
        let late = || {
            let seconds = request.discovery_timeout.as_secs();
            let message = format!("{reference} could not be read within {seconds} s");
            PlanError::new(PlanErrorKind::Network, message)
        };
        let repository = &source.repository;
        let resolving = resolve_with_cache(repository, &reference, self.cache.as_deref());
        let resolved = stopwatch
            .within(time, resolving)
            .await
            .ok_or_else(late)?
            .map_err(PlanError::from)?;
        if let Some(now) = &resolved.tag_moved_to {
            self.observer.planning(PlanEvent::TagMoved {
                reference: &reference,
                now,
            });
        }
        let seen_before = resolved.from_cache;
        let manifests = RegistryManifests::new(repository.clone())
            .within(left())
            .manifest_cache(self.cache.clone());
        let (root, named) = carried_root(request, &reference, resolved.manifest)?;
        let tree =
            ImageTree::walk(&manifests, root, &request.platforms, ImageDepth::Manifests).await;
        check_platforms(request, &reference, &tree)?;
        let mut subjects = tree.all_subjects();
        subjects.extend(named);
        let many = source.images * subjects.len() >= MANY_SUBJECTS || seen_before;
        let sources = source.sources.clone().seen_before(seen_before);
        let discovery = sources
            .discovery(Some(left()))
            .one_of_many(many)
            .children(Some(ImageDepth::Manifests))
            .keep_manifests(true);
        let bounds = Bounds {
            stopwatch: stopwatch.clone(),
            limit: time,
            late: request.discovery_timeout,
        };
        let discovery = bounds.add(discovery, &source.further);
        let graph = discovery.run(subjects).await;
        let absent = absent_layers(request, &source.origin, &tree, &graph);
        // A few HEADs may exceed the time limit rather than lose what was found.
        let extended = stopwatch.elapsed() + request.discovery_timeout / 10;
        let absent = stopwatch.within(time.max(extended), absent).await;
        let absent = absent.ok_or_else(late)??;
        let (observer, origin) = (&*self.observer, Arc::clone(&source.origin));
        let mut image =
            FoundImage::settle(request, observer, reference, origin, &tree, graph, started);
        image.absent = absent;
        Ok(image)
    }

    async fn find_in_folder(
        &self,
        request: &PlanRequest,
        folder: FolderImage,
    ) -> Result<FoundImage, PlanError> {
        let repository = SourceRepository::from(folder.reference());
        let further = self.sources.of(&repository);
        let bounds = Bounds {
            stopwatch: Stopwatch::default(),
            limit: request.discovery_timeout,
            late: request.discovery_timeout,
        };
        let with = |discovery| bounds.add(discovery, &further);
        folder.find(request, &*self.observer, with).await
    }
}

/// Checks that an index has one of the platforms that are asked for.
pub(crate) fn check_platforms(
    request: &PlanRequest,
    reference: &Reference,
    tree: &ImageTree,
) -> Result<(), PlanError> {
    if !request.platforms.is_empty() && tree.children.is_empty() && !tree.omitted.is_empty() {
        let there: Vec<_> = ImageTree::platforms(&tree.root)
            .iter()
            .map(ToString::to_string)
            .collect();
        let message = format!(
            "{reference} has none of the platforms asked for; it has {}",
            there.join(", ")
        );
        return Err(PlanError::new(PlanErrorKind::Access, message));
    }
    Ok(())
}

/// Returns the manifest of an image as it is carried: by its SHA-256, unless other digests are
/// carried too. Also returns the digest that its origin gives for the tag if that is another one.
pub(crate) fn carried_root(
    request: &PlanRequest,
    reference: &Reference,
    root: Manifest,
) -> Result<(Manifest, Option<Digest>), PlanError> {
    let is_sha256 = root.digest().algorithm() == Algorithm::Sha256;
    if request.sha512 || reference.digest().is_some() || is_sha256 {
        return Ok((root, None));
    }
    let carried = Manifest::parse(root.raw().clone(), Some(root.media_type()))
        .map_err(|error| PlanError::new(PlanErrorKind::Incomplete, error.to_string()))?;
    Ok((carried, Some(root.digest().clone())))
}

fn require_artifact_types(request: &PlanRequest, images: &[FoundImage]) -> Result<(), PlanError> {
    for image in images {
        for wanted in &request.require_artifact_types {
            let has = |own: &Option<String>| own.as_ref() == Some(wanted);
            if !image
                .graph
                .referrers
                .iter()
                .any(|referrer| has(&referrer.artifact_type))
            {
                let message = format!(
                    "{} has no referrer of the required artifact type {wanted}",
                    image.reference()
                );
                return Err(PlanError::new(PlanErrorKind::Incomplete, message));
            }
        }
    }
    Ok(())
}
