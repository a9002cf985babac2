use std::path::PathBuf;

use clap::Args;
use mirror_import::{ImportOptions, MirrorError};
use mirror_plan::PlanErrorKind;
use oci_content::{Completeness, ImageSource, Platform, Registry};

use crate::arguments::destination::{self, MappingArgs};
use crate::arguments::policy::{self, PolicyArgs};
use crate::arguments::source::{FORM, registries, source};
use crate::arguments::{LegacyTagsArg, TextFormat};
use crate::commands::export::platform;
use crate::commands::import;
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::jobs::copy::copy;
use crate::planning;
use crate::render;

/// Copy images and everything that refers to them from registry to registry, and prove that all of it arrived
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct CopyArgs {
    #[arg(
        required = true,
        value_name = "REFERENCE",
        help = format!("The images: {FORM} (without tag and digest: all of the folder)"),
        value_parser = source
    )]
    pub(crate) references: Vec<ImageSource>,
    /// REGISTRY[/PREFIX], or oci:FOLDER [default: the local store]
    #[arg(long, value_name = "DEST")]
    pub(crate) to: Option<String>,
    /// Platforms of an index to copy [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    pub(crate) platform: Vec<Platform>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Copy what can be copied even if it is incomplete; the exit code is 11
    #[arg(long)]
    pub(crate) allow_incomplete: bool,
    /// Move tags that point to something else at the target
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    #[command(flatten)]
    pub(crate) mapping: MappingArgs,
    /// Read and hash what the target already has, instead of comparing sizes
    #[arg(long)]
    pub(crate) verify_existing: bool,
    /// Legacy tags to look for
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) legacy_tags: LegacyTagsArg,
    /// Show what would be done, without doing it
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
    stellaops mirror copy registry.example.com/team/app:1.0 --to registry.inside.example/mirror\n\
    stellaops mirror copy registry.example.com/team/app:1.0 --to oci:folder --receipt receipt.json\n\
    stellaops mirror copy oci:folder --to registry.inside.example/mirror";

impl Run for CopyArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        let sources = registries(&self.references);
        let target = destination::registry(self.to.as_deref());
        (sources.is_some() || target.is_some())
            .then(|| sources.into_iter().flatten().chain(target).collect())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &CopyArgs) -> Result<(), Failure> {
    let mut request = planning::mirror_request(context, args.references.clone());
    request.platforms.clone_from(&args.platform);
    request.policy = policy::read(&args.policy)?;
    request.legacy_tags = args.legacy_tags.into();
    let mut options = ImportOptions::default();
    options.overwrite_tags = args.overwrite_tags;
    options.dry_run = args.dry_run;
    options.verify_existing = args.verify_existing;
    options.mapping = args.mapping.mapping()?;
    let (target, _) = destination::target(context, args.to.as_deref(), &mut options.mapping)?;
    let name = target.name();
    let result = copy(context, &request, target, options, args.allow_incomplete).await;
    let as_json = args.format == TextFormat::Json;
    let report = match &result {
        Ok(report) => Some(report),
        Err(MirrorError::Import(error)) => error.report(),
        Err(MirrorError::Plan(error)) if error.kind() == PlanErrorKind::Policy => {
            validate::print_violations(&name, error.violations(), as_json)?;
            None
        }
        Err(_) => None,
    };
    if let Some(report) = report {
        if let Some(path) = &args.receipt {
            import::write_receipt(path, report, &context.gaps)?;
        }
        if as_json {
            render::json(&import::json(report)?)?;
        } else {
            render::text(&import::text(report))?;
        }
    }
    let report = result.map_err(|error| failure::of_mirror(&error))?;
    match report.source_status {
        Completeness::Complete => Ok(()),
        _ => Err(Failure::new(
            Exit::Incomplete,
            "what was copied is incomplete, as allowed; the output names what is missing",
        )),
    }
}
