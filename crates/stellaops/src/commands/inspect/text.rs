use std::fmt::Write as _;

use crate::commands::inspect::view::{
    BundleView, CountsView, FoundView, ReferrerView, TrustView, WarningView,
};
use crate::render::{self, Table};

/// Formats a bundle for people: what it is, a table of its images, and the referrers of each.
pub(crate) fn text(view: &BundleView) -> String {
    let mut text = head(view);
    text.push('\n');
    let mut table = Table::new(["IMAGE", "DIGEST", "REFERRERS", "METHOD", "STATUS"]);
    for image in &view.images {
        let below = image
            .children
            .iter()
            .map(|child| child.found.referrers.len());
        let referrers = image.found.referrers.len() + below.sum::<usize>();
        table.row([
            image.reference.to_string(),
            render::short(&image.digest),
            match image.same_as {
                Some(_) => "as above".to_owned(),
                None => referrers.to_string(),
            },
            method(&image.found),
            status(&image.found),
        ]);
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{table}");
    for image in view.images.iter().filter(|image| image.same_as.is_none()) {
        let _ = writeln!(text, "\n{}\n  {}", image.reference, image.digest);
        let _ = writeln!(
            text,
            "  {}, {}",
            image.media_type,
            render::bytes(image.size)
        );
        referrers(&mut text, "  ", &image.found);
        for child in &image.children {
            let platform = child
                .platform
                .as_deref()
                .map_or("child".into(), render::foreign);
            let omitted = child.omitted.as_ref();
            let omitted = omitted.map(|reason| format!(", not in the bundle ({reason})"));
            let omitted = omitted.unwrap_or_default();
            let _ = writeln!(
                text,
                "  {platform} {}{omitted}",
                render::short(&child.digest)
            );
            if child.omitted.is_none() {
                referrers(&mut text, "    ", &child.found);
            }
        }
    }
    for subject in &view.other_subjects {
        let (repository, digest) = (&subject.repository, &subject.digest);
        let _ = writeln!(text, "\n{repository}@{digest}");
        let (method, status) = (method(&subject.found), status(&subject.found));
        let _ = writeln!(
            text,
            "  a subject that is not an image of this bundle; {method}, {status}"
        );
        referrers(&mut text, "  ", &subject.found);
    }
    if !view.warnings.is_empty() {
        text.push_str("\nWarnings\n");
    }
    for warning in &view.warnings {
        let _ = writeln!(text, "  {}", sentence(warning));
    }
    if let Some(signature) = &view.signature {
        let key = signature.key_hint.as_ref();
        let key = key.map(|key| format!(", which says that it is of the key {key}"));
        let key = key.unwrap_or_default();
        let _ = writeln!(
            text,
            "\nTo check the signature{key}, with the signer's public key in KEY.pub"
        );
        for line in signature
            .extract
            .iter()
            .chain(&signature.cosign)
            .chain(&signature.openssl)
        {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn head(view: &BundleView) -> String {
    let counts = &view.counts;
    let size = view.size.map(|size| format!(", {}", render::bytes(size)));
    let mut text = format!("{}: {}{}\n", view.file, view.form, size.unwrap_or_default());
    let _ = writeln!(text, "  manifest   {}", view.manifest);
    let _ = writeln!(
        text,
        "  stream     {}, sequence {}",
        view.stream, view.sequence
    );
    if let Some(created) = &view.created {
        let _ = writeln!(text, "  created    {created}");
    }
    if let Some(base) = &view.base {
        let left_out = render::count(counts.blobs_in_base, "blob");
        let _ = writeln!(
            text,
            "  base       {base}\n             which holds {left_out} of {} that are not in this bundle",
            render::bytes(counts.blob_bytes_in_base)
        );
    }
    let images = render::count(counts.images, "image");
    let (blobs, bytes) = (
        render::count(counts.blobs, "blob"),
        render::bytes(counts.blob_bytes),
    );
    let _ = writeln!(text, "  content    {images}, {blobs} of {bytes}");
    let _ = writeln!(text, "  {}", referrer_counts(view));
    for (number, file) in view.trust.iter().enumerate() {
        let key = if number == 0 { "trust" } else { "" };
        let _ = writeln!(text, "  {key:9}  {}", trusted(file));
    }
    let signed = match &view.signature {
        None => "no",
        Some(_) => "yes; verify it with `bundle validate --key` or with the commands at the end",
    };
    let _ = writeln!(text, "  signed     {signed}\n  status     {}", view.status);
    text
}

fn referrer_counts(view: &BundleView) -> String {
    let counts = &view.counts;
    let bare = match (counts.bare_images, counts.images as u64) {
        (0, 1) => "something refers to the image".to_owned(),
        (0, _) => "something refers to each of the images".to_owned(),
        (_, 1) => "nothing refers to the image".to_owned(),
        (bare, images) if bare == images => format!("nothing refers to any of the {images} images"),
        (bare, images) => format!("nothing refers to {bare} of the {images} images"),
    };
    format!("referrers  {}; {bare}", referrers_found(counts))
}

/// Formats a file below `trust/`.
pub(crate) fn trusted(file: &TrustView) -> String {
    format!(
        "{}, {}, {}",
        file.name,
        render::bytes(file.size),
        file.digest
    )
}

/// Formats the number of referrers, their subjects and their categories.
pub(crate) fn referrers_found(counts: &CountsView) -> String {
    if counts.referrers == 0 {
        return "none".to_owned();
    }
    let subjects = usize::try_from(counts.subjects).unwrap_or(usize::MAX);
    let categories = counts.by_category.iter();
    let categories: Vec<_> = categories
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    format!(
        "{} of {} ({})",
        counts.referrers,
        render::count(subjects, "subject"),
        categories.join(", ")
    )
}

pub(crate) fn method(found: &FoundView) -> String {
    let method = found.method.map(|method| method.to_string());
    method.unwrap_or_else(|| "not asked".to_owned())
}

pub(crate) fn status(found: &FoundView) -> String {
    let status = found.status.map(|status| status.to_string());
    status.unwrap_or_else(|| "unknown".to_owned())
}

fn referrers(text: &mut String, indent: &str, found: &FoundView) {
    if let Some(nothing) = found.nothing() {
        let _ = writeln!(text, "{indent}{nothing}");
    }
    for referrer in &found.referrers {
        let deeper = "  ".repeat(referrer.depth - 1);
        let artifact_type = referrer
            .artifact_type
            .as_deref()
            .map_or("no artifact type".into(), render::foreign);
        let tag = referrer.tag.as_ref().map(|tag| format!(", tag {tag}"));
        let _ = writeln!(
            text,
            "{indent}{deeper}- {} {artifact_type} {}, {}, {}{}",
            referrer.category,
            render::short(&referrer.digest),
            render::bytes(referrer.size),
            sources(referrer),
            tag.unwrap_or_default(),
        );
    }
}

pub(crate) fn sources(referrer: &ReferrerView) -> String {
    let sources = referrer.sources.iter().map(|source| source.as_str());
    sources.collect::<Vec<_>>().join(" and ")
}

pub(crate) fn sentence(warning: &WarningView) -> String {
    let mut text = warning.code.clone();
    if let (Some(repository), Some(subject)) = (&warning.repository, &warning.subject) {
        let _ = write!(text, ": {repository}@{subject}");
    }
    if let Some(digest) = &warning.digest {
        let _ = write!(text, ", about {digest}");
    }
    if let Some(source) = &warning.source {
        let _ = write!(text, ", from {source}");
    }
    text
}
