use test_registry::Persona;

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_served_with_its_referrers_and_refuses_pushes() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("bundle import --file b.tgz").await.done();
    let served = site.serve("");
    assert!(
        served.line.contains(" read-only at http://"),
        "{}",
        served.line
    );
    let discover = format!("referrers discover {}/app:1.0 --format json", served.host);
    let found = site.stellaops(&discover).await.done().json();
    assert_eq!(found["capability"], "supported");
    site.stellaops(&format!(
        "bundle import --file b.tgz --to {}/new",
        served.host
    ))
    .await
    .failed(10, &["405"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writable_store_takes_pushes_into_a_new_folder_and_keeps_them() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("store serve --folder new --listen 127.0.0.1:0")
        .await
        .failed(8, &["new", "bundle import"]);
    let served = site.serve("--folder new --writable");
    assert!(
        served.line.contains(" writable at http://"),
        "{}",
        served.line
    );
    let import = format!("bundle import --file b.tgz --to {}/kept", served.host);
    let ran = site.stellaops(&import).await.done();
    assert!(ran.stdout.contains("8 of 8 referrers found"), "{ran:?}");
    drop(served);
    // At another port: the names of what was pushed do not hang on it.
    let served = site.serve("--folder new");
    let discover = format!(
        "referrers discover {}/kept/app:1.0 --platforms --format json",
        served.host
    );
    let found = site.stellaops(&discover).await.done().json();
    assert_eq!(found["referrers"].as_array().unwrap().len(), 8);
}
