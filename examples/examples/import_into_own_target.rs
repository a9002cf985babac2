//! A service imports into its own target: a layout folder that announces what has arrived.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::sync::Arc;

use mirror_import::{BlobPut, Check, Entry, Holding, ImportError, Published, Source, Target};
use mirror_import::{ImportOptions, Importer, LayoutTarget};
use oci_content::{Descriptor, Digest, RepositoryName as Name};
use oci_referrers::Discovery;
use registry_client::BlobSource as Blob;

#[derive(Debug)]
struct Announced(LayoutTarget);
type Result<T> = std::result::Result<T, ImportError>;

#[async_trait::async_trait]
impl Target for Announced {
    fn name(&self) -> String {
        self.0.name()
    }
    async fn held(&self, entries: &[Entry], check: Check) -> Vec<Result<Option<Digest>>> {
        self.0.held(entries, check).await
    }
    async fn blob(&self, n: &Name, d: &Digest, size: u64, check: Check) -> Result<Holding> {
        self.0.blob(n, d, size, check).await
    }
    async fn has_manifest(&self, n: &Name, m: &Descriptor, check: Check) -> Result<bool> {
        self.0.has_manifest(n, m, check).await
    }
    async fn put_blob(
        &self,
        n: &Name,
        d: &Digest,
        size: u64,
        blob: &dyn Blob,
        mount_from: Option<&Name>,
    ) -> Result<BlobPut> {
        self.0.put_blob(n, d, size, blob, mount_from).await
    }
    async fn put_manifest(&self, n: &Name, d: &Digest, source: &dyn Source) -> Result<()> {
        self.0.put_manifest(n, d, source).await
    }
    async fn publish(&self, all: &[Entry], source: &dyn Source) -> Result<Vec<Published>> {
        println!("{} images and referrers have arrived", all.len());
        self.0.publish(all, source).await
    }
    fn discovery(&self, name: &Name, check: Check) -> Result<Discovery> {
        self.0.discovery(name, check)
    }
}

#[tokio::main]
pub(crate) async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (folder, bundle) = examples::bundle().await?;
    let target = Arc::new(Announced(LayoutTarget::new(folder.path().join("store"))));
    let importer = Importer::new(target, ImportOptions::default(), Arc::new(()));
    let report = importer.import(Arc::new(bundle)).await?;
    println!("with {} referrers, each proven", report.referrers_found);
    Ok(())
}
