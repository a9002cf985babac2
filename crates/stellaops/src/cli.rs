mod examples;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use oci_content::{Platform, Reference, Registry, RepositoryName};

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

/// The commit that was built, in hexadecimal; empty where it is not known.
pub(crate) const COMMIT: &str = env!("STELLAOPS_COMMIT");

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

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file (YAML)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Credentials file, as docker and podman write it [default: those that podman reads]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) registry_config: Option<PathBuf>,
    /// Speak plain HTTP to this registry; loopback registries are plain by default
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) plain_http: Vec<Registry>,
    /// Do not verify the certificate of this registry: for a lab only, whoever answers is trusted
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) insecure: Vec<Registry>,
    /// Trust these certificates too: of authorities, or a registry's own (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Least severe messages to show
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        ignore_case = true
    )]
    pub(crate) log_level: LogLevel,
    /// Form of the messages
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Write the messages to this file as well
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Serve metrics at http://ADDR/metrics while the command runs
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Go on serving metrics after the command, until they were read once or so many seconds are over
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        requires = "metrics_listen"
    )]
    pub(crate) metrics_linger: Option<u64>,
    /// Write metrics to this file at the end, in Prometheus' text format
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
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

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
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

#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    #[arg(help = "The image: REGISTRY/REPOSITORY[:TAG][@DIGEST]")]
    pub(crate) reference: Reference,
    /// Seconds that each answer may take
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: NonZeroU64,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Registries to ask; with a repository the answer is certain
    #[arg(required = true, value_name = "REGISTRY[/REPOSITORY]")]
    pub(crate) registries: Vec<ProbeTarget>,
    /// Find out more: paging, filters, signs of a proxy, rate limits
    #[arg(long)]
    pub(crate) all: bool,
    /// Seconds for each registry
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub(crate) timeout: NonZeroU64,
    /// Ask even where the answer of the last 6 hours is known, and keep nothing
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Form of the result
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

#[derive(Clone, Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) registry: Registry,
    pub(crate) repository: Option<RepositoryName>,
}

