//! Bundles whose signature a key is asked about.

use std::collections::BTreeMap;

use bundle_format::{Container, EntryPath, PublicKey, SigningKey};
use import_validator::{FindingKind, ImportValidator, Stage};
use oci_content::Digest;

use crate::fixture::{Fixture, pack};

/// Keys of the tests of `bundle-format`, whose form openssl gave them.
pub(crate) const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgh47r19trqGpxROel
N0nM1AZBoKd51u+S8PAgk/0JH3GhRANCAATeffj+v3w/uSYHKPErfvgnjORJXl34
vI1SrWQtA1Ex/KcCJv2e50pe5NuNCIw7qdFV6x+GtgfY4cQVzE22Dy4e
-----END PRIVATE KEY-----
";
pub(crate) const OTHER: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6kVj1iST/JbVXdHw
0CgcpJXYxbh6C1r4qiLFP5ko9QyhRANCAAS64aG0aAkvcN+dvjbsAry50lu9KBfF
uDl0Jv5RbiD3+ciVioSDaVbN5Wg7olLaHhEizsf54RQwkQNwOdVqofoW
-----END PRIVATE KEY-----
";

fn key() -> SigningKey {
    SigningKey::from_pem(KEY).unwrap()
}

fn signed(fixture: Fixture) -> BTreeMap<EntryPath, Vec<u8>> {
    let mut files = fixture.files();
    let signature = key().sign(&files[&EntryPath::MANIFEST]);
    files.insert(EntryPath::SIGNATURE, signature);
    files
}

/// Returns what is found with the key; all of it is in the stage of the signature, and nothing behind it is judged.
fn found(files: &BTreeMap<EntryPath, Vec<u8>>, key: &PublicKey) -> Vec<FindingKind> {
    let mut kinds = Vec::new();
    for container in [Container::TarGz, Container::Tar] {
        let validator = ImportValidator::new().strict(true).key(key.clone());
        let report = validator.validate("b", &*pack(files, container));
        assert_eq!(report.exit_code(), if report.ok { 0 } else { 5 });
        let mut stages = report.findings.iter().map(|finding| finding.stage);
        assert!(
            stages.all(|stage| stage == Stage::Signature),
            "{:#?}",
            report.findings
        );
        kinds = report.findings.iter().map(|finding| finding.kind).collect();
    }
    kinds
}

#[test]
fn the_signature_that_is_asked_for_has_to_be_there_and_to_be_right() {
    use FindingKind::{
        SignatureInvalid, SignatureMalformed, SignatureMissing, SignatureUnsupported,
    };
    let files = signed(Fixture::full());
    let public = key().public().clone();
    assert_eq!(found(&files, &public), []);
    let with = |signature: Option<&[u8]>| {
        let mut files = files.clone();
        match signature {
            Some(bytes) => files.insert(EntryPath::SIGNATURE, bytes.to_vec()),
            None => files.remove(&EntryPath::SIGNATURE),
        };
        found(&files, &public)
    };
    let manifest = &files[&EntryPath::MANIFEST];
    let other = SigningKey::from_pem(OTHER).unwrap();
    let of_another_bundle = signed(Fixture::small());
    let v04 = String::from_utf8(key().sign(manifest))
        .unwrap()
        .replace("v0.3", "v0.4");
    assert_eq!(with(None), [SignatureMissing]);
    assert_eq!(with(Some(b"")), [SignatureMalformed]);
    assert_eq!(with(Some(v04.as_bytes())), [SignatureUnsupported]);
    assert_eq!(with(Some(&other.sign(manifest))), [SignatureInvalid]);
    let elsewhere = &of_another_bundle[&EntryPath::SIGNATURE];
    assert_eq!(with(Some(elsewhere)), [SignatureInvalid]);
    assert_eq!(found(&files, other.public()), [SignatureInvalid]);
}

#[test]
fn a_manifest_that_nobody_has_signed_is_not_parsed() {
    let mut files = signed(Fixture::full());
    let public = key().public().clone();
    let signature = files[&EntryPath::SIGNATURE].clone();
    // The same statements in another order, and no statements at all.
    let text = String::from_utf8(files[&EntryPath::MANIFEST].clone()).unwrap();
    let reordered = text.replace(
        "stream: default\nsequence: 1\n",
        "sequence: 1\nstream: default\n",
    );
    assert_ne!(text, reordered);
    for manifest in [reordered.into_bytes(), b"{{{{".to_vec(), Vec::new()] {
        files.insert(EntryPath::MANIFEST, manifest);
        files.insert(EntryPath::SIGNATURE, signature.clone());
        assert_eq!(found(&files, &public), [FindingKind::SignatureInvalid]);
        files.remove(&EntryPath::SIGNATURE);
        assert_eq!(found(&files, &public), [FindingKind::SignatureMissing]);
    }
}

#[test]
fn a_signed_manifest_does_not_excuse_what_is_behind_it() {
    let mut files = signed(Fixture::small());
    let layer = EntryPath::blob(&Digest::of(b"layer of small")).unwrap();
    files.insert(layer, b"other of small".to_vec());
    let validator = ImportValidator::new().key(key().public().clone());
    let report = validator.validate("b", &*pack(&files, Container::Tar));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::EntryChecksumMismatch);
}

#[test]
fn a_signature_from_beside_the_bundle_takes_the_place_of_the_one_inside() {
    let files = signed(Fixture::small());
    let other = SigningKey::from_pem(OTHER).unwrap();
    let bytes = pack(&files, Container::TarGz);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("b.tgz");
    std::fs::write(&path, bytes).unwrap();
    let validate = |key: &SigningKey, signature: Vec<u8>| {
        let validator = ImportValidator::new().key(key.public().clone());
        validator.detached_signature(signature).validate_path(&path)
    };
    let manifest = &files[&EntryPath::MANIFEST];
    let bundle = validate(&other, other.sign(manifest)).bundle.unwrap();
    let proof = bundle.signature().unwrap();
    assert_eq!(proof.key_id(), other.public().id());
    assert_eq!(proof.manifest(), bundle.manifest_digest());
    for signature in [key().sign(manifest), other.sign(b"another"), Vec::new()] {
        let validation = validate(&other, signature);
        assert!(validation.bundle.is_none());
        assert_eq!(validation.report.exit_code(), 5);
    }
    let without_key = ImportValidator::new().detached_signature(other.sign(manifest));
    assert_eq!(without_key.validate_path(&path).report.exit_code(), 5);
    let nobody_asked = ImportValidator::new().validate_path(&path).bundle.unwrap();
    assert!(nobody_asked.signature().is_none());
}
