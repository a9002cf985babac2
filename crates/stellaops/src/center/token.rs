//! The tokens that identify the callers of the service: a file of lines `NAME SCOPE[,SCOPE] SHA256`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use oci_content::Digest;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use crate::exit::{Exit, Failure};
use crate::render;

/// The largest file of tokens.
const MAX_FILE_BYTES: u64 = 1 << 20;
const TOKEN_BYTES: usize = 32;
const MAX_NAME: usize = 64;
/// Write permission of the group and of others.
const OTHERS_WRITE: u32 = 0o022;

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) enum Scope {
    /// Reading of jobs, runs, metrics and the page.
    #[serde(rename = "export:read")]
    Read,
    /// Starting and ending of runs.
    #[serde(rename = "export:run")]
    Run,
    /// Downloads of bundles, manifests and reports.
    #[serde(rename = "export:download")]
    Download,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Read, Self::Run, Self::Download];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "export:read",
            Self::Run => "export:run",
            Self::Download => "export:download",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is not a scope: those are {all}")
        })
    }
}

/// The name of a token: at most 64 letters, digits and `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenName(String);

impl FromStr for TokenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=MAX_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            let shown = oci_content::bounded(text, MAX_NAME);
            Err(format!(
                "{shown:?} is not the name of a token: it has at most {MAX_NAME} letters, digits, '.', '_' and '-'"
            ))
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token, of which only the digest is known.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) name: TokenName,
    scopes: Vec<Scope>,
    /// In lower-case hexadecimal.
    sha256: String,
}

impl Token {
    pub(crate) fn permits(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The tokens of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
}

impl Tokens {
    /// Reads a file, which only its owner may be able to write.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |reason: &dyn fmt::Display| {
            let message = format!("tokens {}: {reason}", path.display());
            Failure::new(Exit::Usage, message)
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        let text = text_of(file).map_err(|error| failed(&error))?;
        text.parse().map_err(|error: String| failed(&error))
    }

    /// Returns the token with this text, and with this name if one is given.
    pub(crate) fn find(&self, name: Option<&str>, text: &[u8]) -> Option<&Token> {
        let given = Digest::of(text);
        let mut found = None;
        // Every token is compared, so that the time says nothing about which of them came close.
        for token in &self.tokens {
            let is_same: bool = token
                .sha256
                .as_bytes()
                .ct_eq(given.encoded().as_bytes())
                .into();
            if is_same && name.is_none_or(|name| name == token.name.0) {
                found = Some(token);
            }
        }
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl FromStr for Tokens {
    type Err = String;

    /// Reads lines of `NAME SCOPE[,SCOPE] SHA256`. Empty lines and lines that begin with `#` are ignored.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let token = token(line).map_err(|reason| format!("line {number}: {reason}"))?;
            if tokens.iter().any(|other| other.name == token.name) {
                let name = &token.name;
                return Err(format!("line {number}: there is another token {name}"));
            }
            tokens.push(token);
        }
        Ok(Self { tokens })
    }
}

fn token(line: &str) -> Result<Token, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(scopes), Some(sha256), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("it is not NAME SCOPE[,SCOPE] SHA256".to_owned());
    };
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        return Err("its third word is not a SHA-256 in hexadecimal".to_owned());
    }
    Ok(Token {
        name: name.parse()?,
        scopes: scopes
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()?,
        sha256: sha256.to_ascii_lowercase(),
    })
}

fn text_of(file: File) -> io::Result<String> {
    let mode = file.metadata()?.mode();
    if mode & OTHERS_WRITE != 0 {
        return Err(io::Error::other(format!(
            "its mode is {:o}, so others than its owner may write it; `chmod go-w` on it changes that",
            mode & 0o7777
        )));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        let message = format!("it is larger than {MAX_FILE_BYTES} bytes");
        return Err(io::Error::other(message));
    }
    Ok(text)
}

/// Manage the tokens of the service
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Add(AddArgs),
}

impl TokenCommand {
    /// Runs the command; `configured` is the file that the configuration names.
    pub(crate) fn run(&self, configured: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Add(args) => args.run(configured),
        }
    }
}

