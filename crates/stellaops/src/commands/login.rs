use std::io::{self, IsTerminal as _, Read as _};
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use oci_content::{ErrorCode, Registry, RepositoryName, with_causes};
use registry_client::{
    Client, ClientOptions, CredentialError, CredentialSource, Credentials, DockerConfig, Response,
};

use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::logins_file::{LoginTarget, LoginsFile};
use crate::render;

/// Log in to a registry: check a user and a password there, and keep them where podman does
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct LoginArgs {
    /// The registry, or a namespace of it that has a login of its own
    #[arg(value_name = "HOST[/NAMESPACE]")]
    pub(crate) target: LoginTarget,
    /// The user, or what the registry takes as one, such as the name of a token
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: String,
    /// Read the password from standard input
    #[arg(long, required = true)]
    pub(crate) password_stdin: bool,
}

const EXAMPLES: &str = "\
    cat password.txt | stellaops registry login registry.example.com -u robot --password-stdin\n\
    printf %s \"$TOKEN\" | stellaops registry login ghcr.io/team -u me --password-stdin";

/// The longest password, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;

impl Run for LoginArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(vec![self.target.registry.clone()])
    }

    fn changes_logins(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &LoginArgs) -> Result<(), Failure> {
    let (target, user) = (&args.target, args.username.as_str());
    if user.is_empty() || user.contains(':') || user.contains(char::is_control) {
        let message = "--username: a user has no colon and no control character, and is not empty";
        return Err(Failure::new(Exit::Usage, message));
    }
    let Some(path) = context.login_files().first() else {
        let message = "there is no place for logins; name a file with --registry-config";
        return Err(Failure::new(Exit::Usage, message));
    };
    let password = tokio::task::spawn_blocking(password).await;
    let password = password.map_err(|error| Failure::new(Exit::Bug, error.to_string()))??;
    let credentials = Credentials::basic(user, password.as_str());
    if !verified(context, target, user, &credentials).await? {
        context.log.warn(&format!(
            "registry {} asks nobody for a login, so the password could not be checked",
            target.registry
        ));
    }
    let mut file = LoginsFile::open(path, true, &context.gaps).await?;
    file.change(target, Some((user, &password)))?;
    file.save(&context.gaps)?;
    warn_of_readers(context, &file);
    let files = DockerConfig::from_files(context.login_files().to_vec());
    let found = files.credentials(&target.registry, target.folder.as_ref());
    if !matches!(found.await, Ok(Some(found)) if found == credentials) {
        let message = format!(
            "{}: the login of {target} was written and is not the one that is found; {}",
            file.path(),
            context.logins()
        );
        return Err(Failure::new(Exit::LocalIo, message));
    }
    render::text(&format!(
        "Logged in to {target}; the login is kept in {}",
        file.path()
    ))
}

/// Warns if others could read the file before it was replaced.
pub(crate) fn warn_of_readers(context: &Context, file: &LoginsFile) {
    if let Some(mode) = file.readable_by_others() {
        context.log.warn(&format!(
            "{}: other users could read the logins in it (mode {mode:04o}); now only its owner can",
            file.path()
        ));
    }
}

/// Reads the password from standard input, without the line end after it.
fn password() -> Result<String, Failure> {
    let wrong = |reason: &str| Failure::new(Exit::Usage, format!("--password-stdin: {reason}"));
    let input = io::stdin();
    if input.is_terminal() {
        return Err(wrong(
            "a terminal would show the password; pipe it in, or redirect a file that holds it",
        ));
    }
    let mut bytes = Vec::new();
    let read = input.lock().take(MAX_PASSWORD + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(&error.to_string()))?;
    if bytes.len() as u64 > MAX_PASSWORD {
        return Err(wrong("more than 64 KiB is no password"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("the password is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(wrong("there is no password on standard input"));
    }
    if text.contains(['\0', '\n', '\r']) {
        return Err(wrong("a password is one line, without NUL characters"));
    }
    Ok(text.to_owned())
}

/// Asks the registry whether it accepts the credentials; `false` if it asks nobody for any.
async fn verified(
    context: &Context,
    target: &LoginTarget,
    user: &str,
    credentials: &Credentials,
) -> Result<bool, Failure> {
    let registry = &target.registry;
    let mut options = context.options.clone();
    options.credentials = None;
    let anonymous = ping(registry, options.clone()).await?;
    if anonymous.status().is_success() {
        return Ok(false);
    }
    options.credentials = Some(Arc::new(Given {
        registry: registry.clone(),
        credentials: credentials.clone(),
    }));
    let answer = match ping(registry, options).await {
        Ok(answer) => answer,
        Err(failure) if failure.is(Exit::Access) => {
            let message = format!("registry {registry} refuses the login of {user}: {failure}");
            return Err(Failure::new(Exit::Access, message).and("nothing was written"));
        }
        Err(failure) => return Err(failure.and("nothing was written")),
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(true);
    }
    let (exit, said) = match status.as_u16() {
        401 | 403 => (Exit::Access, "refuses the login of"),
        429 | 500..=599 => (Exit::Network, "cannot check the login of"),
        _ => (
            Exit::Access,
            "does not check logins at /v2/, so not that of",
        ),
    };
    let message = format!("registry {registry} {said} {user} ({status})");
    Err(Failure::new(exit, message).and("nothing was written"))
}

async fn ping(registry: &Registry, options: ClientOptions) -> Result<Response, Failure> {
    let client =
        Client::new(options).map_err(|error| Failure::new(Exit::Usage, with_causes(&error)))?;
    client.ping(registry).await.map_err(|error| {
        let exit = match error.code() {
            ErrorCode::Denied => Exit::Access,
            _ => Exit::Network,
        };
        Failure::new(exit, error.with_causes())
    })
}

/// The credentials to check.
#[derive(Debug)]
struct Given {
    registry: Registry,
    credentials: Credentials,
}

#[async_trait]
impl CredentialSource for Given {
    async fn credentials(
        &self,
        registry: &Registry,
        _: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        Ok((*registry == self.registry).then(|| self.credentials.clone()))
    }
}
