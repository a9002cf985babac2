//! The policy file given on the command line.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use import_validator::ImportValidator;
use oci_referrers::Policy;

use crate::exit::{Exit, Failure};
use crate::small_file;
use crate::yaml_error;

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Also apply the rules of this file: required referrers, signatures, ages (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// Largest policy file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Adds the policy of the command line to a validator, with ages as of now.
pub(crate) fn demand(
    validator: ImportValidator,
    args: &PolicyArgs,
) -> Result<ImportValidator, Failure> {
    Ok(match read(args)? {
        Some((policy, now)) => validator.policy(policy, now),
        None => validator,
    })
}

/// Reads the policy; ages are counted back from the time that is returned.
pub(crate) fn read(args: &PolicyArgs) -> Result<Option<(Policy, SystemTime)>, Failure> {
    let Some(path) = &args.policy else {
        return Ok(None);
    };
    let name = format!("--policy {}", path.display());
    Ok(Some((of_file(path, &name)?, SystemTime::now())))
}

/// Reads a policy file; `name` says where it was named.
pub(crate) fn of_file(path: &Path, name: &str) -> Result<Policy, Failure> {
    let wrong = |reason: &str| Failure::new(Exit::Usage, format!("{name}: {reason}"));
    let bytes = small_file::read(path, MAX_BYTES).map_err(|error| wrong(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
    Policy::parse(&text)
        .map_err(|error| yaml_error::failure(name, &text, error.place(), &error.to_string()))
}
