//! The StellaOps referrer mirror on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    stellaops::stellaops()
}
