//! A database of referrers is a source. Its contract is tested, and what it names is verified.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::sync::Arc;

use oci_content::{Descriptor, Digest, ErrorCode, OtherSource, SourceKind};
use oci_referrers::{Answer, Claim, Problem, Query, ReferrerSource, RegistrySources, testing};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

/// Rows of subject and referrer; `None` when the database is down.
type Rows = tokio::sync::Mutex<Option<Vec<(Digest, Descriptor)>>>;
#[derive(Clone, Debug, Default)]
struct Inventory(Arc<Rows>);

#[async_trait::async_trait]
impl ReferrerSource for Inventory {
    fn kind(&self) -> SourceKind {
        SourceKind::Other(OtherSource::new("inventory").expect("a valid name"))
    }
    async fn referrers(&self, query: &Query) -> Answer {
        let Some(rows) = &*self.0.lock().await else {
            return Answer::failed(Problem::new(ErrorCode::Network, "the database is down"));
        };
        let rows = rows.iter().filter(|row| row.0 == *query.subject());
        Answer::list(rows.map(|row| Claim::new(row.1.clone())))
    }
}

#[async_trait::async_trait]
impl testing::ReferrerPlace for Inventory {
    fn source(&self) -> Arc<dyn ReferrerSource> {
        Arc::new(self.clone())
    }
    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest {
        let referrer = Descriptor::of("text/plain", format!("{number} {subject:?}").as_bytes());
        let row = (subject.digest.clone(), referrer.clone());
        self.0.lock().await.get_or_insert_default().push(row);
        referrer.digest
    }
    async fn fail(&self) {
        *self.0.lock().await = None;
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    testing::referrer_source(async || Inventory::default()).await;
    let registry = TestRegistry::start(Persona::Dist2).await;
    let image = registry.image("app", "1.0");
    let sbom = registry.referrer("app", &image, "application/vnd.cyclonedx+json", "{}");
    let rows = Rows::new(Some(vec![(image.digest.clone(), sbom)]));
    let client = Client::new(ClientOptions::default())?;
    let repository = client.repository(&registry.registry(), &"app".parse()?);
    let discovery = RegistrySources::new(repository).discovery(None);
    let discovery = discovery.source(Arc::new(Inventory(Arc::new(rows))));
    let found = &discovery.run([image.digest]).await.referrers[0];
    println!("{} is named by {}", found.digest, found.sources[1]);
    Ok(())
}
