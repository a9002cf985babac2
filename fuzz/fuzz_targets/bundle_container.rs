//! Whole bundles: nothing panics, and what is accepted is what the canonical writer writes.
//!
//! The input is read as it is, and again as a tar archive with corrected checksums in the one gzip
//! framing: otherwise hardly any mutation would get past the first checksum.

#![no_main]

use std::io::Read as _;

use bundle_format::{BundleArchive, Container, EntryPath, Limits};
use fuzz::{plan, write_bundle};
use import_validator::ImportValidator;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    if !data.starts_with(&[0x1f, 0x8b]) {
        let mut tar = data.to_vec();
        let entries = fuzz::repair(&mut tar);
        check(fuzz::gzip(&tar, &entries));
        check(tar);
    }
});

fn check(bundle: Vec<u8>) {
    let lax = ImportValidator::new().validate("input", &bundle[..]);
    let strict = ImportValidator::new()
        .strict(true)
        .validate("input", &bundle[..]);
    assert!(lax.ok || !strict.ok, "strict accepts more");
    assert_eq!(lax.ok, lax.exit_code() == 0);
    let archive = BundleArchive::open(&bundle, &Limits::default());
    if !lax.ok {
        return;
    }
    let archive = archive.unwrap();
    let content = |path: &EntryPath| {
        let mut content = Vec::new();
        archive
            .open_entry(path)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        content
    };
    let signature = archive.plan().signature().map(<[u8]>::to_vec);
    for container in [Container::Tar, Container::TarGz] {
        let plan = plan(archive.manifest(), signature.as_deref(), container);
        let written = write_bundle(plan, content);
        if container == archive.plan().container() {
            assert!(written == bundle, "what was accepted has a second form");
        } else {
            assert!(ImportValidator::new().validate("other", &written[..]).ok);
        }
    }
}
