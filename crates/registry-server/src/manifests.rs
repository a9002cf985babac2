use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use oci_content::{
    Descriptor, Digest, Manifest, ManifestError, ManifestErrorKind, Tag, media_type,
};

use crate::call::{Call, parse_digest};
use crate::error::{ApiError, ErrorCode};
use crate::precondition::Precondition;
use crate::response::value;
use crate::shared::Shared;
use crate::store::{Repository, Store, StoreError, StoreErrorKind};
use crate::traffic::broken;

/// The reference in the path. A digest contains a colon, a tag never does.
enum ManifestReference {
    Tag(Tag),
    Digest(Digest),
}

impl ManifestReference {
    fn parse(text: &str) -> Result<Self, ApiError> {
        if text.contains(':') {
            return Ok(Self::Digest(parse_digest(text)?));
        }
        match text.parse() {
            Ok(tag) => Ok(Self::Tag(tag)),
            Err(error) => Err(ApiError::bad_request(
                ErrorCode::ManifestInvalid,
                oci_content::ReferenceError::to_string(&error),
            )),
        }
    }
}

/// end-3:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
pub(crate) async fn read(
    shared: &Shared,
    call: Call,
    reference: &str,
) -> Result<Response, ApiError> {
    // A malformed reference names no manifest, so this is a 404 too.
    let unknown = || format!("there is no manifest {reference:?}");
    let Ok(parsed) = ManifestReference::parse(reference) else {
        return Err(shared
            .unknown(call.repository, ErrorCode::ManifestUnknown, unknown())
            .await);
    };
    let repository = call.repository.clone();
    let asks = call.parts.method == Method::HEAD && matches!(parsed, ManifestReference::Digest(_));
    let found = shared
        .store(move |store| {
            let digest = match parsed {
                ManifestReference::Digest(digest) => Some(digest),
                ManifestReference::Tag(tag) => store.resolve(&repository, &tag)?,
            };
            let Some(digest) = digest else {
                return Ok(None);
            };
            let manifest = match store.manifest(&repository, &digest) {
                // A client that checks for a digest pushes the manifest if it is missing, which
                // repairs it.
                Err(error) if asks && error.kind() == StoreErrorKind::Damaged => None,
                found => found?,
            };
            Ok(manifest.map(|manifest| (digest, manifest)))
        })
        .await?;
    let Some((digest, manifest)) = found else {
        return Err(shared
            .unknown(call.repository, ErrorCode::ManifestUnknown, unknown())
            .await);
    };
    let mut response = Response::new(Body::empty());
    if Precondition::from_headers(&call.parts.headers).not_modified(Some(&digest)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, manifest.bytes.len().into());
        headers.insert(header::CONTENT_TYPE, value(&manifest.media_type));
        if call.parts.method == Method::GET {
            *response.body_mut() = Body::from(manifest.bytes);
        }
    }
    let headers = response.headers_mut();
    headers.insert("docker-content-digest", value(digest.to_string()));
    headers.insert(header::ETAG, value(format!("\"{digest}\"")));
    Ok(response)
}

