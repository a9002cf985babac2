//! Runs one check after another, from the name of the host to the referrers of the image.

mod access;
mod certificate;
mod exchange;
mod finding;
mod folder;
mod image;
mod tls;
mod wire;

use std::num::{NonZeroU32, NonZeroU64};
use std::slice;
use std::time::{Duration, SystemTime};

use clap::Args;
use oci_content::{ImageSource, Reference, Registry, with_causes};
use registry_client::{Client, ClientOptions};
use registry_probe::Probe;
use serde_json::json;

use self::exchange::FirstAnswer;
use self::finding::Finding;
use self::image::Image;
use self::wire::Place;
use crate::arguments::TextFormat;
use crate::arguments::source::{FORM, registries, source};
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render;

/// Find out, step by step, why an image's referrers cannot be read or are not found
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct DiagnoseArgs {
    #[arg(help = format!("The image: {FORM}"), value_parser = source)]
    pub(crate) reference: ImageSource,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: NonZeroU64,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

/// Every check of a registry in order, named as in the list of checks that were not reached.
const CHECKS: [&str; 12] = [
    "name resolution",
    "connection",
    "TLS",
    "ping",
    "login",
    "rate limit",
    "proxy",
    "image",
    "referrers API",
    "referrers tag",
    "legacy tags",
    "referrers",
];

const EXAMPLES: &str = "\
    stellaops registry diagnose registry.example.com/team/app:1.0\n\
    stellaops registry diagnose oci:folder:1.0";

impl Run for DiagnoseArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        registries(slice::from_ref(&self.reference))
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &DiagnoseArgs) -> Result<(), Failure> {
    let (findings, checks) = match &args.reference {
        ImageSource::Registry(reference) => (check(context, args, reference).await?, &CHECKS[..]),
        ImageSource::Layout(reference) => (folder::check(reference).await, &folder::CHECKS[..]),
    };
    let missing = not_reached(&findings, checks);
    let failed = findings.iter().find_map(|finding| {
        let exit = finding.exit()?;
        Some((exit, finding))
    });
    match args.format {
        TextFormat::Json => render::json(&json!({
            "schemaVersion": 1,
            "reference": args.reference,
            "ok": failed.is_none(),
            "checks": findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "notReached": missing,
        }))?,
        TextFormat::Text => render::text(&text(args, &findings, &missing))?,
    }
    match failed {
        None => Ok(()),
        Some((exit, finding)) => {
            let message = format!("{}: {}", finding.check(), finding.seen());
            Err(Failure::new(exit, message))
        }
    }
}

fn text(args: &DiagnoseArgs, findings: &[Finding], missing: &[&str]) -> String {
    let mut text = format!("{}\n\n", args.reference);
    for finding in findings {
        text.push_str(&finding.text());
    }
    if !missing.is_empty() {
        let missing = format!("not reached: {}", missing.join(", "));
        text.push_str(&finding::wrapped("  -      ", 11, &missing));
    }
    text
}

/// Returns the checks that were not run because an earlier one failed.
fn not_reached(findings: &[Finding], checks: &[&'static str]) -> Vec<&'static str> {
    let last = findings
        .iter()
        .filter_map(|finding| checks.iter().position(|check| *check == finding.check()))
        .max();
    let rest = last.map_or(0, |last| last + 1);
    checks[rest..].to_vec()
}

async fn check(
    context: &Context,
    args: &DiagnoseArgs,
    reference: &Reference,
) -> Result<Vec<Finding>, Failure> {
    let timeout = Duration::from_secs(args.timeout.get());
    let mut options = context.options.clone();
    // A retry would hide what this is meant to show.
    options.retry.max_attempts = NonZeroU32::MIN;
    options.connect_timeout = timeout;
    options.response_timeout = timeout;
    let client = Client::new(options.clone())
        .map_err(|error| Failure::new(Exit::Usage, with_causes(&error)))?;
    let place = Place::new(reference.registry(), &options, timeout)
        .map_err(|message| Failure::new(Exit::Usage, message))?;

    let mut findings = Vec::new();
    let reached = reach(&place, &options, &mut findings);
    let Some(first) = context.waiting_for(reference.registry(), reached).await else {
        return Ok(findings);
    };
    findings.extend(access::clock(&first));
    let repository = client.repository(reference.registry(), reference.repository());
    match access::login(&client, &options, reference, &first, context.logins()).await {
        Ok(admitted) => findings.extend(admitted),
        Err(refused) => {
            findings.extend(refused);
            return Ok(findings);
        }
    }
    let report = Probe::new(client)
        // The discovery waits for this many answers in sequence; what is still missing then is not shown.
        .timeout(timeout * 3)
        .facts(reference.registry(), Some(reference.repository()))
        .await;
    findings.push(access::proxy(&report));
    let seconds = context.config.export.referrer_discovery.timeout_seconds;
    let image = Image {
        reference,
        repository,
        configured: context.configured_api(reference.registry()),
        timeout: Duration::from_secs(seconds.get()),
    };
    findings.extend(image.check().await);
    Ok(findings)
}

/// Checks everything from the name to the first answer; `None` if a check fails.
async fn reach(
    place: &Place,
    options: &ClientOptions,
    findings: &mut Vec<Finding>,
) -> Option<FirstAnswer> {
    let mut keep = |finding: Finding| findings.push(finding);
    let (addresses, step) = split(place.resolve().await);
    keep(step);
    let (address, step) = split(place.connect(&addresses?).await);
    keep(step);
    let address = address?;
    let (answer, step) = if place.speaks_tls {
        let (session, step) = split(tls::handshake(place, options, address).await);
        keep(step);
        split(access::ping(place, options, address, session?).await)
    } else {
        let seen = format!("not used: {} is contacted in plain HTTP", place.registry);
        keep(Finding::good("TLS", seen));
        match place.stream(address).await {
            Ok(stream) => split(access::ping(place, options, address, stream).await),
            Err(error) => {
                let seen = format!("the second connection failed: {error}");
                (None, Finding::failed("ping", Exit::Network, seen))
            }
        }
    };
    keep(step);
    answer
}

/// Separates the result of a step from its finding.
fn split<T>(step: Result<(T, Finding), Finding>) -> (Option<T>, Finding) {
    match step {
        Ok((brought, finding)) => (Some(brought), finding),
        Err(finding) => (None, finding),
    }
}

/// Returns when the first of the certificates that a registry shows ends; `None` if it speaks plain HTTP or cannot be
/// reached within `timeout`.
pub(crate) async fn certificate_end(
    registry: &Registry,
    options: &ClientOptions,
    timeout: Duration,
) -> Option<SystemTime> {
    let place = Place::new(registry, options, timeout).ok()?;
    if !place.speaks_tls {
        return None;
    }
    tls::certificate_end(&place, options).await
}
