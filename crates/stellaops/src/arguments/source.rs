//! `<REFERENCE>`: an image of a registry, or of a layout folder.

use oci_content::{ImageSource, Registry};

use super::refused;

/// How it is written, for the help of a command.
pub(crate) const FORM: &str = "REGISTRY/REPOSITORY[:TAG][@DIGEST], or oci:FOLDER[:TAG|@DIGEST]";

/// Reads a source; the error for another tool's syntax says what to write instead.
pub(crate) fn source(text: &str) -> Result<ImageSource, String> {
    text.parse().map_err(|error| match instead_of(text) {
        Some(instead) => instead,
        None => refused(&error),
    })
}

/// Returns the registries among sources; `None` if there is none.
pub(crate) fn registries(sources: &[ImageSource]) -> Option<Vec<Registry>> {
    let registries: Vec<_> = sources
        .iter()
        .filter_map(ImageSource::registry)
        .cloned()
        .collect();
    (!registries.is_empty() || sources.is_empty()).then_some(registries)
}

/// Returns what to write instead of a source in another tool's syntax.
fn instead_of(text: &str) -> Option<String> {
    if text.starts_with(['/', '.', '~']) {
        return Some(format!("an image of a layout folder is written oci:{text}"));
    }
    let (scheme, rest) = text.split_once(':')?;
    let place = rest.trim_start_matches("//");
    match scheme {
        "ocidir" | "oci-layout" | "layout" if !place.is_empty() => Some(format!(
            "an image of a layout folder is written oci:{place}"
        )),
        "oci-archive" | "docker-archive" | "docker-daemon" | "containers-storage" | "dir" => {
            Some(format!(
                "{scheme}: cannot be read; use REGISTRY/REPOSITORY, or oci:FOLDER, into which other tools can copy"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_call_a_folder_says_what_to_write() {
        for (text, message) in [
            (
                "./layout:1.0",
                "an image of a layout folder is written oci:./layout:1.0",
            ),
            (
                "/srv/layout",
                "an image of a layout folder is written oci:/srv/layout",
            ),
            (
                "ocidir://layout:1.0",
                "an image of a layout folder is written oci:layout:1.0",
            ),
            (
                "oci-layout:///a/b",
                "an image of a layout folder is written oci:/a/b",
            ),
            (
                "oci-archive:a.tar",
                "oci-archive: cannot be read; use REGISTRY/REPOSITORY, or oci:FOLDER, into which other tools can copy",
            ),
            (
                "http://localhost:5000/app",
                "\"http://localhost:5000/app\" is not a reference: leave out the scheme; --plain-http HOST selects plain HTTP",
            ),
            (
                "alpine",
                "\"alpine\" is not a reference: it names no registry; for Docker Hub write docker.io/library/alpine",
            ),
        ] {
            assert_eq!(source(text).unwrap_err(), message);
        }
    }

    #[test]
    fn folders_alone_need_no_network() {
        let parse = |texts: &[&str]| {
            let sources = texts.iter().map(|text| source(text).unwrap());
            registries(&sources.collect::<Vec<_>>()).map(|registries| registries.len())
        };
        assert_eq!(parse(&["oci:a", "oci:b:1.0"]), None);
        assert_eq!(parse(&["oci:a", "a.b/c"]), Some(1));
        // Those of the configuration are not known yet.
        assert_eq!(parse(&[]), Some(0));
    }
}
