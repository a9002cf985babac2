use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_content::{Registry, RepositoryName};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::credentials::{CredentialError, CredentialSource, Credentials};

/// How long a credential helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer of a helper.
const MAX_HELPER_BYTES: u64 = 64 << 10;

/// The largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The name under which Docker keeps what belongs to Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials from Docker's `config.json` and Podman's `auth.json`.
///
/// - The files are asked in their order; a file that does not exist is passed over. Each is read anew for
///   every question, so that a login counts at once.
/// - Within a file: the registry's entry in `credHelpers`, then `credsStore`, then `auths`. There the longest
///   key that names the repository or a folder above it wins, as Podman has it, and last the registry alone.
/// - Keys match the exact host and port.
/// - Helpers (`docker-credential-<name>`) are started as child processes, which have 30 s.
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

    /// Takes helpers from this folder instead of the search path.
    #[must_use]
    pub fn with_helper_folder(mut self, folder: PathBuf) -> Self {
        self.helper_folder = Some(folder);
        self
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
        let helpers = file.cred_helpers.unwrap_or_default();
        let names = names(registry);
        let helper = helpers.iter().find(|(key, _)| {
            let (host, folder) = split_key(key);
            folder.is_empty() && names.contains(&host.as_str())
        });
        if let Some((_, helper)) = helper {
            return self.ask_helper(path, helper, registry).await;
        }
        let store = match file.creds_store.as_deref() {
            None | Some("") => Ok(None),
            Some(store) => self.ask_helper(path, store, registry).await,
        };
        if let Ok(Some(found)) = store {
            return Ok(Some(found));
        }
        let auths = file.auths.unwrap_or_default();
        for (key, entry) in matching(&auths, &names, repository) {
            let found = entry.credentials().map_err(|reason| {
                CredentialError::new(format!("{}: the entry {key:?} {reason}", path.display()))
            })?;
            if found.is_some() {
                return Ok(found);
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
            let text = format!("{}: {name:?} is no name of a helper", path.display());
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
            // The protocol's words for "there is no entry", see docker-credential-helpers. Other output is
            // not repeated: nobody knows what is in it.
            let text = String::from_utf8_lossy(&output).to_ascii_lowercase();
            return match text.contains("credentials not found") {
                true => Ok(None),
                false => Err(fail(format!("fails for {server}"))),
            };
        }
        let secret: HelperAnswer = serde_json::from_slice(&output)
            .map_err(|_| fail(format!("answers with no credentials for {server}")))?;
        Ok(Some(match secret.username.as_str() {
            "<token>" => Credentials::IdentityToken(secret.secret),
            _ => Credentials::Basic {
                username: secret.username,
                password: secret.secret,
            },
        }))
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
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that knows its answer need not read the question.
        drop(input.write_all(format!("{server}\n").as_bytes()).await);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(MAX_HELPER_BYTES)
            .read_to_end(&mut output)
            .await?;
    }
    Ok((child.wait().await?.success(), output))
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

#[derive(Deserialize)]
struct File {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
}

impl File {
    fn read(path: &Path) -> Result<Option<Self>, CredentialError> {
        let fail = |reason: &str| CredentialError::new(format!("{}: {reason}", path.display()));
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("cannot be opened").caused_by(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| fail("cannot be read").caused_by(error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(fail("is larger than 1 MiB"));
        }
        // The parser's own words can repeat a value, which may be a secret.
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            fail(&format!("is no Docker configuration: {place}"))
        })
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
    /// An empty entry is how Docker notes that the credentials are in the store.
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Bearer(token)));
        }
        if let Some(auth) = given(&self.auth) {
            let decoded = STANDARD
                .decode(auth.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or("has an auth that is not base64 of text")?;
            let (username, password) = decoded
                .split_once(':')
                .ok_or("has an auth without a colon")?;
            return Ok(Some(Credentials::Basic {
                username: username.to_owned(),
                // Docker pads with NUL bytes.
                password: password.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(given(&self.username).map(|username| Credentials::Basic {
            username,
            password: self.password.clone().unwrap_or_default(),
        }))
    }
}

/// Returns the names under which a registry's credentials are kept; Docker Hub has three.
fn names(registry: &Registry) -> Vec<&str> {
    match registry.as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["docker.io", "index.docker.io", "registry-1.docker.io"]
        }
        name => vec![name],
    }
}

/// Splits a key into host and repository folder. With a scheme it is Docker's old form, whose path means
/// nothing.
fn split_key(key: &str) -> (String, &str) {
    let (rest, old) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
    let folder = folder.trim_matches('/');
    let folder = match old || matches!(folder, "v1" | "v2") {
        true => "",
        false => folder,
    };
    (host.to_ascii_lowercase(), folder)
}

/// Returns the entries for a repository, the longest key first.
fn matching<'a>(
    auths: &'a BTreeMap<String, Option<Entry>>,
    names: &[&str],
    repository: Option<&RepositoryName>,
) -> Vec<(&'a str, &'a Entry)> {
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
        .filter_map(|(key, entry)| {
            let (host, folder) = split_key(key);
            let entry = entry.as_ref()?;
            (names.contains(&host.as_str()) && covers(folder)).then_some((
                folder.len(),
                key.as_str(),
                entry,
            ))
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
