//! The document for programs: version 1, as `docs/json.md` describes it.

use oci_content::{Completeness, ErrorCode, Reference, WarningCode};
use oci_referrers::{
    DiscoveryDocument, ImageDepth, ImageTree, Problem, ReferrerGraph, Warning, resolve,
};
use serde_json::{Value, json};
use test_registry::{Persona, Referrer};

use crate::support::{APP, SBOM, SIGNATURE, discovery, list, open, repository};

fn read_back(document: &DiscoveryDocument) -> Value {
    let json = serde_json::to_value(document).unwrap();
    let read: DiscoveryDocument = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(read, *document);
    json
}

#[tokio::test]
async fn a_document_has_the_members_that_are_documented() {
    let registry = open(Persona::Dist2).await;
    let index = registry.index_with_attestations(APP, "1.0", &["linux/amd64"]);
    let index = index.descriptor;
    let sbom = Referrer::new(&index, SBOM, "{}").annotation("a", "b");
    let sbom = registry.put_referrer(APP, sbom);
    let lists = registry.put_referrer(APP, Referrer::new(&index, SIGNATURE, "{}").as_index());
    let legacy = registry.legacy(APP, &index.digest, "sig", "{}");
    registry.hide_referrer(APP, &sbom.digest);

    let reference: Reference = format!("{}/{APP}:1.0", registry.host()).parse().unwrap();
    let repository = repository(&registry);
    let root = resolve(&repository, &reference).await.unwrap().manifest;
    let manifests = oci_referrers::RegistryManifests::new(repository);
    let tree = ImageTree::walk(&manifests, root.clone(), &[], ImageDepth::Indexes).await;
    let graph = discovery(&registry)
        .children(Some(ImageDepth::Indexes))
        .run(tree.subjects())
        .await;
    let noticed = Warning::new(WarningCode::TagDenied, "noticed before");
    let document = DiscoveryDocument::new(reference.clone(), Some(root.digest()), &graph)
        .manifest(&root)
        .children(&tree.children)
        .exchanges(&graph)
        .warnings([noticed])
        .requests(7);
    let mut json = read_back(&document);

    let exchanges = json.as_object_mut().unwrap().remove("exchanges").unwrap();
    let exchange = &exchanges[0];
    assert_eq!(exchange.as_object().unwrap().len(), 4);
    assert_eq!(exchange["subject"], json!(index.digest));
    assert_eq!(exchange["source"], "referrers-api");
    let request = exchange["request"].as_str().unwrap();
    assert!(
        request.starts_with("GET /v2/team/app/referrers/"),
        "{request}"
    );
    assert!(exchange["answer"].is_string());

    let below = &graph.indexes[&lists.digest].children[0].descriptor;
    let image = &tree.children[0].descriptor;
    let attestation = &tree.children[1].descriptor;
    let mut referrers = [
        json!({
            "digest": sbom.digest, "mediaType": sbom.media_type, "artifactType": SBOM, "size": sbom.size,
            "annotations": {"a": "b"}, "subject": index.digest, "depth": 1, "category": "sbom",
            "sources": ["referrers-tag"], "tag": null,
        }),
        json!({
            "digest": lists.digest, "mediaType": lists.media_type, "artifactType": SIGNATURE, "size": lists.size,
            "annotations": {}, "subject": index.digest, "depth": 1, "category": "signature",
            "sources": ["referrers-tag"], "tag": null,
            "children": [{
                "digest": below.digest, "mediaType": below.media_type, "platform": null, "attestation": false,
            }],
        }),
        json!({
            "digest": legacy.digest, "mediaType": legacy.media_type,
            "artifactType": "application/vnd.oci.image.config.v1+json", "size": legacy.size,
            "annotations": {}, "subject": index.digest, "depth": 1, "category": "signature",
            "sources": ["legacy-tag"], "tag": format!("sha256-{}.sig", index.digest.encoded()),
        }),
    ];
    referrers.sort_by_key(|referrer| referrer["digest"].to_string());
    let expected = json!({
        "schemaVersion": 1, "reference": reference,
        "subject": {"digest": index.digest, "mediaType": index.media_type, "size": index.size},
        "status": "complete", "method": "fallback-tag", "capability": "unsupported",
        "referrers": referrers,
        "warnings": [{"code": "tag-denied", "digest": null, "message": "noticed before"}],
        "errors": [], "requests": 7,
        "children": [
            {
                "digest": image.digest, "mediaType": image.media_type,
                "platform": {"os": "linux", "architecture": "amd64"}, "attestation": false,
            },
            {
                "digest": attestation.digest, "mediaType": attestation.media_type,
                "platform": {"os": "unknown", "architecture": "unknown"}, "attestation": true,
            },
        ],
    });
    assert_eq!(json, expected);

    let only = document.only(|referrer| referrer.artifact_type.as_deref() == Some(SBOM));
    assert_eq!(only.referrers.len(), 1);
    assert_eq!(only.status, Completeness::Complete);
}

