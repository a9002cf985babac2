//! The file that logins are kept in, as docker and podman write it.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_content::{FileSystemGaps, Registry, RepositoryName, sync_dir, sync_file, try_lock};
use registry_client::DockerConfig;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::RawValue;

use crate::exit::{Exit, Failure};
use crate::render;
use crate::small_file;

/// What readers of these files accept.
const MAX_BYTES: u64 = 1 << 20;

/// How long another program may hold the folder.
const PATIENCE: Duration = Duration::from_secs(10);

const ELSEWHERE: &str = "--registry-config FILE names another file";

/// A file of logins, locked for one change. What the change does not concern stays as it is, to the byte outside `auths`.
#[derive(Debug)]
pub(crate) struct LoginsFile {
    /// Without links.
    path: PathBuf,
    text: String,
    before: Option<Metadata>,
    /// The folder, locked: the file itself is replaced.
    _lock: Option<File>,
}

/// Whose login is changed: a registry's, or that of a folder of its repositories.
#[derive(Clone, Debug)]
pub(crate) struct LoginTarget {
    pub(crate) registry: Registry,
    pub(crate) folder: Option<RepositoryName>,
}

impl LoginsFile {
    /// Opens a file, which need not be there; its folder is created if `create` says so.
    pub(crate) async fn open(
        path: &Path,
        create: bool,
        gaps: &FileSystemGaps,
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn fmt::Display| {
            Failure::new(Exit::LocalIo, format!("{}: {error}", path.display())).and(ELSEWHERE)
        };
        if path.file_name().is_some_and(|name| name == ".dockercfg") {
            let message = format!(
                "{}: this is docker's first format, which is only read; name another file with --registry-config",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let is_link = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link => path.to_owned(),
            found => found.map_err(|error| failed(&error))?,
        };
        if create {
            let mut missing = DirBuilder::new();
            let made = missing.recursive(true).mode(0o700).create(folder(&path));
            made.map_err(|error| failed(&error))?;
        }
        let lock = match File::open(folder(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            folder => Some(folder.map_err(|error| failed(&error))?),
        };
        if let Some(lock) = &lock {
            locked(lock, &path, gaps)
                .await
                .map_err(|error| failed(&error))?;
        }
        let before = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.map_err(|error| failed(&error))?),
        };
        if before.as_ref().is_some_and(|before| !before.is_file()) {
            return Err(failed(&"it is not a file"));
        }
        let bytes = match before {
            Some(_) => small_file::read(&path, MAX_BYTES).map_err(|error| failed(&error))?,
            None => Vec::new(),
        };
        let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8 text"))?;
        Ok(Self {
            path,
            text,
            before,
            _lock: lock,
        })
    }

    /// Returns the mode of the file if others than its owner may read it.
    pub(crate) fn readable_by_others(&self) -> Option<u32> {
        let mode = self.before.as_ref()?.mode() & 0o777;
        (mode & 0o044 != 0).then_some(mode)
    }

