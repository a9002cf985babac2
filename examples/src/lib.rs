//! Programs that show how the libraries are used, one file of at most 60 lines each under `examples/`. Each starts a
//! registry of its own on loopback, so each runs as it stands: `cargo run -p examples --example own_source`.
//! `cargo test -p examples` runs them all.
