//! `bundle inspect`: what a bundle claims. It proves nothing; `bundle validate` does.

mod html;
mod signature;
mod text;
mod view;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::arguments::bundle_path;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::opened_bundle::OpenedBundle;
use crate::render;
use view::BundleView;

/// Show what a bundle says it holds, without reading all of it
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: InspectFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Text,
    Json,
    Html,
}

const EXAMPLES: &str = "\
    stellaops bundle inspect --file bundle.tgz\n\
    stellaops bundle inspect --file bundle.tgz --format html > bundle.html";

impl Run for InspectArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

fn run(args: &InspectArgs) -> Result<(), Failure> {
    let bundle = OpenedBundle::open(&args.file)?;
    let view = BundleView::new(&bundle);
    match args.format {
        InspectFormat::Json => render::json(&view),
        InspectFormat::Html => render::text(&html::html(&view)),
        InspectFormat::Text => render::text(&text::text(&view)),
    }
}
