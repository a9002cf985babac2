use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn manifest(name: usize) -> Manifest {
    let config = Digest::of(b"{}");
    let raw = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[],"annotations":{{"n":"{name}"}}}}"#
    );
    Manifest::parse(Bytes::from(raw), None).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder.join("sha256")).into_iter().flatten();
    let mut files: Vec<_> = read.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn used(path: &Path, seconds_ago: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let time = SystemTime::now() - Duration::from_secs(seconds_ago);
    file.set_modified(time).unwrap();
}

#[test]
fn another_run_finds_what_one_has_kept_and_the_files_are_the_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/manifests");
    let kept = manifest(1);
    ManifestFolder::new(&folder).keep(&kept);
    let found = ManifestFolder::new(&folder).manifest(kept.digest());
    assert_eq!(found.as_ref(), Some(&kept));
    let path = folder.join("sha256").join(kept.digest().encoded());
    assert_eq!(fs::read(&path).unwrap(), &kept.raw()[..]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    for made in [&folder, &folder.join("sha256"), folder.parent().unwrap()] {
        assert_eq!(mode(made), 0o700, "{}", made.display());
    }
}

#[test]
fn a_damaged_file_is_removed_and_counts_as_absent() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ManifestFolder::new(folder.path());
    let kept = manifest(1);
    let too_long = vec![b' '; usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1];
    let mut changed = kept.raw().to_vec();
    changed[20] ^= 1;
    for damaged in [&changed[..], &kept.raw()[..50], b"", &too_long] {
        cache.keep(&kept);
        let path = files(folder.path()).remove(0);
        fs::write(&path, damaged).unwrap();
        assert_eq!(cache.manifest(kept.digest()), None);
        assert!(!path.exists());
    }
    cache.keep(&kept);
    let path = files(folder.path()).remove(0);
    let other = folder.path().join("other");
    fs::rename(&path, &other).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert_eq!(
        cache.manifest(kept.digest()),
        None,
        "a link is not followed"
    );
    assert!(other.exists() && !path.is_symlink());
    assert!(cache.notes().is_empty());
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ManifestFolder::new(folder.path()).max_bytes(64 * BLOCK);
    let all: Vec<Manifest> = (0..56).map(manifest).collect();
    for (manifest, age) in all.iter().zip((0..56).rev()) {
        cache.keep(manifest);
        used(&cache.path(manifest.digest()), 10_000 + age);
    }
    assert_eq!(files(folder.path()).len(), 56);
    // Read again, so it is not the oldest any more.
    assert!(cache.manifest(all[0].digest()).is_some());
    cache.keep(&manifest(56));
    cache.keep(&manifest(57));
    let left = files(folder.path());
    assert_eq!(left.len(), 49, "three quarters, and what was added since");
    let is_left = |manifest: &Manifest| left.contains(&cache.path(manifest.digest()));
    assert!(is_left(&all[0]));
    assert!(all[1..10].iter().all(|manifest| !is_left(manifest)));
    assert!(all[10..].iter().all(is_left));
}

#[test]
fn the_limit_holds_however_many_fill_the_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let max = 64 * 4 * BLOCK;
    let size = || {
        let sizes = files(folder.path()).into_iter();
        let sizes = sizes.filter_map(|path| Some(taken(fs::metadata(path).ok()?.len())));
        sizes.sum::<u64>()
    };
    let most = std::thread::scope(|scope| {
        let fill = |start: usize| {
            let cache = ManifestFolder::new(folder.path()).max_bytes(max);
            (start..start + 300)
                .map(|number| {
                    cache.keep(&manifest(number));
                    size()
                })
                .max()
        };
        let threads = (0..8).map(|process| scope.spawn(move || fill(process * 1000)));
        let threads: Vec<_> = threads.collect();
        let most = threads.into_iter().map(|thread| thread.join().unwrap());
        most.max().unwrap().unwrap()
    });
    assert!(most <= max, "{most} of {max}");
    assert!(size() > max / 2, "{} of {max}", size());
}

#[test]
fn readers_see_a_whole_manifest_or_none_while_others_write_and_delete() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("manifests");
    let all: Vec<Manifest> = (0..20).map(manifest).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let cache = ManifestFolder::new(&folder);
                for manifest in all.iter().cycle().take(400) {
                    cache.keep(manifest);
                    let found = cache.manifest(manifest.digest());
                    assert!(found.is_none_or(|found| found == *manifest));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                fs::remove_dir_all(&folder).ok();
                std::thread::yield_now();
            }
        });
    });
    let cache = ManifestFolder::new(&folder);
    cache.keep(&all[0]);
    assert_eq!(cache.manifest(all[0].digest()).as_ref(), Some(&all[0]));
}

#[test]
fn a_folder_that_cannot_be_written_is_no_cache_and_one_note() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let cache = ManifestFolder::new(file.join("manifests"));
    for number in 0..3 {
        cache.keep(&manifest(number));
        assert_eq!(cache.manifest(manifest(number).digest()), None);
    }
    let notes = cache.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("file/manifests") && notes[0].ends_with("manifests are not kept"));
    assert!(cache.notes().is_empty());
}

#[test]
fn leftovers_of_killed_runs_go_and_files_of_running_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let cache = ManifestFolder::new(folder.path());
    cache.keep(&manifest(1));
    let partial = |name: &str| {
        folder
            .path()
            .join("sha256")
            .join(format!("{PARTIAL}{name}"))
    };
    for name in ["old", "new"] {
        fs::write(partial(name), "half").unwrap();
    }
    used(&partial("old"), 2 * 60 * 60);
    ManifestFolder::new(folder.path()).keep(&manifest(2));
    let left: BTreeSet<PathBuf> = files(folder.path()).into_iter().collect();
    assert!(left.contains(&partial("new")) && !left.contains(&partial("old")));
    assert_eq!(left.len(), 3);
}
