//! `version`: version, commit and features of this program.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::TextFormat;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::render;

/// Print the version, the commit and the built-in features
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct VersionArgs {
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

/// The commit that was built, in hexadecimal; empty if it is not known.
const COMMIT: &str = env!("STELLAOPS_COMMIT");

/// The features of the libraries that are built in.
const FEATURES: [&str; 5] = ["basic-auth", "importer", "policy", "signature", "tls"];

const EXAMPLES: &str = "\
    stellaops version --format json";

impl Run for VersionArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

/// Returns the version, the commit and the features as a document.
pub(crate) fn document() -> Value {
    json!({
        "schemaVersion": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
        "features": FEATURES,
    })
}

fn commit() -> Option<&'static str> {
    Some(COMMIT).filter(|commit| !commit.is_empty())
}

fn run(args: &VersionArgs) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match args.format {
        TextFormat::Json => render::json(&document()),
        TextFormat::Text => render::text(&format!(
            "stellaops {version}\ncommit: {}\nfeatures: {}",
            commit().unwrap_or("not known"),
            FEATURES.join(", ")
        )),
    }
}
