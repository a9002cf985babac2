//! Code that several fuzz targets share.

use bundle_format::{BundleManifest, BundlePlan, BundleWriter, Container, EntryPath, MemorySink};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The manifest that the signatures of the seeds are for.
pub const MANIFEST: &[u8] = b"format: stellaops-mirror-bundle/v1\n";

/// The key that made them, and its public half: both are only for tests.
pub const SIGNING_KEY: &str = include_str!("../../crates/stellaops/tests/it/signature/key.pem");
pub const PUBLIC_KEY: &str = include_str!("../../crates/stellaops/tests/it/signature/key.pub");

/// Reads each line as a value of a header, except what no HTTP library would pass on.
pub fn headers(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    headers
}

/// Splits the input at the first line feed, into what accompanies a body and the body.
pub fn split_head(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 1..]))
}

/// Writes a bundle with the canonical writer. `content` returns the bytes of each file except
/// `manifest.yaml` and its signature.
pub fn write_bundle(plan: BundlePlan, mut content: impl FnMut(&EntryPath) -> Vec<u8>) -> Vec<u8> {
    let sink = MemorySink::new();
    let writer = BundleWriter::new(plan.clone(), &sink).unwrap();
    for (path, _) in plan.entries() {
        if *path != EntryPath::MANIFEST && *path != EntryPath::SIGNATURE {
            writer.put(path, &content(path)).unwrap();
        }
    }
    writer.finish().unwrap();
    drop(writer);
    sink.into_bytes()
}

/// Lays out the files of `manifest` with the signature that a bundle carries.
pub fn plan(
    manifest: &BundleManifest,
    signature: Option<&[u8]>,
    container: Container,
) -> BundlePlan {
    let plan = BundlePlan::new(manifest, container).unwrap();
    match signature {
        Some(signature) => plan.with_signature(signature),
        None => plan,
    }
}

const BLOCK: usize = 512;

/// Corrects the header checksums of a tar archive, as far as it can be parsed, and returns where
/// each entry ends.
pub fn repair(tar: &mut [u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut start = 0;
    while let Some(header) = tar.get_mut(start..start + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text, 8).ok());
        let Some(size) = size else { break };
        start = start.saturating_add(BLOCK + size.next_multiple_of(BLOCK));
        if start > tar.len() {
            break;
        }
        ends.push(start);
    }
    ends
}

/// Wraps a tar archive in one gzip member of stored blocks, with a new block at each of `ends`.
pub fn gzip(tar: &[u8], ends: &[usize]) -> Vec<u8> {
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut block = |bytes: &[u8], last: bool| {
        let length = u16::try_from(bytes.len()).unwrap();
        gzip.push(last.into());
        gzip.extend(length.to_le_bytes());
        gzip.extend((!length).to_le_bytes());
        gzip.extend(bytes);
    };
    let mut start = 0;
    for end in ends {
        for bytes in tar[start..*end].chunks(u16::MAX.into()) {
            block(bytes, false);
        }
        start = *end;
    }
    let rest = &tar[start..];
    let last = rest.len().saturating_sub(1) / usize::from(u16::MAX) * usize::from(u16::MAX);
    for bytes in rest[..last].chunks(u16::MAX.into()) {
        block(bytes, false);
    }
    block(&rest[last..], true);
    gzip.extend(crc32fast::hash(tar).to_le_bytes());
    gzip.extend(u32::try_from(tar.len()).unwrap().to_le_bytes());
    gzip
}
