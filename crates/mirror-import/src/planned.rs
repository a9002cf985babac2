use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mirror_plan::{MirrorPlan, Origin};
use oci_content::{Digest, Manifest, MirrorGraph, SourceRepository};
use registry_client::{BlobSource, BlobStream};

use crate::error::{ImportError, ImportErrorKind};
use crate::source::{Provenance, Source};

/// A planned mirror as a [`Source`]: manifests are those that the plan read, and blobs are streamed
/// from where they are while they are sent. Nothing is written to disk.
#[derive(Debug)]
pub struct PlannedSource {
    plan: MirrorPlan,
}

impl PlannedSource {
    /// Creates a source of everything that a plan carries.
    pub fn new(plan: MirrorPlan) -> Self {
        Self { plan }
    }
}

#[async_trait]
impl Source for PlannedSource {
    fn graph(&self) -> &MirrorGraph {
        &self.plan.graph
    }

    fn provenance(&self) -> Provenance {
        let (warnings, warnings_omitted) = import_validator::unsettled(&self.plan.graph);
        Provenance {
            status: self.plan.graph.status(),
            warnings,
            warnings_omitted,
            ..Provenance::default()
        }
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.plan.content.piece(digest).is_some()
    }

    fn repositories_with(&self, digest: &Digest) -> Vec<SourceRepository> {
        let piece = self.plan.content.piece(digest);
        let from = piece.map_or(&[][..], |piece| &piece.from);
        let repositories = from.iter().filter_map(|origin| origin.repository());
        let from = repositories.map(|repository| {
            SourceRepository::new(repository.registry().clone(), repository.name().clone())
        });
        from.collect()
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        let piece = self.plan.content.piece(digest);
        let raw = piece.and_then(|piece| piece.raw.clone()).ok_or_else(|| {
            let message = format!("the plan carries no manifest {digest}");
            ImportError::new(ImportErrorKind::Integrity, message)
        })?;
        Manifest::parse_verified(raw, digest, None).map_err(|error| {
            ImportError::caused(ImportErrorKind::Integrity, digest.to_string(), error)
        })
    }

    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource> {
        let piece = self.plan.content.piece(digest);
        Arc::new(PlannedBlob {
            digest: digest.clone(),
            size: piece.map_or(0, |piece| piece.size),
            raw: piece.and_then(|piece| piece.raw.clone()),
            from: piece.map(|piece| piece.from.clone()).unwrap_or_default(),
        })
    }
}

/// A blob of the places that have it. If one breaks off, the next continues.
struct PlannedBlob {
    digest: Digest,
    size: u64,
    /// The bytes, if the blob is also a manifest.
    raw: Option<Bytes>,
    from: Vec<Arc<Origin>>,
}

#[async_trait]
impl BlobSource for PlannedBlob {
    async fn open(&self, from: u64) -> io::Result<BlobStream> {
        if let Some(raw) = &self.raw {
            return raw.open(from).await;
        }
        let mut left = self.from.clone().into_iter();
        let (digest, size) = (self.digest.clone(), self.size);
        let mut next = move |at| {
            let origin = left.next()?;
            Some(origin.stream_blob(&digest, size, at))
        };
        let first = next(from).ok_or_else(|| {
            io::Error::other(format!("nothing is known that has {}", self.digest))
        })?;
        let chunks = stream::unfold(
            (first, from, next),
            |(mut stream, at, mut next)| async move {
                loop {
                    match stream.next().await? {
                        Ok(bytes) => {
                            let place = at + bytes.len() as u64;
                            return Some((Ok(bytes), (stream, place, next)));
                        }
                        Err(error) => match next(at) {
                            Some(other) => stream = other,
                            None => return Some((Err(error), (stream, at, next))),
                        },
                    }
                }
            },
        );
        Ok(chunks.boxed())
    }

    fn makes_requests(&self) -> bool {
        self.from.iter().any(|origin| origin.repository().is_some())
    }
}
