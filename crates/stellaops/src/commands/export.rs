use std::path::PathBuf;

use clap::Args;
use mirror_export::{ExportDocument, ExportErrorKind, ExportRequest, ExportSummary, FileOutput};
use mirror_plan::Selector;
use oci_content::{ArtifactCategory, Completeness, ImageSource, Platform, Registry};

use crate::arguments::policy::PolicyArgs;
use crate::arguments::source::{FORM, registries, source};
use crate::arguments::{LegacyTagsArg, TableFormat, base, output, policy, signature};
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::jobs::export::export;
use crate::planning;
use crate::render::{self, Table};
use crate::selection;

/// Write images and everything that refers to them into one bundle
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ExportArgs {
    #[arg(
        value_name = "REFERENCE",
        help = format!("The images: {FORM} (without tag and digest: all of the folder); or those of the configuration"),
        value_parser = source
    )]
    pub(crate) references: Vec<ImageSource>,
    /// The bundle to write: NAME.tgz, or NAME.tar for the same archive without gzip
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Split it into volumes FILE.001, FILE.002, ... of this size: bytes, 650MB, 4GiB (at least 64KiB), or fat32, dvd, bd
    #[arg(long, value_name = "SIZE")]
    pub(crate) volume_size: Option<bundle_format::VolumeSize>,
    /// Replace the bundle if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Platforms of an index to carry [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    pub(crate) platform: Vec<Platform>,
    /// Write the bundle even if it is incomplete; it says so itself, and the exit code is 11
    #[arg(long)]
    pub(crate) allow_incomplete: bool,
    /// Fail unless every image has a referrer of this artifact type
    #[arg(long, value_name = "TYPE")]
    pub(crate) require_artifact_type: Vec<String>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Also list each subject's referrers under a referrers tag in index.json, for regctl
    #[arg(long)]
    pub(crate) layout_tags: bool,
    /// Leave out what this earlier bundle holds, which the target must have (a bundle, the folder of an extracted one,
    /// or its manifest.yaml)
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Series of bundles that this one belongs to
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<bundle_format::StreamName>,
    /// Position in the series; 0 means none
    #[arg(long, value_name = "N")]
    pub(crate) sequence: Option<u64>,
    /// Sign the bundle with this key: a file, or env:VAR for the variable that holds it (PKCS#8 PEM, ECDSA P-256)
    #[arg(long, value_name = "FILE|env:VAR")]
    pub(crate) sign_key: Option<String>,
    /// Legacy tags to look for
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) legacy_tags: LegacyTagsArg,
    /// Output format
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

pub(crate) fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text)
        .ok_or_else(|| "a platform is written OS/ARCH or OS/ARCH/VARIANT".to_owned())
}

const EXAMPLES: &str = "\
    stellaops bundle export registry.example.com/team/app:1.0 --output bundle.tgz\n\
    stellaops bundle export --config stellaops.yaml --sign-key key.pem --stream nightly --sequence 7 --output bundle.tgz\n\
    stellaops bundle export oci:folder --output bundle.tgz\n\
    stellaops bundle export registry.example.com/team/app:1.1 --base bundle.tgz --output delta.tgz";

impl Run for ExportArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        registries(&self.references)
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &ExportArgs) -> Result<(), Failure> {
    let (request, output) = request(context, args).await?;
    let summary = match export(context, &request, &output, &context.progress).await {
        Err(error) if error.kind() == ExportErrorKind::Policy => {
            let as_json = args.format == TableFormat::Json;
            let file = output.path.to_string_lossy();
            validate::print_violations(&file, error.violations(), as_json)?;
            return Err(failure::of_export(&error));
        }
        result => result.map_err(|error| failure::of_export(&error))?,
    };
    match args.format {
        TableFormat::Json => render::json(&ExportDocument::from(&summary))?,
        TableFormat::Table => render::text(&table(&summary))?,
    }
    if summary.manifest.referrers.status == Completeness::Incomplete {
        let message = format!(
            "{} is written but incomplete; its manifest.yaml lists what is missing under each subject",
            summary.output.display()
        );
        return Err(Failure::new(Exit::Incomplete, message));
    }
    Ok(())
}

