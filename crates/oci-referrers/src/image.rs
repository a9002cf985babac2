use futures::future::join_all;
use oci_content::{Algorithm, Descriptor, Digest, ErrorCode, Manifest, Platform, media_type};
use serde::{Serialize, Serializer};

use crate::held::{self, Held};
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::Problem;

/// The most levels of indexes within indexes.
const MAX_LEVELS: usize = 8;
/// The number of children of one image, over all levels, at which no further level is read.
const MAX_CHILDREN: usize = 1_000;
/// The most memory for the manifests of one image, in bytes; an estimate.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// An image: a single manifest, or an index with the manifests below it.
///
/// In the serialized form, descriptors stand for manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageTree {
    /// The manifest or index that the reference leads to.
    #[serde(serialize_with = "descriptor")]
    pub root: Manifest,
    /// The manifests below it, in the order of the index.
    pub children: Vec<Child>,
    /// The children that the platform filter left out.
    pub omitted: Vec<Descriptor>,
    /// The failures to read children.
    pub problems: Vec<Problem>,
    /// The children that, by its own account, the source does not have. Each is in `problems` as
    /// well.
    pub missing: Vec<Descriptor>,
}

/// A manifest below an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Child {
    /// The entry of the index.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The manifest; `None` if only indexes were to be read and this is not one.
    #[serde(skip)]
    pub manifest: Option<Manifest>,
}

impl Child {
    /// Returns whether this is an attestation that BuildKit keeps in the index, which is neither a
    /// platform nor a referrer.
    pub fn is_attestation(&self) -> bool {
        self.descriptor.is_buildkit_attestation()
    }
}

/// How much of an image is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageDepth {
    /// Only indexes within the index, which is enough to know all children.
    Indexes,
    /// Every manifest.
    Manifests,
}

impl ImageTree {
    /// Reads an image down to its manifests.
    ///
    /// It reads at most 8 levels of indexes, no level below the one with the 1,000th child, and at
    /// most 256 MiB of manifests. A limit that is reached is in [`problems`](Self::problems) with
    /// the code `limit`.
    ///
    /// If `platforms` is not empty, children for other platforms are left out, together with the
    /// attestations about them. Entries of an index that are not manifests are
    /// [blobs](Manifest::blobs) of the index and never left out.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels all reads and loses what was read. To stop after some time and
    /// keep it, give `manifests` a deadline.
    pub async fn walk(
        manifests: &dyn ManifestSource,
        root: Manifest,
        platforms: &[Platform],
        depth: ImageDepth,
    ) -> Self {
        let held = Held::new(MAX_BYTES);
        Self::walk_within(manifests, root, platforms, depth, &held).await
    }

    pub(crate) async fn walk_within(
        manifests: &dyn ManifestSource,
        root: Manifest,
        platforms: &[Platform],
        depth: ImageDepth,
        held: &Held,
    ) -> Self {
        let mut tree = Self {
            root,
            children: Vec::new(),
            omitted: Vec::new(),
            problems: Vec::new(),
            missing: Vec::new(),
        };
        let mut level = vec![tree.root.clone()];
        for depth_left in (0..MAX_LEVELS).rev() {
            let mut next = Vec::new();
            for index in std::mem::take(&mut level) {
                let children: Vec<_> = index.children().cloned().collect();
                let (kept, omitted) = select(&children, platforms);
                tree.omitted.extend(omitted);
                let reads = kept.into_iter().map(|descriptor| async move {
                    let wanted = depth == ImageDepth::Manifests
                        || media_type::is_index(&descriptor.media_type);
                    let manifest = if wanted {
                        Some(within(held, manifests.manifest(&descriptor.digest).await))
                    } else {
                        None
                    };
                    (descriptor, manifest)
                });
                for (descriptor, manifest) in join_all(reads).await {
                    let manifest = match manifest.transpose() {
                        Ok(manifest) => manifest,
                        Err(failure) => {
                            let is_missing = failure == ManifestFailure::NotFound;
                            tree.problems.push(child_problem(&descriptor, failure));
                            tree.missing.extend(is_missing.then_some(descriptor));
                            continue;
                        }
                    };
                    next.extend(
                        manifest
                            .iter()
                            .filter(|child| child.children().next().is_some())
                            .cloned(),
                    );
                    tree.children.push(Child {
                        descriptor,
                        manifest,
                    });
                }
            }
            if next.is_empty() {
                break;
            }
            if depth_left == 0 || tree.children.len() > MAX_CHILDREN {
                let message = format!(
                    "at most {MAX_LEVELS} levels of indexes and {MAX_CHILDREN} children are read"
                );
                tree.problems
                    .push(Problem::new(ErrorCode::Limit, message).about(tree.root.digest()));
                break;
            }
            level = next;
        }
        tree.children
            .dedup_by(|a, b| a.descriptor.digest == b.descriptor.digest);
        tree
    }

