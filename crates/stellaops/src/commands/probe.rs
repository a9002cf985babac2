use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use oci_content::{Capability, ErrorCode, ReferenceError, Registry, RepositoryName};
use registry_probe::{Evidence, Fact, FactName, Probe, ProbeDocument, ProbeReport};

use crate::announce;
use crate::arguments::{self, TableFormat};
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{self, Table};

/// Find out whether registries have the referrers API, and show how we know
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// Registries to ask; the answer is certain only with a repository
    #[arg(required = true, value_name = "REGISTRY[/REPOSITORY]")]
    pub(crate) registries: Vec<ProbeTarget>,
    /// Also find out about paging, filters, proxies and rate limits
    #[arg(long)]
    pub(crate) all: bool,
    /// Seconds for each registry
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub(crate) timeout: NonZeroU64,
    /// Ignore answers from the last 6 hours, and keep none
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Output format
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

#[derive(Clone, Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) registry: Registry,
    pub(crate) repository: Option<RepositoryName>,
}

impl std::str::FromStr for ProbeTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            // The error about the part before the first slash would say less.
            arguments::reference(text)?;
        }
        let (registry, repository) = match text.split_once('/') {
            Some((registry, repository)) => (registry, Some(repository.parse())),
            None => (text, None),
        };
        let said = |error: ReferenceError| error.to_string();
        Ok(Self {
            registry: registry.parse().map_err(said)?,
            repository: repository.transpose().map_err(said)?,
        })
    }
}

const EXAMPLES: &str = "\
    stellaops registry probe ghcr.io quay.io/team/app\n\
    stellaops registry probe registry.example.com/team/app --all --format json";

impl Run for ProbeArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        let targets = self.registries.iter();
        Some(targets.map(|target| target.registry.clone()).collect())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &ProbeArgs) -> Result<(), Failure> {
    let cache = (!args.no_cache).then(|| Arc::new(context.probe_cache()));
    let timeout = Duration::from_secs(args.timeout.get());
    let mut probe = Probe::new(context.client.clone()).timeout(timeout);
    if let Some(cache) = &cache {
        probe = probe.cached(Arc::clone(cache), context.options.credentials.clone());
    }
    let probe = &probe;
    let probes = args.registries.iter().map(|target| async move {
        if args.all {
            probe
                .facts(&target.registry, target.repository.as_ref())
                .await
        } else {
            probe
                .probe(&target.registry, target.repository.as_ref())
                .await
        }
    });
    let of = ("host", args.registries.len() as u64);
    let phase = context.progress.phase("probe", Some(of));
    let told = &phase;
    let reports = join_all(probes.map(|probe| async move {
        let report = probe.await;
        told.one_done();
        report
    }));
    let reports = reports.await;
    drop(phase);
    for note in cache.iter().flat_map(|cache| cache.notes()) {
        context.log.warn(&note);
    }
    for report in &reports {
        announce::probed(context, report);
    }
    match args.format {
        TableFormat::Json => render::json(&ProbeDocument::new(reports.clone()))?,
        TableFormat::Table => print(&reports)?,
    }
    let failed: Vec<_> = reports
        .iter()
        .filter_map(|report| report.failure.as_ref())
        .collect();
    let Some(first) = failed.first() else {
        return Ok(());
    };
    let exit = match first.code {
        ErrorCode::Denied => Exit::Access,
        ErrorCode::Limit => Exit::Incomplete,
        _ => Exit::Network,
    };
    let message = format!(
        "{} of {} registries could not be probed",
        failed.len(),
        reports.len()
    );
    Err(Failure::new(exit, message))
}

pub(crate) fn print(reports: &[ProbeReport]) -> Result<(), Failure> {
    let header = [
        "REGISTRY",
        "REPOSITORY",
        "REFERRERS API",
        "VERSION",
        "MS",
        "ASKED",
    ];
    let mut table = Table::new(header);
    for report in reports {
        table.row([
            report.registry.to_string(),
            report
                .repository
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
            report.capability.to_string(),
            report.version.clone(),
            report.elapsed.as_millis().to_string(),
            report
                .cached
                .map_or("now".to_owned(), |hit| ago(hit.age_seconds)),
        ]);
    }
    let mut text = table.to_string();
    for report in reports.iter().filter(|report| !report.facts.is_empty()) {
        text.push_str(&format!("\nWhat {} can do:\n", report.registry));
        let mut table = Table::new(["  FACT", "FOUND", "BECAUSE"]);
        for fact in &report.facts {
            let found = if fact.asked { words(fact) } else { "-" };
            table.row([
                format!("  {}", fact.name),
                found.to_owned(),
                fact.reason.clone(),
            ]);
        }
        text.push_str(&table.to_string());
    }
    text.push_str("\nHow we know:\n");
    for (evidence, reasons) in reports.iter().flat_map(answers) {
        text.push_str(&format!("  {}\n", crate::log::escape(&evidence.request)));
        let status = evidence
            .status
            .map_or("no answer".to_owned(), |status| status.to_string());
        for reason in reasons.into_iter().map(crate::log::escape) {
            if reason.starts_with(&status) {
                text.push_str(&format!("    {reason}\n"))
            } else {
                text.push_str(&format!("    {status}: {reason}\n"))
            }
        }
        for (name, value) in &evidence.headers {
            text.push_str(&format!("    {name}: {}\n", render::foreign(value)));
        }
    }
    render::text(&text)
}

/// Returns a word for a fact: a registry does not "support" a proxy, for example.
fn words(fact: &Fact) -> &'static str {
    let seen = matches!(
        fact.name,
        FactName::Proxy | FactName::RateLimit | FactName::VersionHeader
    );
    match (fact.capability, seen) {
        (Capability::Supported, true) => "seen",
        (Capability::Supported, false) => "yes",
        (Capability::Unsupported, true) => "none",
        (Capability::Unsupported, false) => "no",
        _ => "unknown",
    }
}

/// Returns the answers behind a report and its facts, each once with all its reasons.
fn answers(report: &ProbeReport) -> Vec<(&Evidence, Vec<&str>)> {
    let of_facts = report.facts.iter().flat_map(|fact| &fact.evidence);
    let mut answers: Vec<(&Evidence, Vec<&str>)> = Vec::new();
    for evidence in report.evidence.iter().chain(of_facts) {
        let same = |other: &Evidence| {
            (&other.request, other.status, &other.headers)
                == (&evidence.request, evidence.status, &evidence.headers)
        };
        let reason = evidence.reason.as_str();
        match answers.iter_mut().find(|(other, _)| same(other)) {
            Some((_, reasons)) if reasons.contains(&reason) => {}
            Some((_, reasons)) => reasons.push(reason),
            None => answers.push((evidence, vec![reason])),
        }
    }
    answers
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}
