//! Signatures inside a bundle and beside it: nothing panics, and an accepted one is for one
//! manifest and one key.

#![no_main]

use bundle_format::PublicKey;
use fuzz::{MANIFEST, PUBLIC_KEY};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = PublicKey::from_pem(PUBLIC_KEY).unwrap();
    drop(PublicKey::from_pem(&String::from_utf8_lossy(data)));
    let inside = key.verify(MANIFEST, data);
    let beside = key.verify_detached(MANIFEST, data);
    // The form inside a bundle is one of those that are allowed beside it.
    assert!(inside.is_err() || inside == beside);
    if let Ok(proof) = &beside {
        assert_eq!(proof.key_id(), key.id());
        assert!(key.verify_detached(b"format: other\n", data).is_err());
    }
    assert!(key.verify(b"format: other\n", data).is_err());
});