/// end-7:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>
pub(crate) async fn write(
    shared: &Shared,
    call: Call,
    reference: &str,
    body: Body,
) -> Result<Response, ApiError> {
    let reference = ManifestReference::parse(reference)?;
    let raw = receive(shared, body).await?;
    let content_type = match call.parts.headers.get(header::CONTENT_TYPE) {
        Some(given) => Some(given.to_str().map_err(|_not_text| {
            ApiError::bad_request(ErrorCode::ManifestInvalid, "Content-Type is not text")
        })?),
        None => None,
    };
    let manifest = match &reference {
        ManifestReference::Digest(digest) => Manifest::parse_verified(raw, digest, content_type),
        ManifestReference::Tag(_) => Manifest::parse(raw, content_type),
    }
    .map_err(|error: ManifestError| {
        let code = match error.kind() {
            ManifestErrorKind::Digest => ErrorCode::DigestInvalid,
            _ => ErrorCode::ManifestInvalid,
        };
        ApiError::bad_request(code, error.to_string())
    })?;
    // The client must send the media type that is in the manifest:
    // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests
    if let Some(given) = content_type.map(media_type::essence)
        && given != manifest.media_type()
    {
        let message = format!(
            "Content-Type is {given:?}, but mediaType in the manifest is {:?}",
            manifest.media_type()
        );
        return Err(ApiError::bad_request(ErrorCode::ManifestInvalid, message));
    }
    // Tags beside a digest are in the next version of the specification:
    // https://github.com/opencontainers/distribution-spec/blob/967efdc/spec.md#pushing-manifests
    let mut added = Vec::new();
    for tag in call.query.all("tag") {
        added.push(tag.parse::<Tag>().map_err(|error| {
            ApiError::bad_request(ErrorCode::ManifestInvalid, error.to_string())
        })?);
    }
    let mut tags = added.clone();
    if let ManifestReference::Tag(tag) = reference {
        tags.push(tag);
    }

    let digest = manifest.digest().clone();
    let subject = manifest.subject().map(|subject| subject.digest.clone());
    let mut precondition = Precondition::from_headers(&call.parts.headers);
    let sparse = shared.options.sparse_manifests;
    let repository = call.repository.clone();
    let missing = shared
        .store(move |store| {
            if !sparse {
                let missing = missing_content(store, &repository, &manifest)?;
                if !missing.is_empty() {
                    return Ok(missing);
                }
                let needed = own_blobs(&manifest).chain(manifest.children());
                let needed = needed.map(|needed| needed.digest.clone()).collect();
                // Checked again when the manifest is stored, because content may be deleted in
                // between.
                precondition = precondition.with_content(needed);
            }
            store.put_manifest(&repository, &manifest, &tags, &precondition)?;
            Ok(Vec::new())
        })
        .await?;
    if !missing.is_empty() {
        return Err(ApiError::missing_content(missing));
    }

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    let path = format!("/v2/{}/manifests/{digest}", call.repository.name());
    headers.insert(header::LOCATION, value(path));
    headers.insert("docker-content-digest", value(digest.to_string()));
    headers.insert(header::ETAG, value(format!("\"{digest}\"")));
    for tag in added {
        headers.append("oci-tag", value(tag.as_str()));
    }
    if let Some(subject) = subject
        && shared.options.referrers_api
    {
        headers.insert("oci-subject", value(subject.to_string()));
    }
    Ok(response)
}

/// end-9:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#deleting-manifests>
pub(crate) async fn remove(
    shared: &Shared,
    call: Call,
    reference: &str,
) -> Result<Response, ApiError> {
    let parsed = ManifestReference::parse(reference)?;
    let precondition = Precondition::from_headers(&call.parts.headers);
    let repository = call.repository.clone();
    let removed = shared
        .store(move |store| match parsed {
            ManifestReference::Digest(digest) => store.remove_manifest(&repository, &digest),
            ManifestReference::Tag(tag) => store.remove_tag(&repository, &tag, &precondition),
        })
        .await?;
    if !removed {
        let message = format!("there is no manifest {reference:?}");
        return Err(shared
            .unknown(call.repository, ErrorCode::ManifestUnknown, message)
            .await);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(response)
}

async fn receive(shared: &Shared, body: Body) -> Result<Bytes, ApiError> {
    let limit = shared.options.max_manifest_bytes;
    let mut received = BytesMut::new();
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| broken(&error, ErrorCode::ManifestInvalid))?;
        if (received.len() + chunk.len()) as u64 > limit {
            let message = format!("a manifest may have at most {limit} bytes");
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::SizeInvalid,
                message,
            ));
        }
        received.extend_from_slice(&chunk);
    }
    Ok(received.freeze())
}

/// Returns the digests that the manifest names and the repository does not have. The subject does
/// not count, because it may be pushed later.
fn missing_content(
    store: &dyn Store,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Vec<String>, StoreError> {
    let mut missing = Vec::new();
    for blob in own_blobs(manifest) {
        // An entry of an index may be a manifest although its media type is not that of one.
        let is_manifest =
            !manifest.entries().is_empty() && is_there(store.manifest(repository, &blob.digest))?;
        if !is_manifest && !is_there(store.blob(repository, &blob.digest))? {
            missing.push(blob.digest.to_string());
        }
    }
    for child in manifest.children() {
        if !is_there(store.manifest(repository, &child.digest))? {
            missing.push(child.digest.to_string());
        }
    }
    Ok(missing)
}

/// Returns whether content is there. Damaged content counts as missing, so that clients push it
/// again.
fn is_there<T>(found: Result<Option<T>, StoreError>) -> Result<bool, StoreError> {
    match found {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.kind() == StoreErrorKind::Damaged => Ok(false),
        Err(error) => Err(error),
    }
}

fn own_blobs(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    manifest.blobs().filter(|blob| !is_foreign(blob))
}

/// Returns whether a layer may be kept outside the registry:
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers>
fn is_foreign(blob: &Descriptor) -> bool {
    !blob.urls.is_empty()
        || blob.media_type.contains(".nondistributable.")
        || blob.media_type.contains(".foreign.")
}
