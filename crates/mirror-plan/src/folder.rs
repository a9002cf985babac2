use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use oci_content::{LayoutReference, Reference, SourceKind};
use oci_referrers::{
    Discovery, ImageDepth, ImageTree, LayoutImage, LayoutReferrers, LegacyTags, ManifestFailure,
    ManifestSource as _,
};

use crate::error::{PlanError, PlanErrorKind};
use crate::found::{FoundImage, absent_layers};
use crate::observer::{PlanEvent, PlanObserver};
use crate::origin::Origin;
use crate::planner::{carried_root, check_platforms};
use crate::request::PlanRequest;

/// An image in a layout folder that is to be found.
#[derive(Debug)]
pub(crate) struct FolderImage {
    image: LayoutImage,
    /// The folder as the image sees it.
    referrers: LayoutReferrers,
    origin: Arc<Origin>,
}

/// Opens the folders of a request, each once, and selects the images.
pub(crate) fn open(request: &PlanRequest) -> Result<Vec<FolderImage>, PlanError> {
    let mut folders: BTreeMap<PathBuf, (LayoutReferrers, Arc<Origin>)> = BTreeMap::new();
    let mut images: BTreeMap<String, (FolderImage, &LayoutReference)> = BTreeMap::new();
    let registries = request.distinct_images();
    for wanted in &request.layouts {
        // A folder that does not exist is reported when it is opened.
        let folder = wanted.folder();
        let place = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let (referrers, origin) = match folders.get(&place) {
            Some(known) => known.clone(),
            None => {
                let referrers = LayoutReferrers::open_folder(wanted)?;
                let origin = Arc::new(Origin::Layout(referrers.layout().clone()));
                let opened = (referrers, origin);
                folders.entry(place).or_insert(opened).clone()
            }
        };
        for image in referrers.images(wanted)? {
            let name = image.reference.to_string();
            let other = images.get(&name);
            let clash = match other {
                Some((known, _)) if Arc::ptr_eq(&known.origin, &origin) => None,
                Some((_, other)) => Some(other.to_string()),
                None => registries.contains_key(&name).then(|| name.clone()),
            };
            if let Some(other) = clash {
                let message = format!(
                    "an image of {wanted} is named {name}, and so is one of {other}; mirror them one after the other"
                );
                return Err(PlanError::new(PlanErrorKind::Usage, message));
            }
            let found = FolderImage {
                referrers: referrers.of(&image),
                origin: Arc::clone(&origin),
                image,
            };
            images.entry(name).or_insert((found, wanted));
        }
    }
    Ok(images.into_values().map(|(image, _)| image).collect())
}

impl FolderImage {
    /// Returns the name of the image.
    pub(crate) fn reference(&self) -> &Reference {
        &self.image.reference
    }

    /// Reads the image and discovers its referrers. `with` adds the sources of the caller.
    pub(crate) async fn find(
        &self,
        request: &PlanRequest,
        observer: &dyn PlanObserver,
        with: impl FnOnce(Discovery) -> Discovery,
    ) -> Result<FoundImage, PlanError> {
        let started = Instant::now();
        let reference = &self.image.reference;
        if let Some(now) = &self.image.tag_moved_to {
            observer.planning(PlanEvent::TagMoved { reference, now });
        }
        let read = self.referrers.manifest(&self.image.digest).await;
        let manifest = read.map_err(|failure| self.unreadable(failure))?;
        let (root, named) = carried_root(request, reference, manifest)?;
        let platforms = &request.platforms;
        let tree = ImageTree::walk(&self.referrers, root, platforms, ImageDepth::Manifests).await;
        check_platforms(request, reference, &tree)?;
        let mut subjects = tree.all_subjects();
        subjects.extend(named);
        let sources = self.referrers.sources().into_iter().filter(|source| {
            request.legacy_tags != LegacyTags::Off || source.kind() != SourceKind::LegacyTag
        });
        let discovery = Discovery::new(Arc::new(self.referrers.clone()))
            .children(Some(ImageDepth::Manifests))
            .keep_manifests(true);
        let discovery = sources.fold(discovery, Discovery::source);
        let graph = with(discovery).run(subjects).await;
        let absent = absent_layers(request, &self.origin, &tree, &graph).await?;
        let (name, origin) = (reference.clone(), Arc::clone(&self.origin));
        let mut image = FoundImage::settle(request, observer, name, origin, &tree, graph, started);
        image.absent = absent;
        Ok(image)
    }

    fn unreadable(&self, failure: ManifestFailure) -> PlanError {
        let (reference, origin) = (&self.image.reference, &self.origin);
        let digest = &self.image.digest;
        match failure {
            ManifestFailure::Failed(problem) => {
                let message = format!("{reference} cannot be read from {origin}");
                PlanError::new(PlanErrorKind::of_local(&problem), message).caused_by(problem)
            }
            _ => {
                let message = format!(
                    "{reference} cannot be read: index.json of {origin} lists {digest}, and it is not there"
                );
                PlanError::new(PlanErrorKind::Incomplete, message)
            }
        }
    }
}
