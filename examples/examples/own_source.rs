//! A service with a database of its own adds it as a source: what it names is verified like everything else.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{Descriptor, Digest, OtherSource, Reference, SourceKind};
use oci_referrers::{Answer, Claim, Query, ReferrerSource, RegistrySources};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, Referrer, TestRegistry};

/// What the service remembers: referrers by subject.
#[derive(Debug)]
struct Inventory {
    name: OtherSource,
    rows: Vec<(Digest, Descriptor)>,
}

#[async_trait]
impl ReferrerSource for Inventory {
    fn kind(&self) -> SourceKind {
        SourceKind::Other(self.name)
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let rows = self
            .rows
            .iter()
            .filter(|(subject, _)| subject == query.subject());
        Answer::list(rows.map(|(_, descriptor)| Claim::new(descriptor.clone())))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let image = registry.image("team/app", "1.0");
    // Pushed without the referrers tag, on a registry without the API: nobody can discover it there.
    let lost = Referrer::new(&image, "application/vnd.cyclonedx+json", "{}").without_tag_index();
    let lost = registry.put_referrer("team/app", lost);

    let reference: Reference = format!("{}/team/app:1.0", registry.host()).parse()?;
    let client = Client::new(ClientOptions::default())?;
    let sources =
        RegistrySources::new(client.repository(reference.registry(), reference.repository()));
    let without = sources.discovery(None).run([image.digest.clone()]).await;

    let inventory = Inventory {
        name: OtherSource::new("inventory").ok_or("this cannot be a name")?,
        rows: vec![(image.digest.clone(), lost)],
    };
    let with = sources
        .discovery(None)
        .source(Arc::new(inventory))
        .run([image.digest.clone()])
        .await;
    println!("the registry alone: {} referrers", without.referrers.len());
    println!("with the inventory: {} referrers", with.referrers.len());
    let found = &with.referrers[0];
    println!("it is named by {} and verified", found.sources[0]);
    assert_eq!((without.referrers.len(), with.referrers.len()), (0, 1));
    Ok(())
}
