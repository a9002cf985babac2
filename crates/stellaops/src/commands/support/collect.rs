use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use jiff::Timestamp;
use mirror_plan::ImageRule;
use oci_content::{ImageSource, Reference, Registry, RepositoryName};
use registry_probe::{Probe, ProbeDocument, ProbeReport};
use serde_json::json;

use super::archive::Archive;
use super::names::Names;
use super::secrets::Secrets;
use super::trace::Trace;
use super::{configuration, kind, log_window, platform, service};
use crate::announce;
use crate::arguments::{self, LegacyTagsArg};
use crate::commands::discover::{DiscoverArgs, DiscoverFormat, discover};
use crate::commands::run::{ConfigUse, Run, Running};
use crate::commands::version;
use crate::config::CenterConfig;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render;

/// Collect what a maintainer needs to know of this installation into one file, without secrets
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct CollectArgs {
    /// The file to write (.tgz), which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// How far back the log goes: a time, or a duration such as 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since)]
    pub(crate) since: Timestamp,
    /// Also discover what refers to this image, with every request and answer
    #[arg(long, value_name = "REFERENCE", value_parser = arguments::reference)]
    pub(crate) reference: Option<Reference>,
    /// Replace the names of hosts, repositories and users; the same name by the same word
    #[arg(long)]
    pub(crate) redact_names: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

const EXAMPLES: &str = "\
    stellaops support collect --config /etc/stellaops/export-center.yaml --output support.tgz\n\
    stellaops support collect --output support.tgz --reference registry.example.com/team/app:1.0 --redact-names --yes";

/// The time for each registry that is probed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

impl Run for CollectArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        let reference = self.reference.iter();
        Some(
            reference
                .map(|reference| reference.registry().clone())
                .collect(),
        )
    }

    fn config_use(&self) -> ConfigUse {
        ConfigUse::IfRight
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

/// Reads a time, or how long ago it was.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "write a time such as 2026-11-30T02:00:00Z, or a duration such as 24h")?;
    Timestamp::now()
        .checked_sub(ago)
        .map_err(|_| "that is too long ago".to_owned())
}

async fn run(context: &Context, args: &CollectArgs) -> Result<(), Failure> {
    let output = args.output.display();
    if args.output.symlink_metadata().is_ok() {
        let message = format!("--output {output}: it exists, and is not replaced");
        return Err(Failure::new(Exit::Usage, message));
    }
    let registries = registries(context, args);
    let contents = contents(context, args, &registries);
    confirm(args, &contents)?;

    let mut archive = Archive::default();
    archive.add("README.txt", read_me(args, &contents));
    archive.add("version.json", document(&version::document()));
    archive.add("platform.txt", platform::describe());
    if let Some(path) = &context.config_file {
        let (text, findings) = configuration::describe(path);
        archive.add("config.yaml", text);
        archive.add("config-check.txt", findings);
    }
    let center = &context.config.center;
    let log = log_window::since(&center.log_file, args.since);
    archive.add(
        "log.txt",
        log.unwrap_or_else(|error| format!("{}: {error}\n", center.log_file.display())),
    );
    add_answers(&mut archive, center).await;
    let reports = probed(context, &registries).await;
    let kinds: Vec<_> = reports
        .iter()
        .map(|report| {
            let (kind, because) = kind::of(report);
            json!({
                "registry": report.registry, "type": kind, "because": because, "version": report.version,
                "referrersApi": report.capability,
            })
        })
        .collect();
    archive.add(
        "registries.json",
        document(&json!({ "schemaVersion": 1, "registries": kinds })),
    );
    let probes = serde_json::to_value(ProbeDocument::new(reports)).unwrap_or_default();
    archive.add("probes.json", document(&probes));
    if let Some(reference) = &args.reference {
        add_discovery(&mut archive, context, reference).await?;
    }
    archive.add("metrics-of-collect.txt", context.metrics.render());

    let secrets = Secrets::of(&context.config, context.login_files());
    let mut names = args
        .redact_names
        .then(|| Names::new(&context.config, args.reference.as_ref()));
    if let Some(names) = &mut names {
        secrets.users().iter().for_each(|user| names.user(user));
    }
    archive.redact(&secrets, names.as_mut());
    archive
        .write(&args.output)
        .map_err(|error| Failure::new(Exit::LocalIo, format!("--output {output}: {error}")))?;
    let mut text = format!("{output}:\n");
    for (name, size) in archive.list() {
        text.push_str(&format!("  {name} ({})\n", render::bytes(size as u64)));
    }
    text.push_str("Look at it before you send it: the log and the answers of registries may say more than is known to be secret.");
    render::text(&text)
}

/// Returns the registries of the configuration and of the reference, each with a repository if one is known.
fn registries(context: &Context, args: &CollectArgs) -> Vec<(Registry, Option<RepositoryName>)> {
    let mut registries: Vec<_> = context
        .config
        .registries()
        .into_iter()
        .map(|registry| (registry, None))
        .collect();
    let jobs = context.config.jobs.values().flat_map(|job| &job.images);
    for image in context.config.export.images.iter().chain(jobs) {
        let known = registries
            .iter_mut()
            .find(|(registry, _)| registry == image.rule.registry());
        if let Some((_, repository @ None)) = known {
            *repository = match &image.rule {
                ImageRule::Image(image) => Some(image.repository().clone()),
                ImageRule::Repository(image, _) => Some(image.name().clone()),
                _ => None,
            };
        }
    }
    if let Some(reference) = &args.reference {
        registries.retain(|(registry, _)| registry != reference.registry());
        registries.push((
            reference.registry().clone(),
            Some(reference.repository().clone()),
        ));
    }
    registries
}