/// Combines the command line and the configuration; the command line wins.
async fn request(
    context: &Context,
    args: &ExportArgs,
) -> Result<(ExportRequest, FileOutput), Failure> {
    let config = &context.config.export;
    let output: PathBuf = args.output.clone().or_else(|| config.output.clone()).ok_or_else(|| {
        Failure::new(Exit::Usage, "no bundle to write: name one with --output, or as export.output in the configuration")
    })?;
    output::check(&output, "--output")?;
    let images = if args.references.is_empty() {
        let mut selector = Selector::new(context.client.clone());
        let selected = selection::select(context, &mut selector, &config.images).await?;
        if !selected.is_empty() && selected.iter().all(|rule| rule.images.is_empty()) {
            let message = "no image to export: the entries of export.images select nothing";
            return Err(Failure::new(Exit::Incomplete, message));
        }
        let images = selected.into_iter().flat_map(|rule| rule.images);
        images.map(ImageSource::from).collect()
    } else {
        args.references.clone()
    };
    if images.is_empty() {
        let message =
            "no image to export: name some, or list them as export.images in the configuration";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut output = FileOutput::new(output);
    output.overwrite = args.overwrite;
    output.volume_size = args.volume_size;
    let mut request = ExportRequest::new(Vec::new());
    request.plan = planning::request(context, images);
    request.plan.platforms = if args.platform.is_empty() {
        config.platforms.clone()
    } else {
        args.platform.clone()
    };
    request.allow_incomplete = args.allow_incomplete;
    request
        .plan
        .require_artifact_types
        .clone_from(&args.require_artifact_type);
    request.plan.policy = policy::read(&args.policy)?;
    request.layout_tags = args.layout_tags;
    request.stream = args.stream.clone().unwrap_or_default();
    request.sequence = args.sequence.unwrap_or_default();
    if let Some(base) = args.base.as_ref().or(config.base.as_ref()) {
        base::is_not_the_output(base, &output.path)?;
        request.base = Some(base::open(base, "--base")?);
    }
    let sign_key = args.sign_key.as_deref();
    request.sign_key = sign_key.map(signature::signing_key).transpose()?;
    request.plan.legacy_tags = args.legacy_tags.into();
    Ok((request, output))
}

pub(crate) fn table(summary: &ExportSummary) -> String {
    let manifest = &summary.manifest;
    let mut table = Table::new(["IMAGE", "DIGEST", "REFERRERS", "METHOD", "STATUS"]);
    for image in &summary.images {
        table.row([
            image.reference.to_string(),
            render::short(&image.digest),
            image.referrers.to_string(),
            image.method.to_string(),
            image.status.to_string(),
        ]);
    }
    let referrers = &manifest.referrers;
    let categories: Vec<_> = ArtifactCategory::ALL
        .iter()
        .filter_map(|category| {
            Some(format!(
                "{} {category}",
                referrers.by_category.get(category)?
            ))
        })
        .collect();
    let breakdown = if categories.is_empty() {
        String::new()
    } else {
        format!(" ({})", categories.join(", "))
    };
    let base = match summary.base() {
        None => String::new(),
        Some(base) => format!(
            "without {} of {} that the target must have from the base {}\n",
            render::count(base.blobs, "blob"),
            render::bytes(base.bytes),
            base.manifest
        ),
    };
    format!(
        "{table}\n{}: {}{}, {}\n{} of {}{breakdown}, {}\n{base}",
        summary.output.display(),
        render::bytes(summary.size),
        render::in_volumes(&summary.output, summary.volumes.len()),
        summary.sha256,
        render::count(referrers.total, "referrer"),
        render::count(referrers.subjects, "subject"),
        referrers.status,
    )
}
