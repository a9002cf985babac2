//! Which names an import makes, finds, and refuses.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use import_validator::{ImportValidator, ValidatedBundle};
use mirror_import::{
    ImportError, ImportErrorKind, Importer, LayoutTarget, Provenance, RegistryTarget, Source,
    TagAction, Target,
};
use oci_content::{Digest, ImageLayout, Manifest, MirrorGraph, REF_NAME};
use registry_client::BlobSource;
use test_registry::{Fault, Persona, Route};

use crate::support::{PATIENCE, client, export, import, open, options, registry, writes};

fn validated(folder: &tempfile::TempDir) -> Arc<ValidatedBundle> {
    let validation = ImportValidator::new()
        .check_referrers(true)
        .validate_path(&folder.path().join("b.tgz"));
    Arc::new(validation.bundle.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_answers_for_no_name_is_not_asked_for_all_of_them() {
    const TAGS: usize = 60;
    const AT_ONCE: usize = 4;
    let source = open(Persona::SpecFull).await;
    let image = source.image("app", "0");
    let tags: Vec<String> = (0..TAGS).map(|number| number.to_string()).collect();
    for tag in &tags {
        source.tag("app", tag, &image.digest);
    }
    let images: Vec<String> = tags.iter().map(|tag| format!("app:{tag}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let bundle = validated(&export(&source, &images).await);
    for (status, kind) in [
        (401, ImportErrorKind::Access),
        (503, ImportErrorKind::Network),
    ] {
        let target = open(Persona::SpecFull).await;
        target.fault(Route::manifests(), Fault::statuses([status]).forever());
        let at_once = NonZeroUsize::new(AT_ONCE).unwrap();
        let to = RegistryTarget::new(client(), target.registry());
        let to = to.patience(PATIENCE).max_concurrent(at_once);
        let error = import(Arc::clone(&bundle), Arc::new(to), options()).await;
        assert_eq!(error.unwrap_err().kind(), kind, "{status}");
        let asked: BTreeSet<_> = target.requests().into_iter().map(|own| own.path).collect();
        assert!(asked.len() <= 2 * AT_ONCE + 2, "{status}: {asked:?}");
        assert!(writes(&target).is_empty(), "{status}");
    }
}

/// A bundle of another graph than its own.
#[derive(Debug)]
struct Regraphed {
    bundle: Arc<ValidatedBundle>,
    graph: MirrorGraph,
}

#[async_trait]
impl Source for Regraphed {
    fn graph(&self) -> &MirrorGraph {
        &self.graph
    }

    fn provenance(&self) -> Provenance {
        self.bundle.provenance()
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.bundle.holds(digest)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        Source::manifest(&*self.bundle, digest).await
    }

    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource> {
        self.bundle.blob(digest)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_two_entries_want_is_refused_before_anything_is_sent() {
    let source = open(Persona::SpecFull).await;
    let first = source.image("app", "1");
    let second = source.image("app", "2");
    let bundle = validated(&export(&source, &["app:1", "app:2"]).await);
    let mut graph = bundle.manifest().graph.clone();
    for image in &mut graph.images {
        let pinned = format!("{}/app:1@{}", source.host(), image.digest);
        image.reference = pinned.parse().unwrap();
    }
    let twice = Arc::new(Regraphed { bundle, graph });
    let import = async |to| {
        let mut options = options();
        options.overwrite_tags = true;
        let importer = Importer::new(to, options, Arc::new(()));
        let source: Arc<Regraphed> = Arc::clone(&twice);
        let error = importer.import(source).await.unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Usage, "{error}");
        for digest in [&first.digest, &second.digest] {
            assert!(error.to_string().contains(&digest.to_string()), "{error}");
        }
    };
    for there in [None, Some(&first), Some(&second)] {
        let target = open(Persona::SpecFull).await;
        if let Some(there) = there {
            let bytes = source.manifest("app", &there.digest).unwrap();
            target.put_manifest("app", &there.media_type, bytes);
            target.tag("app", "1", &there.digest);
        }
        import(registry(&target)).await;
        assert!(writes(&target).is_empty());
        let there = there.map(|there| there.digest.clone());
        assert_eq!(target.resolve("app", "1"), there);
    }
    let folder = tempfile::tempdir().unwrap();
    import(Arc::new(LayoutTarget::new(folder.path().join("layout")))).await;
    assert!(!folder.path().join("layout").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_under_one_tag_by_two_references_is_one_tag() {
    let source = open(Persona::SpecFull).await;
    let image = source.image("app", "1");
    let pinned = format!("app:1@{}", image.digest);
    let bundle = validated(&export(&source, &["app:1", &pinned]).await);
    let target = open(Persona::SpecFull).await;
    for action in [TagAction::Made, TagAction::Present] {
        let report = import(Arc::clone(&bundle), registry(&target), options()).await;
        let report = report.unwrap();
        let tags: Vec<_> = report.tags.iter().map(|tag| tag.action).collect();
        assert_eq!((tags, report.images.len()), (vec![action], 2));
    }
}

/// The names in the index of a folder, each with its digest.
fn names(folder: &std::path::Path) -> BTreeSet<(String, Digest)> {
    let index = ImageLayout::open(folder).unwrap().index().unwrap();
    let named = index.into_iter().filter_map(|entry| {
        let name = entry.annotations.get(REF_NAME).cloned()?;
        Some((name, entry.digest))
    });
    named.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_folder_is_there_whatever_comes_along_with_it() {
    let source = open(Persona::SpecFull).await;
    let image = source.image("app", "1");
    let other = source.image("other", "1");
    source.referrer("other", &other, "application/vnd.cyclonedx+json", "sbom");
    let pinned = format!("other@{}", other.digest);
    let bundle = validated(&export(&source, &["app:1", &pinned]).await);
    for full in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        for (action, before) in [
            (TagAction::Made, None),
            (TagAction::Present, Some(image.digest.clone())),
        ] {
            let to = Arc::new(LayoutTarget::new(folder.path()).full_references(full));
            let report = import(Arc::clone(&bundle), to, options()).await.unwrap();
            assert_eq!(report.referrers_found, 1);
            let [tag] = &report.tags[..] else {
                panic!("{:?}", report.tags)
            };
            assert_eq!((tag.action, &tag.before), (action, &before));
            let name = format!("{}/app:1", source.host());
            let expected = BTreeSet::from([(name, image.digest.clone())]);
            assert_eq!(names(folder.path()), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_that_come_into_one_folder_one_after_the_other_keep_their_tags() {
    let source = open(Persona::SpecFull).await;
    let (app, other) = (source.image("app", "1"), source.image("other", "1"));
    let bundles = [
        validated(&export(&source, &["app:1"]).await),
        validated(&export(&source, &["other:1"]).await),
    ];
    let folder = tempfile::tempdir().unwrap();
    for action in [TagAction::Made, TagAction::Present] {
        for bundle in &bundles {
            let to: Arc<dyn Target> = Arc::new(LayoutTarget::new(folder.path()));
            let report = import(Arc::clone(bundle), to, options()).await.unwrap();
            assert_eq!(report.tags[0].action, action);
        }
    }
    let expected = [("app", app), ("other", other)].map(|(name, image)| {
        let name = format!("{}/{name}:1", source.host());
        (name, image.digest)
    });
    assert_eq!(names(folder.path()), BTreeSet::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_to_have_full_names_gets_them_for_what_is_there_already() {
    let source = open(Persona::SpecFull).await;
    let image = source.image("app", "1");
    let bundle = validated(&export(&source, &["app:1"]).await);
    let folder = tempfile::tempdir().unwrap();
    let full = format!("{}/app:1", source.host());
    for (is_full, name) in [(false, "1"), (false, "1"), (true, &full), (false, &full)] {
        let to = Arc::new(LayoutTarget::new(folder.path()).full_references(is_full));
        import(Arc::clone(&bundle), to, options()).await.unwrap();
        let expected = BTreeSet::from([(name.to_owned(), image.digest.clone())]);
        assert_eq!(names(folder.path()), expected);
    }
}
