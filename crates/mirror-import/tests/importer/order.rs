//! In which order an import sends what it sends.

use serde_json::{Value, json};
use test_registry::{Persona, TestRegistry};

use crate::support::{Bundle, export, open, writes};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn put_index(source: &TestRegistry, tag: &str, version: &str, manifests: &Value) -> Value {
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests,
        "annotations": { "version": version },
    });
    let index = source.put_manifest("app", INDEX, index.to_string());
    if !tag.is_empty() {
        source.tag("app", tag, &index.digest);
    }
    json!({ "mediaType": INDEX, "digest": index.digest, "size": index.size })
}

/// Tags whose indexes share children, nested to several levels, with referrers on all of them.
async fn shared_children() -> Bundle {
    let source = open(Persona::SpecFull).await;
    let index = source.index_with_attestations("app", "1", &["linux/amd64", "linux/arm64"]);
    let one = json!([index.children[0], index.children[1]]);
    let flat = put_index(&source, "2", "flat", &one);
    let nested = put_index(&source, "", "nested", &json!([flat]));
    for tag in ["3", "4"] {
        put_index(&source, tag, tag, &json!([nested, flat, index.children[1]]));
    }
    source.referrer(
        "app",
        &index.children[0],
        "application/spdx+json",
        "on a platform",
    );
    let sbom = source.referrer("app", &index.descriptor, "application/spdx+json", "sbom");
    // An index that refers to an image and lists another manifest, to which something refers.
    let part = source.image("app", "part");
    let set = json!({
        "schemaVersion": 2, "mediaType": INDEX, "artifactType": "application/vnd.example.set",
        "manifests": [part, sbom],
        "subject": { "mediaType": INDEX, "digest": index.descriptor.digest, "size": index.descriptor.size },
    });
    source.put_manifest("app", INDEX, set.to_string());
    source.referrer("app", &part, "application/spdx+json", "on a part");
    source.legacy("app", &part.digest, "sig", "legacy signature on a part");
    Bundle {
        folder: export(&source, &["app:1", "app:2", "app:3", "app:4"]).await,
        image: index.descriptor.digest,
        sbom,
        referrers: 5,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_before_what_it_needs_however_images_share_it() {
    let bundle = shared_children().await;
    // The first two check what a manifest names, the others that its subject is there as well.
    for persona in [
        Persona::SpecFull,
        Persona::Dist2,
        Persona::GitLab,
        Persona::HubLiar,
    ] {
        let target = open(persona).await;
        let report = bundle.import_to(&target).await;
        let report = report.unwrap_or_else(|error| panic!("{persona}: {error}"));
        assert_eq!(report.referrers_found, bundle.referrers, "{persona}");
        let refused = writes(&target).into_iter();
        let refused = refused.filter(|write| write.status.is_some_and(|status| status >= 400));
        assert_eq!(refused.count(), 0, "{persona}");
        for tag in ["1", "2", "3", "4"] {
            assert!(target.resolve("app", tag).is_some(), "{persona}, {tag}");
        }
    }
}
