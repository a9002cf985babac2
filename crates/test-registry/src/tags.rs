use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use oci_content::Digest;
use registry_server::{ApiError, ErrorCode};
use serde_json::json;
use url::form_urlencoded;

use crate::behaviour::{BadNumber, Order, StrayLast, TagLink, TagListing};
use crate::shared::Shared;

/// Lists the tags of a repository; `None` if it does not exist and the answer is not a list.
pub(crate) fn answer(
    shared: &Shared,
    listing: &TagListing,
    parts: &Parts,
    name: &str,
    tags: Option<Vec<String>>,
) -> Response {
    let mut tags = match tags {
        Some(tags) => tags,
        None if listing.unknown_is_empty => Vec::new(),
        None => {
            let message = "repository name not known to registry";
            return ApiError::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message)
                .into_response();
        }
    };
    let key = |tag: &String| match listing.order {
        Order::Sorted => tag.clone(),
        Order::Scrambled => Digest::of(tag.as_bytes()).to_string(),
    };
    tags.sort_by_cached_key(key);

    let query = parts.uri.query().unwrap_or_default();
    let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let field = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_ref())
    };
    let asked = match (field("n").map(str::parse::<usize>), listing.bad_number) {
        (Some(Ok(asked)), _) => Some(asked),
        (Some(Err(_)), BadNumber::Refused(code)) => return bad_number(code),
        _ => None,
    };
    let size = match (listing.most, asked) {
        (None, _) => listing.page.map(|page| shared.page_size.unwrap_or(page)),
        (Some(most), Some(asked)) => Some(asked.min(shared.page_size.unwrap_or(most))),
        (Some(_), None) => shared.page_size.or(listing.page),
    };
    let start = match field("last").filter(|_| size.is_some() || listing.most.is_some()) {
        None => 0,
        Some(last) => match place(&tags, listing, last, key) {
            Some(start) => start,
            None => return StatusCode::NOT_FOUND.into_response(),
        },
    };
    let end = size.map_or(tags.len(), |size| tags.len().min(start + size));
    let page = &tags[start..end];

    let body = json!({"name": name, "tags": page}).to_string();
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(listing.content_type),
    );
    if end < tags.len()
        && let Some(last) = page.last()
        && let Some(link) = link(shared, listing.link, name, last, end, size.unwrap_or(end))
        && let Ok(link) = HeaderValue::from_str(&link)
    {
        headers.insert(header::LINK, link);
    }
    response
}

fn bad_number(code: &str) -> Response {
    let body = json!({"errors": [{
        "code": code,
        "message": "invalid number of results requested",
        "detail": {"n": 0},
    }]});
    (
        StatusCode::BAD_REQUEST,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

/// Finds the start of the page after `last`; `None` if there is no such page.
fn place(
    tags: &[String],
    listing: &TagListing,
    last: &str,
    key: impl Fn(&String) -> String,
) -> Option<usize> {
    let last = match listing.link {
        TagLink::NumericElsewhere => return last.parse().ok().filter(|at| *at <= tags.len()),
        TagLink::AbsoluteOpaque => String::from_utf8(URL_SAFE_NO_PAD.decode(last).ok()?).ok()?,
        _ => last.to_owned(),
    };
    if let Some(at) = tags.iter().position(|tag| *tag == last) {
        return Some(at + 1);
    }
    let behind = tags.partition_point(|tag| key(tag) <= key(&last));
    match listing.stray_last {
        StrayLast::NotFound => None,
        StrayLast::StartsOver if behind == tags.len() => Some(0),
        StrayLast::StartsOver | StrayLast::Placed => Some(behind),
    }
}

fn link(
    shared: &Shared,
    form: TagLink,
    name: &str,
    last: &str,
    end: usize,
    size: usize,
) -> Option<String> {
    let path = format!("/v2/{name}/tags/list");
    let host = &shared.host;
    Some(match form {
        TagLink::Never => return None,
        TagLink::Relative => format!("<{path}?last={last}&n={size}>; rel=\"next\""),
        TagLink::RelativeOrdered => {
            format!("<{path}?last={last}&n={size}&orderby=>; rel=\"next\"")
        }
        TagLink::RelativeUnquoted => format!("<{path}?last={last}&n={size}>; rel=next"),
        TagLink::Absolute => format!("<http://{host}{path}?last={last}&n={size}>; rel=\"next\""),
        TagLink::AbsoluteOpaque => {
            let last = URL_SAFE_NO_PAD.encode(last);
            format!("<http://{host}{path}?last={last}&n={size}>; rel=\"next\"")
        }
        TagLink::NumericElsewhere => {
            let name = name.split_once('/').map_or(name, |(_, rest)| rest);
            format!("</v2/{name}/tags/list?last={end}&n={size}>; rel=\"next\"")
        }
    })
}
