//! Finds out what an OCI registry can do, with the evidence
