//! Measurements of the libraries: one file each under `benches/`.
