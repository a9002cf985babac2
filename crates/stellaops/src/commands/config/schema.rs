use clap::{Args, ValueEnum};

use crate::commands::run::{ConfigUse, Run, Running};
use crate::config;
use crate::context::Context;
use crate::render;

/// Print what a configuration may contain: its JSON Schema, or every key in words
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// Output format
    #[arg(long, default_value = "json", value_name = "FORMAT")]
    pub(crate) format: SchemaFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaFormat {
    Json,
    Markdown,
}

const EXAMPLES: &str = "\
    stellaops config schema > stellaops.schema.json\n\
    stellaops config schema --format markdown";

impl Run for SchemaArgs {
    fn config_use(&self) -> ConfigUse {
        ConfigUse::Own
    }

    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async {
            match self.format {
                SchemaFormat::Json => render::json(&config::schema()),
                SchemaFormat::Markdown => render::text(&config::markdown()),
            }
        })
    }
}
