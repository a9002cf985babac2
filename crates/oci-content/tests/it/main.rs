//! Tests of the public interface.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod oci_spec_oracle;
