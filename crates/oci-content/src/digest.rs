use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use sha2::Digest as _;

use crate::bounded::clip;
use crate::name::text_form;

/// A registered digest algorithm.
///
/// Only the two that the image specification registers and that resist collisions are supported:
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#registered-algorithms>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256: 64 hex characters.
    Sha256,
    /// SHA-512: 128 hex characters.
    Sha512,
}

impl Algorithm {
    /// Returns the name that precedes the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the length of the encoded part, in hex characters.
    pub fn encoded_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(name: &str) -> Result<Self, DigestError> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(DigestError::UnsupportedAlgorithm(clip(other))),
        }
    }
}

text_form!(Algorithm);

/// A content digest: an algorithm and its value in lower-case hex.
///
/// Ordered by algorithm, then by value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    // Shared by all copies: a bundle with many referrers names each digest in several places.
    encoded: Arc<str>,
}

impl Digest {
    /// Computes the SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::compute(Algorithm::Sha256, bytes)
    }

    /// Computes the digest of `bytes` under `algorithm`.
    pub fn compute(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the encoded part: lower-case hex, 64 or 128 characters.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// Checks that everything that `hasher` was given has this digest.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Digest`] when it is not.
    pub fn verify(&self, hasher: Hasher) -> Result<(), VerifyError> {
        let found = hasher.finish();
        if found != *self {
            let expected = self.clone();
            return Err(VerifyError::Digest { expected, found });
        }
        Ok(())
    }

    /// Returns whether `bytes` hash to this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::compute(self.algorithm, bytes) == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.encoded)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A string that is not a supported digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// It does not have the form `algorithm:encoded`.
    #[error("{0:?} is not a digest: it has no colon")]
    NoColon(String),
    /// The algorithm is well-formed but neither sha256 nor sha512.
    #[error("digest algorithm {0:?} is not supported, only sha256 and sha512 are")]
    UnsupportedAlgorithm(String),
    /// The encoded part is not lower-case hex of the length that the algorithm requires.
    #[non_exhaustive]
    #[error("{digest:?} is not a digest: {algorithm} takes {expected} lower-case hex characters", expected = algorithm.encoded_len())]
    Encoded {
        /// The string.
        digest: String,
        /// Its algorithm.
        algorithm: Algorithm,
    },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text
            .split_once(':')
            .ok_or_else(|| DigestError::NoColon(clip(text)))?;
        let algorithm: Algorithm = algorithm.parse()?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if encoded.len() != algorithm.encoded_len() || !encoded.bytes().all(hex) {
            return Err(DigestError::Encoded {
                digest: clip(text),
                algorithm,
            });
        }
        Ok(Self {
            algorithm,
            encoded: encoded.into(),
        })
    }
}

text_form!(Digest);

/// Computes a digest incrementally.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Creates a hasher that has been given no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes that were added.
    pub fn finish(self) -> Digest {
        let (algorithm, encoded) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, hex::encode(state.finalize())),
            State::Sha512(state) => (Algorithm::Sha512, hex::encode(state.finalize())),
        };
        Digest {
            algorithm,
            encoded: encoded.into(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// A mismatch between content and its descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The content is shorter or longer than the descriptor says.
    #[non_exhaustive]
    #[error("{digest} is {expected} bytes long, but {found} were read")]
    Size {
        /// The digest of the descriptor.
        digest: Digest,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The number of bytes that were read, at most one more than `expected`.
        found: u64,
    },
    /// The content has another digest.
    #[non_exhaustive]
    #[error("the bytes read for {expected} hash to {found}")]
    Digest {
        /// The digest in the descriptor.
        expected: Digest,
        /// The digest of the content.
        found: Digest,
    },
}

impl VerifyError {
    /// Creates the error of content that is `found` bytes long instead of `expected`.
    pub fn size(digest: &Digest, expected: u64, found: u64) -> Self {
        Self::Size {
            digest: digest.clone(),
            expected,
            found,
        }
    }
}

impl From<VerifyError> for io::Error {
    fn from(error: VerifyError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A reader that fails unless exactly the expected bytes pass through it.
///
/// - Never yields more than `size` bytes.
/// - The check happens at the end: a caller that stops earlier has verified nothing.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    read: u64,
}

impl<R: io::Read> VerifyingReader<R> {
    /// Creates a reader for the `size` bytes of `digest`.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        let hasher = Some(Hasher::new(digest.algorithm()));
        Self {
            inner,
            hasher,
            digest,
            size,
            read: 0,
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        if self.read != self.size {
            return Err(VerifyError::size(&self.digest, self.size, self.read).into());
        }
        Ok(self.digest.verify(hasher)?)
    }
}

impl<R: io::Read> io::Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.hasher.is_none() {
            return Ok(0);
        }
        if self.read == self.size {
            // One more byte tells whether the source is longer than it should be.
            let mut probe = [0];
            if self.inner.read(&mut probe)? > 0 {
                self.read += 1;
            }
            self.finish()?;
            return Ok(0);
        }
        let room = usize::try_from(self.size - self.read)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..room])?;
        if count == 0 {
            self.finish()?;
            return Ok(0);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn only_canonical_digests_parse() {
        let hex64 = "a".repeat(64);
        for good in [format!("sha256:{hex64}"), format!("sha512:{hex64}{hex64}")] {
            assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        }
        let bad = [
            ("sha256", "\"sha256\" is not a digest: it has no colon"),
            (
                "md5:d41d8cd98f00b204e9800998ecf8427e",
                "digest algorithm \"md5\" is not supported, only sha256 and sha512 are",
            ),
            (
                "sha256:../../etc/passwd",
                "\"sha256:../../etc/passwd\" is not a digest: sha256 takes 64 lower-case hex characters",
            ),
        ];
        for (text, message) in bad {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), message);
        }
        for text in [
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(128)),
            format!("sha512:{hex64}"),
            format!("SHA256:{hex64}"),
            format!("sha256:{hex64} "),
            format!("sha256:{}", "١".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn known_vectors() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        let abc = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(Digest::compute(Algorithm::Sha512, b"abc").to_string(), abc);
    }

    #[test]
    fn a_verifying_reader_refuses_short_long_and_other_bytes() {
        let read = |bytes: &[u8], size| {
            let mut out = Vec::new();
            VerifyingReader::new(bytes, Digest::of(b"hello"), size)
                .read_to_end(&mut out)
                .map(|_| out)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(b"hello", 5).unwrap(), b"hello");
        assert!(
            read(b"hell", 5)
                .unwrap_err()
                .contains("5 bytes long, but 4")
        );
        assert!(
            read(b"hello!", 5)
                .unwrap_err()
                .contains("5 bytes long, but 6")
        );
        assert!(
            read(b"hallo", 5)
                .unwrap_err()
                .contains("hash to sha256:d3751d33")
        );
    }
}
