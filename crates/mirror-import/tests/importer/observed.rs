//! What an import reports of its progress.

use std::sync::{Arc, Mutex};

use mirror_import::{ImportObserver, Importer, LayoutTarget, Target};
use test_registry::{Fault, Persona, Route};

use crate::support::{Bundle, export, open, options, registry};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    planned: (usize, u64),
    advanced: u64,
    set_back: u64,
    arrived: (usize, u64),
    proving: bool,
}

#[derive(Debug, Default)]
struct Told(Mutex<Sums>);

impl ImportObserver for Told {
    fn planned(&self, objects: usize, bytes: u64) {
        self.0.lock().unwrap().planned = (objects, bytes);
    }

    fn advanced(&self, bytes: u64) {
        self.0.lock().unwrap().advanced += bytes;
    }

    fn set_back(&self, bytes: u64) {
        self.0.lock().unwrap().set_back += bytes;
    }

    fn arrived(&self, bytes: u64) {
        let arrived = &mut self.0.lock().unwrap().arrived;
        *arrived = (arrived.0 + 1, arrived.1 + bytes);
    }

    fn proving(&self) {
        self.0.lock().unwrap().proving = true;
    }
}

async fn told(bundle: &Bundle, target: Arc<dyn Target>) -> Sums {
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told) as Arc<dyn ImportObserver>;
    let importer = Importer::new(target, options(), observer);
    importer.import(bundle.validated()).await.unwrap();
    let sums = told.0.lock().unwrap().clone();
    assert_eq!(sums.arrived, sums.planned, "{sums:?}");
    assert_eq!(sums.advanced - sums.set_back, sums.planned.1, "{sums:?}");
    assert!(sums.planned.1 > 0 && sums.proving, "{sums:?}");
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_is_told_of_exactly_as_many_bytes_as_were_planned() {
    let bundle = Bundle::new().await;
    let target = open(Persona::SpecFull).await;
    let first = told(&bundle, registry(&target)).await;
    assert_eq!(first.set_back, 0);
    // Everything is there already.
    assert_eq!(told(&bundle, registry(&target)).await, first);
    for _ in 0..2 {
        let folder = Arc::new(LayoutTarget::new(bundle.path("store")).full_references(true));
        told(&bundle, folder).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_sent_again_is_taken_back() {
    let bundle = Bundle::with_layer(vec![7; 3_000_000]).await;
    let target = open(Persona::SpecFull).await;
    let put = Route::any().method("PUT").containing("uploads");
    target.fault(put, Fault::statuses([404]));
    assert!(told(&bundle, registry(&target)).await.set_back > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_manifest_and_a_blob_arrives_as_both() {
    let source = open(Persona::SpecFull).await;
    let image = source.image("app", "1");
    let manifest = source.manifest("app", &image.digest).unwrap();
    let outer = source.image_with_layers("app", "2", [manifest]);
    let bundle = Bundle {
        folder: export(&source, &["app:1", "app:2"]).await,
        image: outer.digest.clone(),
        sbom: outer,
        referrers: 0,
    };
    let target = open(Persona::SpecFull).await;
    for _ in 0..2 {
        told(&bundle, registry(&target)).await;
        let folder = LayoutTarget::new(bundle.path("store"));
        told(&bundle, Arc::new(folder)).await;
    }
}

/// A service spawns an import, so its future has to be `Send`.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_can_be_spawned() {
    let bundle = Bundle::new().await;
    let target = open(Persona::SpecFull).await;
    let importer = Importer::new(registry(&target), options(), Arc::new(()));
    let validated = bundle.validated();
    let import = tokio::spawn(async move { importer.import(validated).await });
    assert_eq!(
        import.await.unwrap().unwrap().referrers_found,
        bundle.referrers
    );
}
