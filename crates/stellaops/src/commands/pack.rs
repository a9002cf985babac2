use std::path::PathBuf;
use std::sync::Arc;

use bundle_format::{
    BundlePlan, BundleWriter, Container, EntryPath, OutputError, OutputErrorKind, OutputFile,
    WriteError,
};
use clap::Args;
use import_validator::ValidatedBundle;
use oci_content::with_causes;

use crate::arguments::output;
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::opened_bundle::OpenedBundle;
use crate::progress::Progress;
use crate::remedy;
use crate::render;

/// Pack an extracted bundle into the canonical file
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct PackArgs {
    /// The folder that a bundle was extracted into
    pub(crate) folder: PathBuf,
    /// The bundle to write: NAME.tgz, or NAME.tar for the same archive without gzip
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Split it into volumes FILE.001, FILE.002, ... of this size: bytes, 650MB, 4GiB (at least 64KiB), or fat32, dvd, bd
    #[arg(long, value_name = "SIZE")]
    pub(crate) volume_size: Option<bundle_format::VolumeSize>,
    /// Replace the bundle if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

const EXAMPLES: &str = "\
    stellaops bundle pack extracted --output bundle.tgz";

impl Run for PackArgs {
    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async { run(context, self) })
    }
}

/// Packs an extracted bundle into the same bytes that the export wrote.
fn run(context: &Context, args: &PackArgs) -> Result<(), Failure> {
    output::check(&args.output, "--output")?;
    let bundle = validate::validated(&context.progress, &args.folder, false)?;
    validate::warn(&context.log, &bundle);
    let output = match args.volume_size {
        Some(size) => OutputFile::create_volumes(&args.output, size, args.overwrite),
        None => OutputFile::create(&args.output, args.overwrite),
    };
    let output = output.map_err(|error| output_failure(&error))?;
    let output = output.with_gaps(context.gaps.clone());
    let container = Container::from_file_name(&args.output);
    // The signature covers the manifest, which is the same in the folder and in the file.
    let signature = OpenedBundle::open(&args.folder)?.signature;
    let progress = &context.progress;
    let size = write(args, &bundle, &output, container, signature, progress)?;
    let phase = progress.phase("checksum", None);
    phase.bytes_in_all(Some(size));
    let checksums = output.checksums(|bytes| phase.bytes(bytes));
    drop(phase);
    let checksums = checksums.map_err(|error| output_failure(&error))?;
    if args.volume_size.is_none() {
        // Before the bundle gets its name, as an export does.
        let written = output.write_checksum(&checksums.whole);
        written.map_err(|error| output_failure(&error))?;
    }
    let published = output.publish_with(&checksums.volumes);
    published.map_err(|error| output_failure(&error))?;
    render::text(&format!(
        "{}: {}{}, {}",
        args.output.display(),
        render::bytes(size),
        render::in_volumes(&args.output, checksums.volumes.len()),
        checksums.whole
    ))
}

fn write(
    args: &PackArgs,
    bundle: &Arc<ValidatedBundle>,
    output: &OutputFile,
    container: Container,
    signature: Option<Vec<u8>>,
    progress: &Progress,
) -> Result<u64, Failure> {
    let mut plan = BundlePlan::new(bundle.manifest(), container)
        .map_err(|error| Failure::new(Exit::Limit, error.to_string()))?;
    if let Some(signature) = signature {
        plan = plan.with_signature(signature);
    }
    if let Some(size) = args.volume_size {
        size.volumes_of(plan.size())
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    }
    let paths: Vec<EntryPath> = plan.entries().map(|(path, _)| path.clone()).collect();
    let writer = BundleWriter::new(plan, output.sink()).map_err(|error| write_failure(&error))?;
    let mut buffer = vec![0; 256 * 1024];
    let phase = progress.phase("pack", Some(("file", paths.len() as u64)));
    let sizes = writer.plan().entries().map(|(_, entry)| entry.size);
    phase.bytes_in_all(Some(sizes.fold(0, u64::saturating_add)));
    for path in paths.iter().filter(|path| !writer.is_done(path)) {
        let unreadable =
            |error: std::io::Error| Failure::new(Exit::LocalIo, format!("{path}: {error}"));
        let mut reader = bundle.open(path).map_err(unreadable)?;
        let mut entry = writer.entry(path).map_err(|error| write_failure(&error))?;
        loop {
            match reader.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                count => {
                    entry.write(&buffer[..count]).map_err(unreadable)?;
                    phase.bytes(count as u64);
                }
            }
        }
        entry.finish().map_err(|error| {
            let message = format!("{path}: {}", with_causes(&error));
            Failure::new(Exit::Integrity, message)
        })?;
        phase.one_done();
    }
    drop(phase);
    let _phase = progress.phase("fsync", None);
    Ok(writer.finish().map_err(|error| write_failure(&error))?.size)
}

fn output_failure(error: &OutputError) -> Failure {
    match error.kind() {
        OutputErrorKind::Exists => {
            Failure::new(Exit::Usage, with_causes(error)).and(remedy::OVERWRITE)
        }
        OutputErrorKind::Locked | OutputErrorKind::NotAFile => {
            Failure::new(Exit::Usage, with_causes(error))
        }
        _ => Failure::new(Exit::LocalIo, with_causes(error)),
    }
}

fn write_failure(error: &WriteError) -> Failure {
    Failure::new(Exit::LocalIo, with_causes(error))
}
