use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::arguments::bundle_path;
use crate::exit::{Exit, Failure};
use crate::opened_bundle::OpenedBundle;

#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// The bundle, or the folder of an extracted one
    #[arg(long, short, value_name = "FILE", value_parser = bundle_path())]
    pub(crate) file: PathBuf,
}

/// Prints the exact bytes of `manifest.yaml`: what a signature is made over.
pub(crate) fn run(args: &ManifestArgs) -> Result<(), Failure> {
    let bundle = OpenedBundle::open(&args.file)?;
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&bundle.manifest_yaml);
    match written.and_then(|()| stdout.flush()) {
        // Who closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::LocalIo, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}
