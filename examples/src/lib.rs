//! Programs that show how the libraries are used, one file each under `examples/`. Each starts a registry of its own
//! on loopback, so each runs as it stands: `cargo run -p examples --example discover`.
