use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

// Made once with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgh47r19trqGpxROel
N0nM1AZBoKd51u+S8PAgk/0JH3GhRANCAATeffj+v3w/uSYHKPErfvgnjORJXl34
vI1SrWQtA1Ex/KcCJv2e50pe5NuNCIw7qdFV6x+GtgfY4cQVzE22Dy4e
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE3n34/r98P7kmByjxK374J4zkSV5d
+LyNUq1kLQNRMfynAib9nudKXuTbjQiMO6nRVesfhrYH2OHEFcxNtg8uHg==
-----END PUBLIC KEY-----
";
const OTHER: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6kVj1iST/JbVXdHw
0CgcpJXYxbh6C1r4qiLFP5ko9QyhRANCAAS64aG0aAkvcN+dvjbsAry50lu9KBfF
uDl0Jv5RbiD3+ciVioSDaVbN5Wg7olLaHhEizsf54RQwkQNwOdVqofoW
-----END PRIVATE KEY-----
";
const MANIFEST: &[u8] = b"format: stellaops-mirror-bundle/v1\n";

fn key() -> SigningKey {
    SigningKey::from_pem(KEY).unwrap()
}

fn signed() -> Value {
    serde_json::from_slice(&key().sign(MANIFEST)).unwrap()
}

fn verify(signature: &[u8]) -> Result<VerifiedSignature, SignatureErrorKind> {
    let result = key().public().verify(MANIFEST, signature);
    result.map_err(|error| error.kind())
}

/// Changes one member, and writes it in the one encoding again.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut json = signed();
    *json.pointer_mut(pointer).unwrap() = value;
    let text = |pointer| json.pointer(pointer).unwrap().as_str().unwrap();
    format!(
        concat!(
            r#"{{"mediaType":"{}","verificationMaterial":{{"publicKey":{{"hint":"{}"}}}},"#,
            r#""messageSignature":{{"messageDigest":{{"algorithm":"{}","digest":"{}"}},"signature":"{}"}}}}"#
        ),
        text("/mediaType"),
        text("/verificationMaterial/publicKey/hint"),
        text("/messageSignature/messageDigest/algorithm"),
        text("/messageSignature/messageDigest/digest"),
        text("/messageSignature/signature"),
    )
    .into_bytes()
}

const HINT: &str = "/verificationMaterial/publicKey/hint";
const SIGNATURE: &str = "/messageSignature/signature";

#[test]
fn a_signature_has_one_sequence_of_bytes_and_is_verified() {
    let (first, second) = (key().sign(MANIFEST), key().sign(MANIFEST));
    assert_eq!(first, second);
    let public = PublicKey::from_pem(PUBLIC).unwrap();
    let proof = public.verify(MANIFEST, &first).unwrap();
    assert_eq!(proof.key_id(), public.id());
    assert_eq!(*proof.manifest(), Digest::of(MANIFEST));
    // The form that `cosign verify-blob --bundle` reads.
    let json = signed();
    let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert_eq!(json["mediaType"], media_type);
    let digest = STANDARD.decode(
        json["messageSignature"]["messageDigest"]["digest"]
            .as_str()
            .unwrap(),
    );
    let hex: String = digest.unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, Digest::of(MANIFEST).encoded());
    assert_eq!(with(HINT, json.pointer(HINT).unwrap().clone()), first);
}

#[test]
fn a_signature_of_another_key_or_over_other_bytes_is_invalid() {
    use SignatureErrorKind::Invalid;
    let other = SigningKey::from_pem(OTHER).unwrap();
    assert_eq!(verify(&other.sign(MANIFEST)), Err(Invalid));
    assert_eq!(verify(&key().sign(b"another manifest")), Err(Invalid));
    // The digest beside the signature says one thing, the signature another.
    let elsewhere: Value = serde_json::from_slice(&key().sign(b"another manifest")).unwrap();
    let signature = elsewhere.pointer(SIGNATURE).unwrap().clone();
    assert_eq!(verify(&with(SIGNATURE, signature)), Err(Invalid));
}

