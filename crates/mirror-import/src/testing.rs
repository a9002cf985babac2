//! The contract of [`Target`] as a test suite for implementations.
//!
//! Call [`check_target`] from a test. If an implementation breaks a rule, it panics with a message
//! that begins with the rule.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::sync::Arc;
//!
//! use mirror_import::LayoutTarget;
//! use mirror_import::testing::check_target;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let mut number = 0;
//! check_target(|| {
//!     number += 1;
//!     Arc::new(LayoutTarget::new(folder.path().join(number.to_string())))
//! })
//! .await;
//! # }
//! ```

mod memory_source;

use std::sync::Arc;

use oci_content::{Completeness, Descriptor, Digest, RepositoryName, Tag};
use registry_client::BlobSource;

use crate::error::ImportError;
use crate::importer::Importer;
use crate::options::ImportOptions;
use crate::patience::Patience;
use crate::report::{ImportReport, TagAction};
use crate::source::Source as _;
use crate::target::{Check, Entry, Holding, Published, Target};

pub use memory_source::MemorySource;

/// Checks a target against its [contract](Target). `empty` is called several times and must return
/// an empty target each time; the previous target is not used after that.
///
/// # Panics
///
/// When the target breaks a rule; the message names it.
pub async fn check_target(mut empty: impl FnMut() -> Arc<dyn Target>) {
    let rules = Rules::new(empty());
    rules.nothing_is_there_before_it_is_put().await;
    rules.what_is_put_is_there().await;
    let rules = Rules::new(empty());
    rules.wrong_bytes_are_refused().await;
    rules.a_put_that_is_dropped_leaves_nothing_damaged().await;
    let rules = Rules::new(empty());
    rules.names_are_given_by_publish_alone().await;
    let rules = Rules::new(empty());
    rules.lists_of_referrers_grow().await;
    let rules = Rules::new(empty());
    rules.a_second_import_sends_nothing().await;
}

/// A target, and the source that is put into it.
struct Rules {
    target: Arc<dyn Target>,
    source: Arc<MemorySource>,
    repository: RepositoryName,
}

impl Rules {
    fn new(target: Arc<dyn Target>) -> Self {
        let repository: RepositoryName = "suite/app".parse().expect("it is a repository name");
        Self {
            target,
            source: Arc::new(MemorySource::sample()),
            repository,
        }
    }

    fn entry(&self, descriptor: &Descriptor, tag: Option<&str>) -> Entry {
        let mut entry = Entry::new(self.repository.clone(), descriptor.clone());
        entry.source = self
            .source
            .graph()
            .images
            .first()
            .map(|image| image.reference.clone());
        entry.tag = tag.map(|tag| tag.parse::<Tag>().expect("it is a tag"));
        entry.is_image = *descriptor == *self.source.image();
        entry
    }

    async fn nothing_is_there_before_it_is_put(&self) {
        const RULE: &str = "nothing is there before it is put";
        let (target, image) = (&self.target, self.source.image());
        assert!(!target.name().is_empty(), "{RULE}: a target has a name");
        assert_eq!(
            target.identity(None),
            target.identity(None),
            "{RULE}: the identity is one"
        );
        assert_eq!(
            target.profile(),
            target.profile(),
            "{RULE}: the profile is one"
        );
        let entries = [self.entry(image, Some("1.0")), self.entry(image, None)];
        let held = target.held(&entries, Check::Size).await;
        assert_eq!(
            held.len(),
            entries.len(),
            "{RULE}: `held` answers for each entry"
        );
        assert!(
            held.iter().all(|held| matches!(held, Ok(None))),
            "{RULE}: {held:?}"
        );
        assert!(
            target.held(&[], Check::Content).await.is_empty(),
            "{RULE}: no entry has no answer"
        );
        for (digest, size) in self.source.blobs() {
            for check in [Check::Size, Check::Content] {
                let there = target.blob(&self.repository, digest, size, check).await;
                assert!(
                    matches!(there, Ok(Holding::Nothing)),
                    "{RULE}: {digest}: {there:?}"
                );
            }
        }
        let there = target
            .has_manifest(&self.repository, image, Check::Size)
            .await;
        assert!(matches!(there, Ok(false)), "{RULE}: {there:?}");
    }

