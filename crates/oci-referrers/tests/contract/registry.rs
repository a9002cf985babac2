//! The sources that ask a registry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_content::{Descriptor, Digest, LegacyTag, media_type, referrers_tag};
use oci_referrers::testing::{ManifestPlace, ReferrerPlace, manifest_source, referrer_source};
use oci_referrers::{
    LegacyTagReferrers, LegacyTags, ManifestSource, NativeReferrers, OciClientReferrers,
    ReferrerSource, RegistryManifests, TagFallbackReferrers,
};
use registry_client::{Client, ClientOptions, ReferrersAnswer, Repository};
use serde_json::{Value, json};
use test_registry::{Fault, Persona, Route, TestRegistry};

const APP: &str = "team/app";
const SBOM: &str = "application/spdx+json";

/// Which source is tested.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Api,
    Tag,
    Legacy,
    OciClient,
}

struct Place {
    registry: TestRegistry,
    asks: Asks,
}

impl Place {
    async fn new(persona: Persona, asks: Asks) -> Self {
        let registry = TestRegistry::builder(persona).without_auth();
        // `oci-client` reads the first page only.
        let registry = match asks {
            Asks::OciClient => registry,
            _ => registry.page_size(1),
        };
        let registry = registry.start().await;
        registry.image(APP, "1.0");
        Self { registry, asks }
    }

    fn repository(&self) -> Repository {
        let mut options = ClientOptions::default();
        options.retry.base_delay = Duration::from_millis(1);
        let client = Client::new(options).unwrap();
        client.repository(&self.registry.registry(), &APP.parse().unwrap())
    }

    fn oci_client(&self) -> OciClientReferrers {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        let (client, auth) = (config.try_into().unwrap(), RegistryAuth::Anonymous);
        let registry = self.registry.registry();
        OciClientReferrers::new(client, auth, registry, APP.parse().unwrap()).assume_single_page()
    }

    fn break_route(&self, route: Route) {
        self.registry.fault(route, Fault::statuses([500]).forever());
    }
}

#[async_trait]
impl ReferrerPlace for Place {
    fn source(&self) -> Arc<dyn ReferrerSource> {
        let repository = self.repository();
        match self.asks {
            Asks::Api => Arc::new(NativeReferrers::new(repository)),
            Asks::Tag => Arc::new(TagFallbackReferrers::new(repository)),
            Asks::Legacy => Arc::new(LegacyTagReferrers::new(repository, LegacyTags::All)),
            Asks::OciClient => Arc::new(self.oci_client()),
        }
    }

    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest {
        let payload = format!("{number} of {}", subject.digest);
        let registry = &self.registry;
        let referrer = match self.asks {
            Asks::Legacy => {
                let suffix = LegacyTag::KNOWN_SUFFIXES[number];
                registry.legacy(APP, &subject.digest, suffix, payload)
            }
            _ => registry.referrer(APP, subject, SBOM, payload),
        };
        referrer.digest
    }

    async fn fail(&self) {
        self.break_route(Route::any());
    }

    async fn fail_half_way(&self, subject: &Descriptor) -> Option<BTreeSet<Digest>> {
        let registry = &self.registry;
        let tag = referrers_tag(&subject.digest);
        match self.asks {
            Asks::Api => {
                let first = self
                    .repository()
                    .referrers(&subject.digest, None)
                    .await
                    .unwrap();
                let ReferrersAnswer::List(list) = first.referrers_answer() else {
                    panic!("{first:?}");
                };
                let fault = Fault::statuses([500]).forever().skip(1);
                registry.fault(Route::referrers(), fault);
                Some(
                    list.entries
                        .into_iter()
                        .map(|entry| entry.unwrap().digest)
                        .collect(),
                )
            }
            Asks::Tag => {
                let index = registry.resolve(APP, tag.as_str()).unwrap();
                let index = registry.manifest(APP, &index).unwrap();
                let mut index: Value = serde_json::from_slice(&index).unwrap();
                let entries = index["manifests"].as_array_mut().unwrap();
                let digest = |entry: &Value| entry["digest"].as_str().unwrap().parse().unwrap();
                let left = entries.iter().map(digest).collect();
                entries.push(json!({ "digest": "what is no digest", "size": 1 }));
                let index = index.to_string();
                let index = registry.put_manifest(APP, media_type::IMAGE_INDEX, index);
                registry.tag(APP, tag.as_str(), &index.digest);
                Some(left)
            }
            Asks::Legacy => {
                let tags = LegacyTag::KNOWN_SUFFIXES.map(|suffix| format!("{tag}.{suffix}"));
                let [broken, left @ ..] = &tags;
                self.break_route(Route::manifests().reference(broken));
                Some(
                    left.iter()
                        .map(|tag| registry.resolve(APP, tag).unwrap())
                        .collect(),
                )
            }
            Asks::OciClient => {
                let answer = self
                    .source()
                    .referrers(&oci_referrers::Query::direct(subject.digest.clone()))
                    .await;
                self.break_route(Route::manifests().reference(&tag));
                let claims = answer.claims.into_iter();
                Some(claims.map(|claim| claim.descriptor.digest).collect())
            }
        }
    }
}

#[tokio::test]
async fn the_api_keeps_the_contract() {
    referrer_source(|| Place::new(Persona::SpecFull, Asks::Api)).await;
}

#[tokio::test]
async fn the_referrers_tag_keeps_the_contract() {
    referrer_source(|| Place::new(Persona::Dist2, Asks::Tag)).await;
}

#[tokio::test]
async fn legacy_tags_keep_the_contract() {
    referrer_source(|| Place::new(Persona::Dist2, Asks::Legacy)).await;
}

#[tokio::test]
async fn oci_client_keeps_the_contract_where_lists_have_one_page() {
    referrer_source(|| Place::new(Persona::SpecFull, Asks::OciClient)).await;
}

/// The manifests of a registry, through the client of this project or another one.
struct Manifests(Place);

#[async_trait]
impl ManifestPlace for Manifests {
    fn source(&self) -> Arc<dyn ManifestSource> {
        match self.0.asks {
            Asks::OciClient => Arc::new(self.0.oci_client()),
            _ => Arc::new(RegistryManifests::new(self.0.repository())),
        }
    }

    async fn put(&self, raw: &[u8]) {
        let raw = raw.to_vec();
        self.0
            .registry
            .put_manifest(APP, media_type::IMAGE_MANIFEST, raw);
    }

    async fn corrupt(&self, digest: &Digest) {
        let mut raw = self.0.registry.manifest(APP, digest).unwrap().to_vec();
        raw.push(b' ');
        self.0
            .registry
            .put_manifest_as(APP, digest, media_type::IMAGE_MANIFEST, raw);
    }

    async fn fail(&self) {
        self.0.break_route(Route::any());
    }
}

#[tokio::test]
async fn manifests_of_a_registry_keep_the_contract() {
    for asks in [Asks::Api, Asks::OciClient] {
        let place = || async { Manifests(Place::new(Persona::SpecFull, asks).await) };
        manifest_source(place).await;
    }
}
