use std::io;

use oci_content::Digest;

use super::*;

fn write(output: &OutputFile, bytes: &[u8]) {
    use crate::sink::Sink as _;
    output.sink().reserve(bytes.len() as u64).unwrap();
    output.sink().write_at(bytes, 0).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| name.into_string().unwrap())
        .collect()
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tgz");
    let output = OutputFile::create(&target, false).unwrap();
    write(&output, b"one");
    assert_eq!(names(folder.path()), [".bundle.tgz.partial"]);
    drop(output);
    assert!(names(folder.path()).is_empty());
    let output = OutputFile::create(&target, false).unwrap();
    write(&output, b"two");
    assert_eq!(output.checksums(|_| {}).unwrap().whole, Digest::of(b"two"));
    output.publish().unwrap();
    assert_eq!(names(folder.path()), ["bundle.tgz"]);
    assert_eq!(fs::read(&target).unwrap(), b"two");
}

#[test]
fn an_existing_file_is_replaced_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tgz");
    fs::write(&target, "old").unwrap();
    let error = OutputFile::create(&target, false).unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::Exists);
    let output = OutputFile::create(&target, true).unwrap();
    write(&output, b"new");
    assert_eq!(fs::read(&target).unwrap(), b"old");
    output.publish().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    fs::remove_file(&target).unwrap();
    let output = OutputFile::create(&target, false).unwrap();
    fs::write(&target, "came meanwhile").unwrap();
    assert_eq!(
        output.publish().unwrap_err().kind(),
        OutputErrorKind::Exists
    );
    assert_eq!(names(folder.path()), ["bundle.tgz"]);
}

#[test]
fn a_name_that_can_no_longer_be_given_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("in/bundle.tgz");
    let partial = folder.path().join("in/.bundle.tgz.partial");
    type Mishap = fn(&Path, &Path) -> io::Result<()>;
    let mishaps: [(Mishap, OutputErrorKind); 3] = [
        (
            |target, _| fs::create_dir(target),
            OutputErrorKind::NotAFile,
        ),
        (|_, partial| fs::remove_file(partial), OutputErrorKind::Io),
        (
            |target, _| fs::remove_dir_all(parent(target)),
            OutputErrorKind::Io,
        ),
    ];
    for overwrite in [false, true] {
        for (mishap, kind) in mishaps {
            fs::create_dir_all(parent(&target)).unwrap();
            let output = OutputFile::create(&target, overwrite).unwrap();
            write(&output, b"new");
            mishap(&target, &partial).unwrap();
            let error = output.publish().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("bundle.tgz: "), "{error}");
            assert!(!target.is_file() && !partial.exists());
            drop(fs::remove_dir(&target));
        }
    }
}

#[test]
fn a_second_run_that_wants_the_same_file_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tgz");
    let first = OutputFile::create(&target, false).unwrap();
    let error = OutputFile::create(&target, false).unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::Locked);
    write(&first, b"first");
    first.publish().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"first");
}

#[test]
fn what_an_interrupted_run_left_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tgz");
    let output = OutputFile::create(&target, false).unwrap();
    assert!(!output.is_resumed());
    write(&output, b"half");
    output.keep();
    drop(output);
    let output = OutputFile::create(&target, false).unwrap();
    assert!(output.is_resumed());
    assert_eq!(output.checksums(|_| {}).unwrap().whole, Digest::of(b"half"));
}

