//! The policy file, as the command line names it.

use std::path::Path;
use std::time::SystemTime;

use import_validator::ImportValidator;
use oci_referrers::Policy;

use crate::cli::PolicyArgs;
use crate::commands::signature::read_small;
use crate::exit::{Exit, Failure};

/// Bytes of a policy file.
const MAX_BYTES: u64 = 1 << 20;

/// Makes a validator judge by the policy that the command line names, as of now.
pub(crate) fn demand(
    validator: ImportValidator,
    args: &PolicyArgs,
) -> Result<ImportValidator, Failure> {
    Ok(match read(args)? {
        Some((policy, now)) => validator.policy(policy, now),
        None => validator,
    })
}

/// Reads the policy, and the time from which ages count.
pub(crate) fn read(args: &PolicyArgs) -> Result<Option<(Policy, SystemTime)>, Failure> {
    let Some(path) = &args.policy else {
        return Ok(None);
    };
    let policy = parse(path).map_err(|reason| {
        Failure::new(
            Exit::Usage,
            format!("--policy {}: {reason}", path.display()),
        )
    })?;
    Ok(Some((policy, SystemTime::now())))
}

fn parse(path: &Path) -> Result<Policy, String> {
    let bytes = read_small(path, MAX_BYTES).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())?;
    Policy::parse(&text).map_err(|error| error.to_string())
}