    /// Replaces the login of `target`, or removes it; returns whether there was one.
    pub(crate) fn change(
        &mut self,
        target: &LoginTarget,
        login: Option<(&str, &str)>,
    ) -> Result<bool, Failure> {
        let path = self.path.display().to_string();
        let wrong = |reason: String| Failure::new(Exit::Usage, format!("{path}: {reason}"));
        let text = self.text.as_str();
        let body = text.trim_start_matches('\u{feff}');
        let members = Members::read(body).map_err(wrong)?;
        if let Some(helper) = members.helper_of(target).map_err(wrong)? {
            let helper = render::foreign(&helper);
            return Err(wrong(format!(
                "the login of {target} is kept by docker-credential-{helper}; change it with the program that set this up, or name another file with --registry-config"
            )));
        }
        let auths = members.only("auths").map_err(wrong)?;
        let there = match auths.filter(|auths| auths.get() != "null") {
            Some(auths) => Members::read(auths.get())
                .map_err(|_| wrong("its auths is not an object of logins".into()))?,
            None => Members::default(),
        };
        let all = there.0.len();
        let kept = there.0.into_iter().filter(|(key, _)| !target.is_key(key));
        let mut entries: Vec<_> = kept
            .map(|(key, value)| (key, value.get().to_owned()))
            .collect();
        let had = entries.len() < all;
        if let Some((user, password)) = login {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let entry = format!("{{\n\t\t\t\"auth\": \"{auth}\"\n\t\t}}");
            entries.push((target.key(), entry));
        } else if !had {
            return Ok(false);
        }
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| format!("\n\t\t{}: {value}", json!(key)))
            .collect();
        let new = match entries.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{{}\n\t}}", entries.join(",")),
        };
        self.text = match auths {
            Some(auths) => {
                let start = auths.get().as_ptr().addr() - text.as_ptr().addr();
                let end = start + auths.get().len();
                format!("{}{new}{}", &text[..start], &text[end..])
            }
            None if members.0.is_empty() => format!("{{\n\t\"auths\": {new}\n}}\n"),
            None => {
                let first = text.find('{').map_or(0, |brace| brace + 1);
                format!("{}\n\t\"auths\": {new},{}", &text[..first], &text[first..])
            }
        };
        Ok(had)
    }

    /// Replaces the file in one step, readable by its owner only.
    pub(crate) fn save(&self, gaps: &FileSystemGaps) -> Result<(), Failure> {
        if self.text.len() as u64 > MAX_BYTES {
            let message = format!("{}: it would be larger than 1 MiB", self.path.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        self.write(gaps).map_err(|error| {
            let message = format!("{}: {error}", self.path.display());
            Failure::new(Exit::LocalIo, message).and(ELSEWHERE)
        })
    }

    fn write(&self, gaps: &FileSystemGaps) -> io::Result<()> {
        let folder = folder(&self.path);
        // With mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".auth-")
            .tempfile_in(folder)?;
        file.write_all(self.text.as_bytes())?;
        let own = file.as_file().metadata()?;
        if let Some(before) = &self.before
            && (before.uid(), before.gid()) != (own.uid(), own.gid())
        {
            // Somebody else's file, changed by root, stays theirs.
            fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
        }
        sync_file(file.as_file(), &self.path, gaps)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        sync_dir(folder, gaps)
    }

    pub(crate) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

async fn locked(lock: &File, path: &Path, gaps: &FileSystemGaps) -> io::Result<()> {
    let started = std::time::Instant::now();
    while !try_lock(lock, path, gaps)? {
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("another program is changing it"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

impl LoginTarget {
    pub(crate) fn key(&self) -> String {
        DockerConfig::key(&self.registry, self.folder.as_ref())
    }

    fn is_key(&self, key: &str) -> bool {
        DockerConfig::is_key(key, &self.registry, self.folder.as_ref())
    }
}

impl std::str::FromStr for LoginTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("write the registry without a scheme: HOST or HOST/NAMESPACE".to_owned());
        }
        let (registry, folder) = match text.split_once('/') {
            Some((registry, folder)) => (registry, Some(folder)),
            None => (text, None),
        };
        let folder = folder.map(str::parse::<RepositoryName>).transpose();
        let target = Self {
            registry: registry.parse().map_err(said)?,
            folder: folder.map_err(said)?,
        };
        if target.is_key(&target.key()) {
            Ok(target)
        } else {
            Err(format!(
                "a login to {target} would be taken for one to {}",
                target.registry
            ))
        }
    }
}

fn said(error: oci_content::ReferenceError) -> String {
    error.to_string()
}

impl fmt::Display for LoginTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Some(folder) => write!(f, "{}/{folder}", self.registry),
            None => self.registry.fmt(f),
        }
    }
}

/// The members of a JSON object in their order, each value as it is written.
#[derive(Debug, Default)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object; no text at all is an empty one.
    fn read(text: &'a str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // The message of the parser can quote a value, which may be a secret.
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("it is not a file of logins: line {line} column {column}")
        })
    }

    /// Returns the value of a member that may be there once.
    fn only(&self, name: &str) -> Result<Option<&'a RawValue>, String> {
        let mut values = self.0.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(format!("it has {name} twice")),
            (found, None) => Ok(found.map(|(_, value)| *value)),
        }
    }

    /// Returns the credential helper that keeps the login of `target`, if one does.
    fn helper_of(&self, target: &LoginTarget) -> Result<Option<String>, String> {
        let text = |value: &RawValue| serde_json::from_str::<Option<String>>(value.get());
        if let Some(helpers) = self.only("credHelpers")?
            && helpers.get() != "null"
        {
            let helpers = Members::read(helpers.get())
                .map_err(|_| "its credHelpers is not an object".to_owned())?;
            let mut own = helpers.0.into_iter();
            let own = own.find(|(key, _)| DockerConfig::is_key(key, &target.registry, None));
            if let Some((key, helper)) = own {
                let helper =
                    text(helper).map_err(|_| format!("the helper of {key:?} is not a name"))?;
                return Ok(helper);
            }
        }
        let Some(store) = self.only("credsStore")? else {
            return Ok(None);
        };
        let store = text(store).map_err(|_| "its credsStore is not a name".to_owned())?;
        Ok(store.filter(|store| !store.is_empty()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

#[cfg(test)]
mod tests;
