use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use oci_content::{Registry, RepositoryName};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::credentials::{CredentialError, CredentialSource, Credentials};

/// The time limit of a credential helper.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer of a helper.
const MAX_HELPER_BYTES: u64 = 64 << 10;

/// The largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Base64 with or without padding, since people and tools write both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The name under which Docker stores the credentials of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials from Docker's `config.json` and Podman's `auth.json`.
///
/// - The files are read in order; a file that does not exist is skipped, one that cannot be read is
///   an error. They are read again for every request, so that a login takes effect at once.
/// - A file called `.dockercfg` has Docker's original format: the content of `auths`, without
///   `auths` around it.
/// - Within a file: the registry's entry in `credHelpers`, then `credsStore`, then `auths`. In
///   `auths`, the longest key that names the repository or a folder above it wins, as for Podman; a
///   key with only the registry comes last.
/// - Keys must match the host and the port exactly.
/// - An empty user with an empty password, or an empty entry, counts as no credentials. An entry
///   that cannot be parsed is an error that names the file and the entry, and never counts as no
///   credentials; entries of other registries are not parsed.
/// - `auth` is base64 in either alphabet, with or without padding, and may contain line breaks.
/// - Helpers (`docker-credential-<name>`) are started as child processes with a limit of 30 s. On
///   Unix each has a process group of its own, so that its own children are killed with it when the
///   time is up.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    files: Vec<PathBuf>,
    helper_folder: Option<PathBuf>,
}

impl DockerConfig {
    /// Creates a source over `files`. Nothing is read yet.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            helper_folder: None,
        }
    }

    /// Looks for helpers in this folder instead of the search path.
    #[must_use]
    pub fn with_helper_folder(mut self, folder: PathBuf) -> Self {
        self.helper_folder = Some(folder);
        self
    }

    /// Returns the key in `auths` under which a login to a registry, or to one of its repositories or
    /// folders of repositories, is found by this source and by other tools.
    pub fn key(registry: &Registry, folder: Option<&RepositoryName>) -> String {
        let host = names(registry)[0];
        match folder {
            Some(folder) => format!("{host}/{folder}"),
            // The name that Docker itself uses; Podman's tools know it too.
            None if host == "docker.io" => DOCKER_HUB.to_owned(),
            None => host.to_owned(),
        }
    }

    /// Returns whether a key in `auths` is for exactly this registry and folder, in any of the forms
    /// in which tools write it.
    pub fn is_key(key: &str, registry: &Registry, folder: Option<&RepositoryName>) -> bool {
        let (host, own) = split_key(key);
        names(registry).contains(&host.as_str()) && own == folder.map_or("", |name| name.as_str())
    }

    async fn in_file(
        &self,
        path: &Path,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        let Some(file) = File::read(path)? else {
            return Ok(None);
        };
        let fail = |text: String| CredentialError::new(format!("{}: {text}", path.display()));
        let names = names(registry);
        let helpers = file.object("credHelpers")?;
        let helper = helpers.into_iter().flatten().find(|(key, _)| {
            let (host, folder) = split_key(key);
            folder.is_empty() && names.contains(&host.as_str())
        });
        match helper {
            Some((_, Value::String(helper))) => {
                return self.ask_helper(path, helper, registry).await;
            }
            Some((key, _)) => {
                return Err(fail(format!("the helper of {key:?} is not a name")));
            }
            None => {}
        }
        let store = match file.member("credsStore") {
            None => Ok(None),
            Some(Value::String(store)) if store.is_empty() => Ok(None),
            Some(Value::String(store)) => self.ask_helper(path, store, registry).await,
            Some(_) => return Err(fail("its credsStore is not a name".to_owned())),
        };
        if let Ok(Some(found)) = store {
            return Ok(Some(found));
        }
        if let Some(auths) = file.object("auths")? {
            for (key, entry) in matching(auths, &names, repository) {
                let found = Entry::read(entry)
                    .and_then(|entry| entry.credentials())
                    .map_err(|reason| fail(format!("the entry {key:?} {reason}")))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        store
    }

    async fn ask_helper(
        &self,
        path: &Path,
        name: &str,
        registry: &Registry,
    ) -> Result<Option<Credentials>, CredentialError> {
        let fail = |reason: String| {
            CredentialError::new(format!(
                "{}: docker-credential-{name} {reason}",
                path.display()
            ))
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            let text = format!("{}: {name:?} is not the name of a helper", path.display());
            return Err(CredentialError::new(text));
        }
        let program = format!("docker-credential-{name}");
        let program = match &self.helper_folder {
            Some(folder) => folder.join(program),
            None => program.into(),
        };
        let server = match names(registry).len() {
            1 => registry.as_str(),
            _ => DOCKER_HUB,
        };
        let answer = tokio::time::timeout(HELPER_TIMEOUT, run_helper(&program, server))
            .await
            .map_err(|_| fail(format!("does not answer within {HELPER_TIMEOUT:?}")))?
            .map_err(|error| fail("cannot be run".into()).caused_by(error))?;
        let (success, output) = answer;
        if !success {
            // How the protocol says "there is no entry", see docker-credential-helpers. Other
            // output is not quoted, as it may contain anything.
            let text = String::from_utf8_lossy(&output).to_ascii_lowercase();
            return if text.contains("credentials not found") {
                Ok(None)
            } else {
                Err(fail(format!("fails for {server}")))
            };
        }
        let answer = match output.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice::<HelperAnswer>(&output).ok(),
            _ => None,
        };
        let Some(secret) = answer else {
            return Err(fail(format!("returns no credentials for {server}")));
        };
        let credentials = match secret.username.as_str() {
            "<token>" => Credentials::IdentityToken(secret.secret),
            _ => Credentials::Basic {
                username: secret.username,
                password: secret.secret,
            },
        };
        Ok(Some(credentials).filter(|credentials| !credentials.are_empty()))
    }
}

