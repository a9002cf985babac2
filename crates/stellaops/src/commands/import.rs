use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use import_validator::{FindingKind, ValidatedBundle};
use mirror_import::{
    ImportError, ImportObserver, ImportOptions, ImportReport, Importer, Ledger, LedgerReport,
    LedgerVerdict, Target,
};
use oci_content::{FileSystemGaps, Registry, write_file};

use crate::arguments::destination::MappingArgs;
use crate::arguments::policy::PolicyArgs;
use crate::arguments::signature::SignatureArgs;
use crate::arguments::{TextFormat, base, bundle_path, destination, policy, signature};
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::{Context, ledger as ledger_folder};
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::jobs::sending::Sending;
use crate::progress::Progress;
use crate::remedy;
use crate::render;

/// Put a bundle's images and referrers into a registry, a layout folder or the local store
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// REGISTRY[/PREFIX], or oci:FOLDER [default: the local store]
    #[arg(long, value_name = "DEST")]
    pub(crate) to: Option<String>,
    /// Treat incompleteness as an error
    #[arg(long)]
    pub(crate) strict_referrer_validation: bool,
    #[command(flatten)]
    pub(crate) signature: SignatureArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The bundle that this delta is based on; what the delta leaves out is compared with what the base lists, and
    /// also looked for in the base's repositories
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Move tags that point to something else at the target
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    #[command(flatten)]
    pub(crate) mapping: MappingArgs,
    /// Import even if a later bundle of the stream, or a different one with the same sequence, was imported before
    #[arg(long, requires = "key")]
    pub(crate) allow_rollback: bool,
    /// Refuse a bundle of another stream [default: the configuration's import.stream]
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<bundle_format::StreamName>,
    /// Refuse a bundle without a sequence, like import.require_sequence in the configuration
    #[arg(long)]
    pub(crate) require_sequence: bool,
    /// Read and hash what a registry already has, instead of comparing sizes
    #[arg(long)]
    pub(crate) verify_existing: bool,
    /// Validate and show what would be done, without doing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a record of what arrived to this file (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops bundle import --file bundle.tgz\n\
    stellaops bundle import --file bundle.tgz --to registry.inside.example/mirror --strict-referrer-validation\n\
    stellaops bundle import --file bundle.tgz --to oci:folder --receipt receipt.json";

impl Run for ImportArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(
            destination::registry(self.to.as_deref())
                .into_iter()
                .collect(),
        )
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &ImportArgs) -> Result<(), Failure> {
    let mut options = ImportOptions::default();
    options.overwrite_tags = args.overwrite_tags;
    options.dry_run = args.dry_run;
    options.mapping = args.mapping.mapping()?;
    options.allow_rollback = args.allow_rollback;
    options.verify_existing = args.verify_existing;
    let configured = &context.config.import;
    options.stream = args.stream.clone().or_else(|| configured.stream.clone());
    options.require_sequence = args.require_sequence || configured.require_sequence;
    let stream_is_given = options.stream.is_some();
    options.ledger = ledger(args)?.map(|ledger| ledger.with_gaps(context.gaps.clone()));
    let (target, registry) =
        destination::target(context, args.to.as_deref(), &mut options.mapping)?;
    let validator = validate::validator(true, args.strict_referrer_validation);
    let validator = signature::demand(validator, &args.signature)?;
    let validator = policy::demand(validator, &args.policy)?.refuse_unused_rules(true);
    let mapping = options.mapping.clone();
    // A folder keeps the source names.
    let mut validator = validator.targets(move |source| match &registry {
        Some(registry) => Some(format!("{registry}/{}", mapping.target(source).ok()?)),
        None => Some(source.to_string()),
    });
    if let Some(path) = &args.base {
        let base = base::open(path, "--base")?;
        for source in base.repositories() {
            let target = options.mapping.target(source);
            options
                .mount_from
                .push(target.map_err(|error| failure::of_import(&error))?);
        }
        validator = validator.base(base);
    }
    let bundle = validate::validated_by(&context.progress, &validator, &args.file)?;
    validate::warn(&context.log, &bundle);
    let result = send(bundle, target, options, &context.progress).await;
    let report = match &result {
        Ok(report) => Some(report),
        // An import that ended before its proof has nothing to prove.
        Err(error) => {
            let report = error.report();
            report.filter(|report| report.proved || !report.missing.is_empty())
        }
    };
    if let Some(report) = report {
        if let Some(nothing) = report.ledger.as_ref().and_then(unrecorded) {
            context.log.debug(nothing);
        }
        for warning in unprotected(report, stream_is_given) {
            context.log.warn(&warning);
        }
        if let Some(path) = &args.receipt {
            write_receipt(path, report, &context.gaps)?;
        }
        match args.format {
            TextFormat::Json => render::json(&json(report)?)?,
            TextFormat::Text => render::text(&text(report))?,
        }
    }
    result.map(drop).map_err(|error| failure::of_import(&error))
}

