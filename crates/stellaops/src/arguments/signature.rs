//! Keys and signatures given on the command line.

use std::io;
use std::path::{Path, PathBuf};

use bundle_format::{Limits, PublicKey, SigningKey};
use clap::Args;
use import_validator::ImportValidator;

use crate::exit::{Exit, Failure};
use crate::small_file;

#[derive(Debug, Args)]
pub(crate) struct SignatureArgs {
    /// Accept only a bundle signed with this key (public key, PEM); when repeated, with any of the keys
    #[arg(long, value_name = "PUB")]
    pub(crate) key: Vec<PathBuf>,
    /// The signature, if it is not in the bundle: what `cosign sign-blob` or `openssl dgst -sha256 -sign` made
    /// of the output of `bundle manifest`
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) signature: Option<PathBuf>,
}

/// Adds the keys and the signature of the command line to a validator.
pub(crate) fn demand(
    mut validator: ImportValidator,
    args: &SignatureArgs,
) -> Result<ImportValidator, Failure> {
    for path in &args.key {
        let fail = |reason: String| wrong(&format!("--key {}", path.display()), &reason);
        let pem = read(path).map_err(|error| fail(error.to_string()))?;
        let key = PublicKey::from_pem(&String::from_utf8_lossy(&pem));
        validator = validator.key(key.map_err(|error| fail(error.to_string()))?);
    }
    if let Some(path) = &args.signature {
        let signature = read(path).map_err(|error| {
            wrong(
                &format!("--signature {}", path.display()),
                &error.to_string(),
            )
        })?;
        validator = validator.detached_signature(signature);
    }
    Ok(validator)
}

/// Reads the key given by `--sign-key`: a file, or an environment variable as `env:VAR`.
pub(crate) fn signing_key(from: &str) -> Result<SigningKey, Failure> {
    let fail = |reason: &str| wrong(&format!("--sign-key {from}"), reason);
    let pem = match from.strip_prefix("env:") {
        Some(variable) => std::env::var(variable)
            .map_err(|_| fail("there is no such variable, or it is not text"))?,
        None => {
            let bytes = read(Path::new(from)).map_err(|error| fail(&error.to_string()))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    SigningKey::from_pem(&pem).map_err(|error| fail(&error.to_string()))
}

fn wrong(option: &str, reason: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{option}: {reason}"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    small_file::read(path, Limits::default().max_signature_bytes)
}
