use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci_content::{
    Capability, Digest, ImageSource, LayoutReference, Platform, Reference, Registry,
};
use oci_referrers::{LegacyTags, Policy};

use crate::error::{PlanError, PlanErrorKind};

/// What to mirror.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanRequest {
    /// The images of registries. One that is named twice is mirrored once.
    pub images: Vec<Reference>,
    /// The images of image layout folders, in addition to those of registries; none by default. A
    /// reference without name and digest stands for all images of its folder.
    pub layouts: Vec<LayoutReference>,
    /// The platforms to carry; all when empty.
    pub platforms: Vec<Platform>,
    /// Artifact types that every image must have a referrer of.
    pub require_artifact_types: Vec<String>,
    /// The policy that the images must satisfy before anything is sent or written, and the time
    /// from which ages count.
    pub policy: Option<(Policy, SystemTime)>,
    /// What the images are copies of; none by default. The policy knows a copy by the name of its
    /// source, and its own registry and repository as the target.
    pub copies_of: BTreeMap<Reference, Reference>,
    /// The objects that need not be fetched, because the target has them already; none by default.
    pub held: Option<Held>,
    /// Whether objects that are addressed by SHA-512 are carried. Not by default, because a bundle
    /// of version 1 cannot hold them; they are then incomplete.
    pub sha512: bool,
    /// Whether [`FoundImage::descriptors`](crate::FoundImage::descriptors) are kept. Not by
    /// default, since they take memory.
    pub keep_descriptors: bool,
    /// The legacy tags to look for. Of folders, `Known` carries the same as `All`.
    pub legacy_tags: LegacyTags,
    /// The time limit for everything that is asked about one image before its blobs: the probe of
    /// its registry, resolving its reference, and the discovery of its referrers; 120 s by default.
    /// Waits for the client's own budget do not count, see [`Stopwatch`](registry_client::Stopwatch).
    pub discovery_timeout: Duration,
    /// The number of images whose referrers are discovered at once; 4 by default.
    pub max_concurrent_discoveries: NonZeroUsize,
    /// The registries whose referrers API capability is configured instead of observed.
    pub configured: BTreeMap<Registry, Capability>,
}

impl PlanRequest {
    /// Creates a request with the defaults.
    pub fn new(images: Vec<Reference>) -> Self {
        Self {
            images,
            layouts: Vec::new(),
            platforms: Vec::new(),
            require_artifact_types: Vec::new(),
            policy: None,
            copies_of: BTreeMap::new(),
            held: None,
            sha512: false,
            keep_descriptors: false,
            legacy_tags: LegacyTags::All,
            discovery_timeout: Duration::from_secs(120),
            max_concurrent_discoveries: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            configured: BTreeMap::new(),
        }
    }

    /// Creates a request with the defaults for images of registries and of folders.
    pub fn of_sources(sources: impl IntoIterator<Item = ImageSource>) -> Self {
        let mut request = Self::new(Vec::new());
        for source in sources {
            match source {
                ImageSource::Registry(reference) => request.images.push(reference),
                ImageSource::Layout(reference) => request.layouts.push(reference),
            }
        }
        request
    }

    /// Returns the images of registries, each once, by their text.
    pub fn distinct_images(&self) -> BTreeMap<String, &Reference> {
        let images = self.images.iter();
        images.map(|image| (image.to_string(), image)).collect()
    }

    /// Checks what can be checked without asking a registry.
    ///
    /// # Errors
    ///
    /// When the request names no image.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.images.is_empty() && self.layouts.is_empty() {
            let message = "there is no image to mirror";
            return Err(PlanError::new(PlanErrorKind::Usage, message));
        }
        Ok(())
    }
}

/// Decides which objects need not be fetched, by digest and size.
#[derive(Clone)]
pub struct Held(Arc<Holds>);

type Holds = dyn Fn(&Digest, u64) -> bool + Send + Sync;

impl Held {
    /// Creates it from a function that returns whether an object of a size in bytes is held.
    pub fn new(holds: impl Fn(&Digest, u64) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Returns whether an object of `size` bytes is held.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        (self.0)(digest, size)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}
