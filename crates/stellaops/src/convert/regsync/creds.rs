use super::super::converted::{Converted, RegistryEntry};
use super::super::names;
use super::super::node::Node;
use super::super::note::{Members, Note};

/// Keys without counterpart, and why they need none.
const OPTIONS: [(&str, &str); 12] = [
    ("api", "it has no counterpart"),
    ("apiOpts", "it has no counterpart"),
    ("blobChunk", "blobs are sent as streams"),
    ("blobMax", "blobs are sent as streams"),
    ("credExpire", "tokens are renewed when they expire"),
    (
        "credHelper",
        "put it under credHelpers of the credentials file",
    ),
    ("credHost", "a helper is asked for the registry's own name"),
    (
        "hostname",
        "registries are reached under the name that references have",
    ),
    ("mirrors", "registries are asked themselves"),
    ("pathPrefix", "registries are asked themselves"),
    ("priority", "registries are asked themselves"),
    ("repoAuth", "tokens are requested for each repository"),
];

/// Converts an entry of `creds`.
pub(super) fn convert(node: &Node, converted: &mut Converted, notes: &mut Vec<Note>) {
    let line = node.line;
    let mut creds = Members::new(node, "creds", notes);
    let Some(name) = creds.text("registry", notes) else {
        notes.push(Note::setting(line, "creds without a registry"));
        return;
    };
    let registry = match names::registry(name) {
        Ok(registry) => registry,
        Err(why) => {
            notes.push(Note::setting(
                line,
                format!("creds of {:?}: {why}", names::shown(name)),
            ));
            return;
        }
    };
    let user = creds.text("user", notes);
    let secrets = ["pass", "token"].map(|name| creds.take(name).is_some());
    if user.is_some() || secrets.contains(&true) {
        notes.push(Note::login(line, &registry, user));
    }
    let mut found = RegistryEntry::default();
    for name in ["tls", "scheme"] {
        match creds.text(name, notes).unwrap_or_default() {
            "" | "enabled" | "https" => {}
            "disabled" | "http" => found.plain_http = true,
            "insecure" => found.insecure_skip_verify = true,
            _ => {
                let text = format!("{name} of creds has an unknown value");
                notes.push(Note::setting(line, text));
            }
        }
    }
    let [ca, cert, key] =
        ["regcert", "clientCert", "clientKey"].map(|name| creds.text(name, notes));
    let mut path = |text: &str, ours: &str| {
        let path = file_of(text);
        if path.is_none() {
            let text = format!(
                "put a PEM of creds into a file, and name the file as {ours} of {registry}"
            );
            notes.push(Note::setting(line, text));
        }
        path
    };
    found.ca_file = ca.and_then(|text| path(text, "ca_file"));
    let cert = cert.and_then(|text| path(text, "client_cert"));
    let key = key.and_then(|text| path(text, "client_key"));
    found.client = cert.zip(key);
    let numbers = [
        ("reqConcurrent", &mut found.max_in_flight),
        ("reqPerSec", &mut found.requests_per_second),
    ];
    for (name, ours) in numbers {
        let Some(text) = creds.text(name, notes) else {
            continue;
        };
        *ours = text.parse().ok().filter(|number| *number > 0);
        // 0 stands for no limit.
        if ours.is_none() && text != "0" {
            let text = format!("{name} of creds is not a whole number");
            notes.push(Note::setting(line, text));
        }
    }
    for (name, why) in OPTIONS {
        creds.note(name, why, notes);
    }
    if found != RegistryEntry::default() {
        *converted.registry(registry) = found;
    }
    creds.finish(notes);
}

/// Returns the path in a template that stands for the content of a file, such as `{{file "/certs/ca.pem"}}`.
fn file_of(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let path = inner.trim().strip_prefix("file")?.trim();
    let quote = path.chars().next().filter(|c| matches!(c, '"' | '`'))?;
    let path = path.strip_prefix(quote)?.strip_suffix(quote)?;
    (!path.contains([quote, '\\'])).then(|| path.to_owned())
}
