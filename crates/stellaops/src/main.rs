//! The StellaOps referrer mirror on the command line.

fn main() {}
