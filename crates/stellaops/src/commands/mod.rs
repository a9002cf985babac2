//! The command line: all commands, one module each.
//!
//! A command is a struct of arguments that implements [`Run`]. Its documentation is its help, and its `long_about` gives
//! examples. It is listed here three times: as a module, in the enum of its group, and in [`Command::chosen`].

mod completions;
mod config;
mod demo;
pub(crate) mod diagnose;
mod diff;
mod discover;
mod export;
mod help;
mod import;
mod inspect;
mod list;
mod login;
mod logout;
mod manifest;
mod mirror;
mod pack;
mod probe;
pub(crate) mod run;
mod serve;
mod support;
mod validate;
mod version;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::run::Run;
use crate::cli::Global;
use crate::render;

/// Carries container images and everything that refers to them (SBOMs, attestations, signatures, VEX) out of
/// registries, across an air gap, and into registries, without silently losing any of it.
#[derive(Debug, Parser)]
#[command(
    name = "stellaops",
    version = env!("STELLAOPS_VERSION"),
    propagate_version = true,
    max_term_width = 110,
    long_about = EXAMPLES
)]
#[command(after_help = "Results go to stdout, everything else to stderr.\n\
    Exit codes: 0 done, 2 usage, 3 malformed bundle, 4 integrity, 5 authenticity, 6 a limit, 7 unsafe entry, \
    8 local I/O, 9 network, 10 access, 11 incomplete, 12 something to do.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
    stellaops demo\n\
    stellaops referrers discover registry.example.com/team/app:1.0\n\
    stellaops bundle export registry.example.com/team/app:1.0 --output bundle.tgz\n\
    stellaops bundle import --file bundle.tgz --to registry.inside.example/mirror";

/// Parses the command line; an error ends the process with a message.
pub(crate) fn parse() -> Cli {
    let matches = command_line().try_get_matches();
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| with_tip(error).exit())
}

/// Returns the definition of the command line with its complete help.
pub(crate) fn command_line() -> clap::Command {
    help::complete(Cli::command())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a registry what it can do, and log in
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Find what refers to an image
    #[command(subcommand)]
    Referrers(ReferrersCommand),
    /// Write, check and read mirror bundles
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Copy images and everything that refers to them from registry to registry
    #[command(subcommand)]
    Mirror(mirror::MirrorCommand),
    /// Collect what a maintainer needs to know
    #[command(subcommand)]
    Support(support::SupportCommand),
    /// Check the configuration, and see what it may contain
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Use the local store
    #[command(subcommand)]
    Store(StoreCommand),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Version(version::VersionArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    Probe(probe::ProbeArgs),
    Diagnose(diagnose::DiagnoseArgs),
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReferrersCommand {
    Discover(discover::DiscoverArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    Export(export::ExportArgs),
    Validate(validate::ValidateArgs),
    Import(import::ImportArgs),
    Pack(pack::PackArgs),
    Inspect(inspect::InspectArgs),
    Manifest(manifest::ManifestArgs),
    Diff(diff::DiffArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    Serve(serve::ServeArgs),
    List(list::ListArgs),
}

impl Command {
    /// Returns the chosen command.
    pub(crate) fn chosen(&self) -> &dyn Run {
        match self {
            Self::Registry(RegistryCommand::Probe(args)) => args,
            Self::Registry(RegistryCommand::Diagnose(args)) => args,
            Self::Registry(RegistryCommand::Login(args)) => args,
            Self::Registry(RegistryCommand::Logout(args)) => args,
            Self::Referrers(ReferrersCommand::Discover(args)) => args,
            Self::Bundle(BundleCommand::Export(args)) => args,
            Self::Bundle(BundleCommand::Validate(args)) => args,
            Self::Bundle(BundleCommand::Import(args)) => args,
            Self::Bundle(BundleCommand::Pack(args)) => args,
            Self::Bundle(BundleCommand::Inspect(args)) => args,
            Self::Bundle(BundleCommand::Manifest(args)) => args,
            Self::Bundle(BundleCommand::Diff(args)) => args,
            Self::Mirror(command) => command.chosen(),
            Self::Config(command) => command.chosen(),
            Self::Support(command) => command.chosen(),
            Self::Store(StoreCommand::Serve(args)) => args,
            Self::Store(StoreCommand::List(args)) => args,
            Self::Demo(args) => args,
            Self::Completions(args) => args,
            Self::Version(args) => args,
        }
    }
}

/// Adds a tip to the error about a bundle that is given without `--file`.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    // The usage names only mandatory options.
    let wants_file = usage.is_some_and(|usage| usage.contains("--file <FILE>"));
    if error.kind() == ErrorKind::UnknownArgument
        && wants_file
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && !argument.starts_with('-')
    {
        let tip = format!(
            "give the bundle with an option: --file {}",
            render::foreign(argument)
        );
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}
