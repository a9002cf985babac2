//! One module per command.

mod examples;

pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod diff;
pub(crate) mod discover;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod manifest;
pub(crate) mod pack;
pub(crate) mod probe;
pub(crate) mod serve;
pub(crate) mod validate;
pub(crate) mod version;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use oci_content::Registry;

use self::diagnose::DiagnoseArgs;
use self::diff::DiffArgs;
use self::discover::DiscoverArgs;
use self::export::ExportArgs;
use self::import::ImportArgs;
use self::inspect::InspectArgs;
use self::list::ListArgs;
use self::manifest::ManifestArgs;
use self::pack::PackArgs;
use self::probe::ProbeArgs;
use self::serve::ServeArgs;
use self::validate::ValidateArgs;
use self::version::VersionArgs;
use crate::cli::Global;
use crate::render;

/// Carries container images and everything that refers to them (SBOMs, attestations, signatures, VEX) out of
/// registries, across an air gap, and into registries, and loses none of it in silence.
#[derive(Debug, Parser)]
#[command(
    name = "stellaops",
    version = env!("STELLAOPS_VERSION"),
    propagate_version = true,
    max_term_width = 110
)]
#[command(after_help = "Results go to stdout, everything else to stderr.\n\
    Exit codes: 0 done, 2 usage, 3 malformed bundle, 4 integrity, 5 authenticity, 6 a limit, 7 unsafe entry, \
    8 local I/O, 9 network, 10 access, 11 incomplete.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads the command line; what is wrong with it ends the process with a sentence.
pub(crate) fn parse() -> Cli {
    let matches = command().try_get_matches();
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| with_tip(error).exit())
}

/// Returns the command line with all its help.
pub(crate) fn command() -> clap::Command {
    examples::add_to(Cli::command())
}

/// Says how a file is named, where it stands without the option that it belongs to.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    // Only a mandatory option stands in the usage.
    let wants_file = usage.is_some_and(|usage| usage.contains("--file <FILE>"));
    if error.kind() == ErrorKind::UnknownArgument
        && wants_file
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && !argument.starts_with('-')
    {
        let tip = format!(
            "the bundle is named by an option: --file {}",
            render::foreign(argument)
        );
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a registry what it can do
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Find what refers to an image
    #[command(subcommand)]
    Referrers(ReferrersCommand),
    /// Write, check and read mirror bundles
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Use the local store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Show the whole way on an embedded registry: nothing to install, no network
    Demo,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Say which version and commit this is, and what is built in
    Version(VersionArgs),
}

impl Command {
    /// Returns the registries that the command line names.
    pub(crate) fn registries(&self) -> Vec<Registry> {
        match self {
            Self::Registry(RegistryCommand::Probe(args)) => {
                let targets = args.registries.iter();
                targets.map(|target| target.registry.clone()).collect()
            }
            Self::Registry(RegistryCommand::Diagnose(args)) => {
                vec![args.reference.registry().clone()]
            }
            Self::Referrers(ReferrersCommand::Discover(args)) => {
                vec![args.reference.registry().clone()]
            }
            Self::Bundle(BundleCommand::Export(args)) => {
                let references = args.references.iter();
                references
                    .map(|reference| reference.registry().clone())
                    .collect()
            }
            Self::Bundle(BundleCommand::Import(args)) => {
                let to = args.to.as_deref().unwrap_or_default();
                let registry = to.split('/').next().unwrap_or_default().parse();
                registry.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Find out whether registries have the referrers API, and show how we know
    Probe(ProbeArgs),
    /// Check step by step why an image's referrers cannot be read or are not found
    Diagnose(DiagnoseArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReferrersCommand {
    /// List everything that refers to an image, at every level
    Discover(DiscoverArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Write images and everything that refers to them into one bundle
    Export(ExportArgs),
    /// Prove that a bundle is whole, or say what is wrong
    Validate(ValidateArgs),
    /// Put a bundle's images and referrers into a registry, a layout folder or the local store
    Import(ImportArgs),
    /// Write the canonical file of an extracted bundle
    Pack(PackArgs),
    /// Show what a bundle says it holds, without reading all of it
    Inspect(InspectArgs),
    /// Print the exact bytes of a bundle's manifest.yaml, which a signature is made over
    Manifest(ManifestArgs),
    /// Say which images, referrers and blobs came, went or changed between two bundles
    Diff(DiffArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Serve the local store as a registry: on loopback and read-only, unless told otherwise
    Serve(ServeArgs),
    /// List what is in the local store, and whether its manifests are whole
    List(ListArgs),
}
