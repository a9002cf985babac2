//! Programs that show how the libraries are used: one file each under `examples/`.
