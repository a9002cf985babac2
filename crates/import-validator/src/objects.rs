use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Manifest, ManifestErrorKind, media_type};

/// The parts of a bundle's manifests that are kept: enough to walk from one to the other.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    known: HashMap<Digest, Object>,
    /// The descriptors of manifests in lists of referrers, if such lists have to be made again.
    descriptors: HashMap<Digest, Descriptor>,
    /// The size of all manifests that are kept, in bytes.
    bytes: u64,
}

/// What is known about content that may be a manifest.
#[derive(Debug)]
pub(crate) enum Object {
    Manifest(Links),
    /// It cannot be a manifest; the reason is kept if it was known to have to be one.
    Not(ManifestErrorKind, Option<String>),
}

/// What a manifest says about other content.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) media_type: Box<str>,
    pub(crate) artifact_type: Option<Box<str>>,
    pub(crate) subject: Option<Target>,
    /// Manifests that it lists.
    pub(crate) children: Vec<Child>,
    /// Other content that it needs.
    pub(crate) blobs: Vec<Target>,
    /// Digests of descriptors that embed other content.
    pub(crate) false_data: Vec<Digest>,
}

/// A manifest that an index lists.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "policy"),
    expect(dead_code, reason = "platforms matter to a policy alone")
)]
pub(crate) struct Child {
    pub(crate) target: Target,
    /// The platform, as people write it.
    pub(crate) platform: Option<Box<str>>,
    /// Whether it is an attestation that BuildKit keeps in the index, which is neither a platform
    /// nor a referrer.
    pub(crate) attestation: bool,
}

impl From<&Descriptor> for Child {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            target: Target::from(descriptor),
            platform: descriptor
                .platform
                .as_ref()
                .map(|platform| platform.to_string().into()),
            attestation: descriptor.is_buildkit_attestation(),
        }
    }
}

/// What a descriptor says about the content it points at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: Box<str>,
}

impl Target {
    pub(crate) fn new(digest: &Digest, size: u64, media_type: &str) -> Self {
        Self {
            digest: digest.clone(),
            size,
            media_type: media_type.into(),
        }
    }
}

impl From<&Descriptor> for Target {
    fn from(descriptor: &Descriptor) -> Self {
        Self::new(&descriptor.digest, descriptor.size, &descriptor.media_type)
    }
}

impl Objects {
    /// Keeps what `bytes`, the content of `digest`, say if they are a manifest. `expected` says
    /// that they have to be one, `describe` that their descriptor is wanted. Returns the size of
    /// all manifests so far, in bytes.
    pub(crate) fn keep(
        &mut self,
        digest: &Digest,
        bytes: Vec<u8>,
        expected: bool,
        describe: bool,
    ) -> u64 {
        if !self.known.contains_key(digest) {
            let length = bytes.len() as u64;
            let object = match Manifest::parse(Bytes::from(bytes), None) {
                Ok(manifest) => {
                    self.bytes += length;
                    if describe {
                        let descriptor = manifest.descriptor();
                        self.descriptors.insert(digest.clone(), descriptor);
                    }
                    Object::Manifest(Links::of(&manifest))
                }
                Err(error) => Object::Not(error.kind(), expected.then(|| error.to_string())),
            };
            self.known.insert(digest.clone(), object);
        }
        self.bytes
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<&Object> {
        self.known.get(digest)
    }

    /// Returns the descriptor of a manifest, if it was wanted when the manifest was read.
    pub(crate) fn descriptor(&self, digest: &Digest) -> Option<&Descriptor> {
        self.descriptors.get(digest)
    }

    /// Returns what a manifest says, if it is one.
    pub(crate) fn links(&self, digest: &Digest) -> Option<&Links> {
        match self.known.get(digest) {
            Some(Object::Manifest(links)) => Some(links),
            _ => None,
        }
    }
}

impl Links {
    /// Returns what an index of any type lists; nothing for another manifest.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Digest> {
        let children = self.children.iter().map(|child| &child.target.digest);
        let others = if media_type::is_index(&self.media_type) {
            &*self.blobs
        } else {
            &[]
        };
        children.chain(others.iter().map(|other| &other.digest))
    }

    fn of(manifest: &Manifest) -> Self {
        let false_data: BTreeSet<_> = manifest
            .descriptors()
            .filter(|descriptor| !descriptor.data_holds())
            .map(|descriptor| descriptor.digest.clone())
            .collect();
        Self {
            media_type: manifest.media_type().into(),
            artifact_type: manifest.artifact_type().map(Into::into),
            subject: manifest.subject().map(Target::from),
            children: manifest.children().map(Child::from).collect(),
            blobs: manifest.blobs().map(Target::from).collect(),
            false_data: false_data.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: &str) -> Vec<u8> {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
            media_type::IMAGE_MANIFEST
        )
        .into_bytes()
    }

    #[test]
    fn embedded_content_is_compared_with_its_digest() {
        let digest = Digest::of(b"{}");
        for (data, size, holds) in [
            ("e30=", 2, true),
            ("e30", 2, false),
            ("e31=", 2, false),
            ("e30=", 3, false),
            ("!", 2, false),
        ] {
            let config = format!(
                r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"data":"{data}"}}"#,
                media_type::EMPTY
            );
            let bytes = image(&config);
            let own = Digest::of(&bytes);
            let mut objects = Objects::default();
            objects.keep(&own, bytes, true, false);
            let links = objects.links(&own).unwrap();
            assert_eq!(links.false_data.is_empty(), holds, "{data} {size}");
        }
    }

    #[test]
    fn only_manifests_count_against_the_limit_and_each_once() {
        let mut objects = Objects::default();
        let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
        assert_eq!(
            objects.keep(&Digest::of(&config), config.clone(), false, false),
            0
        );
        assert!(objects.links(&Digest::of(&config)).is_none());
        let descriptor = format!(
            r#"{{"mediaType":"a/b","digest":"{}","size":2}}"#,
            Digest::of(b"{}")
        );
        let bytes = image(&descriptor);
        let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
        assert_eq!(objects.keep(&digest, bytes.clone(), true, false), length);
        assert_eq!(objects.keep(&digest, bytes, true, false), length);
    }
}
