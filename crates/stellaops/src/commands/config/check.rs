use std::convert::Infallible;
use std::path::Path;

use clap::Args;
use jiff::{Timestamp, ZonedDateTime};
use mirror_plan::JobName;
use serde_json::json;

use crate::arguments::TextFormat;
use crate::center::schedule::Schedule;
use crate::commands::run::{ConfigUse, Run, Running};
use crate::config::{Config, Finding, JobConfig, JobTarget, Places, Severity, findings};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::log::LogLevel;
use crate::render;
use crate::yaml_error;

/// Check a configuration: its keys and values, the files and keys that it names, its schedules
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops config check --config /etc/stellaops/export-center.yaml";

impl Run for CheckArgs {
    fn config_use(&self) -> ConfigUse {
        ConfigUse::Own
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async { run(context, self) })
    }
}

fn run(context: &Context, args: &CheckArgs) -> Result<(), Failure> {
    let file = context.config_file.clone().unwrap_or_default();
    let text = Config::text(&file)?;
    let name = Config::name(&file);
    let config = match Config::parse(&text, &name) {
        Ok(config) => config,
        Err(failure) => {
            if args.format == TextFormat::Json {
                render::json(&json!({
                    "schemaVersion": 1, "file": file, "ok": false, "jobs": [],
                    "findings": [{
                        "severity": "error", "key": null, "message": failure.to_string(), "quote": failure.quote(),
                    }],
                }))?;
            }
            return Err(failure);
        }
    };
    let places = Places::of(&text);
    let findings: Vec<_> = findings(&config)
        .into_iter()
        .map(|finding| {
            let place = places.of_path(&finding.path);
            let shown = failure(&name, &text, place, &finding);
            (finding, place, shown)
        })
        .collect();
    let errors = findings
        .iter()
        .filter(|(finding, ..)| finding.severity == Severity::Error)
        .count();
    match args.format {
        TextFormat::Json => render::json(&json!({
            "schemaVersion": 1,
            "file": file,
            "ok": errors == 0,
            "findings": findings.iter().map(|(finding, place, shown)| json!({
                "severity": severity(finding),
                "key": finding.path.join("."),
                "line": place.map(|(line, _)| line),
                "column": place.map(|(_, column)| column),
                "message": finding.message,
                "quote": shown.quote(),
            })).collect::<Vec<_>>(),
            "jobs": config.jobs.iter().map(|(name, job)| json!({
                "name": name.as_str(),
                "kind": kind(&job.to),
                "next": next(name, job).map(|time| time.to_string()),
            })).collect::<Vec<_>>(),
        }))?,
        TextFormat::Text => {
            for (finding, _, shown) in &findings {
                let level = match finding.severity {
                    Severity::Error => LogLevel::Error,
                    Severity::Warning => LogLevel::Warn,
                };
                context.log.quoted(level, shown);
            }
            if errors == 0 {
                render::text(&summary(&file, &config))?;
            }
        }
    }
    if errors == 0 {
        return Ok(());
    }
    let message = format!("{name}: {}", render::count(errors, "error"));
    Err(Failure::new(Exit::Usage, message))
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Describes a finding as the parser describes an error.
fn failure(name: &str, text: &str, place: Option<(u64, u64)>, finding: &Finding) -> Failure {
    let at = place.map(|(line, column)| format!("line {line} column {column}: "));
    let reason = format!("{}{finding}", at.unwrap_or_default());
    yaml_error::failure(name, text, place, &reason)
}

fn kind(to: &JobTarget) -> &'static str {
    match to {
        JobTarget::Bundle(_) => "bundle",
        JobTarget::Mirror(_) => "mirror",
    }
}

/// Returns when a job runs next, without its jitter.
fn next(name: &JobName, job: &JobConfig) -> Option<ZonedDateTime> {
    let config = job.schedule.as_ref()?;
    let schedule = Schedule::new(config, name.as_str(), "run");
    let is_used = |_| Ok::<_, Infallible>(false);
    let Ok(next) = schedule.next(Timestamp::now(), is_used);
    Some(next?.at.to_zoned_datetime(config.zone()))
}

fn summary(file: &Path, config: &Config) -> String {
    let registries = match config.registries().len() {
        1 => "1 registry".to_owned(),
        more => format!("{more} registries"),
    };
    let jobs = render::count(config.jobs.len(), "job");
    let mut text = format!("{}: no errors; {registries}, {jobs}\n", file.display());
    let mut table = render::Table::new(["JOB", "KIND", "NEXT RUN"]);
    for (name, job) in &config.jobs {
        let next = next(name, job).map_or("on demand".to_owned(), |next| next.to_string());
        table.row([name.to_string(), kind(&job.to).to_owned(), next]);
    }
    if !config.jobs.is_empty() {
        text.push_str(&table.to_string());
    }
    text
}
