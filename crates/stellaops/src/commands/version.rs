//! `version`: what this program is.

use serde_json::json;

use crate::cli::{COMMIT, TextFormat, VersionArgs};
use crate::exit::Failure;
use crate::render;

/// What of the libraries is built in.
const FEATURES: [&str; 5] = ["basic-auth", "importer", "policy", "signature", "tls"];

pub(crate) fn run(args: &VersionArgs) -> Result<(), Failure> {
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
