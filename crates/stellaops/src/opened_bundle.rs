use std::fs::Metadata;
use std::io::{self, Read};
use std::path::Path;

use bundle_format::{
    BundleArchive, BundleFile, BundleFileError, BundleFileErrorKind, BundleFolder, BundleManifest,
    Container, ContainerError, ContainerErrorKind, EntryPath, Limits, ManifestErrorKind, OpenError,
    VolumeFault, VolumeFaultKind,
};
use bytes::Bytes;
use oci_content::{Digest, MAX_MANIFEST_BYTES, Manifest, with_causes};

use crate::exit::{Exit, Failure};
use crate::remedy;

/// An opened bundle, of which only the manifest, the signature and single files are read.
#[derive(Debug)]
pub(crate) struct OpenedBundle {
    pub(crate) file: String,
    pub(crate) manifest: BundleManifest,
    pub(crate) manifest_yaml: Vec<u8>,
    pub(crate) signature: Option<Vec<u8>>,
    pub(crate) form: &'static str,
    /// The size of the file in bytes; `None` for a folder.
    pub(crate) size: Option<u64>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Archive(Box<BundleArchive<BundleFile>>),
    Folder(BundleFolder),
}

impl OpenedBundle {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        // Opening a pipe would block until somebody writes to it.
        let metadata = std::fs::metadata(path);
        if metadata.as_ref().is_ok_and(Metadata::is_dir) {
            return Self::open_folder(path, &name);
        }
        if metadata.is_ok_and(|metadata| !metadata.is_file()) {
            let message = format!(
                "{name}: a pipe or device cannot be read at random; `bundle validate` takes it"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let file = BundleFile::open(path).map_err(|error| file_failure(&error))?;
        let limits = Limits::default();
        let archive = BundleArchive::open(file.clone(), &limits).map_err(|error| {
            volume_failure(&file, &limits).unwrap_or(open_failure(&name, &error))
        })?;
        if let Some(fault) = file.find_foreign(&archive).first() {
            return Err(fault_failure(fault));
        }
        let plan = archive.plan();
        Ok(Self {
            file: name,
            manifest: archive.manifest().clone(),
            manifest_yaml: plan.manifest_yaml().to_vec(),
            signature: plan.signature().map(<[u8]>::to_vec),
            form: match plan.container() {
                Container::Tar => "tar",
                _ => "tgz",
            },
            size: Some(plan.size()),
            source: Source::Archive(Box::new(archive)),
        })
    }

    fn open_folder(path: &Path, name: &str) -> Result<Self, Failure> {
        let fail = |error: ContainerError| open_failure(name, &error.into());
        let limits = Limits::default();
        let folder = BundleFolder::open(path).map_err(fail)?;
        let read = |path: &EntryPath| -> Result<Vec<u8>, ContainerError> {
            let file = folder.open_file(path)?;
            let size = file.metadata().map_err(ContainerError::from_io)?.len();
            limits.check_entry(path, size)?;
            let mut bytes = Vec::new();
            // The file may grow in the meantime.
            let read = file.take(size).read_to_end(&mut bytes);
            read.map_err(ContainerError::from_io)?;
            Ok(bytes)
        };
        let manifest_yaml = read(&EntryPath::MANIFEST).map_err(fail)?;
        let signature = match read(&EntryPath::SIGNATURE) {
            Ok(bytes) => Some(bytes),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(fail(error)),
        };
        let manifest = BundleManifest::parse(&manifest_yaml, &limits)
            .map_err(|error| open_failure(name, &error.into()))?;
        Ok(Self {
            file: name.to_owned(),
            manifest,
            manifest_yaml,
            signature,
            form: "folder",
            size: None,
            source: Source::Folder(folder),
        })
    }

    /// Reads a manifest of the bundle; `None` if it is missing, damaged or not a manifest.
    pub(crate) fn read_manifest(&self, digest: &Digest, media_type: &str) -> Option<Manifest> {
        let path = EntryPath::blob(digest).ok()?;
        let size = self.manifest.file(&path)?.size;
        if size > MAX_MANIFEST_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        match &self.source {
            Source::Archive(archive) => {
                archive.open_entry(&path)?.read_to_end(&mut bytes).ok()?;
            }
            Source::Folder(folder) => {
                let file = folder.open_file(&path).ok()?;
                file.take(size).read_to_end(&mut bytes).ok()?;
            }
        }
        Manifest::parse_verified(Bytes::from(bytes), digest, Some(media_type)).ok()
    }
}

fn is_absent(error: &ContainerError) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn file_failure(error: &BundleFileError) -> Failure {
    let exit = match error.kind() {
        BundleFileErrorKind::NotFirst => Exit::Usage,
        _ => Exit::LocalIo,
    };
    Failure::new(exit, with_causes(error))
}

/// Blames the volume because of which a bundle cannot be opened, if there is one.
fn volume_failure(file: &BundleFile, limits: &Limits) -> Option<Failure> {
    Some(fault_failure(file.find_missing(limits).first()?))
}

fn fault_failure(fault: &VolumeFault) -> Failure {
    let exit = match fault.kind() {
        VolumeFaultKind::Missing => Exit::LocalIo,
        VolumeFaultKind::Content => Exit::Integrity,
        _ => Exit::Malformed,
    };
    Failure::new(exit, fault.to_string()).mended_by(remedy::of_volume(fault.kind()))
}

/// Exit codes are those of a validation.
fn open_failure(name: &str, error: &OpenError) -> Failure {
    use ContainerErrorKind as Kind;
    let exit = match error {
        OpenError::Container(error) => match error.kind() {
            Kind::Io => Exit::LocalIo,
            Kind::EntryType | Kind::UnsafePath | Kind::DuplicatePath => Exit::Unsafe,
            Kind::UnknownPath => Exit::Integrity,
            Kind::ManifestBytes
            | Kind::SignatureBytes
            | Kind::Entries
            | Kind::EntryBytes
            | Kind::TotalBytes => Exit::Limit,
            _ => Exit::Malformed,
        },
        OpenError::Manifest(error) if error.kind() == ManifestErrorKind::TooLarge => Exit::Limit,
        _ => Exit::Malformed,
    };
    let path = match error {
        OpenError::Container(error) => error.path(),
        _ => None,
    };
    // A tar header can hold any bytes here.
    let path = path.map(|path| format!("{}: ", path.escape_debug()));
    let path = path.unwrap_or_default();
    let mut message = format!(
        "{name} cannot be opened as a bundle: {path}{}",
        with_causes(error)
    );
    if let OpenError::Container(error) = error
        && error.kind().suggests_repacking()
    {
        let (repack, command) = (bundle_format::REPACK_REMEDY, remedy::REPACK);
        message.push_str(&format!("; {repack}; {command}"));
    }
    Failure::new(exit, message)
}
