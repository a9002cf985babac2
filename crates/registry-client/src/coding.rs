//! Removes content codings from bodies that are read completely. They are never requested, but
//! caches and proxies apply them all the same. Blobs are left unchanged: their digest decides.
//!
//! <https://www.rfc-editor.org/rfc/rfc9110#section-8.4>

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The decoded body is larger than the limit.
    TooLarge,
    /// The coding is unknown, or the bytes do not have it: the original bytes, and its name.
    Unknown(Vec<u8>, String),
}

/// Returns the body without its codings, `gzip` and `deflate`; at most `limit` bytes of it.
pub(crate) fn take_off(headers: &HeaderMap, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, Refused> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter().peekable();
    if values.peek().is_none() || body.is_empty() {
        return Ok(body);
    }
    let named: Vec<String> = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        // S3 repeats `aws-chunked`, which describes the upload, in what it serves.
        .filter(|name| !matches!(name.as_str(), "" | "identity" | "aws-chunked"))
        .collect();
    match named.as_slice() {
        [] => Ok(body),
        [one] => match decode(one, &body, limit) {
            Some(plain) if plain.len() as u64 > limit => Err(Refused::TooLarge),
            Some(plain) => Ok(plain),
            None => Err(Refused::Unknown(body, one.clone())),
        },
        more => Err(Refused::Unknown(body, more.join(", "))),
    }
}

/// Returns at most one byte more than `limit`; `None` if the coding is unknown or the bytes do not
/// have it.
fn decode(coding: &str, body: &[u8], limit: u64) -> Option<Vec<u8>> {
    match coding {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(body), limit),
        // RFC 9110 means the zlib format, but some servers send raw deflate data.
        "deflate" => {
            read(ZlibDecoder::new(body), limit).or_else(|| read(DeflateDecoder::new(body), limit))
        }
        _ => None,
    }
}

fn read(decoder: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut plain)
        .ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"{\"tags\":[]}";

    fn off(coding: &str, body: &[u8], limit: u64) -> Result<Vec<u8>, Refused> {
        let mut headers = HeaderMap::new();
        for value in coding.split(';') {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        take_off(&headers, body.to_vec(), limit)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn known_codings_are_taken_off_and_others_are_named() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(TEXT).unwrap();
        let raw = raw.finish().unwrap();
        let gz = gzip(TEXT);
        for (coding, body) in [
            ("gzip", gz.as_slice()),
            ("GZIP", &gz),
            ("x-gzip", &gz),
            ("identity;gzip", &gz),
            ("aws-chunked,gzip", &gz),
            ("deflate", &zlib),
            ("deflate", &raw),
            ("identity", TEXT),
            ("", TEXT),
            ("aws-chunked", TEXT),
        ] {
            assert_eq!(off(coding, body, 1000), Ok(TEXT.to_vec()), "{coding}");
        }
        for (coding, body, name) in [
            ("br", TEXT, "br"),
            ("zstd", TEXT, "zstd"),
            ("gzip", TEXT, "gzip"),
            ("gzip", &gz[..gz.len() - 9], "gzip"),
            ("deflate", TEXT, "deflate"),
            ("gzip, gzip", &gz, "gzip, gzip"),
        ] {
            let refused = Refused::Unknown(body.to_vec(), name.to_owned());
            assert_eq!(off(coding, body, 1000), Err(refused), "{coding}");
        }
    }

    #[test]
    fn what_comes_out_is_limited() {
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert_eq!(off("gzip", &bomb, 1 << 20), Err(Refused::TooLarge));
        assert_eq!(off("gzip", &gzip(TEXT), 11), Ok(TEXT.to_vec()));
        assert_eq!(off("gzip", &gzip(TEXT), 10), Err(Refused::TooLarge));
    }
}
