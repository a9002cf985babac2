//! One OCI registry spoken to well: tokens, retries, rate limits, paging, limits, blobs
