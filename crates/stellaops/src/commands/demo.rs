mod content;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use mirror_export::{ExportRequest, FileOutput};
use mirror_import::{ImportOptions, LayoutTarget};
use oci_content::{Digest, ImageLayout, Reference, Registry, with_causes};
use registry_server::{LayoutStore, MemoryStore, RegistryServer, RunningServer, Store};
use tokio::net::TcpListener;

use crate::arguments::LegacyTagsArg;
use crate::commands::discover::{DiscoverArgs, DiscoverFormat, Found, discover};
use crate::commands::run::{Run, Running};
use crate::commands::{export, import, probe, validate};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::jobs;
use crate::render;

/// Run the whole workflow on an embedded registry: nothing to install, no network
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct DemoArgs {}

const EXAMPLES: &str = "stellaops demo";

impl Run for DemoArgs {
    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context))
    }
}

/// Runs the whole workflow on an embedded registry. Everything is kept in memory and in one temporary folder, which is
/// removed at the end.
async fn run(context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let folder = Folder::new()?;

    let store = Arc::new(MemoryStore::new());
    content::fill(&store)?;
    let source = serve(store).await?;
    let reference = reference(&source)?;
    step(
        1,
        &format!(
            "An embedded registry at {} holds an image and its referrers",
            source.addr()
        ),
    )?;

    step(2, "Probe: what can this registry do, and how do we know?")?;
    let report = registry_probe::Probe::new(context.client.clone())
        .probe(reference.registry(), Some(reference.repository()))
        .await;
    probe::print(std::slice::from_ref(&report))?;

    step(
        3,
        "Discover: everything that refers to the image, at every level",
    )?;
    let before = found(context, &reference).await?;

    step(4, "Export: the image and its referrers, in one file")?;
    let bundle = folder.0.join("bundle.tgz");
    let request = ExportRequest::new(vec![reference.clone()]);
    let output = FileOutput::new(&bundle);
    let exported =
        jobs::export::export(context, &request, &output, &context.progress.silent()).await;
    let summary = exported.map_err(|error| failure::of_export(&error))?;
    render::text(&export::table(&summary))?;
    source.shutdown().await;

    step(
        5,
        "Validate: is the bundle whole, and is the graph the one that it claims?",
    )?;
    let validator = validate::validator(true, true);
    let validation = validate::validate(&context.progress.silent(), &validator, &bundle);
    render::text(&validate::text(&validation.report))?;

    step(6, "Import: into a fresh store, on the other side")?;
    let target = folder.0.join("store");
    let arrived = import_into(context, &bundle, &target).await?;
    render::text(&import::text(&arrived))?;

    step(7, "Discover again, on the store: is it the same?")?;
    let layout = ImageLayout::open(&target)
        .map_err(|error| Failure::new(Exit::LocalIo, with_causes(&error)))?;
    let other_side = serve(Arc::new(LayoutStore::new(layout, None))).await?;
    let after = found(context, &moved(&reference, &other_side)?).await?;
    other_side.shutdown().await;

    compare(&before, &after)?;
    let seconds = started.elapsed().as_secs_f64();
    render::text(&format!(
        "Done in {seconds:.1} s. Nothing is left behind: {} is removed.",
        folder.0.display()
    ))
}

/// A temporary folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let made = tempfile::Builder::new().prefix("stellaops-demo-").tempdir();
        let failed = |error| Failure::new(Exit::LocalIo, format!("no temporary folder: {error}"));
        Ok(Self(made.map_err(failed)?.keep()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // After an interruption, a blob may still be written to the folder, which is then not empty.
        for _ in 0..10 {
            if std::fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn step(number: u32, title: &str) -> Result<(), Failure> {
    let blank = if number == 1 { "" } else { "\n" };
    render::text(&format!("{blank}── {number}. {title}"))
}

async fn serve(store: Arc<dyn Store>) -> Result<RunningServer, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::LocalIo, format!("no loopback port: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(failed)?;
    RegistryServer::builder(store)
        .read_only(true)
        .build()
        .serve(listener)
        .map_err(failed)
}

fn registry(server: &RunningServer) -> Result<Registry, Failure> {
    server
        .addr()
        .to_string()
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, format!("{error}")))
}

fn reference(server: &RunningServer) -> Result<Reference, Failure> {
    let text = format!(
        "{}/{}:{}",
        registry(server)?,
        content::REPOSITORY,
        content::TAG
    );
    text.parse()
        .map_err(|error| Failure::new(Exit::Usage, format!("{error}")))
}

fn moved(reference: &Reference, server: &RunningServer) -> Result<Reference, Failure> {
    let text = format!(
        "{}/{}:{}",
        registry(server)?,
        reference.repository(),
        content::TAG
    );
    text.parse()
        .map_err(|error| Failure::new(Exit::Usage, format!("{error}")))
}

async fn found(context: &Context, reference: &Reference) -> Result<Found, Failure> {
    let args = DiscoverArgs {
        reference: reference.clone().into(),
        artifact_type: Vec::new(),
        depth: None,
        platforms: true,
        explain: false,
        legacy_tags: LegacyTagsArg::All,
        timeout: None,
        format: DiscoverFormat::Tree,
    };
    let requests = context.requests();
    let found = discover(context, &args).await?;
    render::text(&found.tree(&args, context.requests() - requests))?;
    found.outcome(&args.reference)?;
    Ok(found)
}

async fn import_into(
    context: &Context,
    bundle: &Path,
    folder: &Path,
) -> Result<mirror_import::ImportReport, Failure> {
    let target = Arc::new(
        LayoutTarget::new(folder)
            .full_references(true)
            .with_gaps(context.gaps.clone()),
    );
    let progress = &context.progress.silent();
    let validated = validate::validated(progress, bundle, true)?;
    import::import(validated, target, ImportOptions::default(), progress).await
}

/// Compares the graph that arrived with the original.
fn compare(before: &Found, after: &Found) -> Result<(), Failure> {
    let edges = |found: &Found| -> BTreeSet<(Digest, Digest)> {
        let edges = found.graph.edges().into_iter();
        edges
            .map(|(subject, referrer)| (subject.clone(), referrer.clone()))
            .collect()
    };
    let (before, after) = (edges(before), edges(after));
    if before != after {
        let lost: Vec<_> = before
            .difference(&after)
            .map(|(_, referrer)| referrer.to_string())
            .collect();
        let message = format!("the two trees differ: {} did not arrive", lost.join(", "));
        return Err(Failure::new(Exit::Incomplete, message));
    }
    let count = before.len();
    render::text(&format!(
        "\nThe two trees are equal: {count} of {count} referrers arrived."
    ))
}
