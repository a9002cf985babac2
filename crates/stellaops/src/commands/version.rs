//! `version`: what this program is.

use clap::Args;
use serde_json::json;

use crate::arguments::TextFormat;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::render;

/// Say which version and commit this is, and what is built in
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct VersionArgs {
    /// Form of the result
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

/// The commit that was built, in hexadecimal; empty where it is not known.
const COMMIT: &str = env!("STELLAOPS_COMMIT");

/// What of the libraries is built in.
const FEATURES: [&str; 5] = ["basic-auth", "importer", "policy", "signature", "tls"];

const EXAMPLES: &str = "\
    stellaops version --format json";

impl Run for VersionArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

fn run(args: &VersionArgs) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = Some(COMMIT).filter(|commit| !commit.is_empty());
    match args.format {
        TextFormat::Json => render::json(&json!({
            "schemaVersion": 1, "version": version, "commit": commit, "features": FEATURES,
        })),
        TextFormat::Text => render::text(&format!(
            "stellaops {version}\ncommit: {}\nfeatures: {}",
            commit.unwrap_or("not known"),
            FEATURES.join(", ")
        )),
    }
}
