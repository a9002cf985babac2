use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::arguments::bundle_path;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::opened_bundle::OpenedBundle;

/// Print the exact bytes of a bundle's manifest.yaml, which signatures cover
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ManifestArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
}

const EXAMPLES: &str = "\
    stellaops bundle manifest --file bundle.tgz > manifest.yaml";

impl Run for ManifestArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

/// Prints the exact bytes of `manifest.yaml`, which signatures cover.
fn run(args: &ManifestArgs) -> Result<(), Failure> {
    let bundle = OpenedBundle::open(&args.file)?;
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&bundle.manifest_yaml);
    match written.and_then(|()| stdout.flush()) {
        // A reader that closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::LocalIo, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}
