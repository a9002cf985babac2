//! The bundle that a delta is based on.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bundle_format::{BaseBundle, Limits, ManifestErrorKind};

use crate::exit::{Exit, Failure};
use crate::opened_bundle::OpenedBundle;

/// Reads a base: a bundle, the folder of an extracted one, or its `manifest.yaml` alone. `option` is what names it.
pub(crate) fn open(path: &Path, option: &str) -> Result<BaseBundle, Failure> {
    let name = format!("{option} {}", path.display());
    let io = |error: io::Error| Failure::new(Exit::LocalIo, format!("{name}: {error}"));
    let yaml = match bare_manifest(path).map_err(io)? {
        Some(yaml) => yaml,
        None => OpenedBundle::open(path)?.manifest_yaml,
    };
    BaseBundle::parse(&yaml, &Limits::default()).map_err(|error| {
        let exit = match error.kind() {
            ManifestErrorKind::TooLarge => Exit::Limit,
            _ => Exit::Malformed,
        };
        Failure::new(
            exit,
            format!("{name} is not the manifest.yaml of a bundle: {error}"),
        )
    })
}

/// Reads a file that starts like `manifest.yaml`, as no bundle does, up to one byte over the limit of a manifest.
fn bare_manifest(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe would block until somebody writes to it. A missing file may exist as volumes.
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(path)?;
    const START: &[u8] = b"format: ";
    let mut bytes = Vec::new();
    (&file).take(START.len() as u64).read_to_end(&mut bytes)?;
    if bytes != START {
        return Ok(None);
    }
    let limit = Limits::default().max_manifest_bytes.saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Refuses to write a delta over its own base, whether that is one file or several volumes.
pub(crate) fn is_not_the_output(base: &Path, output: &Path) -> Result<(), Failure> {
    let Ok(base) = base.canonicalize() else {
        return Ok(());
    };
    let mut first_volume = output.as_os_str().to_owned();
    first_volume.push(".001");
    let outputs = [output, Path::new(&first_volume)];
    let is_base = |output: &&Path| output.canonicalize().is_ok_and(|output| output == base);
    if outputs.iter().any(is_base) {
        let message = format!(
            "--output {} is the base itself; write the delta under another name",
            output.display()
        );
        Err(Failure::new(Exit::Usage, message))
    } else {
        Ok(())
    }
}
