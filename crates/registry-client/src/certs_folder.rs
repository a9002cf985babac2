//! The `certs.d` folders of docker and containers: certificates in files, with one folder per
//! registry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_content::Registry;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::build_error::BuildError;
use crate::pem;

/// The largest file of certificates or keys.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificates of one registry.
#[derive(Debug, Default)]
pub(crate) struct CertsFiles {
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) identities: Vec<Arc<CertifiedKey>>,
}

impl CertsFiles {
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.identities.is_empty()
    }
}

/// Reads the certificates of a registry from the first of `folders` that has a folder for it.
///
/// `*.crt` are root certificates; `*.cert` are client certificates, each with its key in the
/// `*.key` of the same name. Other files are ignored.
///
/// # Errors
/// When a file cannot be read, is empty, or lacks its other half; the error names it.
pub(crate) fn read(folders: &[PathBuf], registry: &Registry) -> Result<CertsFiles, BuildError> {
    for folder in folders {
        let folder = folder.join(registry.as_str());
        match fs::metadata(&folder) {
            Ok(_) => return read_folder(&folder),
            // A user who may not read it cannot have put certificates there; podman ignores it too.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::debug!(folder = %folder.display(), "may not be read");
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(failed(&folder, error)),
        }
    }
    Ok(CertsFiles::default())
}

fn read_folder(folder: &Path) -> Result<CertsFiles, BuildError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| failed(folder, error))?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    let mut files = CertsFiles::default();
    for path in &paths {
        let lacks = |other: &Path, hint: &str| {
            let (path, other) = (path.display(), other.display());
            Err(BuildError::plain(format!(
                "{path}: there is no {other} beside it{hint}"
            )))
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                let roots = pem::certificates(&read_file(path)?);
                files
                    .roots
                    .extend(roots.map_err(|error| failed(path, error))?);
            }
            Some("cert") => {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    return lacks(&key, "; a root certificate has to be called *.crt");
                }
                let pem = [read_file(path)?, read_file(&key)?].join(&b'\n');
                let identity = pem::identity(&pem).map_err(|error| failed(path, error))?;
                files.identities.push(identity);
            }
            Some("key") => {
                let certificate = path.with_extension("cert");
                if !paths.contains(&certificate) {
                    return lacks(&certificate, "");
                }
            }
            _ => {}
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<u8>, BuildError> {
    let about = fs::metadata(path).map_err(|error| failed(path, error))?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        let text = format!("{}: it is not a file of at most 1 MiB", path.display());
        return Err(BuildError::plain(text));
    }
    fs::read(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: impl Into<crate::error::BoxError>) -> BuildError {
    BuildError::new(format!("{} cannot be used", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> (String, String) {
        let certified = rcgen::generate_simple_self_signed(vec!["r.test".to_owned()]).unwrap();
        (certified.cert.pem(), certified.signing_key.serialize_pem())
    }

    fn registry() -> Registry {
        "r.test:5000".parse().unwrap()
    }

    #[test]
    fn the_first_folder_that_knows_the_registry_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let folders = ["none", "first", "second"].map(|name| folder.path().join(name));
        let (certificate, key) = issued();
        for folder in &folders[1..] {
            fs::create_dir_all(folder.join("r.test:5000")).unwrap();
            fs::create_dir_all(folder.join("r.test")).unwrap();
            fs::write(folder.join("r.test/ca.crt"), "another port's").unwrap();
        }
        let place = |name: &str| folders[1].join("r.test:5000").join(name);
        fs::write(place("ca.crt"), [certificate.clone(), issued().0].concat()).unwrap();
        fs::write(place("other.crt"), issued().0).unwrap();
        fs::write(place("client.cert"), certificate).unwrap();
        fs::write(place("client.key"), key).unwrap();
        fs::write(place("README"), "not read").unwrap();
        fs::write(folders[2].join("r.test:5000/ca.crt"), "not read").unwrap();
        let files = read(&folders, &registry()).unwrap();
        assert_eq!((files.roots.len(), files.identities.len()), (3, 1));
        assert!(read(&folders[..1], &registry()).unwrap().is_empty());
        assert!(read(&[], &registry()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_an_error_that_names_it() {
        let (certificate, key) = issued();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (files, named, why) in [
            (vec![("ca.crt", "")], "ca.crt", "no certificate in PEM"),
            (
                vec![("ca.crt", key.as_str())],
                "ca.crt",
                "no certificate in PEM",
            ),
            (
                vec![(
                    "ca.crt",
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                )],
                "ca.crt",
                "cannot be read",
            ),
            (vec![("a.cert", certificate.as_str())], "a.cert", "no "),
            (vec![("a.key", key.as_str())], "a.key", "a.cert"),
            (
                vec![("a.cert", certificate.as_str()), ("a.key", encrypted)],
                "a.cert",
                "encrypted",
            ),
            (
                vec![("a.cert", certificate.as_str()), ("a.key", &issued().1)],
                "a.cert",
                "cannot be used",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().join("r.test:5000");
            fs::create_dir(&place).unwrap();
            for (name, text) in &files {
                fs::write(place.join(name), text).unwrap();
            }
            let error = read(&[folder.path().to_owned()], &registry()).unwrap_err();
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                text = format!("{text}: {source}");
            }
            assert!(
                text.contains(named) && text.contains(why),
                "{files:?}: {text}"
            );
            assert!(!text.contains("c2VjcmV0"));
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("r.test:5000/ca.crt")).unwrap();
        let error = read(&[folder.path().to_owned()], &registry()).unwrap_err();
        assert!(error.to_string().contains("ca.crt"), "{error}");
    }
}
