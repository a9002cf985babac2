//! How far a command is, where nobody sees a terminal.

use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::Site;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_line_every_10_s_says_how_far_it_is() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    registry.image_with_layers("app", "1.0", [vec![7; 60_000]]);
    let layer = oci_content::Digest::of(&[7; 60_000]);
    let slow = Fault::slow(5_000).forever();
    registry.fault(Route::blobs().reference(layer), slow);
    let site = Site::new();
    let line = |name: &str| format!("bundle export {}/app:1.0 -o {name}", registry.host());
    let [shown, hidden] = [line("a.tgz"), line("b.tgz --no-progress")];
    let (shown, hidden) = tokio::join!(site.stellaops(&shown), site.stellaops(&hidden));
    let shown = shown.done().stderr;
    let said: Vec<_> = shown
        .lines()
        .filter(|line| line.starts_with("[INFO] download: "))
        .collect();
    assert_eq!(said.len(), 1, "{shown}");
    for part in [
        " of 58.7 KiB, ",
        " s left, ",
        "1 of 2 blobs, ",
        " KiB/s, ",
        " %",
    ] {
        assert!(said[0].contains(part), "{part:?} is not in {}", said[0]);
    }
    let hidden = hidden.done().stderr;
    assert!(!hidden.contains("download: "), "{hidden}");
    assert!(!(shown + &hidden).contains(['\r', '\x1b']));
}