/// Make a token, add it to the file of tokens, and print it this once
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of its user, such as a person or a pipeline
    #[arg(value_name = "NAME")]
    name: TokenName,
    /// What it permits: export:read, export:run, export:download
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// The file of tokens [default: `tokens` of the configuration]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl AddArgs {
    fn run(&self, configured: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = self.file.as_deref().or(configured) else {
            let message =
                "no file of tokens: name one with --file, or as center.tokens in the configuration";
            return Err(Failure::new(Exit::Usage, message));
        };
        let secret = random_text()
            .map_err(|error| Failure::new(Exit::LocalIo, format!("no random bytes: {error}")))?;
        self.add(path, &secret)?;
        render::text(&secret)
    }

    fn add(&self, path: &Path, secret: &str) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let message = format!("tokens {}: {error}", path.display());
            Failure::new(Exit::LocalIo, message)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        // Two of these commands at once must not make two tokens of one name.
        file.lock().map_err(failed)?;
        let text = text_of(file.try_clone().map_err(failed)?).map_err(failed)?;
        let known: Tokens = text.parse().map_err(|error: String| {
            Failure::new(Exit::Usage, format!("tokens {}: {error}", path.display()))
        })?;
        if known.tokens.iter().any(|token| token.name == self.name) {
            let message = format!(
                "tokens {}: there is a token {} already; remove its line to replace it",
                path.display(),
                self.name
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut scopes: Vec<_> = self.scope.iter().map(|scope| scope.as_str()).collect();
        scopes.dedup();
        let separator = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let line = format!(
            "{separator}{} {} {}\n",
            self.name,
            scopes.join(","),
            Digest::of(secret.as_bytes()).encoded()
        );
        // One write, so that a service that reads the file meanwhile sees all of the line or nothing.
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)
    }
}

/// Returns 32 random bytes as 43 characters that need no quoting in a shell, a header or a URL.
fn random_text() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn add(name: &str, scopes: &[Scope]) -> AddArgs {
        AddArgs {
            name: name.parse().unwrap(),
            scope: scopes.to_vec(),
            file: None,
        }
    }

    #[test]
    fn an_added_token_is_found_by_its_text_and_the_file_holds_only_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "# of the site").unwrap();
        let (first, second) = (random_text().unwrap(), random_text().unwrap());
        assert_eq!((first.len(), first == second), (43, false));
        add("ci", &[Scope::Read, Scope::Run])
            .add(&path, &first)
            .unwrap();
        add("grafana", &[Scope::Read]).add(&path, &second).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# of the site\nci export:read,export:run "),
            "{text}"
        );
        assert!(!text.contains(&first), "{text}");
        let tokens = Tokens::read(&path).unwrap();
        let found = tokens.find(None, first.as_bytes()).unwrap();
        assert_eq!(found.name.to_string(), "ci");
        assert!(found.permits(Scope::Run) && !found.permits(Scope::Download));
        assert!(tokens.find(Some("grafana"), first.as_bytes()).is_none());
        assert!(tokens.find(Some("grafana"), second.as_bytes()).is_some());
        assert!(tokens.find(None, b"").is_none());
        let again = add("ci", &[Scope::Read]).add(&path, &first).unwrap_err();
        assert!(
            again.is(Exit::Usage) && again.to_string().contains("token ci already"),
            "{again}"
        );
    }

    #[test]
    fn a_new_file_belongs_to_its_owner_only_and_one_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let secret = random_text().unwrap();
        add("ci", &[Scope::Read]).add(&path, &secret).unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        mode(0o640);
        assert!(Tokens::read(&path).is_ok());
        for writable in [0o660, 0o602] {
            mode(writable);
            let error = Tokens::read(&path).unwrap_err();
            assert!(
                error.is(Exit::Usage) && error.to_string().contains("chmod go-w"),
                "{error}"
            );
            assert!(add("b", &[Scope::Read]).add(&path, &secret).is_err());
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_not_quoted() {
        let sha256 = "0".repeat(64);
        for (line, wanted) in [
            ("ci export:read".to_owned(), "NAME SCOPE[,SCOPE] SHA256"),
            (
                format!("ci export:read {sha256} x"),
                "NAME SCOPE[,SCOPE] SHA256",
            ),
            (
                format!("ci export:write {sha256}"),
                "\"export:write\" is not a scope",
            ),
            (format!("ci export:read, {sha256}"), "\"\" is not a scope"),
            (
                format!("c/i export:read {sha256}"),
                "not the name of a token",
            ),
            ("ci export:read secret".to_owned(), "not a SHA-256"),
            (format!("a export:read {sha256}"), "another token a"),
        ] {
            let text = format!("a export:read {sha256}\n\n{line}\n");
            let error = text.parse::<Tokens>().unwrap_err();
            assert!(
                error.starts_with("line 3: ") && error.contains(wanted),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
        assert!("# nobody\n".parse::<Tokens>().unwrap().is_empty());
    }
}