#[async_trait]
impl CredentialSource for DockerConfig {
    async fn credentials(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        for path in &self.files {
            if let Some(found) = self.in_file(path, registry, repository).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

async fn run_helper(program: &Path, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut command = Command::new(program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut helper = Helper(command.spawn()?);
    if let Some(mut input) = helper.0.stdin.take() {
        // A helper may answer without reading its input.
        drop(input.write_all(format!("{server}\n").as_bytes()).await);
    }
    let mut output = Vec::new();
    if let Some(stdout) = helper.0.stdout.take() {
        stdout
            .take(MAX_HELPER_BYTES)
            .read_to_end(&mut output)
            .await?;
    }
    Ok((helper.0.wait().await?.success(), output))
}

/// A running helper. If it is dropped before its end was seen, it is killed with all its children.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // Without an id the child has been waited for, and its number may belong to another process
        // by now.
        #[cfg(unix)]
        if let Some(group) = self
            .0
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
        {
            // This only fails if the group has no process left.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// A configuration of which only the part about one registry is parsed.
struct File<'a> {
    path: &'a Path,
    members: Map<String, Value>,
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Option<Self>, CredentialError> {
        let fail = |reason: &str| CredentialError::new(format!("{}: {reason}", path.display()));
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(fail("cannot be opened").caused_by(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| fail("cannot be read").caused_by(error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(fail("is larger than 1 MiB"));
        }
        // Editors on other systems write a byte order mark.
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        // The message of the parser can quote a value, which may be a secret.
        let mut members: Map<String, Value> = serde_json::from_slice(text).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            fail(&format!("is not a Docker configuration: {place}"))
        })?;
        // The original format contains nothing but the entries.
        if path.file_name().is_some_and(|name| name == ".dockercfg") {
            members = Map::from_iter([("auths".to_owned(), Value::Object(members))]);
        }
        Ok(Some(Self { path, members }))
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, CredentialError> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => {
                let text = format!("{}: its {name} is not an object", self.path.display());
                Err(CredentialError::new(text))
            }
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    fn read(entry: &Value) -> Result<Self, &'static str> {
        let read = entry.is_object().then(|| Self::deserialize(entry).ok());
        read.flatten().ok_or("is not an entry of credentials")
    }

    /// With an empty entry, Docker notes that the credentials are in the store.
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Bearer(token)));
        }
        let credentials = match given(&self.auth) {
            Some(auth) => {
                let decoded = decode(&auth).ok_or("has an auth that is not base64 of text")?;
                let (username, password) = decoded
                    .split_once(':')
                    .ok_or("has an auth without a colon")?;
                Credentials::Basic {
                    username: username.to_owned(),
                    // Docker pads with NUL bytes.
                    password: password.trim_end_matches('\0').to_owned(),
                }
            }
            None => Credentials::Basic {
                username: self.username.clone().unwrap_or_default(),
                password: self.password.clone().unwrap_or_default(),
            },
        };
        Ok(Some(credentials).filter(|credentials| !credentials.are_empty()))
    }
}

fn decode(auth: &str) -> Option<String> {
    let plain: String = auth
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    String::from_utf8(BASE64.decode(plain).ok()?).ok()
}

/// Returns the names under which the credentials of a registry are stored; Docker Hub has three.
fn names(registry: &Registry) -> Vec<&str> {
    match registry.as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["docker.io", "index.docker.io", "registry-1.docker.io"]
        }
        name => vec![name],
    }
}

/// Splits a key into host and repository folder. A key with a scheme is in Docker's old form, whose
/// path has no meaning.
fn split_key(key: &str) -> (String, &str) {
    let (rest, old) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
    let folder = folder.trim_matches('/');
    let folder = if old || matches!(folder, "v1" | "v2") {
        ""
    } else {
        folder
    };
    (host.to_ascii_lowercase(), folder)
}

/// Returns the entries for a repository, the longest key first.
fn matching<'a>(
    auths: &'a Map<String, Value>,
    names: &[&str],
    repository: Option<&RepositoryName>,
) -> Vec<(&'a str, &'a Value)> {
    let covers = |folder: &str| match repository {
        _ if folder.is_empty() => true,
        Some(repository) => repository
            .as_str()
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => false,
    };
    let mut found: Vec<_> = auths
        .iter()
        .filter(|(_, entry)| !entry.is_null())
        .filter_map(|(key, entry)| {
            let (host, folder) = split_key(key);
            let matches = names.contains(&host.as_str()) && covers(folder);
            matches.then_some((folder.len(), key.as_str(), entry))
        })
        .collect();
    found.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    found
        .into_iter()
        .map(|(_, key, entry)| (key, entry))
        .collect()
}

#[cfg(test)]
mod tests;
