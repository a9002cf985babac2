mod sigstore;

use oci_content::Digest;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, Signature, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};

/// A private key that signs bundles: ECDSA over the curve P-256.
///
/// A signature is made over the exact bytes of `manifest.yaml`, which lists everything else. It is
/// deterministic ([RFC 6979](https://www.rfc-editor.org/rfc/rfc6979)), so the bytes of a signed
/// bundle are too.
#[derive(Clone)]
pub struct SigningKey {
    key: p256::ecdsa::SigningKey,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The private half must not get into a log.
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// A public key that a site trusts: ECDSA over the curve P-256.
///
/// It comes from an operator, never from a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: Digest,
}

/// Proof that a key has signed a `manifest.yaml`. Only [`PublicKey`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifiedSignature {
    key_id: Digest,
    manifest: Digest,
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct KeyError {
    reason: &'static str,
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SignatureError {
    kind: SignatureErrorKind,
    reason: String,
}

/// The classes of [`SignatureError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureErrorKind {
    /// It is not a signature, or is not in the encoding of the format.
    Malformed,
    /// It is a signature of a kind that is not supported: another algorithm, a certificate, an
    /// envelope, a later version.
    Unsupported,
    /// The key did not make it over these bytes.
    Invalid,
}

impl SignatureError {
    fn new(kind: SignatureErrorKind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, reason }
    }

    /// Returns the class.
    pub fn kind(&self) -> SignatureErrorKind {
        self.kind
    }
}

const NOT_PKCS8: &str = "it is not a PKCS#8 private key of the curve P-256 in PEM; an openssl key becomes one with \
    `openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY.pkcs8.pem`";
const ENCRYPTED: &str = "it is encrypted; `openssl pkcs8 -in KEY -out KEY.plain.pem` or a secret store's variable \
    gives the plain key";
const NOT_SPKI: &str =
    "it is not a public key of the curve P-256 in PEM; `openssl pkey -in KEY -pubout` writes one";

impl SigningKey {
    /// Reads a PKCS#8 private key in PEM, `-----BEGIN PRIVATE KEY-----`.
    ///
    /// # Errors
    ///
    /// When the text is not such a key, is encrypted, or is a key of another curve or algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = match p256::ecdsa::SigningKey::from_pkcs8_pem(pem.trim_ascii()) {
            Ok(key) => key,
            Err(_) if pem.contains("ENCRYPTED") => return Err(KeyError { reason: ENCRYPTED }),
            Err(_) => return Err(KeyError { reason: NOT_PKCS8 }),
        };
        let public = PublicKey::new(*key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// Returns the public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the exact bytes of a `manifest.yaml`; returns those of `manifest.yaml.sigstore.json`.
    pub fn sign(&self, manifest_yaml: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.key.sign(manifest_yaml);
        sigstore::encode(&self.public.id, manifest_yaml, signature.as_bytes())
    }
}

impl PublicKey {
    fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        let spki = key.to_public_key_der();
        let spki = spki.map_err(|_| KeyError { reason: NOT_SPKI })?;
        let id = Digest::of(spki.as_bytes());
        Ok(Self { key, id })
    }

    /// Reads a public key in PEM, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// When the text is not such a key, or is a key of another curve or algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        match VerifyingKey::from_public_key_pem(pem.trim_ascii()) {
            Ok(key) => Self::new(key),
            Err(_) => Err(KeyError { reason: NOT_SPKI }),
        }
    }

    /// Returns the SHA-256 of the key in DER (`SubjectPublicKeyInfo`), by which it is identified.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Verifies `manifest.yaml.sigstore.json`, the signature inside a bundle, in its one encoding.
    ///
    /// The hint that it carries is ignored.
    ///
    /// # Errors
    ///
    /// When it is not a signature that this key made over these bytes.
    pub fn verify(
        &self,
        manifest_yaml: &[u8],
        signature: &[u8],
    ) -> Result<VerifiedSignature, SignatureError> {
        let signature = sigstore::decode(signature, manifest_yaml, true)?;
        self.verify_der(manifest_yaml, &signature)
    }

    /// Verifies a signature from outside a bundle: a Sigstore bundle, or the bare signature in DER
    /// or base64-encoded DER, as `cosign sign-blob` and `openssl dgst -sign` write them.
    ///
    /// The entries of a Sigstore bundle about a transparency log or times are ignored.
    ///
    /// # Errors
    ///
    /// When it is not a signature that this key made over these bytes.
    pub fn verify_detached(
        &self,
        manifest_yaml: &[u8],
        signature: &[u8],
    ) -> Result<VerifiedSignature, SignatureError> {
        // A signature in DER starts with the byte of a sequence, which is the character `0`; in
        // base64 it starts with an `M`.
        if signature.trim_ascii().starts_with(b"{") {
            let signature = sigstore::decode(signature, manifest_yaml, false)?;
            return self.verify_der(manifest_yaml, &signature);
        }
        if signature.starts_with(b"0") {
            self.verify_der(manifest_yaml, signature)
        } else {
            let signature = sigstore::from_base64(signature.trim_ascii())?;
            self.verify_der(manifest_yaml, &signature)
        }
    }

    fn verify_der(
        &self,
        manifest_yaml: &[u8],
        der: &[u8],
    ) -> Result<VerifiedSignature, SignatureError> {
        let signature = from_der(der)?;
        match self.key.verify(manifest_yaml, &signature) {
            Ok(()) => Ok(VerifiedSignature {
                key_id: self.id.clone(),
                manifest: Digest::of(manifest_yaml),
            }),
            Err(_) => {
                let reason = format!(
                    "the key {} did not make it over this manifest.yaml",
                    self.id
                );
                Err(SignatureError::new(SignatureErrorKind::Invalid, reason))
            }
        }
    }
}

/// Checks that `signature` is a `manifest.yaml.sigstore.json` of this manifest in its one encoding,
/// by any key.
///
/// This proves nothing about the signer: that takes a [`PublicKey`].
///
/// # Errors
///
/// When it fails a check of [`PublicKey::verify`] that does not need the key.
pub fn check_signature_form(manifest_yaml: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    from_der(&sigstore::decode(signature, manifest_yaml, true)?).map(drop)
}

fn from_der(der: &[u8]) -> Result<Signature, SignatureError> {
    Signature::from_der(der).map_err(|_| {
        let reason = "it is not an ECDSA signature of the curve P-256 in DER";
        SignatureError::new(SignatureErrorKind::Invalid, reason)
    })
}

impl VerifiedSignature {
    /// Returns the [id](PublicKey::id) of the key.
    pub fn key_id(&self) -> &Digest {
        &self.key_id
    }

    /// Returns the digest of the `manifest.yaml` that was signed.
    pub fn manifest(&self) -> &Digest {
        &self.manifest
    }
}

#[cfg(test)]
mod tests;