#[test]
fn a_hint_is_only_a_hint() {
    let other = SigningKey::from_pem(OTHER).unwrap();
    let hint = signed().pointer(HINT).unwrap().clone();
    let mut lie: Value = serde_json::from_slice(&other.sign(MANIFEST)).unwrap();
    *lie.pointer_mut(HINT).unwrap() = hint;
    let signature = lie.pointer(SIGNATURE).unwrap().clone();
    assert_eq!(
        verify(&with(SIGNATURE, signature)),
        Err(SignatureErrorKind::Invalid)
    );
    assert!(verify(&with(HINT, "another key".into())).is_ok());
}

#[test]
fn a_signature_that_is_changed_in_any_way_is_refused() {
    let good = signed()
        .pointer(SIGNATURE)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    let der = STANDARD.decode(&good).unwrap();
    for at in 0..der.len() {
        let mut flipped = der.clone();
        flipped[at] ^= 1;
        assert!(
            verify(&with(SIGNATURE, STANDARD.encode(flipped).into())).is_err(),
            "{at}"
        );
    }
    let trailing = [&*der, b"\0"].concat();
    let zero = [0x30, 6, 2, 1, 0, 2, 1, 0];
    for bytes in [&trailing[..], &zero, b"", &der[..der.len() - 1]] {
        let changed = with(SIGNATURE, STANDARD.encode(bytes).into());
        assert_eq!(verify(&changed), Err(SignatureErrorKind::Invalid));
    }
    for text in [
        &good[..good.len() - 1],
        &format!("{good}\\n"),
        &format!("{good}===="),
    ] {
        let changed = with(SIGNATURE, text.into());
        assert_eq!(
            verify(&changed),
            Err(SignatureErrorKind::Malformed),
            "{text}"
        );
    }
    assert_eq!(verify(b""), Err(SignatureErrorKind::Malformed));
}

#[test]
fn other_kinds_of_signatures_are_unsupported() {
    use SignatureErrorKind::Unsupported;
    let json = signed();
    let v04 = "application/vnd.dev.sigstore.bundle.v0.4+json";
    assert_eq!(verify(&with("/mediaType", v04.into())), Err(Unsupported));
    let algorithm = "/messageSignature/messageDigest/algorithm";
    assert_eq!(
        verify(&with(algorithm, "SHA2_512".into())),
        Err(Unsupported)
    );
    let change = |change: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        verify(&serde_json::to_vec(&json).unwrap())
    };
    let material = "verificationMaterial";
    let certificate = json!({"rawBytes": "MIIB"});
    for (name, value) in [
        ("certificate", certificate.clone()),
        (
            "x509CertificateChain",
            json!({"certificates": [certificate]}),
        ),
    ] {
        // Beside the key, and in its place: whatever it proves, it is not the operator's key.
        assert_eq!(
            change(&|json| json[material][name] = value.clone()),
            Err(Unsupported)
        );
        assert_eq!(
            change(&|json| json[material] = json!({ name: value })),
            Err(Unsupported)
        );
    }
    let envelope = json!({"payload": "", "payloadType": "a/b", "signatures": []});
    assert_eq!(
        change(&|json| {
            json["dsseEnvelope"] = envelope.clone();
            json.as_object_mut().unwrap().remove("messageSignature");
        }),
        Err(Unsupported)
    );
    // A key in the place of the hint.
    let own = change(&|json| json[material]["publicKey"] = json!({"rawBytes": PUBLIC}));
    assert_eq!(own, Err(SignatureErrorKind::Malformed));
}