    async fn what_is_put_is_there(&self) {
        const RULE: &str = "what is put is there, and can be put again";
        prepare(&self.target, RULE).await;
        let blobs: Vec<_> = self.source.blobs().collect();
        for _ in 0..2 {
            let puts = blobs.iter().map(|(digest, _)| self.put_blob(digest));
            for put in futures::future::join_all(puts).await {
                put.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
            }
            for (digest, size) in &blobs {
                self.shows(RULE, digest, *size, Holding::Whole).await;
            }
        }
        for manifest in self.source.manifests_in_order() {
            for _ in 0..2 {
                self.put_manifest(RULE, &manifest.digest).await;
            }
            let mut patience = Patience::new(self.target.profile().patience);
            while !self.has_manifest(RULE, &manifest).await {
                assert!(
                    patience.wait().await,
                    "{RULE}: {} is not there",
                    manifest.digest
                );
            }
        }
        let other: RepositoryName = "suite/other".parse().expect("it is a repository name");
        let (digest, size) = &blobs[0];
        let there = self
            .target
            .blob(&other, digest, *size, Check::Content)
            .await;
        let there = there.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
        let expected = if self.target.profile().is_shared {
            Holding::Whole
        } else {
            Holding::Nothing
        };
        assert_eq!(
            there, expected,
            "{RULE}: in another repository, as the profile says"
        );
    }

    async fn wrong_bytes_are_refused(&self) {
        const RULE: &str = "wrong bytes are refused, and nothing of them stays";
        prepare(&self.target, RULE).await;
        for (digest, size) in self.source.blobs() {
            let mut bytes = vec![b'?'; usize::try_from(size).unwrap_or_default()];
            for truncated in [false, true] {
                if truncated {
                    bytes.pop();
                }
                let content = bytes::Bytes::from(bytes.clone());
                let target = &self.target;
                let put = target
                    .put_blob(&self.repository, digest, size, &content, None)
                    .await;
                assert!(put.is_err(), "{RULE}: {digest} was taken");
                let there = target
                    .blob(&self.repository, digest, size, Check::Content)
                    .await;
                assert!(
                    matches!(there, Ok(Holding::Nothing)),
                    "{RULE}: {digest}: {there:?}"
                );
            }
        }
    }

    async fn a_put_that_is_dropped_leaves_nothing_damaged(&self) {
        const RULE: &str = "a put that is dropped leaves nothing damaged, and can be done again";
        for (digest, size) in self.source.blobs() {
            {
                let put = self.put_blob(digest);
                futures::pin_mut!(put);
                // It may or may not have finished at the first poll.
                drop(futures::poll!(put));
            }
            let there = self
                .target
                .blob(&self.repository, digest, size, Check::Content)
                .await;
            assert!(
                matches!(there, Ok(Holding::Nothing | Holding::Whole)),
                "{RULE}: {digest}: {there:?}"
            );
            let put = self.put_blob(digest).await;
            put.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
            self.shows(RULE, digest, size, Holding::Whole).await;
        }
    }

    async fn names_are_given_by_publish_alone(&self) {
        const RULE: &str = "names are given by `publish` alone, and stand for what it was told";
        prepare(&self.target, RULE).await;
        self.put_everything(RULE).await;
        let (image, sbom) = (self.source.image(), self.source.sbom());
        let first = self.entry(image, Some("1.0"));
        assert_eq!(
            self.held(RULE, &first).await,
            None,
            "{RULE}: before it was called"
        );
        for descriptor in [image, image, sbom] {
            // The last descriptor moves the name.
            let entries = [self.entry(descriptor, Some("1.0")), self.entry(sbom, None)];
            let published = self.target.publish(&entries, &*self.source).await;
            let published = published.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
            assert_eq!(
                published,
                [Published::Whole; 2],
                "{RULE}: each entry has an answer"
            );
            let mut patience = Patience::new(self.target.profile().patience);
            while self.held(RULE, &entries[0]).await.as_ref() != Some(&descriptor.digest) {
                assert!(
                    patience.wait().await,
                    "{RULE}: it is not {}",
                    descriptor.digest
                );
            }
        }
        let other = self.entry(image, Some("2.0"));
        assert_eq!(self.held(RULE, &other).await, None, "{RULE}: another name");
    }

