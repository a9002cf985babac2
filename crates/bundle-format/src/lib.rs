//! The StellaOps mirror bundle: names, manifest.yaml, canonical reader and writer