#[test]
fn there_is_one_signature_and_one_way_to_write_it() {
    use SignatureErrorKind::Malformed;
    let good = String::from_utf8(key().sign(MANIFEST)).unwrap();
    let twice = good.replace(r#""signature":"#, r#""signature":"TQ==","signature":"#);
    let list = good.replace(r#""messageSignature":{"#, r#""messageSignature":[{"#);
    let list = list.replace("\"}}", "\"}]}");
    for text in [
        twice,
        list,
        format!("{good}\n"),
        format!(" {good}"),
        format!("{good}{good}"),
        good.replace(r#""hint":"#, r#""hint": "#),
        good.replace(r#""hint":"#, r#""hi\u006et":"#),
        good.replace(r#"{"publicKey""#, r#"{"tlogEntries":[],"publicKey""#),
        good.replace(r#"{"publicKey""#, r#"{"more":1,"publicKey""#),
        // What tools call the same version as well.
        good.replace("bundle.v0.3+json", "bundle+json;version=0.3"),
        good.replace(r#""hint":""#, r#""hint":"\u001b"#),
        good.replace(r#""hint":""#, "\"hint\":\"\u{202e}"),
        good.replace(r#""hint":""#, &format!(r#""hint":"{}"#, "a".repeat(257))),
    ] {
        assert_eq!(verify(text.as_bytes()), Err(Malformed), "{text}");
        let form = check_signature_form(MANIFEST, text.as_bytes()).unwrap_err();
        assert_eq!(form.kind(), Malformed, "{text}");
    }
}

#[test]
fn the_form_of_a_signature_is_told_without_a_key() {
    use SignatureErrorKind::{Invalid, Malformed, Unsupported};
    let form =
        |signature: &[u8]| check_signature_form(MANIFEST, signature).map_err(|error| error.kind());
    let other = SigningKey::from_pem(OTHER).unwrap();
    assert_eq!(form(&key().sign(MANIFEST)), Ok(()));
    assert_eq!(form(&other.sign(MANIFEST)), Ok(()));
    assert_eq!(form(&key().sign(b"another manifest")), Err(Invalid));
    // Integers that are zero, and of another encoding than DER.
    for der in [
        &[0x30, 6, 2, 1, 0, 2, 1, 0][..],
        &[0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0],
    ] {
        assert_eq!(
            form(&with(SIGNATURE, STANDARD.encode(der).into())),
            Err(Invalid)
        );
    }
    for text in [&b""[..], b"hello", b"{}", b"null"] {
        assert_eq!(form(text), Err(Malformed));
    }
    let v04 = "application/vnd.dev.sigstore.bundle.v0.4+json";
    assert_eq!(form(&with("/mediaType", v04.into())), Err(Unsupported));
}

#[test]
fn a_signature_with_either_half_of_s_is_one() {
    let der = STANDARD.decode(signed().pointer(SIGNATURE).unwrap().as_str().unwrap());
    let low = Signature::from_der(&der.unwrap()).unwrap();
    let (r, s) = low.split_scalars();
    let high = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    assert_ne!(low, high);
    let high = STANDARD.encode(high.to_der().as_bytes());
    assert!(verify(&with(SIGNATURE, high.into())).is_ok());
}

#[test]
fn a_detached_signature_comes_in_the_forms_that_tools_write() {
    let json = key().sign(MANIFEST);
    let base64 = signed()
        .pointer(SIGNATURE)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    let der = STANDARD.decode(&base64).unwrap();
    let text = String::from_utf8(json.clone()).unwrap();
    let public = PublicKey::from_pem(PUBLIC).unwrap();
    let detached = |bytes: &[u8]| public.verify_detached(MANIFEST, bytes);
    for bytes in [
        json,
        der.clone(),
        base64.clone().into_bytes(),
        format!("{base64}\n").into_bytes(),
        // As cosign writes it, with its log entries and with white space.
        serde_json::to_vec_pretty(&signed()).unwrap(),
        text.replace(
            r#"{"publicKey""#,
            r#"{"tlogEntries":[{"logIndex":"1"}],"publicKey""#,
        )
        .into_bytes(),
    ] {
        assert!(
            detached(&bytes).is_ok(),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    for bytes in [
        &der[..der.len() - 1],
        b"",
        b"{}",
        &base64.as_bytes()[1..],
        PUBLIC.as_bytes(),
    ] {
        assert!(
            detached(bytes).is_err(),
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
    assert!(public.verify_detached(b"other bytes", &der).is_err());
}

#[test]
fn what_is_no_key_is_refused_with_the_way_to_one_and_a_secret_is_not_shown() {
    let error = SigningKey::from_pem(PUBLIC).unwrap_err().to_string();
    assert!(error.contains("openssl pkcs8 -topk8"), "{error}");
    let encrypted = KEY.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let error = SigningKey::from_pem(&encrypted).unwrap_err().to_string();
    assert!(error.contains("encrypted"), "{error}");
    let error = PublicKey::from_pem(KEY).unwrap_err().to_string();
    assert!(error.contains("-pubout"), "{error}");
    let shown = format!("{:?}", key());
    let id = key().public().id().to_string();
    assert!(shown.contains(&id) && shown.len() < 400, "{shown}");
}
