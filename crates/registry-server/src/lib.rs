//! Serves an OCI layout folder as a registry, with the referrers API
