use std::num::NonZeroUsize;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use oci_content::{Descriptor, Digest, Registry, RepositoryName, Tag, media_type};
use serde::Serialize;
use url::form_urlencoded::Serializer as QueryWriter;

use crate::call::{Call, Query, parse_digest};
use crate::error::{ApiError, ErrorCode};
use crate::response::{json, value};
use crate::shared::Shared;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [Tag],
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [RepositoryName],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersList<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: &'a [Descriptor],
}

/// Lists the repositories. Not in the specification; distribution has it:
/// <https://distribution.github.io/distribution/spec/api/#listing-repositories>
pub(crate) async fn catalog(
    shared: &Shared,
    query: &Query,
    namespace: Option<Registry>,
) -> Result<Response, ApiError> {
    let asked = asked_entries(query)?;
    let of = namespace.clone();
    let mut found = shared
        .store(move |store| store.repositories(of.as_ref()))
        .await?;
    found.sort();
    let rest = match query.first("last") {
        Some(last) => &found[found.partition_point(|name| name.as_str() <= last)..],
        None => &found[..],
    };
    let most = shared.most(asked);
    let page = page(rest, most, shared.options.page_bytes, |name| {
        name.as_str().len() as u64 + 3
    });
    let body = to_json(&Catalog { repositories: page })?;
    let mut response = json(StatusCode::OK, "application/json", body);
    if let Some(last) = page.last()
        && page.len() < rest.len()
    {
        let n = asked.map(|n| n.to_string());
        let mut query = vec![("last", last.as_str())];
        query.extend(n.as_deref().map(|n| ("n", n)));
        let link = next_link("/v2/_catalog", namespace.as_ref(), &query);
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Parses `n`, the limit of entries on a page.
fn asked_entries(query: &Query) -> Result<Option<usize>, ApiError> {
    let Some(text) = query.first("n") else {
        return Ok(None);
    };
    let asked = text.parse().map_err(|_not_a_number| {
        let message = format!("n is {text:?}, which is not a number");
        ApiError::bad_request(ErrorCode::Unsupported, message)
    })?;
    Ok(Some(asked))
}

/// end-8a and end-8b:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags>
pub(crate) async fn tags(shared: &Shared, call: Call) -> Result<Response, ApiError> {
    let asked = asked_entries(&call.query)?;
    let repository = call.repository.clone();
    let found = shared
        .store(move |store| {
            let exists = store.contains(&repository)?;
            Ok(if exists {
                Some(store.tags(&repository)?)
            } else {
                None
            })
        })
        .await?;
    let Some(mut tags) = found else {
        let message = format!("there is no repository {}", call.repository.name());
        return Err(ApiError::not_found(ErrorCode::NameUnknown, message));
    };
    tags.sort_by_cached_key(lexical);
    let after = call.query.first("last").map(lexical_text);
    let rest = match after {
        Some(last) => &tags[tags.partition_point(|tag| lexical(tag) <= last)..],
        None => &tags[..],
    };
    let most = shared.most(asked);
    let page = page(rest, most, shared.options.page_bytes, |tag| {
        tag.as_str().len() as u64 + 3
    });
    let body = TagList {
        name: call.repository.name().as_str(),
        tags: page,
    };
    let mut response = json(StatusCode::OK, "application/json", to_json(&body)?);
    // A client that asks for no entries gets none, and no link to a next page that would be just as
    // empty.
    if let Some(last) = page.last()
        && page.len() < rest.len()
    {
        let n = asked.map(|n| n.to_string());
        let mut query = vec![("last", last.as_str())];
        query.extend(n.as_deref().map(|n| ("n", n)));
        response
            .headers_mut()
            .insert(header::LINK, next_link_of(&call, &query));
    }
    Ok(response)
}

/// The order of a tag list: "lexical (i.e. case-insensitive alphanumeric)", then by case.
fn lexical(tag: &Tag) -> (String, String) {
    lexical_text(tag.as_str())
}

fn lexical_text(tag: &str) -> (String, String) {
    (tag.to_ascii_lowercase(), tag.to_owned())
}

/// end-12a and end-12b:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
pub(crate) async fn referrers(
    shared: &Shared,
    call: Call,
    digest: &str,
) -> Result<Response, ApiError> {
    if !shared.options.referrers_api {
        let message = "the referrers API is not offered";
        return Err(ApiError::not_found(ErrorCode::Unsupported, message));
    }
    let subject = parse_digest(digest)?;
    let after = call.query.digest("last")?;
    // An unescaped `+` in a query reads as a space, which no media type contains.
    let types: Vec<String> = call
        .query
        .all("artifactType")
        .filter(|wanted| !wanted.is_empty())
        .map(|wanted| wanted.replace(' ', "+"))
        .collect();
    // A repository that does not exist has no referrers. The conformance suite expects this answer
    // before the first push.
    let repository = call.repository.clone();
    let mut found = shared
        .store(move |store| store.referrers(&repository, &subject))
        .await?;
    if !types.is_empty() {
        found.retain(|entry| {
            let own = entry.artifact_type.as_ref();
            own.is_some_and(|own| types.contains(own))
        });
    }
    // Sorted by digest, so that a list that grows while a client reads it neither repeats nor skips
    // existing entries.
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    let rest = match &after {
        Some(last) => &found[found.partition_point(|entry| entry.digest <= *last)..],
        None => &found[..],
    };
    let most = shared.options.page_size.map(NonZeroUsize::get);
    let page = page(rest, most, shared.options.page_bytes, |entry| {
        serde_json::to_vec(entry).map_or(0, |json| json.len() as u64 + 1)
    });
    let body = to_json(&ReferrersList {
        schema_version: 2,
        media_type: media_type::IMAGE_INDEX,
        manifests: page,
    })?;
    let mut response = json(StatusCode::OK, media_type::IMAGE_INDEX, body);
    let headers = response.headers_mut();
    if !types.is_empty() {
        headers.insert(
            "oci-filters-applied",
            HeaderValue::from_static("artifactType"),
        );
    }
    if let Some(last) = page
        .last()
        .map(|entry: &Descriptor| Digest::to_string(&entry.digest))
        && page.len() < rest.len()
    {
        let mut query = vec![("last", last.as_str())];
        query.extend(types.iter().map(|wanted| ("artifactType", wanted.as_str())));
        headers.insert(header::LINK, next_link_of(&call, &query));
    }
    Ok(response)
}

/// Returns the first page: at most `most` entries and `bytes` bytes, but one entry even if it is
/// larger.
fn page<T>(entries: &[T], most: Option<usize>, bytes: u64, size: impl Fn(&T) -> u64) -> &[T] {
    // Room for the rest of the document: the members of the list, the name of the repository.
    let mut left = bytes.saturating_sub(512);
    let mut count = 0;
    for entry in entries.iter().take(most.unwrap_or(usize::MAX)) {
        let size = size(entry);
        if size > left && count > 0 {
            break;
        }
        left = left.saturating_sub(size);
        count += 1;
    }
    &entries[..count]
}

fn next_link_of(call: &Call, query: &[(&str, &str)]) -> HeaderValue {
    let path = call.parts.uri.path();
    next_link(path, call.repository.namespace(), query)
}

fn next_link(path: &str, namespace: Option<&Registry>, query: &[(&str, &str)]) -> HeaderValue {
    let mut writer = QueryWriter::new(String::new());
    writer.extend_pairs(query);
    if let Some(namespace) = namespace {
        writer.append_pair("ns", namespace.as_str());
    }
    value(format!("<{path}?{}>; rel=\"next\"", writer.finish()))
}

fn to_json(body: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(body).map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            error.to_string(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_a_count_or_at_a_size_and_is_never_empty_for_its_size() {
        let entries = [10, 10, 10, 2000, 10];
        let cut =
            |from: usize, most, bytes| page(&entries[from..], most, bytes, |size| *size).len();
        assert_eq!(cut(0, None, 1 << 20), 5);
        assert_eq!(cut(0, Some(2), 1 << 20), 2);
        assert_eq!(cut(0, Some(0), 1 << 20), 0);
        assert_eq!(cut(0, None, 512 + 30), 3);
        assert_eq!(cut(3, None, 512 + 30), 1);
        assert_eq!(cut(4, None, 0), 1);
        assert_eq!(page(&[0u64; 0], None, 0, |size| *size).len(), 0);
    }
}
