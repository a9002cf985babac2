//! Which names an import makes, finds, and refuses.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use import_validator::{ImportValidator, ValidatedBundle};
use mirror_import::{ImportErrorKind, RegistryTarget};
use test_registry::{Fault, Persona, Route};

use crate::support::{PATIENCE, client, export, import, open, options, writes};

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