/// Imports a validated bundle.
pub(crate) async fn import(
    bundle: Arc<ValidatedBundle>,
    target: Arc<dyn Target>,
    options: ImportOptions,
    progress: &Progress,
) -> Result<ImportReport, Failure> {
    send(bundle, target, options, progress)
        .await
        .map_err(|error| failure::of_import(&error))
}

async fn send(
    bundle: Arc<ValidatedBundle>,
    target: Arc<dyn Target>,
    options: ImportOptions,
    progress: &Progress,
) -> Result<ImportReport, ImportError> {
    let observer = Arc::new(Sending::new(progress, "import"));
    let importer = Importer::new(
        target,
        options,
        Arc::clone(&observer) as Arc<dyn ImportObserver>,
    );
    let result = importer.import(bundle).await;
    observer.end();
    result
}

/// Finds the ledger. Only bundles verified with a key are recorded, so without a key a missing folder does not matter.
fn ledger(args: &ImportArgs) -> Result<Option<Ledger>, Failure> {
    match ledger_folder() {
        Some(folder) => Ok(Some(Ledger::new(folder))),
        None if args.signature.key.is_empty() => Ok(None),
        None => {
            let message =
                "there is no place for the ledger of imported bundles: set XDG_STATE_HOME or HOME";
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

pub(crate) fn json(report: &ImportReport) -> Result<serde_json::Value, Failure> {
    let mut report = report.clone();
    remedy::add_to(&mut report.warnings);
    serde_json::to_value(report)
        .map_err(|error| Failure::new(Exit::LocalIo, format!("the report: {error}")))
}

pub(crate) fn write_receipt(
    path: &Path,
    report: &ImportReport,
    gaps: &FileSystemGaps,
) -> Result<(), Failure> {
    let text = format!("{:#}\n", json(report)?);
    write_file(path, text.as_bytes(), gaps).map_err(|error| {
        Failure::new(
            Exit::LocalIo,
            format!("--receipt {}: {error}", path.display()),
        )
    })
}

/// Formats a report for people; the last sentence is the proof.
pub(crate) fn text(report: &ImportReport) -> String {
    let mut text = String::new();
    for image in &report.images {
        text.push_str(&format!("{}\n  -> {}\n", image.source, image.target));
    }
    text.push_str(&ledger_text(report).unwrap_or_default());
    let (blobs, manifests) = (&report.blobs, &report.manifests);
    let from_base = match &report.base {
        None => String::new(),
        Some(base) => format!(
            "base: {} of {} at the target, {} of them in another repository\n",
            render::count(base.blobs, "blob"),
            render::bytes(base.bytes),
            base.mounted,
        ),
    };
    if report.dry_run {
        let count = report.referrers_expected;
        text.push_str(&format!(
            "{from_base}dry run: nothing was sent; {count} referrers would be sent{}\n",
            unsettled(report)
        ));
        return text;
    }
    text.push_str(&format!(
        "blobs: {} sent, {} there already, {} mounted; manifests: {} sent, {} there already\n",
        blobs.sent, blobs.present, blobs.mounted, manifests.sent, manifests.present,
    ));
    text.push_str(&from_base);
    text.push_str(&format!(
        "{} checked on the target, all with the right size\n",
        render::count(report.blobs_checked, "blob")
    ));
    for lost in &report.missing {
        text.push_str(&format!(
            "missing: {} of {} in {}\n",
            lost.referrer, lost.subject, lost.repository
        ));
    }
    text.push_str(&format!(
        "{} of {} referrers found on the target{}\n",
        report.referrers_found,
        report.referrers_expected,
        unsettled(report)
    ));
    text
}

/// Describes what the export could not settle: a bundle that arrived whole need not contain everything.
fn unsettled(report: &ImportReport) -> String {
    const SHOWN: usize = 3;
    // Specific findings say more than general ones.
    let in_particular = |kind| {
        !matches!(
            kind,
            FindingKind::BundleIncomplete | FindingKind::DiscoveryIncomplete
        )
    };
    let mut all: Vec<_> = report.unsettled().collect();
    if all.is_empty() {
        return String::new();
    }
    if all.iter().any(|warning| in_particular(warning.kind)) {
        all.retain(|warning| in_particular(warning.kind));
    }
    let shown = all.iter().take(SHOWN).map(|warning| {
        let parts = [&warning.path, &warning.found].into_iter().flatten();
        let parts = parts.fold(String::new(), |text, part| format!("{text} {part}"));
        format!("{}{parts}", warning.kind)
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let lacking = if report.manifest.is_some() {
        "the bundle does not hold"
    } else {
        "were not found"
    };
    format!("; the source is incomplete, {shown}{more}: there may be referrers that {lacking}")
}

/// Formats the verdict of the ledger, if it has a record of the bundle's series.
fn ledger_text(report: &ImportReport) -> Option<String> {
    let ledger = report.ledger.as_ref()?;
    let (stream, sequence) = (&report.stream, report.sequence);
    let recorded = ledger.recorded_sequence.unwrap_or_default();
    let said = match ledger.verdict {
        LedgerVerdict::First => "the first from this key into this target".to_owned(),
        LedgerVerdict::Newer => format!("after {recorded}"),
        LedgerVerdict::Same => "the bundle that was imported before".to_owned(),
        LedgerVerdict::Rollback => {
            format!("older than {recorded}, and allowed; {recorded} stays the highest")
        }
        LedgerVerdict::Fork => {
            "not the bundle that was imported before, and allowed; that one stays recorded"
                .to_owned()
        }
        _ => return None,
    };
    let base = match ledger.base_recorded {
        Some(true) => "; its base is the bundle before",
        Some(false) => {
            "; its base is not the bundle before, so the target alone says whether it is there"
        }
        None => "",
    };
    Some(format!(
        "ledger: sequence {sequence} of stream {stream}, {said}{base}\n"
    ))
}

/// Warns about series of the target that this bundle was not compared with, so that it may be older than what is there.
fn unprotected(report: &ImportReport, stream_is_given: bool) -> Vec<String> {
    let ledger = report.ledger.as_ref();
    let others = ledger
        .map(|ledger| &*ledger.other_series)
        .unwrap_or_default();
    let (verdict, target) = (ledger.map(|ledger| ledger.verdict), &report.target);
    // With `--stream` the user has said which series this is.
    let others = others
        .iter()
        .filter(|_| verdict != Some(LedgerVerdict::First) || !stream_is_given);
    others
        .map(|known| {
            let (stream, sequence) = (&known.stream, known.sequence);
            let (what, refuse) = match verdict {
                Some(LedgerVerdict::Unverified) => ("no key was given to verify this bundle with".to_owned(), "--key"),
                Some(LedgerVerdict::Unnumbered) => ("this bundle has no sequence".to_owned(), "--require-sequence"),
                _ => (format!("this bundle is the first of stream {} from its key", report.stream), "--stream NAME"),
            };
            format!(
                "{target} has had sequence {sequence} of stream {stream}, and {what}, so it may be older than what is there; \
                 {refuse} refuses such a bundle"
            )
        })
        .collect()
}

/// Returns why nothing was recorded, if so.
fn unrecorded(ledger: &LedgerReport) -> Option<&'static str> {
    match ledger.verdict {
        LedgerVerdict::Unverified => Some("no ledger: no key was given to verify the bundle with"),
        LedgerVerdict::Unnumbered => Some("no ledger: the bundle has no sequence"),
        _ => None,
    }
}