    async fn lists_of_referrers_grow(&self) {
        const RULE: &str = "a list of referrers grows, and a discovery finds it whole";
        prepare(&self.target, RULE).await;
        self.put_everything(RULE).await;
        let lists = self.target.lists_referrers(&self.repository).await;
        let (image, referrers) = (self.source.image(), self.source.referrers_of_image());
        for referrer in &referrers {
            if !lists {
                let target = &self.target;
                let added = target
                    .add_referrers(&self.repository, &image.digest, &[referrer], &*self.source)
                    .await;
                added.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
            }
            let entries = [self.entry(referrer, None)];
            let published = self.target.publish(&entries, &*self.source).await;
            published.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
        }
        let expected: Vec<&Digest> = referrers.iter().map(|referrer| &referrer.digest).collect();
        let mut patience = Patience::new(self.target.profile().patience);
        loop {
            let discovery = self.target.discovery(&self.repository, Check::Content);
            let discovery = discovery.unwrap_or_else(|error| panic!("{RULE}: {error:?}"));
            let graph = discovery.run([image.digest.clone()]).await;
            assert_eq!(graph.status(), Completeness::Complete, "{RULE}: {graph:?}");
            let found: Vec<_> = graph
                .referrers_of(&image.digest)
                .map(|own| &own.digest)
                .collect();
            if expected.iter().all(|digest| found.contains(digest)) {
                assert_eq!(found.len(), expected.len(), "{RULE}: and nothing else");
                return;
            }
            assert!(
                patience.wait().await,
                "{RULE}: {found:?} in place of {expected:?}"
            );
        }
    }

    async fn a_second_import_sends_nothing(&self) {
        const RULE: &str = "a second import sends nothing";
        let first = self.import(RULE).await;
        assert_eq!(
            first.referrers_found, first.referrers_expected,
            "{RULE}: the first one"
        );
        assert!(
            first
                .tags
                .iter()
                .all(|tag| tag.action == TagAction::Made && tag.before.is_none()),
            "{RULE}: the first one makes every tag"
        );
        let second = self.import(RULE).await;
        assert_eq!(
            (second.blobs.sent, second.blobs.mounted),
            (0, 0),
            "{RULE}: no blob"
        );
        assert_eq!(second.manifests.sent, 0, "{RULE}: no manifest");
        assert!(
            second
                .tags
                .iter()
                .all(|tag| tag.action == TagAction::Present),
            "{RULE}: no tag: {:?}",
            second.tags
        );
        assert_eq!(
            second.referrers_found, first.referrers_found,
            "{RULE}: and proves all"
        );
    }

    async fn import(&self, rule: &str) -> ImportReport {
        let importer = Importer::new(
            Arc::clone(&self.target),
            ImportOptions::default(),
            Arc::new(()),
        );
        let source: Arc<MemorySource> = Arc::clone(&self.source);
        let report = importer.import(source).await;
        report.unwrap_or_else(|error| panic!("{rule}: {error:?}"))
    }

    async fn put_everything(&self, rule: &str) {
        for (digest, _) in self.source.blobs() {
            let put = self.put_blob(digest).await;
            put.unwrap_or_else(|error| panic!("{rule}: {error:?}"));
        }
        for manifest in self.source.manifests_in_order() {
            self.put_manifest(rule, &manifest.digest).await;
        }
    }

    async fn put_blob(&self, digest: &Digest) -> Result<(), ImportError> {
        let content = self.source.blob(digest);
        let size = self.source.size(digest);
        let content: &dyn BlobSource = &*content;
        let put = self
            .target
            .put_blob(&self.repository, digest, size, content, None);
        put.await.map(drop)
    }

    async fn put_manifest(&self, rule: &str, digest: &Digest) {
        let put = self
            .target
            .put_manifest(&self.repository, digest, &*self.source);
        put.await
            .unwrap_or_else(|error| panic!("{rule}: {error:?}"));
    }

    async fn has_manifest(&self, rule: &str, manifest: &Descriptor) -> bool {
        let there = self
            .target
            .has_manifest(&self.repository, manifest, Check::Content)
            .await;
        there.unwrap_or_else(|error| panic!("{rule}: {error:?}"))
    }

    async fn held(&self, rule: &str, entry: &Entry) -> Option<Digest> {
        let entry = std::slice::from_ref(entry);
        let mut held = self.target.held(entry, Check::Content).await;
        let held = held.pop().expect("`held` answers for each entry");
        held.unwrap_or_else(|error| panic!("{rule}: {error:?}"))
    }

    /// Waits until the target shows the expected state of a blob.
    async fn shows(&self, rule: &str, digest: &Digest, size: u64, expected: Holding) {
        for check in [Check::Size, Check::Content] {
            let mut patience = Patience::new(self.target.profile().patience);
            loop {
                let there = self
                    .target
                    .blob(&self.repository, digest, size, check)
                    .await;
                let there = there.unwrap_or_else(|error| panic!("{rule}: {error:?}"));
                if there == expected {
                    break;
                }
                assert!(
                    patience.wait().await,
                    "{rule}: of {digest} it has {there:?}"
                );
            }
        }
    }
}

async fn prepare(target: &Arc<dyn Target>, rule: &str) {
    let prepared = target.prepare().await;
    prepared.unwrap_or_else(|error| panic!("{rule}: {error:?}"));
}