#[test]
fn links_folders_and_devices_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: PathBuf, overwrite| OutputFile::create(path, overwrite).unwrap_err().kind();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    assert_eq!(kind(link, true), OutputErrorKind::NotAFile);
    assert_eq!(
        kind(folder.path().to_owned(), true),
        OutputErrorKind::NotAFile
    );
    assert_eq!(kind("/dev/null".into(), true), OutputErrorKind::NotAFile);
    assert_eq!(kind("/".into(), true), OutputErrorKind::NotAFile);
    let partial = folder.path().join(".x.partial");
    let elsewhere = folder.path().join("elsewhere");
    let refused = |sentence: &str| {
        let error = OutputFile::create(folder.path().join("x"), false).unwrap_err();
        assert_eq!(error.kind(), OutputErrorKind::NotAFile);
        let text = error.to_string();
        assert!(
            text.contains(".x.partial: ") && text.contains(sentence),
            "{text}"
        );
    };
    std::os::unix::fs::symlink(&elsewhere, &partial).unwrap();
    refused("symbolic link");
    assert!(!elsewhere.exists());
    fs::remove_file(&partial).unwrap();
    fs::write(&elsewhere, "precious").unwrap();
    fs::hard_link(&elsewhere, &partial).unwrap();
    refused("hard link");
    fs::remove_file(&partial).unwrap();
    fs::create_dir(&partial).unwrap();
    refused("not a regular file");
    fs::remove_dir(&partial).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&partial).unwrap();
    refused("not a regular file");
    drop(socket);
    // Volumes behind the first are made when the size is known.
    let output = volumes(&folder.path().join("v"), false).unwrap();
    fs::hard_link(&elsewhere, folder.path().join(".v.002.partial")).unwrap();
    let error = crate::sink::Sink::reserve(&output.sink(), 15).unwrap_err();
    assert!(error.to_string().contains("hard link"), "{error}");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    let nowhere = folder.path().join("no/such/folder/x");
    assert_eq!(kind(nowhere, false), OutputErrorKind::Io);
}

/// Starts a bundle in volumes of 10 bytes.
fn volumes(target: &Path, overwrite: bool) -> Result<OutputFile, OutputError> {
    OutputFile::create_volumes(target, VolumeSize::tiny(10), overwrite)
}

const CHECKSUMS: [&str; 3] = ["b.001.sha256", "b.002.sha256", "b.sha256"];

#[test]
fn volumes_are_there_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b");
    let output = volumes(&target, false).unwrap();
    write(&output, b"0123456789abcde");
    assert_eq!(names(folder.path()), [".b.001.partial", ".b.002.partial"]);
    drop(output);
    assert!(names(folder.path()).is_empty());

    let output = volumes(&target, false).unwrap();
    // A plan that turns out to be too long leaves no file of its own.
    write(&output, b"0123456789abcdefghijklmnopqrs");
    write(&output, b"0123456789abcde");
    assert_eq!(names(folder.path()), [".b.001.partial", ".b.002.partial"]);
    output.publish().unwrap();
    let [one, two, all] = CHECKSUMS;
    assert_eq!(names(folder.path()), ["b.001", one, "b.002", two, all]);
    assert_eq!(
        fs::read(folder.path().join("b.001")).unwrap(),
        b"0123456789"
    );
    assert_eq!(fs::read(folder.path().join("b.002")).unwrap(), b"abcde");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let line = |name: &str, bytes: &[u8]| format!("{}  {name}\n", Digest::of(bytes).encoded());
    assert_eq!(read(one), line("b.001", b"0123456789"));
    assert_eq!(read(two), line("b.002", b"abcde"));
    assert_eq!(read(all), read(one) + &read(two));
}

#[test]
fn a_bundle_in_whatever_form_is_replaced_by_volumes_only_on_request_and_then_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b");
    for old in ["b", "b.001", "b.004", "b.999"] {
        fs::write(folder.path().join(old), "old").unwrap();
        fs::write(folder.path().join(format!("{old}.sha256")), "old").unwrap();
        let error = volumes(&target, false).unwrap_err();
        assert_eq!(error.kind(), OutputErrorKind::Exists);
        assert!(error.to_string().contains(&format!("{old}: ")), "{error}");
        let output = volumes(&target, true).unwrap();
        write(&output, b"0123456789abcde");
        assert_eq!(fs::read(folder.path().join(old)).unwrap(), b"old");
        output.publish().unwrap();
        let [one, two, all] = CHECKSUMS;
        assert_eq!(names(folder.path()), ["b.001", one, "b.002", two, all]);
        for name in names(folder.path()) {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_volume_that_appears_meanwhile_is_not_replaced_and_nothing_else_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b");
    let output = volumes(&target, false).unwrap();
    write(&output, b"0123456789abcde");
    fs::write(folder.path().join("b.001"), "came meanwhile").unwrap();
    output.keep();
    let error = output.publish().unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::Exists);
    assert_eq!(
        names(folder.path()),
        [".b.001.partial", ".b.002.partial", "b.001"]
    );
}

