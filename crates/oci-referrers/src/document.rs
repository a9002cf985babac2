use oci_content::{
    Capability, Completeness, Digest, DiscoveryMethod, ImageSource, Manifest, Platform,
    schema_version_1,
};
use serde::{Deserialize, Serialize};

use crate::graph::{Referrer, ReferrerGraph};
use crate::image::Child;
use crate::source::{Exchange, Problem, Warning};

/// The versioned JSON document about the referrers of one reference, as `docs/json.md` describes
/// it.
///
/// - It is written and read with `serde`. Reading a document of another version is an error.
///   Unknown members are ignored, since members may be added at any time.
/// - [`status`](Self::status) is `complete` if nothing has failed and the manifest of the subject
///   is known.
///
/// ```
/// use oci_content::{Digest, Reference};
/// use oci_referrers::{DiscoveryDocument, ReferrerGraph};
///
/// let reference: Reference = "registry.example.com/team/app:1.0".parse()?;
/// let graph = ReferrerGraph::default();
/// let document = DiscoveryDocument::new(reference, None, &graph).requests(7);
/// let json = serde_json::to_string(&document)?;
/// assert_eq!(serde_json::from_str::<DiscoveryDocument>(&json)?, document);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DiscoveryDocument {
    #[serde(deserialize_with = "schema_version_1")]
    schema_version: u32,
    /// The reference that was asked about.
    pub reference: ImageSource,
    /// The manifest that the reference leads to; `None` if it could not be resolved.
    pub subject: Option<ListedSubject>,
    /// Whether everything was answered.
    pub status: Completeness,
    /// How the referrers of the subject were found; `None` if nothing could be asked.
    pub method: Option<DiscoveryMethod>,
    /// Whether the registry has the referrers API, as its answer for the subject shows.
    pub capability: Capability,
    /// The referrers of all levels, sorted by depth, then digest.
    pub referrers: Vec<ListedReferrer>,
    /// What was noticed without making the result incomplete.
    pub warnings: Vec<Warning>,
    /// What failed.
    pub errors: Vec<Problem>,
    /// The number of HTTP requests that were sent.
    pub requests: u64,
    /// The manifests below the subject; `None` unless [`children`](Self::children) was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<ListedChild>>,
    /// The requests and their answers; `None` unless [`exchanges`](Self::exchanges) was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<Vec<ListedExchange>>,
}

/// The subject of a [`DiscoveryDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListedSubject {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The media type of its manifest; `None` if the manifest could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The size of its manifest in bytes; `None` if the manifest could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A referrer in a [`DiscoveryDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedReferrer {
    /// The referrer, without its manifest.
    #[serde(flatten)]
    pub referrer: Referrer,
    /// The manifests below it, if it is an index whose children were walked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ListedChild>,
}

/// A manifest below an index in a [`DiscoveryDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListedChild {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The media type of the manifest, as the index says.
    pub media_type: String,
    /// The platform of the manifest, as the index says.
    pub platform: Option<Platform>,
    /// Whether it is an attestation that BuildKit keeps in the index.
    pub attestation: bool,
}

/// An [`Exchange`] in a [`DiscoveryDocument`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedExchange {
    /// The subject whose referrers were asked for.
    pub subject: Digest,
    /// The request and its answer.
    #[serde(flatten)]
    pub exchange: Exchange,
}

impl DiscoveryDocument {
    /// The version of this form of the document.
    pub const SCHEMA_VERSION: u32 = 1;

    /// Creates a document from the result of a discovery. `subject` is `None` if the reference
    /// could not be resolved.
    ///
    /// The document is incomplete until the subject's [`manifest`](Self::manifest) is set.
    pub fn new(
        reference: impl Into<ImageSource>,
        subject: Option<&Digest>,
        graph: &ReferrerGraph,
    ) -> Self {
        let listed = graph.referrers.iter().map(|referrer| {
            let tree = graph.indexes.get(&referrer.digest);
            let children = tree.into_iter().flat_map(|tree| &tree.children);
            ListedReferrer {
                referrer: Referrer {
                    manifest: None,
                    ..referrer.clone()
                },
                children: children.map(ListedChild::from).collect(),
            }
        });
        let report = subject.and_then(|subject| graph.report(subject));
        Self {
            schema_version: Self::SCHEMA_VERSION,
            reference: reference.into(),
            subject: subject.map(|digest| ListedSubject {
                digest: digest.clone(),
                media_type: None,
                size: None,
            }),
            status: Completeness::Incomplete,
            method: report.map(|report| report.method),
            capability: report.map_or(Capability::Unknown, |report| report.capability),
            referrers: listed.collect(),
            warnings: graph.warnings().cloned().collect(),
            errors: graph.errors().cloned().collect(),
            requests: 0,
            children: None,
            exchanges: None,
        }
    }

    /// Sets the manifest of the subject.
    #[must_use]
    pub fn manifest(mut self, manifest: &Manifest) -> Self {
        self.subject = Some(ListedSubject {
            digest: manifest.digest().clone(),
            media_type: Some(manifest.media_type().to_owned()),
            size: Some(manifest.size()),
        });
        self.settled()
    }

    /// Adds failures from outside the discovery, before those of the discovery.
    #[must_use]
    pub fn errors(mut self, errors: impl IntoIterator<Item = Problem>) -> Self {
        self.errors.splice(..0, errors);
        self.settled()
    }

    /// Adds warnings from outside the discovery, before those of the discovery.
    #[must_use]
    pub fn warnings(mut self, warnings: impl IntoIterator<Item = Warning>) -> Self {
        self.warnings.splice(..0, warnings);
        self
    }

    /// Removes all referrers that are not wanted from the list. Nothing else in the document
    /// changes.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Referrer) -> bool) -> Self {
        self.referrers.retain(|listed| wanted(&listed.referrer));
        self
    }

    /// Sets the manifests below the subject.
    #[must_use]
    pub fn children<'a>(mut self, children: impl IntoIterator<Item = &'a Child>) -> Self {
        self.children = Some(children.into_iter().map(ListedChild::from).collect());
        self
    }

    /// Adds the requests and their answers, as far as the graph
    /// [keeps](crate::Discovery::keep_exchanges) them.
    #[must_use]
    pub fn exchanges(mut self, graph: &ReferrerGraph) -> Self {
        let exchanges = graph.subjects.iter().flat_map(|report| {
            report.exchanges.iter().map(|exchange| ListedExchange {
                subject: report.subject.clone(),
                exchange: exchange.clone(),
            })
        });
        self.exchanges = Some(exchanges.collect());
        self
    }

    /// Sets the number of HTTP requests that were sent; 0 by default.
    #[must_use]
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }

    fn settled(mut self) -> Self {
        let subject = self.subject.as_ref();
        let known = subject.is_some_and(|subject| subject.media_type.is_some());
        self.status = if known && self.errors.is_empty() {
            Completeness::Complete
        } else {
            Completeness::Incomplete
        };
        self
    }
}

impl From<&Child> for ListedChild {
    fn from(child: &Child) -> Self {
        Self {
            digest: child.descriptor.digest.clone(),
            media_type: child.descriptor.media_type.clone(),
            platform: child.descriptor.platform.clone(),
            attestation: child.is_attestation(),
        }
    }
}
