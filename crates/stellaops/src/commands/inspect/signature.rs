use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::opened_bundle::OpenedBundle;

/// The signature of a bundle, and the commands with which other tools check it. Nothing is verified here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignatureView {
    /// The key that the signature claims: the SHA-256 of the public key in DER.
    pub(crate) key_hint: Option<String>,
    pub(crate) extract: Vec<String>,
    pub(crate) cosign: Vec<String>,
    pub(crate) openssl: Vec<String>,
}

impl SignatureView {
    pub(crate) fn new(bundle: &OpenedBundle) -> Option<Self> {
        let signature = bundle.signature.as_ref()?;
        let file = quoted(&bundle.file);
        let extract = match bundle.form {
            "folder" => format!("cd {file}"),
            _ => format!("tar -xf {file} manifest.yaml manifest.yaml.sigstore.json"),
        };
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Some(Self {
            key_hint: key_hint(signature),
            extract: vec![extract],
            cosign: lines(&[
                "cosign verify-blob --key KEY.pub --bundle manifest.yaml.sigstore.json --insecure-ignore-tlog manifest.yaml",
            ]),
            openssl: lines(&[
                r#"sed 's/.*"signature":"//; s/".*//' manifest.yaml.sigstore.json | openssl base64 -d -A > manifest.yaml.sig"#,
                "openssl dgst -sha256 -verify KEY.pub -signature manifest.yaml.sig manifest.yaml",
            ]),
        })
    }
}

fn key_hint(signature: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(signature).ok()?;
    let hint = json.pointer("/verificationMaterial/publicKey/hint")?;
    let bytes = STANDARD.decode(hint.as_str()?).ok()?;
    const SHA256_BYTES: usize = 32;
    if bytes.len() != SHA256_BYTES {
        return None;
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256:{hex}"))
}

/// Quotes a file name for a shell and tar, so that it is not taken for an option or for `HOST:FILE`.
fn quoted(name: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    if name.chars().all(harmless) && !name.starts_with('-') {
        return name.to_owned();
    }
    let place = if name.starts_with('/') { "" } else { "./" };
    format!("'{place}{}'", name.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_word_and_no_option_of_a_shell_and_of_tar() {
        for (name, expected) in [
            ("bundle.tgz", "bundle.tgz"),
            ("/srv/in/b-1.tgz", "/srv/in/b-1.tgz"),
            ("-rf", "'./-rf'"),
            ("host:b.tgz", "'./host:b.tgz'"),
            ("/a b/c.tgz", "'/a b/c.tgz'"),
            ("it's $(id).tgz", r"'./it'\''s $(id).tgz'"),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }
}
