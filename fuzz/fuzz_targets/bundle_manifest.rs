//! `manifest.yaml`: nothing panics, and what parses is written as the same bytes, because there is
//! only one encoding.

#![no_main]

use bundle_format::{BundleManifest, BundlePlan, Container, EntryPath, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = BundleManifest::parse(data, &Limits::default()) else {
        return;
    };
    assert!(manifest.to_yaml().unwrap() == data);
    let mut settled = manifest.clone();
    settled.settle(manifest.referrers.bare_images);
    assert_eq!(settled, manifest);

    let files = manifest.files();
    for (path, file) in &files {
        assert_eq!(path.to_string().parse::<EntryPath>().unwrap(), *path);
        assert_eq!(manifest.file(path).as_ref(), Some(file));
    }
    for container in [Container::Tar, Container::TarGz] {
        let plan = BundlePlan::new(&manifest, container).unwrap();
        assert_eq!(plan.manifest_yaml(), data);
        let mut end = 0;
        for (path, entry) in plan.entries() {
            assert!(
                entry.offset >= end && entry.stored_bytes > entry.size,
                "{path}"
            );
            end = entry.offset + entry.stored_bytes;
            if *path != EntryPath::MANIFEST {
                assert_eq!(entry.size, files[path].size);
            }
        }
        assert!(plan.size() > end);
    }
});
