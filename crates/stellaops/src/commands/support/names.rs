use std::collections::BTreeMap;

use oci_content::Reference;
use regex::Regex;

use crate::config::Config;

/// Path components that are the API's and not a repository's.
const API: [&str; 10] = [
    "v1",
    "v2",
    "blobs",
    "manifests",
    "referrers",
    "tags",
    "uploads",
    "list",
    "token",
    "_catalog",
];

/// The names that are replaced: of hosts, repositories and users. The same name has the same replacement in all files.
#[derive(Debug)]
pub(super) struct Names {
    replacements: BTreeMap<String, String>,
    hosts: usize,
    repositories: usize,
    users: usize,
    url: Regex,
    reference: Regex,
}

impl Names {
    /// Starts with the names that are known before anything is read.
    pub(super) fn new(config: &Config, reference: Option<&Reference>) -> Self {
        // Neither can fail: they are constants.
        let regex = |text: &str| Regex::new(text).expect("a regular expression");
        let mut names = Self {
            replacements: BTreeMap::new(),
            hosts: 0,
            repositories: 0,
            users: 0,
            url: regex(
                r"(?i)\bhttps?://([^/\s\x22'<>?#@]+@)?([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?(/[^\s\x22'<>?#]*)?",
            ),
            reference: regex(
                r"\b((?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|localhost)(:[0-9]+)?/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)",
            ),
        };
        let named = config.registries();
        for registry in named.iter().chain(reference.map(Reference::registry)) {
            names.host(registry.as_str());
        }
        if let Some(reference) = reference {
            names.repository(reference.repository().as_str());
        }
        let of_images = config.jobs.values().flat_map(|job| &job.images);
        for image in config.export.images.iter().chain(of_images) {
            names.learn(&image.rule.to_string());
        }
        for variable in ["USER", "LOGNAME"] {
            if let Ok(user) = std::env::var(variable) {
                names.user(&user);
            }
        }
        names.host(&super::platform::host_name());
        names
    }

    fn host(&mut self, name: &str) {
        let name = name.rsplit_once(':').map_or(name, |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                host
            } else {
                name
            }
        });
        let is_spared = name.is_empty()
            || ["localhost", "127.0.0.1", "[::1]"].contains(&name)
            || self.replacements.contains_key(name);
        if !is_spared {
            self.hosts += 1;
            let replacement = format!("host-{}.invalid", self.hosts);
            self.replacements.insert(name.to_owned(), replacement);
        }
    }

    fn repository(&mut self, name: &str) {
        let name = name.trim_matches('/');
        if !name.is_empty() && !self.replacements.contains_key(name) {
            self.repositories += 1;
            let replacement = format!("repository-{}", self.repositories);
            self.replacements.insert(name.to_owned(), replacement);
        }
    }

    pub(super) fn user(&mut self, name: &str) {
        // Everybody has these.
        let is_spared = name.len() < 2 || ["root", "stellaops"].contains(&name);
        if !is_spared && !self.replacements.contains_key(name) {
            self.users += 1;
            let replacement = format!("user-{}", self.users);
            self.replacements.insert(name.to_owned(), replacement);
        }
    }

    /// Takes in the names of a text: those in URLs and in references of images.
    pub(super) fn learn(&mut self, text: &str) {
        let (urls, references) = (self.url.clone(), self.reference.clone());
        for found in urls.captures_iter(text) {
            self.host(&found[2]);
            let path = found.get(4).map_or("", |path| path.as_str());
            let mut name = Vec::new();
            for part in path.split('/').filter(|part| !part.is_empty()) {
                let is_digest = part.contains(':') || part.len() > 60;
                if API.contains(&part) || is_digest {
                    if !name.is_empty() {
                        break;
                    }
                    continue;
                }
                name.push(part);
            }
            // After the name of a repository comes one of the API's words.
            if path.starts_with("/v2/") {
                self.repository(&name.join("/"));
            }
        }
        for found in references.captures_iter(text) {
            let (host, name) = (found[1].to_owned(), found[3].to_owned());
            let is_known = self.replacements.contains_key(&host);
            if is_known && !API.contains(&name.split('/').next().unwrap_or_default()) {
                self.repository(&name);
            }
        }
    }

    /// Returns a text with the names replaced, the longest ones first.
    pub(super) fn replaced_in(&self, text: &str) -> String {
        let mut names: Vec<_> = self.replacements.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let mut text = text.to_owned();
        for (name, replacement) in names {
            if text.contains(name.as_str()) {
                text = replaced(&text, name, replacement);
            }
        }
        text
    }
}

/// Replaces a name where it is a whole one.
fn replaced(text: &str, name: &str, replacement: &str) -> String {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let begins = !before.chars().next_back().is_some_and(part_of_name);
        // A full stop may end a sentence.
        let ends = {
            let mut next = after.chars();
            match next.next() {
                Some('.') => !next.next().is_some_and(|c| c.is_ascii_alphanumeric()),
                Some(c) => !part_of_name(c),
                None => true,
            }
        };
        out.push_str(before);
        out.push_str(if begins && ends { replacement } else { name });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_has_the_same_replacement_and_other_words_stay() {
        let config = Config::parse(
            "registries: {Registry.corp.test: {}}\njobs: {j: {images: [{reference: \"registry.corp.test/team/app:1.0\"}, {repository: other.test:5000/db}], to: {oci: f}}}\n",
            "c.yaml",
        )
        .unwrap();
        let mut names = Names::new(&config, None);
        let log = "[INFO] GET https://registry.corp.test/v2/team/app/manifests/1.0 -> 200\n[WARN] No referrers found for image \
                   other.test:5000/db:2\n[WARN] Rate limited by registry registry.corp.test, waiting 3 s\nGET \
                   https://cdn.else.test/v2/hidden/thing/blobs/sha256:00 of type application/json, registry.corp.test.\n";
        names.learn(log);
        let replaced = names.replaced_in(log);
        for gone in ["corp", "team", "other.test", "hidden", "else", "/db"] {
            assert!(!replaced.contains(gone), "{gone} is in {replaced}");
        }
        assert!(replaced.contains("application/json"), "{replaced}");
        assert!(replaced.contains(":5000/repository-"), "{replaced}");
        let host = replaced
            .split_once("by registry ")
            .and_then(|(_, rest)| rest.split_once(','))
            .map(|(host, _)| host.to_owned())
            .unwrap();
        assert_eq!(replaced.matches(&host).count(), 3, "{replaced}");
    }
}