impl std::str::FromStr for ProbeTarget {
    type Err = oci_content::ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            // It is none, and says so better than what is before the first slash.
            text.parse::<Reference>()?;
        }
        Ok(match text.split_once('/') {
            Some((registry, repository)) => Self {
                registry: registry.parse()?,
                repository: Some(repository.parse()?),
            },
            None => Self {
                registry: text.parse()?,
                repository: None,
            },
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReferrersCommand {
    /// List everything that refers to an image, at every level
    Discover(DiscoverArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    #[arg(help = "The image: REGISTRY/REPOSITORY[:TAG][@DIGEST]")]
    pub(crate) reference: Reference,
    /// Show referrers of this artifact type only
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Vec<String>,
    /// Levels of referrers to follow [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,
    /// Ask for the referrers of the index's children as well
    #[arg(long)]
    pub(crate) platforms: bool,
    /// Show what was asked and what each source answered
    #[arg(long)]
    pub(crate) explain: bool,
    /// Legacy tags to look for
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) legacy_tags: LegacyTagsArg,
    /// Seconds for the whole discovery
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<NonZeroU64>,
    /// Form of the result
    #[arg(long, default_value = "tree", value_name = "FORMAT")]
    pub(crate) format: DiscoverFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LegacyTagsArg {
    All,
    Known,
    Off,
}

impl From<LegacyTagsArg> for oci_referrers::LegacyTags {
    fn from(arg: LegacyTagsArg) -> Self {
        match arg {
            LegacyTagsArg::All => Self::All,
            LegacyTagsArg::Known => Self::Known,
            LegacyTagsArg::Off => Self::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiscoverFormat {
    Tree,
    Table,
    Json,
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

/// A bundle's path; `-` is standard input, as everywhere.
fn bundle_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|text| match text.as_encoded_bytes() {
        b"-" => "/dev/stdin".into(),
        _ => text.into(),
    })
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: InspectFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Text,
    Json,
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The earlier bundle, or the folder of an extracted one
    pub(crate) a: PathBuf,
    /// The later bundle, or the folder of an extracted one
    pub(crate) b: PathBuf,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The folder that a bundle was extracted into
    pub(crate) folder: PathBuf,
    /// The bundle to write: NAME.tgz, or NAME.tar for the same archive without gzip
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Write it in volumes FILE.001, FILE.002, ... of this size: bytes, 650MB, 4GiB (at least 64KiB), or fat32, dvd, bd
    #[arg(long, value_name = "SIZE")]
    pub(crate) volume_size: Option<bundle_format::VolumeSize>,
    /// Replace the bundle if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[arg(
        value_name = "REFERENCE",
        help = "The images: REGISTRY/REPOSITORY[:TAG][@DIGEST]; or those of the configuration"
    )]
    pub(crate) references: Vec<Reference>,
    /// The bundle to write: NAME.tgz, or NAME.tar for the same archive without gzip
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write it in volumes FILE.001, FILE.002, ... of this size: bytes, 650MB, 4GiB (at least 64KiB), or fat32, dvd, bd
    #[arg(long, value_name = "SIZE")]
    pub(crate) volume_size: Option<bundle_format::VolumeSize>,
    /// Replace the bundle if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Children of an index to carry [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    pub(crate) platform: Vec<Platform>,
    /// Write the bundle even where something could not be settled; it says so itself, and the exit code is 11
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
    /// Leave out what this earlier bundle holds: the target has to have it (a bundle, the folder of an extracted one,
    /// or its manifest.yaml)
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Name of the series of bundles that this one belongs to
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<bundle_format::StreamName>,
    /// Place in the series; 0 is no place
    #[arg(long, value_name = "N")]
    pub(crate) sequence: Option<u64>,
    /// Sign the bundle with this key: a file, or env:VAR for the variable that holds it (PKCS#8 PEM, ECDSA P-256)
    #[arg(long, value_name = "FILE|env:VAR")]
    pub(crate) sign_key: Option<String>,
    /// Legacy tags to look for
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) legacy_tags: LegacyTagsArg,
    /// Form of the result
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text)
        .ok_or_else(|| "a platform is written OS/ARCH or OS/ARCH/VARIANT".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct SignatureArgs {
    /// Accept only a bundle that this key has signed (public key, PEM); given more than once, any of the keys
    #[arg(long, value_name = "PUB")]
    pub(crate) key: Vec<PathBuf>,
    /// The signature, where it is not in the bundle: what `cosign sign-blob` or `openssl dgst -sha256 -sign` wrote
    /// of the output of `bundle manifest`
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Also demand what the rules of this file say: referrers, signatures, ages (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The bundle, or the folder of an extracted one; - is standard input
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// Also prove that the referrers are the graph that the bundle claims
    #[arg(long)]
    pub(crate) check_referrers: bool,
    /// Count what is incomplete as an error
    #[arg(long)]
    pub(crate) strict_referrer_validation: bool,
    #[command(flatten)]
    pub(crate) signature: SignatureArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The bundle that this one is based on; what is left out is compared with what it lists
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// REGISTRY[/PREFIX], or oci:FOLDER [default: the local store]
    #[arg(long, value_name = "DEST")]
    pub(crate) to: Option<String>,
    /// Count what is incomplete as an error
    #[arg(long)]
    pub(crate) strict_referrer_validation: bool,
    #[command(flatten)]
    pub(crate) signature: SignatureArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The bundle that this one is based on; what is left out is compared with what it lists, and looked for in its
    /// repositories as well
    #[arg(long, value_name = "OLD")]
    pub(crate) base: Option<PathBuf>,
    /// Move tags that hold something else at the target
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    /// Keep the source registry's name as the first part of the repository
    #[arg(long)]
    pub(crate) keep_host: bool,
    /// Put the repository FROM, with its registry, into TO
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) map: Vec<String>,
    /// Import although a later bundle of the stream, or another one with the same sequence, was imported before
    #[arg(long, requires = "key")]
    pub(crate) allow_rollback: bool,
    /// Refuse a bundle of another stream [default: the configuration's import.stream]
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<bundle_format::StreamName>,
    /// Refuse a bundle without a sequence, as the configuration's import.require_sequence does
    #[arg(long)]
    pub(crate) require_sequence: bool,
    /// Read and hash what a registry has already, instead of comparing its size
    #[arg(long)]
    pub(crate) verify_existing: bool,
    /// Validate, say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a record of what arrived to this file (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Serve the local store as a registry: on loopback and read-only, unless told otherwise
    Serve(ServeArgs),
    /// List what is in the local store, and whether its manifests are whole
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The layout folder to list [default: the local store]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; elsewhere than on loopback only with --tls-cert and --auth
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// The layout folder to serve [default: the local store]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Take pushes and deletions as well; what is pushed is kept as localhost/REPOSITORY, unless ?ns=HOST names the host
    #[arg(long)]
    pub(crate) writable: bool,
    /// Speak TLS with this certificate, followed by those of the authorities between it and the root (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Answer the users of this file only: lines as `htpasswd -nB USER` prints them
    #[arg(long, value_name = "FILE")]
    pub(crate) auth: Option<PathBuf>,
    /// Answer requests for this host as well, as a proxy before the store passes them on; on loopback others than
    /// localhost are refused
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<Registry>,
}
