use std::io::{self, Write as _};

use crate::cli::ManifestArgs;
use crate::commands::inspect::OpenedBundle;
use crate::exit::{Exit, Failure};

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
