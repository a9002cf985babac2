//! Signatures, with the key of the operator.

use std::collections::BTreeMap;

use base64::Engine as _;
use bundle_format::{Container, EntryPath, SigningKey};
use import_validator::FindingKind::{self, *};
use oci_content::Digest;

use super::Corpus;
use crate::fixture::{Fixture, pack};
use crate::signature::{KEY, OTHER};

pub(super) fn rows(corpus: &mut Corpus) {
    let key = SigningKey::from_pem(KEY).unwrap();
    let other = SigningKey::from_pem(OTHER).unwrap();
    let files = Fixture::small().files();
    let manifest = &files[&EntryPath::MANIFEST];
    let good = String::from_utf8(key.sign(manifest)).unwrap();
    let mut add =
        |number, name, files: &BTreeMap<EntryPath, Vec<u8>>, kind: Option<FindingKind>| {
            let bytes = pack(files, Container::TarGz);
            let row = match kind {
                Some(kind) => corpus.add(number, name, bytes, kind, 5),
                None => corpus.accepted(number, name, bytes),
            };
            row.validator = row.validator.clone().key(key.public().clone());
        };
    let with = |signature: &[u8]| {
        let mut files = files.clone();
        files.insert(EntryPath::SIGNATURE, signature.to_vec());
        files
    };
    let (_, rest) = good.split_once("\"signature\":\"").unwrap();
    let base64 = rest.split('"').next().unwrap();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from));
        with(good.replace(from, to).as_bytes())
    };
    add(0, "a signed bundle", &with(good.as_bytes()), None);
    add(79, "sig-stripped", &files, Some(SignatureMissing));
    add(
        80,
        "sig-wrong-key",
        &with(&other.sign(manifest)),
        Some(SignatureInvalid),
    );
    let elsewhere = Fixture::full().files();
    let elsewhere = key.sign(&elsewhere[&EntryPath::MANIFEST]);
    add(
        80,
        "sig-other-bundle",
        &with(&elsewhere),
        Some(SignatureInvalid),
    );
    // The last character but the padding: one bit of s.
    let mut flipped = base64.to_owned().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    add(
        80,
        "sig-flipped",
        &replaced(base64, &flipped),
        Some(SignatureInvalid),
    );
    add(80, "sig-empty", &with(b""), Some(SignatureMalformed));
    add(
        80,
        "sig-empty: no value",
        &replaced(base64, ""),
        Some(SignatureInvalid),
    );
    // SEQUENCE { INTEGER 0, INTEGER 0 }.
    add(
        80,
        "sig-zero",
        &replaced(base64, "MAYCAQACAQA="),
        Some(SignatureInvalid),
    );
    let end = base64.trim_end_matches('=').len() / 4 * 4;
    let trailing = format!("{}AAAA", &base64[..end]);
    add(
        80,
        "sig-der-trailing",
        &replaced(base64, &trailing),
        Some(SignatureInvalid),
    );
    add(
        81,
        "sig-alg-confusion: SHA2_512",
        &replaced("SHA2_256", "SHA2_512"),
        Some(SignatureUnsupported),
    );
    let certificate = replaced("\"publicKey\":{\"hint\"", "\"certificate\":{\"rawBytes\"");
    add(
        81,
        "sig-alg-confusion: a certificate",
        &certificate,
        Some(SignatureUnsupported),
    );
    let dsse = replaced("\"messageSignature\"", "\"dsseEnvelope\"");
    add(
        81,
        "sig-alg-confusion: DSSE",
        &dsse,
        Some(SignatureUnsupported),
    );
    // Signed by another key, with that key inside in the place of the hint.
    let own = String::from_utf8(other.sign(manifest)).unwrap();
    let own = own.replace("\"publicKey\":{", "\"publicKey\":{\"rawBytes\":\"AAAA\",");
    add(
        82,
        "sig-self-key",
        &with(own.as_bytes()),
        Some(SignatureMalformed),
    );
    let hint = |text: &str| {
        let (_, rest) = text.split_once("\"hint\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let by_other = String::from_utf8(other.sign(manifest)).unwrap();
    let lie = by_other.replace(&hint(&by_other), &hint(&good));
    add(
        83,
        "sig-hint-lie: of the right key, by another",
        &with(lie.as_bytes()),
        Some(SignatureInvalid),
    );
    let wrong_hint = replaced(&hint(&good), &hint(&by_other));
    add(
        83,
        "sig-hint-lie: of another key, by the right one",
        &wrong_hint,
        None,
    );
    add(
        84,
        "sig-two",
        &with(format!("{good}{good}").as_bytes()),
        Some(SignatureMalformed),
    );
    add(
        84,
        "sig-unknown-media-type",
        &replaced("v0.3", "v0.4"),
        Some(SignatureUnsupported),
    );
    let text = String::from_utf8(manifest.clone()).unwrap();
    let mut reordered = with(good.as_bytes());
    let swapped = text.replace(
        "stream: default\nsequence: 1\n",
        "sequence: 1\nstream: default\n",
    );
    reordered.insert(EntryPath::MANIFEST, swapped.into_bytes());
    add(
        85,
        "manifest-resigned-order",
        &reordered,
        Some(SignatureInvalid),
    );
    let mut changed = with(good.as_bytes());
    let layer = EntryPath::blob(&Digest::of(b"layer of small")).unwrap();
    changed.insert(layer, b"other of small".to_vec());
    let row = corpus.add(
        89,
        "mix-match: a signed list, another layer",
        pack(&changed, Container::TarGz),
        EntryChecksumMismatch,
        4,
    );
    row.validator = row.validator.clone().key(key.public().clone());
    // The form counts whoever has signed, and whether or not somebody asks.
    let mut unasked = |name, signature: &[u8], kind: Option<FindingKind>| {
        let bytes = pack(&with(signature), Container::TarGz);
        match kind {
            Some(kind) => corpus.add(94, name, bytes, kind, 5),
            None => corpus.accepted(94, name, bytes),
        };
    };
    unasked(
        "sig-form: of a key that nobody asked about",
        &other.sign(manifest),
        None,
    );
    unasked("sig-form: empty", b"", Some(SignatureMalformed));
    unasked("sig-form: text", b"hello", Some(SignatureMalformed));
    let trailing = format!("{good}\n");
    unasked(
        "sig-form: a line feed behind it",
        trailing.as_bytes(),
        Some(SignatureMalformed),
    );
    let spaced = good.replace("\"hint\":", "\"hint\": ");
    unasked(
        "sig-form: a blank",
        spaced.as_bytes(),
        Some(SignatureMalformed),
    );
    let spelling = good.replace("bundle.v0.3+json", "bundle+json;version=0.3");
    unasked(
        "sig-form: the other media type",
        spelling.as_bytes(),
        Some(SignatureMalformed),
    );
    let hint = good.replace("\"hint\":\"", "\"hint\":\"\\u001b");
    unasked(
        "sig-form: a hint that cannot be printed",
        hint.as_bytes(),
        Some(SignatureMalformed),
    );
    let dsse = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":"","payloadType":"a/b","signatures":[]}}"#;
    unasked(
        "sig-form: DSSE",
        dsse.as_bytes(),
        Some(SignatureUnsupported),
    );
    let zero = good.replace(base64, "MAYCAQACAQA=");
    unasked(
        "sig-form: integers of zero",
        zero.as_bytes(),
        Some(SignatureInvalid),
    );
    let other_manifest = key.sign(b"another");
    unasked(
        "sig-form: over another manifest",
        &other_manifest,
        Some(SignatureInvalid),
    );
    let der = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .unwrap();
    let spelled = |der: Vec<u8>| {
        good.replace(
            base64,
            &base64::engine::general_purpose::STANDARD.encode(der),
        )
    };
    // A length of two bytes, no length, and a zero that the integer needs not.
    let long = [&[0x30, 0x81], &der[1..]].concat();
    unasked(
        "sig-form: a long length in DER",
        spelled(long).as_bytes(),
        Some(SignatureInvalid),
    );
    let endless = [&[0x30, 0x80], &der[2..], &[0, 0]].concat();
    unasked(
        "sig-form: DER without a length",
        spelled(endless).as_bytes(),
        Some(SignatureInvalid),
    );
    let padded = [&[0x30, der[1] + 1, 2, der[3] + 1, 0], &der[4..]].concat();
    unasked(
        "sig-form: a zero before an integer",
        spelled(padded).as_bytes(),
        Some(SignatureInvalid),
    );
    let outside = [&der[..], &[0]].concat();
    unasked(
        "sig-form: a byte behind DER",
        spelled(outside).as_bytes(),
        Some(SignatureInvalid),
    );
    let hint = |hint: &str| {
        let (head, rest) = good.split_once("\"hint\":\"").unwrap();
        let (_, tail) = rest.split_once('"').unwrap();
        format!("{head}\"hint\":\"{hint}\"{tail}")
    };
    unasked(
        "sig-form: a hint of 256 characters",
        hint(&"a ".repeat(128)).as_bytes(),
        None,
    );
    for (name, signature) in [
        ("sig-form: a hint of 257 characters", hint(&"a".repeat(257))),
        ("sig-form: a hint beyond ASCII", hint("\u{e9}")),
        ("sig-form: an escape in a hint", hint("\\u0041")),
        ("sig-form: no hint", good.replace("\"hint\":", "\"\":")),
        (
            "sig-form: log entries",
            good.replace("{\"publicKey\"", "{\"tlogEntries\":[],\"publicKey\""),
        ),
        (
            "sig-form: no envelope, in words",
            good.replace(
                "\"verificationMaterial\"",
                "\"dsseEnvelope\":null,\"verificationMaterial\"",
            ),
        ),
        (
            "sig-form: a member twice",
            good.replace("\"signature\":", "\"signature\":\"\",\"signature\":"),
        ),
        ("sig-form: a byte order mark", format!("\u{feff}{good}")),
        (
            "sig-form: base64 without its end",
            good.replace(base64, base64.trim_end_matches('=')),
        ),
    ] {
        unasked(name, signature.as_bytes(), Some(SignatureMalformed));
    }
}
