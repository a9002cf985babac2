use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// A content coding of an answer: <https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1>.
///
/// An answer that names a coding without being encoded is a [`Fault::pass`](crate::Fault::pass)
/// with a [header](crate::Fault::header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is the zlib format.
    Deflate,
    /// `deflate` without the zlib format around it, as some servers send it.
    RawDeflate,
    /// A coding with this name, such as `br`, that cannot be decoded: every bit is flipped.
    Opaque(&'static str),
}

impl Coding {
    /// Returns the name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate | Self::RawDeflate => "deflate",
            Self::Opaque(name) => name,
        }
    }

    /// Encodes bytes.
    ///
    /// # Panics
    ///
    /// Never: memory can always be written to.
    pub fn encode(self, bytes: &[u8]) -> Vec<u8> {
        self.try_encode(bytes).expect("memory can be written to")
    }

    fn try_encode(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let level = Compression::default();
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::RawDeflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Opaque(_) => Ok(bytes.iter().map(|byte| !byte).collect()),
        }
    }
}
