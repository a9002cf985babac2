use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use import_validator::{
    ImportValidator, Report, Severity, ValidatedBundle, Validation, ValidationObserver,
};
use oci_referrers::Violation;

use crate::arguments::policy::PolicyArgs;
use crate::arguments::signature::SignatureArgs;
use crate::arguments::{TextFormat, base, bundle_path, policy, signature};
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::log::{Log, escape};
use crate::progress::{Phase, Progress};
use crate::remedy;
use crate::render;

/// Prove that a bundle is whole, or say what is wrong
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// The bundle, or the folder of an extracted one; - is standard input
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// Also prove that the referrers form the graph that the bundle claims
    #[arg(long)]
    pub(crate) check_referrers: bool,
    /// Treat incompleteness as an error
    #[arg(long)]
    pub(crate) strict_referrer_validation: bool,
    #[command(flatten)]
    pub(crate) signature: SignatureArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The bundle that this delta is based on; what the delta leaves out is compared with what the base lists
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops bundle validate --file bundle.tgz --check-referrers\n\
    stellaops bundle validate --file bundle.tgz --strict-referrer-validation --key pub.pem\n\
    cat bundle.tgz | stellaops bundle validate --file -";

impl Run for ValidateArgs {
    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async { run(context, self) })
    }
}

fn run(context: &Context, args: &ValidateArgs) -> Result<(), Failure> {
    let strict = args.strict_referrer_validation;
    let validator = signature::demand(validator(args.check_referrers, strict), &args.signature)?;
    let validator = policy::demand(validator, &args.policy)?;
    let validator = with_base(validator, args.base.as_deref())?;
    let report = validate(&context.progress, &validator, &args.file).report;
    match args.format {
        TextFormat::Json => render::json(&report)?,
        TextFormat::Text => render::text(&text(&report))?,
    }
    outcome(&report)
}

pub(crate) fn validator(check_referrers: bool, strict: bool) -> ImportValidator {
    ImportValidator::new()
        .check_referrers(check_referrers)
        .strict(strict)
}

/// Compares what a delta leaves out with its base, if one is given.
fn with_base(validator: ImportValidator, base: Option<&Path>) -> Result<ImportValidator, Failure> {
    Ok(match base {
        Some(path) => validator.base(base::open(path, "--base")?),
        None => validator,
    })
}

/// Validates a file and shows progress.
pub(crate) fn validate(
    progress: &Progress,
    validator: &ImportValidator,
    file: &Path,
) -> Validation {
    let phase = progress.phase("validation", None);
    let validator = validator.clone().observer(Arc::new(Shown(phase)));
    let mut validation = validator.validate_path(file);
    remedy::add_to(&mut validation.report.findings);
    validation
}

#[derive(Debug)]
struct Shown(Phase);

impl ValidationObserver for Shown {
    fn started(&self, bytes: Option<u64>) {
        self.0.bytes_in_all(bytes);
    }

    fn read(&self, bytes: u64) {
        self.0.bytes(bytes);
    }
}

/// Validates a bundle before its import, including its graph, and prints what is wrong.
pub(crate) fn validated(
    progress: &Progress,
    file: &Path,
    strict: bool,
) -> Result<Arc<ValidatedBundle>, Failure> {
    validated_by(progress, &validator(true, strict), file)
}

/// Validates a bundle before its import and prints what is wrong.
pub(crate) fn validated_by(
    progress: &Progress,
    validator: &ImportValidator,
    file: &Path,
) -> Result<Arc<ValidatedBundle>, Failure> {
    let validation = validate(progress, validator, file);
    if !validation.report.ok {
        render::text(&text(&validation.report))?;
        outcome(&validation.report)?;
    }
    validation.bundle.map(Arc::new).ok_or_else(|| {
        let message = format!(
            "{}: a bundle to import must be a file or a folder, not a pipe",
            file.display()
        );
        Failure::new(Exit::Usage, message)
    })
}

