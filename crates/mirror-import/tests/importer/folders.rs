use mirror_import::{ImportErrorKind, ImportRemedy, LayoutTarget, Target};
use oci_content::{Digest, ImageLayout, REF_NAME};
use std::sync::Arc;

use crate::support::Bundle;

fn folder(bundle: &Bundle, name: &str, full_references: bool) -> Arc<dyn Target> {
    Arc::new(LayoutTarget::new(bundle.path(name)).full_references(full_references))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_gets_everything_and_a_second_import_writes_no_blob() {
    let bundle = Bundle::new().await;
    let report = bundle.import(folder(&bundle, "store", true)).await.unwrap();
    assert_eq!(
        (report.referrers_found, report.referrers_expected),
        (bundle.referrers, bundle.referrers)
    );
    let again = bundle.import(folder(&bundle, "store", true)).await.unwrap();
    assert_eq!((again.blobs.sent, again.manifests.sent), (0, 0));
    let index = ImageLayout::open(bundle.path("store"))
        .unwrap()
        .index()
        .unwrap();
    let names: Vec<_> = index
        .iter()
        .filter_map(|entry| entry.annotations.get(REF_NAME))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names.iter().all(|name| name.starts_with("127.0.0.1:")),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_holds_something_else_is_not_moved() {
    let bundle = Bundle::new().await;
    bundle.import(folder(&bundle, "store", true)).await.unwrap();
    let layout = ImageLayout::open(bundle.path("store")).unwrap();
    let mut entry = layout
        .index()
        .unwrap()
        .into_iter()
        .find(|entry| entry.digest == bundle.image)
        .unwrap();
    entry.digest = bundle.sbom.digest.clone();
    entry.size = bundle.sbom.size;
    layout.add_to_index(&[entry]).unwrap();
    let error = bundle
        .import(folder(&bundle, "store", true))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Access);
    assert_eq!(error.remedy(), Some(&ImportRemedy::OverwriteTags));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_no_layout_is_left_as_it_is() {
    let bundle = Bundle::new().await;
    std::fs::create_dir(bundle.path("letters")).unwrap();
    std::fs::write(bundle.path("letters/one.txt"), "dear").unwrap();
    let error = bundle
        .import(folder(&bundle, "letters", false))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Usage);
    assert_eq!(
        std::fs::read_dir(bundle.path("letters")).unwrap().count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_the_right_name_and_size_that_holds_something_else_is_replaced() {
    let bundle = Bundle::new().await;
    bundle.import(folder(&bundle, "store", true)).await.unwrap();
    let layout = ImageLayout::open(bundle.path("store")).unwrap();
    let layer = vec![7; 200_000];
    let path = layout.blob_path(&Digest::of(&layer));
    let mut damaged = layer.clone();
    damaged[100_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let again = bundle.import(folder(&bundle, "store", true)).await.unwrap();
    assert_eq!((again.blobs.sent, again.manifests.sent), (1, 0));
    assert_eq!(std::fs::read(&path).unwrap(), layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_with_one_tag_both_keep_their_names_in_one_folder() {
    let (one, two) = (Bundle::bare().await, Bundle::index().await);
    let target = || folder(&one, "store", false);
    one.import(target()).await.unwrap();
    let names = || {
        let index = ImageLayout::open(one.path("store"))
            .unwrap()
            .index()
            .unwrap();
        let named = index
            .into_iter()
            .filter_map(|entry| Some((entry.annotations.get(REF_NAME)?.clone(), entry.digest)));
        named.collect::<Vec<_>>()
    };
    assert_eq!(names(), [("1".to_owned(), one.image.clone())]);
    // Once more the same way, and then the other way round: nothing changes any more.
    for bundle in [&two, &two, &one] {
        bundle.import(target()).await.unwrap();
        let names = names();
        assert_eq!(names.len(), 2, "{names:?}");
        for image in [&one.image, &two.image] {
            let own = names.iter().find(|(_, digest)| digest == image);
            let name = &own.unwrap().0;
            assert!(
                name.starts_with("127.0.0.1:") && name.ends_with("/app:1"),
                "{name}"
            );
        }
    }
}
