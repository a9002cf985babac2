//! The Sigstore bundle, version 0.3, with a public key and a signature over a message.
//!
//! <https://github.com/sigstore/protobuf-specs/blob/v0.5.0/protos/sigstore_bundle.proto>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_content::Digest;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::signature::{SignatureError, SignatureErrorKind};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The media type of the same version in its earlier spelling.
const MEDIA_TYPE_WITH_PARAMETER: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
const SHA2_256: &str = "SHA2_256";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: Material,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_signature: Option<MessageSignature>,
    #[serde(default, skip_serializing)]
    dsse_envelope: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<Hint>,
    #[serde(default, skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    x509_certificate_chain: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    #[expect(
        dead_code,
        reason = "a member that is accepted from outside and ignored"
    )]
    tlog_entries: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    #[expect(
        dead_code,
        reason = "a member that is accepted from outside and ignored"
    )]
    timestamp_verification_data: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

/// Writes the one encoding: these members in this order, without white space.
pub(crate) fn encode(key_id: &Digest, message: &[u8], signature: &[u8]) -> Vec<u8> {
    // No value has a character that needs an escape.
    format!(
        concat!(
            r#"{{"mediaType":"{}","verificationMaterial":{{"publicKey":{{"hint":"{}"}}}},"#,
            r#""messageSignature":{{"messageDigest":{{"algorithm":"{}","digest":"{}"}},"signature":"{}"}}}}"#
        ),
        MEDIA_TYPE,
        base64_of(key_id),
        SHA2_256,
        base64_of(&Digest::of(message)),
        STANDARD.encode(signature),
    )
    .into_bytes()
}

/// Returns a digest as Sigstore writes it: its bytes in base64.
fn base64_of(digest: &Digest) -> String {
    let hex = digest.encoded().as_bytes();
    let nibble = |b: u8| (b as char).to_digit(16).unwrap_or_default();
    let bytes = hex.chunks(2).filter_map(|pair| match pair {
        [high, low] => u8::try_from(nibble(*high) << 4 | nibble(*low)).ok(),
        _ => None,
    });
    STANDARD.encode(bytes.collect::<Vec<_>>())
}

/// Returns the signature in DER, if everything that the bundle says besides holds for `message`.
///
/// With `one_encoding` only what [`encode`] writes is accepted, with any hint.
pub(crate) fn decode(
    json: &[u8],
    message: &[u8],
    one_encoding: bool,
) -> Result<Vec<u8>, SignatureError> {
    use SignatureErrorKind::{Invalid, Malformed, Unsupported};
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        media_type: String,
    }
    let not_json = |error: serde_json::Error| {
        SignatureError::new(Malformed, format!("it is not a Sigstore bundle: {error}"))
    };
    let unsupported = |what: &str| {
        let reason = format!("{what}, where a public key, SHA-256 and a message signature belong");
        Err(SignatureError::new(Unsupported, reason))
    };
    // A later version may have other members, so the version is checked first.
    let version: Version = serde_json::from_slice(json).map_err(not_json)?;
    if ![MEDIA_TYPE, MEDIA_TYPE_WITH_PARAMETER].contains(&&*version.media_type) {
        return unsupported("it is not a Sigstore bundle of version 0.3");
    }
    let bundle: Bundle = serde_json::from_slice(json).map_err(not_json)?;
    let material = &bundle.verification_material;
    if material.certificate.is_some() || material.x509_certificate_chain.is_some() {
        return unsupported("it has a certificate");
    }
    if bundle.dsse_envelope.is_some() {
        return unsupported("it has an envelope");
    }
    let (Some(_), Some(signature)) = (&material.public_key, &bundle.message_signature) else {
        return unsupported("it has no key or no signature");
    };
    if signature.message_digest.algorithm != SHA2_256 {
        return unsupported("it has another digest");
    }
    let hint = material.public_key.as_ref().map(|key| &*key.hint);
    let is_canonical = || {
        bundle.media_type == MEDIA_TYPE
            && hint.is_some_and(is_plain_hint)
            && serde_json::to_vec(&bundle).ok().as_deref() == Some(json)
    };
    if one_encoding && !is_canonical() {
        let reason = "it is not in the encoding that a bundle has";
        return Err(SignatureError::new(Malformed, reason));
    }
    if signature.message_digest.digest != base64_of(&Digest::of(message)) {
        let reason = "it was made over another manifest.yaml";
        return Err(SignatureError::new(Invalid, reason));
    }
    from_base64(signature.signature.as_bytes())
}

/// Returns whether a hint is printable and has only one spelling in JSON.
fn is_plain_hint(hint: &str) -> bool {
    const MAX_BYTES: usize = 256;
    let plain = |b: u8| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\';
    hint.len() <= MAX_BYTES && hint.bytes().all(plain)
}

pub(crate) fn from_base64(text: &[u8]) -> Result<Vec<u8>, SignatureError> {
    STANDARD.decode(text).map_err(|_| {
        let reason = "it is neither a Sigstore bundle nor a signature in DER or base64";
        SignatureError::new(SignatureErrorKind::Malformed, reason)
    })
}