#[test]
fn interrupted_volumes_are_taken_over_whatever_their_size_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b");
    let output = volumes(&target, false).unwrap();
    assert!(!output.is_resumed());
    write(&output, b"0123456789abcdefghijklmnopqrs");
    output.keep();
    drop(output);
    let output = volumes(&target, false).unwrap();
    assert!(output.is_resumed());
    let mut bytes = Vec::new();
    crate::sink::Sink::reserve(&output.sink(), 29).unwrap();
    read_range(&output.sink(), 0..u64::MAX, |read| {
        bytes.extend_from_slice(read)
    })
    .unwrap();
    assert_eq!(bytes, b"0123456789abcdefghijklmnopqrs");
    output.keep();
    drop(output);
    let output = OutputFile::create_volumes(&target, VolumeSize::tiny(20), false).unwrap();
    write(&output, b"0123456789abcdefghijklmnopqrs");
    assert_eq!(names(folder.path()), [".b.001.partial", ".b.002.partial"]);
    output.publish().unwrap();
    assert_eq!(fs::read(folder.path().join("b.002")).unwrap(), b"klmnopqrs");
}

#[test]
fn volumes_are_taken_over_wherever_a_run_was_killed_between_their_names() {
    let bytes = b"0123456789abcdefghijklmnopqrs";
    for unnamed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("b");
        let output = volumes(&target, false).unwrap();
        write(&output, bytes);
        output.publish().unwrap();
        // As the disk is when only the volumes behind these have their names.
        let name = |number: usize| folder.path().join(format!("b.{number:03}"));
        let partial = |number: usize| folder.path().join(format!(".b.{number:03}.partial"));
        for number in 1..=unnamed {
            fs::rename(name(number), partial(number)).unwrap();
        }
        let output = volumes(&target, false).unwrap();
        assert!(output.is_resumed());
        crate::sink::Sink::reserve(&output.sink(), 29).unwrap();
        let mut read = Vec::new();
        read_range(&output.sink(), 0..u64::MAX, |bytes| {
            read.extend_from_slice(bytes)
        })
        .unwrap();
        assert_eq!(read, bytes);
        output.publish().unwrap();
        assert_eq!(fs::read(name(3)).unwrap(), &bytes[20..]);
        assert!(
            !names(folder.path())
                .iter()
                .any(|name| name.contains("partial"))
        );
    }
}

#[test]
fn volumes_that_no_killed_run_can_have_left_are_not_taken() {
    for (partials, finals) in [
        (&[1, 2][..], &[2, 3][..]),
        (&[1], &[3]),
        (&[1], &[1, 2]),
        (&[1, 3], &[2]),
        (&[], &[2, 3]),
        (&[1], &[2, 9]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("b");
        for number in partials {
            fs::write(folder.path().join(format!(".b.00{number}.partial")), "new").unwrap();
        }
        for number in finals {
            fs::write(folder.path().join(format!("b.00{number}")), "old").unwrap();
        }
        let before = names(folder.path());
        let error = volumes(&target, false).unwrap_err();
        assert_eq!(
            error.kind(),
            OutputErrorKind::Exists,
            "{partials:?} {finals:?}"
        );
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn a_second_run_that_wants_the_same_volumes_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b");
    let _first = volumes(&target, false).unwrap();
    let error = volumes(&target, false).unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::Locked);
}

#[test]
fn the_names_of_volumes_are_not_given_by_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let error = volumes(&folder.path().join("b.tgz.001"), false).unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::NotAFile);
    assert!(
        error.to_string().ends_with("name the bundle, b.tgz"),
        "{error}"
    );
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("c.002")).unwrap();
    let error = volumes(&folder.path().join("c"), true).unwrap_err();
    assert_eq!(error.kind(), OutputErrorKind::NotAFile);
}

#[test]
fn more_volumes_than_three_digits_can_name_are_refused() {
    use crate::sink::Sink as _;
    let folder = tempfile::tempdir().unwrap();
    let output = volumes(&folder.path().join("b"), false).unwrap();
    let error = output.sink().reserve(9_991).unwrap_err();
    assert!(error.to_string().contains("takes 1000 volumes"), "{error}");
    drop(output);
    assert!(names(folder.path()).is_empty());
}
