//! Arguments that several commands take.

pub(crate) mod base;
pub(crate) mod destination;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod signature;
pub(crate) mod source;

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};
use oci_content::{Reference, ReferenceError};

use crate::remedy;

/// Reads a reference; the error for a URL says how to choose the scheme.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error| refused(&error))
}

fn refused(error: &ReferenceError) -> String {
    let remedy = error.has_scheme().then_some(remedy::SCHEME);
    remedy.map_or_else(|| error.to_string(), |remedy| format!("{error}; {remedy}"))
}

/// Parses the path of a bundle; `-` is standard input.
pub(crate) fn bundle_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|text| match text.as_encoded_bytes() {
        b"-" => "/dev/stdin".into(),
        _ => text.into(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
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
