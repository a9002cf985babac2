use super::*;
use crate::writer::tests::{bundle_of, content, edge_blobs, write};

#[test]
fn any_file_is_read_without_the_others() {
    let (manifest, files) = bundle_of(&edge_blobs());
    for container in [Container::TarGz, Container::Tar] {
        let bytes = Arc::new(write(&manifest, &files, container));
        let archive = BundleArchive::open(bytes, &Limits::default()).unwrap();
        assert_eq!(*archive.manifest(), manifest);
        assert_eq!(archive.plan().container(), container);
        for (path, expected) in files.iter().rev() {
            for piece in [1_000, 1 << 20] {
                let mut reader = archive.open_entry(path).unwrap();
                let mut found: Vec<u8> = Vec::new();
                let mut buffer = vec![0; piece];
                loop {
                    let count = reader.read(&mut buffer).unwrap();
                    found.extend(&buffer[..count]);
                    if count == 0 {
                        break;
                    }
                }
                assert!(found == *expected, "{path}");
                assert_eq!(reader.read(&mut buffer).unwrap(), 0);
            }
        }
        let unlisted = EntryPath::blob(&oci_content::Digest::of(b"?")).unwrap();
        assert!(archive.open_entry(&unlisted).is_none());
    }
}

#[test]
fn a_file_whose_frame_or_content_changed_is_not_read_to_its_end() {
    let blob = content(100_000);
    let (manifest, files) = bundle_of(std::slice::from_ref(&blob));
    let path = EntryPath::blob(&oci_content::Digest::of(&blob)).unwrap();
    for container in [Container::TarGz, Container::Tar] {
        let good = write(&manifest, &files, container);
        let archive = BundleArchive::open(good.clone(), &Limits::default()).unwrap();
        let entry = archive.plan().entry(&path).unwrap().clone();
        let start = usize::try_from(entry.offset).unwrap();
        let length = usize::try_from(entry.stored_bytes).unwrap();
        for at in (0..length).step_by(61).chain([length - 1]) {
            let mut bytes = good.clone();
            bytes[start + at] ^= 0x10;
            let archive = BundleArchive::open(bytes, &Limits::default()).unwrap();
            let read = archive
                .open_entry(&path)
                .unwrap()
                .read_to_end(&mut Vec::new());
            assert!(read.is_err(), "{container:?}, byte {at}");
        }
    }
}

#[test]
fn a_file_of_another_length_is_not_opened() {
    let (manifest, files) = bundle_of(&[]);
    let good = write(&manifest, &files, Container::TarGz);
    let kind = |bytes: Vec<u8>| match BundleArchive::open(bytes, &Limits::default()) {
        Err(OpenError::Container(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    let short = good[..good.len() - 1].to_vec();
    assert_eq!(kind(short), ContainerErrorKind::Truncated);
    let long = [&good[..], b"x"].concat();
    assert_eq!(kind(long), ContainerErrorKind::TrailingData);
}
