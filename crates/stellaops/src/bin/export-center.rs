//! `export-center`, the service.

use std::process::ExitCode;

fn main() -> ExitCode {
    stellaops::export_center()
}
