//! Every target of this crate keeps the contract, and the suite finds those that do not.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use mirror_import::testing::{MemorySource, check_target};
use mirror_import::{
    BlobPut, Check, Entry, Holding, ImportError, ImportErrorKind, ImportOptions, Importer,
    LayoutTarget, Published, RegistryTarget, Source, Target, TargetProfile,
};
use oci_content::{Descriptor, Digest, ImageLayout, RepositoryName};
use oci_referrers::Discovery;
use registry_client::{BlobSource, Client, ClientOptions};
use test_registry::{Lateness, Persona, TestRegistry, TestRegistryBuilder};

async fn check_registry(builder: impl Fn() -> TestRegistryBuilder) {
    let mut registries = Vec::new();
    for _ in 0..8 {
        registries.push(builder().without_auth().start().await);
    }
    let mut left = registries.iter();
    check_target(|| {
        let registry: &TestRegistry = left.next().unwrap();
        let mut options = ClientOptions::default();
        options.retry.base_delay = Duration::from_millis(1);
        let client = Client::new(options).unwrap();
        let target = RegistryTarget::new(client, registry.registry());
        Arc::new(target.patience(Duration::from_secs(2)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_with_and_without_the_referrers_api_are_targets() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        check_registry(|| TestRegistry::builder(persona)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_shows_what_it_has_late_is_a_target() {
    let late = Lateness::Reads(2);
    check_registry(|| {
        let builder = TestRegistry::builder(Persona::SpecFull);
        builder.late_tags(late).late_referrers(late)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_folder_is_a_target() {
    let folder = tempfile::tempdir().unwrap();
    for full in [false, true] {
        let mut number = 0;
        check_target(|| {
            number += 1;
            let target = LayoutTarget::new(folder.path().join(format!("{full}{number}")));
            Arc::new(target.full_references(full))
        })
        .await;
    }
}

/// What a target does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    SaysThatItHasEverything,
    ForgetsBlobs,
    TakesWrongBytes,
    ForgetsManifests,
    NamesBeforePublish,
    NamesNothing,
    MergesEverything,
    NeverMovesNames,
    AnswersForOneEntry,
    ListsNothing,
    ListsTheFirstLevel,
    SharesNothing,
}

/// A layout folder with a fault.
#[derive(Debug)]
struct Broken {
    layout: LayoutTarget,
    fault: Fault,
    published: AtomicUsize,
}

#[async_trait]
impl Target for Broken {
    fn name(&self) -> String {
        self.layout.name()
    }

    fn entry_name(&self, entry: &Entry) -> String {
        self.layout.entry_name(entry)
    }

    fn profile(&self) -> TargetProfile {
        let mut profile = self.layout.profile();
        profile.is_shared &= !matches!(self.fault, Fault::SharesNothing);
        profile
    }

    async fn held(
        &self,
        entries: &[Entry],
        check: Check,
    ) -> Vec<Result<Option<Digest>, ImportError>> {
        match self.fault {
            Fault::NamesBeforePublish => {
                let mut held = Vec::new();
                for entry in entries {
                    let (name, known) = (&entry.repository, &entry.descriptor);
                    let there = self.layout.has_manifest(name, known, Check::Size).await;
                    held.push(there.map(|there| there.then(|| known.digest.clone())));
                }
                held
            }
            Fault::AnswersForOneEntry => {
                self.layout
                    .held(&entries[..entries.len().min(1)], check)
                    .await
            }
            _ => self.layout.held(entries, check).await,
        }
    }

    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        check: Check,
    ) -> Result<Holding, ImportError> {
        match self.fault {
            Fault::SaysThatItHasEverything => Ok(Holding::Whole),
            Fault::ForgetsBlobs => Ok(Holding::Nothing),
            _ => self.layout.blob(repository, digest, size, check).await,
        }
    }

    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Descriptor,
        check: Check,
    ) -> Result<bool, ImportError> {
        if matches!(self.fault, Fault::ForgetsManifests) {
            return Ok(false);
        }
        self.layout.has_manifest(repository, manifest, check).await
    }

    async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: &dyn BlobSource,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError> {
        let put = self
            .layout
            .put_blob(repository, digest, size, content, mount_from)
            .await;
        if matches!(self.fault, Fault::TakesWrongBytes) {
            return Ok(BlobPut::Sent);
        }
        put
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        source: &dyn Source,
    ) -> Result<(), ImportError> {
        self.layout.put_manifest(repository, digest, source).await
    }

    async fn publish(
        &self,
        entries: &[Entry],
        source: &dyn Source,
    ) -> Result<Vec<Published>, ImportError> {
        let before = self.published.fetch_add(1, Ordering::Relaxed);
        let keeps = match self.fault {
            Fault::NamesNothing => true,
            Fault::NeverMovesNames => before > 0,
            _ => false,
        };
        if matches!(self.fault, Fault::MergesEverything) {
            return Ok(vec![Published::Merged; entries.len()]);
        }
        if keeps {
            return Ok(vec![Published::Whole; entries.len()]);
        }
        self.layout.publish(entries, source).await
    }

    fn discovery(
        &self,
        repository: &RepositoryName,
        check: Check,
    ) -> Result<Discovery, ImportError> {
        let discovery = self.layout.discovery(repository, check)?;
        match self.fault {
            Fault::ListsNothing => {
                let empty = self.name().replace("oci:", "") + "-empty";
                ImageLayout::create(&empty).unwrap();
                LayoutTarget::new(empty).discovery(repository, check)
            }
            Fault::ListsTheFirstLevel => Ok(discovery.depth(Some(0))),
            _ => Ok(discovery),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_breaks_a_rule_is_told_which() {
    for (fault, rule) in [
        (
            Fault::SaysThatItHasEverything,
            "nothing is there before it is put",
        ),
        (
            Fault::AnswersForOneEntry,
            "nothing is there before it is put",
        ),
        (Fault::ForgetsBlobs, "what is put is there"),
        (Fault::ForgetsManifests, "what is put is there"),
        (
            Fault::SharesNothing,
            "in another repository, as the profile says",
        ),
        (Fault::TakesWrongBytes, "wrong bytes are refused"),
        (
            Fault::NamesBeforePublish,
            "names are given by `publish` alone",
        ),
        (Fault::NamesNothing, "names are given by `publish` alone"),
        (
            Fault::MergesEverything,
            "names are given by `publish` alone",
        ),
        (Fault::NeverMovesNames, "names are given by `publish` alone"),
        (Fault::ListsNothing, "a list of referrers grows"),
        (Fault::ListsTheFirstLevel, "a second import sends nothing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0;
        let check = check_target(|| {
            number += 1;
            Arc::new(Broken {
                layout: LayoutTarget::new(folder.path().join(number.to_string())),
                fault,
                published: AtomicUsize::new(0),
            })
        });
        let panic = AssertUnwindSafe(check).catch_unwind().await;
        let panic = panic.expect_err(&format!("{fault:?} is not found"));
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let said = said.unwrap();
        assert!(said.contains(rule), "{fault:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_list_of_referrers_is_read_back_whatever_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = Broken {
        layout: LayoutTarget::new(folder.path().join("layout")),
        fault: Fault::MergesEverything,
        published: AtomicUsize::new(0),
    };
    let importer = Importer::new(Arc::new(target), ImportOptions::default(), Arc::new(()));
    let error = importer.import(Arc::new(MemorySource::sample())).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Incomplete);
    assert!(error.to_string().contains("app:1.0 should be"), "{error}");
}
