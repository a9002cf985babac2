//! The private parsers of headers, for the fuzz targets of this repository. They are not part of
//! the public API and have no promise of stability.

use http::HeaderMap;
use url::Url;

use crate::challenge::{self, Demand};
use crate::error::ErrorKind;
use crate::link;

/// Returns the URL of the next page, as a walk over the pages of a list determines it.
///
/// # Errors
///
/// When such a walk would fail.
pub fn next_link(
    headers: &HeaderMap,
    page: &Url,
    registry: &Url,
) -> Result<Option<Url>, ErrorKind> {
    link::next(headers, page, registry).map_err(|failure| failure.kind)
}

/// Returns the realm and the service of the bearer challenge that would be met; `None` for a basic
/// challenge and for none.
pub fn bearer_challenge(headers: &HeaderMap) -> Option<(Url, Option<String>)> {
    match challenge::pick(headers)? {
        Demand::Bearer { realm, service, .. } => Some((realm, service)),
        Demand::Basic => None,
    }
}
