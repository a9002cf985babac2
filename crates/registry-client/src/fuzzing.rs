//! The private parsers of headers, for the fuzz targets of this repository. No part of the API: no promise of
//! stability covers what is in here.

use http::HeaderMap;
use url::Url;

use crate::challenge::{self, Demand};
use crate::error::ErrorKind;
use crate::link;

/// Returns the next page's URL as a walk over the pages of a list reads it.
///
/// # Errors
///
/// When a walk would end in an error.
pub fn next_link(
    headers: &HeaderMap,
    page: &Url,
    registry: &Url,
) -> Result<Option<Url>, ErrorKind> {
    link::next(headers, page, registry).map_err(|failure| failure.kind)
}

/// Returns realm and service of the bearer challenge that a 401 is met with; `None` for a basic one and for none.
pub fn bearer_challenge(headers: &HeaderMap) -> Option<(Url, Option<String>)> {
    match challenge::pick(headers)? {
        Demand::Bearer { realm, service, .. } => Some((realm, service)),
        Demand::Basic => None,
    }
}