/// Says what will be collected, one line for each file.
fn contents(
    context: &Context,
    args: &CollectArgs,
    registries: &[(Registry, Option<RepositoryName>)],
) -> Vec<String> {
    let center = &context.config.center;
    let mut contents = vec![
        "version.json: version, commit and features of this program".to_owned(),
        "platform.txt: system, distribution, cores, memory, time, variables that change what the program does".to_owned(),
    ];
    if let Some(path) = &context.config_file {
        let path = path.display();
        contents.push(format!(
            "config.yaml, config-check.txt: {path} without secrets, and what is wrong with it"
        ));
    }
    contents.push(format!(
        "log.txt: {} since {}",
        center.log_file.display(),
        args.since
    ));
    contents.push(format!(
        "metrics.txt, ready.json, runs.json: what the service at {} says, if it runs",
        center.listen
    ));
    let names: Vec<_> = registries
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    contents.push(format!(
        "registries.json, probes.json: what these registries are and can do, which are asked now: {names}"
    ));
    if let Some(reference) = &args.reference {
        contents.push(format!(
            "discovery.json, trace.jsonl: what refers to {reference}, which is asked now, with each request and the headers of its answer"
        ));
    }
    contents.push("metrics-of-collect.txt: the metrics of this command".to_owned());
    contents
}

/// Shows what will be collected, and asks.
fn confirm(args: &CollectArgs, contents: &[String]) -> Result<(), Failure> {
    let names = if args.redact_names {
        "Names of hosts, repositories and users are replaced."
    } else {
        "Names of hosts, repositories and users are kept; --redact-names replaces them."
    };
    let list: String = contents.iter().map(|line| format!("  {line}\n")).collect();
    let output = args.output.display();
    let text = format!(
        "{output} will contain:\n{list}Secrets are replaced by ***. {names} Nothing is sent to anybody."
    );
    render::text(&text)?;
    if args.yes {
        return Ok(());
    }
    let refused = |reason: &str| {
        Err(Failure::new(
            Exit::Usage,
            format!("{reason}: nothing is written"),
        ))
    };
    if !io::stdin().is_terminal() {
        return refused("there is nobody to ask; --yes says that it is all right");
    }
    eprint_question("Collect this? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => refused("it was not confirmed"),
    }
}

/// A terminal that cannot be written to cannot be asked either.
fn eprint_question(question: &str) {
    let mut terminal = io::stderr().lock();
    terminal.write_all(question.as_bytes()).ok();
    terminal.flush().ok();
}

fn read_me(args: &CollectArgs, contents: &[String]) -> String {
    let list: String = contents.iter().map(|line| format!("- {line}\n")).collect();
    format!(
        "Collected by `stellaops support collect` at {}, log since {}.\nSecrets are replaced by ***.{}\n\n{list}",
        Timestamp::now(),
        args.since,
        if args.redact_names {
            " Names of hosts, repositories and users are replaced, the same one by the same word."
        } else {
            ""
        }
    )
}

fn document(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Adds what the running service says.
async fn add_answers(archive: &mut Archive, center: &CenterConfig) {
    for (name, path) in [
        ("metrics.txt", "/metrics"),
        ("ready.json", "/readyz"),
        ("runs.json", "/v1/exports/runs?limit=50"),
    ] {
        let answer = service::ask(center, path).await;
        archive.add(
            name,
            answer.unwrap_or_else(|reason| format!("not collected: {reason}\n")),
        );
    }
}

/// Asks every registry anew what it can do.
async fn probed(
    context: &Context,
    registries: &[(Registry, Option<RepositoryName>)],
) -> Vec<ProbeReport> {
    let probe = &Probe::new(context.client.clone()).timeout(PROBE_TIMEOUT);
    let of = ("host", registries.len() as u64);
    let _phase = context.progress.phase("probe", Some(of));
    let reports = registries
        .iter()
        .map(|(registry, repository)| probe.facts(registry, repository.as_ref()));
    let reports = join_all(reports).await;
    for report in &reports {
        announce::probed(context, report);
    }
    reports
}

async fn add_discovery(
    archive: &mut Archive,
    context: &Context,
    reference: &Reference,
) -> Result<(), Failure> {
    let trace = OnceLock::new();
    let traced =
        context.observed_by(|inner| Arc::clone(trace.get_or_init(|| Arc::new(Trace::new(inner)))));
    let args = DiscoverArgs {
        reference: ImageSource::from(reference.clone()),
        artifact_type: Vec::new(),
        depth: None,
        platforms: true,
        explain: true,
        legacy_tags: LegacyTagsArg::All,
        timeout: None,
        format: DiscoverFormat::Json,
    };
    let requests = context.requests();
    let found = discover(&traced, &args).await?;
    let found = found.document(&args, context.requests() - requests);
    let found = serde_json::to_value(found).unwrap_or_default();
    archive.add("discovery.json", document(&found));
    archive.add(
        "trace.jsonl",
        trace.get().map_or(String::new(), |trace| trace.lines()),
    );
    Ok(())
}