#[tokio::test]
async fn what_failed_has_its_subject_and_its_source() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let sbom = registry.referrer(APP, &image, SBOM, "{}");
    let entries = list(&[&sbom]).replace("}]", r#"},{"digest":"sha256:short"}]"#);
    let body = test_registry::Fault::body(200, oci_content::media_type::IMAGE_INDEX, entries);
    registry.fault(test_registry::Route::referrers(), body.times(1));
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    let reference: Reference = format!("{}/{APP}:1.0", registry.host()).parse().unwrap();
    let document = DiscoveryDocument::new(reference, Some(&image.digest), &graph);
    let json = read_back(&document);
    assert_eq!(json["status"], "incomplete");
    assert_eq!(json["subject"], json!({ "digest": image.digest }));
    let errors = json["errors"].as_array().unwrap();
    let message = &graph.errors().next().unwrap().message;
    assert_eq!(
        *errors,
        [json!({
            "code": "malformed", "digest": null, "subject": image.digest, "source": "referrers-api",
            "message": message,
        })]
    );
}

#[test]
fn what_could_not_be_resolved_is_incomplete_and_says_why() {
    let reference: Reference = "registry.example.com/app:1.0".parse().unwrap();
    let problem = Problem::new(ErrorCode::Denied, "it is not there");
    let document = DiscoveryDocument::new(reference, None, &ReferrerGraph::default())
        .errors([problem])
        .requests(3);
    let expected = json!({
        "schemaVersion": 1, "reference": "registry.example.com/app:1.0", "subject": null,
        "status": "incomplete", "method": null, "capability": "unknown", "referrers": [], "warnings": [],
        "errors": [{
            "code": "denied", "digest": null, "subject": null, "source": null, "message": "it is not there",
        }],
        "requests": 3,
    });
    assert_eq!(read_back(&document), expected);

    let mut newer = expected.clone();
    newer["schemaVersion"] = json!(2);
    let error = serde_json::from_value::<DiscoveryDocument>(newer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schemaVersion 2 is not supported, only 1"
    );
    let mut more = expected;
    more["added"] = json!([1]);
    assert_eq!(
        serde_json::from_value::<DiscoveryDocument>(more).unwrap(),
        document
    );
}

#[tokio::test]
async fn a_graph_is_data_without_its_manifests() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let lists = registry.put_referrer(APP, Referrer::new(&image, SBOM, "{}").as_index());
    let graph = discovery(&registry)
        .children(Some(ImageDepth::Manifests))
        .keep_manifests(true)
        .run([image.digest.clone()])
        .await;
    let json = serde_json::to_value(&graph).unwrap();
    assert_eq!(json["referrers"][0]["digest"], json!(lists.digest));
    assert_eq!(json["referrers"][0].get("manifest"), None);
    let report = &json["subjects"][0];
    assert_eq!(
        (&report["method"], &report["depth"]),
        (&json!("native"), &json!(0))
    );
    let index = &json["indexes"][lists.digest.to_string()];
    assert_eq!(index["root"]["digest"], json!(lists.digest));
    assert_eq!(index["children"].as_array().unwrap().len(), 1);
    assert_eq!(json["unopened"], json!([]));
}