/// Logs the warnings of a validation, for a command that goes on.
pub(crate) fn warn(log: &Log, bundle: &ValidatedBundle) {
    for warning in bundle.warnings() {
        let text = warning.to_string();
        log.warn(text.strip_prefix("warning: ").unwrap_or(&text));
    }
    if bundle.warnings_omitted() > 0 {
        log.warn(&format!(
            "and {} more of the same kinds",
            bundle.warnings_omitted()
        ));
    }
}

pub(crate) fn outcome(report: &Report) -> Result<(), Failure> {
    if report.ok {
        return Ok(());
    }
    let errors = usize::try_from(report.counts.errors).unwrap_or(usize::MAX);
    let first = report.first_error();
    let first = first
        .map(|finding| format!(" ({}): {}", finding.kind, finding.remedy))
        .unwrap_or_default();
    let message = format!(
        "{} is not valid, {}{first}",
        report.file,
        render::count(errors, "error")
    );
    Err(Failure::with_code(report.exit_code(), message))
}

/// Formats a report for people.
pub(crate) fn text(report: &Report) -> String {
    // The remedy of the first error is in the final message of the command.
    let told = report.first_error().map(|first| &*first.remedy);
    let mut text = findings(report, told);
    if let Some(key) = &report.signed_by {
        text.push_str(&format!("signed by the key {key}\n"));
    }
    let counts = &report.counts;
    let left_out = match counts.blobs_in_base {
        0 => String::new(),
        blobs => format!(
            ", without {} of {} that its base holds",
            render::count(blobs, "blob"),
            render::bytes(counts.blob_bytes_in_base)
        ),
    };
    let verdict = if report.ok { "valid" } else { "not valid" };
    text.push_str(&format!(
        "{}: {verdict}; {}, {}{left_out}, {}, {} of {}, {}, {}\n",
        report.file,
        render::count(counts.entries, "file"),
        render::bytes(counts.bytes),
        render::count(counts.images, "image"),
        render::count(counts.referrers, "referrer"),
        render::count(counts.subjects, "subject"),
        render::count(counts.errors, "error"),
        render::count(counts.warnings, "warning"),
    ));
    text
}

/// Prints what a policy does not allow, in the form of a validation; `what` was not written or sent.
pub(crate) fn print_violations(
    what: &str,
    violations: &[Violation],
    as_json: bool,
) -> Result<(), Failure> {
    let mut report = Report::of_policy(what, violations);
    remedy::add_to(&mut report.findings);
    if as_json {
        render::json(&report)
    } else {
        render::text(&findings(&report, None))
    }
}

/// Formats findings with their remedies. Each remedy is given once, and `told` not at all, since it is printed elsewhere.
pub(crate) fn findings(report: &Report, told: Option<&str>) -> String {
    let mut told: HashSet<&str> = told.into_iter().collect();
    let mut text = String::new();
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            _ => "warning",
        };
        let path = finding
            .path
            .as_deref()
            .map(|path| format!(" {}", escape(path)))
            .unwrap_or_default();
        text.push_str(&format!("{severity} {}{path}\n", finding.kind));
        for (name, value) in [("expected", &finding.expected), ("found", &finding.found)] {
            if let Some(value) = value {
                text.push_str(&format!("  {name:8}  {}\n", escape(value)));
            }
        }
        if told.insert(&*finding.remedy) {
            text.push_str(&format!("  to do     {}\n", finding.remedy));
        }
    }
    if report.counts.omitted > 0 {
        text.push_str(&format!(
            "and {} more of the same kinds\n",
            report.counts.omitted
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn nobody_else_writes_a_line_of_the_findings() {
        let mut report = validator(false, false).validate("b.tgz", Cursor::new(b"no bundle"));
        let forged = "x\n[WARN] No referrers found for image y\u{9b}";
        report.findings[0].path = Some(forged.to_owned());
        report.findings[0].found = Some(forged.to_owned());
        let text = findings(&report, None);
        assert!(text.matches("x\\u{a}[WARN] No").count() == 2, "{text}");
        assert!(!text.lines().any(|line| line.starts_with('[')), "{text}");
        assert!(!text.contains('\u{9b}'), "{text}");
    }
}
