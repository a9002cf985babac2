//! `mirror convert`: where its output goes, and how it ends.

use crate::run::Site;

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_the_only_thing_on_stdout_and_what_it_lacks_is_on_stderr() {
    let site = Site::new();
    let file = "version: 1\ndefaults: {parallel: 2}\nsync:\n- {source: alpine, target: inside.test/hub/alpine, type: \
                repository}\n";
    std::fs::write(site.path("regsync.yml"), file).unwrap();
    let ran = site
        .stellaops("mirror convert --from regsync regsync.yml")
        .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("\njobs:\n  inside-test:\n"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("[WARN]"), "{}", ran.stdout);
    assert!(
        ran.stderr
            .contains("[WARN] regsync.yml:2: parallel of defaults: "),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_left_out_are_named_and_the_exit_code_is_11() {
    let site = Site::new();
    let file = "registry.test:\n  images: {app: [v1], Web: [v1]}\n";
    std::fs::write(site.path("sync.yml"), file).unwrap();
    let ran = site
        .stellaops("mirror convert --from skopeo sync.yml --to inside.test/mirror")
        .await;
    assert_eq!(ran.code, 11, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("- reference: registry.test/app:v1\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr
            .contains("[WARN] sync.yml:2: images: registry.test/Web was not converted"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("[ERROR] sync.yml: 1 part"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_ends_with_2_and_prints_nothing_else() {
    let site = Site::new();
    std::fs::write(site.path("twice.yml"), "sync: []\nsync: []\n").unwrap();
    std::fs::write(site.path("secret.yml"), "creds:\n- pass: [hunter2\n").unwrap();
    std::fs::write(site.path("binary.yml"), [0xff, 0xfe, 0]).unwrap();
    for (words, part) in [
        ("--from regsync twice.yml", "\"sync\" is there twice"),
        ("--from regsync secret.yml", "secret.yml: "),
        ("--from regsync binary.yml", "it is not UTF-8 text"),
        ("--from regsync absent.yml", "absent.yml"),
        (
            "--from regsync twice.yml --to inside.test",
            "names its targets itself",
        ),
        ("--from skopeo twice.yml --to https://inside.test", "--to"),
        ("--from dregsy twice.yml", "dregsy"),
    ] {
        let ran = site.stellaops(&format!("mirror convert {words}")).await;
        assert_eq!(ran.code, 2, "{words}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{words}: {}", ran.stdout);
        assert!(ran.stderr.contains(part), "{words}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{words}: {}", ran.stderr);
    }
}
