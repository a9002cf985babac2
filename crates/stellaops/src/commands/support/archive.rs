use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::names::Names;
use super::secrets::Secrets;

/// The files of the archive, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Archive(Vec<(String, String)>);

impl Archive {
    /// Adds a text file.
    pub(super) fn add(&mut self, name: &str, text: impl Into<String>) {
        self.0.push((name.to_owned(), text.into()));
    }

    /// Replaces secrets, and names if they are to be replaced, in all files.
    pub(super) fn redact(&mut self, secrets: &Secrets, names: Option<&mut Names>) {
        for (_, text) in &mut self.0 {
            *text = secrets.hidden_in(text);
        }
        if let Some(names) = names {
            // What one file has taught holds for all.
            for (_, text) in &self.0 {
                names.learn(text);
            }
            for (_, text) in &mut self.0 {
                *text = names.replaced_in(text);
            }
        }
    }

    /// Returns the names and sizes of the files.
    pub(super) fn list(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0
            .iter()
            .map(|(name, text)| (name.as_str(), text.len()))
    }

    /// Writes the archive to a file that does not exist, readable by its owner only.
    pub(super) fn write(&self, output: &Path) -> io::Result<()> {
        let folder = output
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        let mut archive = tar::Builder::new(GzEncoder::new(&file, Compression::default()));
        for (name, text) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o600);
            header.set_size(text.len() as u64);
            header.set_mtime(0);
            archive.append_data(&mut header, format!("support/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()?;
        file.as_file().sync_all()?;
        file.persist_noclobber(output)?;
        Ok(())
    }
}