    /// Returns the digests whose referrers belong to the image: [its own](Self::names), and those
    /// of its children except attestations.
    pub fn subjects(&self) -> Vec<Digest> {
        let children = self.children.iter().filter(|child| !child.is_attestation());
        self.with_root(children)
    }

    /// Returns the digests of the image and of every child, including attestations, which may be
    /// signed too.
    pub fn all_subjects(&self) -> Vec<Digest> {
        self.with_root(self.children.iter())
    }

    fn with_root<'a>(&self, children: impl Iterator<Item = &'a Child>) -> Vec<Digest> {
        let children = children.flat_map(|child| match &child.manifest {
            Some(manifest) => Self::names(manifest),
            None => vec![child.descriptor.digest.clone()],
        });
        Self::names(&self.root)
            .into_iter()
            .chain(children)
            .collect()
    }

    /// Returns the digests by which a referrer can name this manifest as its subject: the one it
    /// was requested by, and its SHA-256 if that is a different one.
    pub fn names(manifest: &Manifest) -> Vec<Digest> {
        let own = manifest.digest().clone();
        match own.algorithm() {
            Algorithm::Sha256 => vec![own],
            _ => vec![own, Digest::of(manifest.raw())],
        }
    }

    /// Returns the platforms that an index lists.
    pub fn platforms(index: &Manifest) -> Vec<Platform> {
        let children = index
            .children()
            .filter(|child| !child.is_buildkit_attestation());
        children
            .filter_map(|child| child.platform.clone())
            .collect()
    }
}

fn descriptor<S: Serializer>(manifest: &Manifest, serializer: S) -> Result<S::Ok, S::Error> {
    manifest.descriptor().serialize(serializer)
}

fn within(
    held: &Held,
    manifest: Result<Manifest, ManifestFailure>,
) -> Result<Manifest, ManifestFailure> {
    let manifest = manifest?;
    if held.take(held::of_manifest(&manifest)) {
        Ok(manifest)
    } else {
        let message = "the manifests below the index exceed their memory limit";
        let problem = Problem::new(ErrorCode::Limit, message);
        Err(ManifestFailure::Failed(problem))
    }
}

fn child_problem(child: &Descriptor, failure: ManifestFailure) -> Problem {
    match failure {
        ManifestFailure::NotFound => {
            let platform = child.platform.as_ref();
            let platform = platform.map(|platform| format!(", for {platform}"));
            let message = format!(
                "the index lists a manifest that is not there{}",
                platform.unwrap_or_default()
            );
            Problem::new(ErrorCode::ServerError, message)
        }
        ManifestFailure::Failed(problem) => problem,
    }
    .about(&child.digest)
}

/// Splits the children of an index into those that the platform filter keeps and those that it
/// leaves out.
fn select(children: &[Descriptor], platforms: &[Platform]) -> (Vec<Descriptor>, Vec<Descriptor>) {
    let wanted = |child: &Descriptor| match &child.platform {
        // A child without a platform may be an index within the index.
        None => true,
        Some(platform) => platforms.iter().any(|wanted| wanted.selects(platform)),
    };
    if platforms.is_empty() {
        return (children.to_vec(), Vec::new());
    }
    let chosen: Vec<&Digest> = children
        .iter()
        .filter(|child| !child.is_buildkit_attestation() && wanted(child))
        .map(|child| &child.digest)
        .collect();
    children.iter().cloned().partition(|child| {
        if child.is_buildkit_attestation() {
            let subject = child.buildkit_subject();
            subject.is_some_and(|subject| chosen.contains(&&subject))
        } else {
            chosen.contains(&&child.digest)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attestation_goes_with_its_platform() {
        let child = |name: &str, platform: &str| {
            let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, name.as_bytes());
            descriptor.platform = Platform::parse(platform);
            descriptor
        };
        let attestation = |of: &Descriptor| {
            let mut descriptor = child(&format!("att {}", of.digest), "unknown/unknown");
            descriptor.annotations.insert(
                "vnd.docker.reference.type".into(),
                "attestation-manifest".into(),
            );
            descriptor
                .annotations
                .insert("vnd.docker.reference.digest".into(), of.digest.to_string());
            descriptor
        };
        let (amd, arm) = (child("amd", "linux/amd64"), child("arm", "linux/arm64/v8"));
        let all = [
            amd.clone(),
            arm.clone(),
            attestation(&amd),
            attestation(&arm),
        ];
        let (kept, omitted) = select(&all, &[Platform::parse("linux/arm64").unwrap()]);
        assert_eq!(kept, [arm.clone(), attestation(&arm)]);
        assert_eq!(omitted, [amd.clone(), attestation(&amd)]);
        assert_eq!(select(&all, &[]).0.len(), 4);
    }
}
