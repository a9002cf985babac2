//! `DEST`: where images and referrers are put.

use std::sync::Arc;

use clap::Args;
use mirror_import::{LayoutTarget, Mapping, RegistryTarget, Target};
use oci_content::{Reference, Registry};

use crate::context::{Context, local_store};
use crate::exit::{Exit, Failure};
use crate::failure;

/// How the repositories of a source are named at the target.
#[derive(Debug, Args)]
pub(crate) struct MappingArgs {
    /// Keep the source registry's name as the first part of the repository
    #[arg(long)]
    pub(crate) keep_host: bool,
    /// Put the repository FROM (with its registry) into TO
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) map: Vec<String>,
}

impl MappingArgs {
    /// Parses the rules.
    pub(crate) fn mapping(&self) -> Result<Mapping, Failure> {
        let mut mapping = Mapping::default();
        mapping.keep_host = self.keep_host;
        for rule in &self.map {
            let rule = rule.parse().map_err(|error| failure::of_import(&error))?;
            mapping.rules.push(rule);
        }
        Ok(mapping)
    }
}

/// Returns the registry that a destination names, if it does.
pub(crate) fn registry(to: Option<&str>) -> Option<Registry> {
    to?.split('/').next()?.parse().ok()
}

/// Parses `REGISTRY[/PREFIX]` or `oci:FOLDER`; also returns the registry, if it is one.
pub(crate) fn target(
    context: &Context,
    to: Option<&str>,
    mapping: &mut Mapping,
) -> Result<(Arc<dyn Target>, Option<Registry>), Failure> {
    let Some(to) = to else {
        let target = LayoutTarget::new(local_store()?)
            .full_references(true)
            .with_gaps(context.gaps.clone());
        return Ok((Arc::new(target), None));
    };
    if let Some(folder) = to.strip_prefix("oci:") {
        if folder.is_empty() {
            return Err(Failure::new(Exit::Usage, "--to oci: names no folder"));
        }
        return Ok((
            Arc::new(LayoutTarget::new(folder).with_gaps(context.gaps.clone())),
            None,
        ));
    }
    let wrong = |reason: String| {
        Failure::new(
            Exit::Usage,
            format!("--to {to} is neither REGISTRY[/PREFIX] nor oci:FOLDER: {reason}"),
        )
    };
    if let Some(instead) = instead_of(to) {
        // There may be a password before the @.
        let shown = if to.contains('@') { "..." } else { to };
        let message = format!("--to {shown}: {instead}");
        return Err(Failure::new(Exit::Usage, message));
    }
    let (registry, prefix) = match to.split_once('/') {
        Some((registry, prefix)) => (registry, Some(prefix)),
        None => (to, None),
    };
    let registry: Registry = registry
        .parse()
        .map_err(|error| wrong(format!("{error}")))?;
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        // A tag here would become part of every image's name.
        if to
            .parse::<Reference>()
            .is_ok_and(|reference| prefix.contains([':', '@']) && reference.tag().is_some())
        {
            return Err(wrong(
                "images keep their own tags; leave out the tag".into(),
            ));
        }
        mapping.prefix = Some(prefix.parse().map_err(|error| wrong(format!("{error}")))?);
    }
    let target = RegistryTarget::new(context.client.clone(), registry.clone());
    let target = target.manifest_cache(context.manifest_cache());
    Ok((Arc::new(target), Some(registry)))
}

/// Returns what to write instead of a target in another tool's syntax.
fn instead_of(to: &str) -> Option<String> {
    if to.starts_with(['/', '.', '~']) {
        return Some(format!("a layout folder is written oci:{to}"));
    }
    // A port is digits only.
    let (scheme, rest) = to.split_once(':')?;
    let place = rest.trim_start_matches("//");
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {
            let host = place.split('/').next().unwrap_or(place);
            Some(format!(
                "leave out the scheme: --to {place} --plain-http {host}"
            ))
        }
        "https" | "docker" | "oras" | "registry" if rest.starts_with("//") => {
            Some(format!("leave out the scheme: --to {place}"))
        }
        "oci-layout" | "layout" | "ocidir" | "dir" | "file" if !place.is_empty() => {
            Some(format!("a layout folder is written oci:{place}"))
        }
        "oci-archive" | "docker-archive" | "docker-daemon" | "containers-storage" | "s3" | "gs"
        | "az" => Some(format!(
            "cannot import into {scheme}:; use REGISTRY[/PREFIX] or oci:FOLDER, from where other tools can copy"
        )),
        _ if rest.starts_with("//") => Some(format!(
            "{scheme}:// is not a target; use REGISTRY[/PREFIX] or oci:FOLDER"
        )),
        _ => None,
    }
}
