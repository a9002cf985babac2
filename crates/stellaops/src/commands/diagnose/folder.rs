//! Checks of an image in a layout folder.

use std::collections::BTreeMap;

use mirror_plan::{PlanError, PlanErrorKind};
use oci_content::{Digest, ImageLayout, LayoutReference, Manifest};
use oci_referrers::{
    FoldedProblem, ImageDepth, ImageTree, LayoutImage, LayoutImageError, LayoutReferrers,
    ManifestFailure, ManifestSource as _, ReferrerGraph,
};

use super::finding::Finding;
use super::image;
use crate::exit::Exit;
use crate::failure;
use crate::render;

/// Every check of a folder in order.
pub(super) const CHECKS: [&str; 6] = [
    "folder",
    "image",
    "content",
    "referrers tag",
    "legacy tags",
    "referrers",
];

const COPY_AGAIN: &str = "copy the image into the folder again, or name another folder";

/// Runs all checks until one fails that the others need.
pub(super) async fn check(reference: &LayoutReference) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = match LayoutReferrers::open_folder(reference) {
        Ok(folder) => folder,
        Err(error) => return vec![unusable("folder", error)],
    };
    findings.push(contents(&folder, reference));
    let image = match folder.image(reference) {
        Ok(image) => image,
        Err(error) => {
            findings.push(unusable("image", error));
            return findings;
        }
    };
    let folder = folder.of(&image);
    let manifest = match folder.manifest(&image.digest).await {
        Ok(manifest) => manifest,
        Err(failure) => {
            findings.push(unreadable(&image, &failure));
            return findings;
        }
    };
    findings.extend(found(reference, &image, &manifest));
    let tree = ImageTree::walk(&folder, manifest, &[], ImageDepth::Manifests).await;
    let graph = folder
        .discovery()
        .children(Some(ImageDepth::Manifests))
        .keep_manifests(true)
        .run(tree.all_subjects())
        .await;
    findings.push(content(folder.layout(), &tree, &graph));
    if let Some(report) = graph.report(tree.root.digest()) {
        findings.push(image::referrers_tag(report));
        findings.push(image::legacy_tags(report, &graph));
    }
    findings.push(referrers(&tree, &graph));
    findings.extend(image::gone(&graph));
    findings
}

fn unusable(check: &'static str, error: LayoutImageError) -> Finding {
    let error = PlanError::from(error);
    let finding = Finding::failed(
        check,
        failure::exit_of_plan(error.kind()),
        error.to_string(),
    );
    match error.kind() {
        PlanErrorKind::Incomplete => finding
            .cause("a copy into the folder was interrupted, or something else has written there")
            .remedy(COPY_AGAIN),
        PlanErrorKind::LocalIo => finding
            .cause("this user may not read the folder, or its disk fails")
            .remedy("check the permissions of the folder"),
        _ if check == "folder" => finding.remedy(
            "name the folder of an image layout: oci:FOLDER[:TAG|@DIGEST]; FOLDER ends at the last colon",
        ),
        _ => finding.remedy("name an image that is there: oci:FOLDER[:TAG|@DIGEST]"),
    }
}

/// Lists the images of the folder.
fn contents(folder: &LayoutReferrers, reference: &LayoutReference) -> Finding {
    const SHOWN: usize = 8;
    match folder.images(&LayoutReference::new(reference.folder())) {
        Ok(images) => {
            let seen = format!(
                "an image layout with {}",
                render::count(images.len(), "image")
            );
            let names = images.iter().take(SHOWN);
            let names = names.map(|image| render::foreign(&image.reference.to_string()));
            let more = images.len().saturating_sub(SHOWN);
            let more = (more > 0).then(|| format!("and {more} more"));
            Finding::good("folder", seen).details(names.chain(more))
        }
        // What is asked for may be there.
        Err(error) => Finding::notice("folder", format!("an image layout; {error}")),
    }
}

fn unreadable(image: &LayoutImage, failure: &ManifestFailure) -> Finding {
    let seen = match failure {
        ManifestFailure::Failed(problem) => problem.to_string(),
        _ => "index.json lists it, and it is not there".to_owned(),
    };
    Finding::failed("image", Exit::Incomplete, seen)
        .details([image.digest.to_string()])
        .cause("a copy into the folder was interrupted, or its blobs were cleaned up")
        .remedy(COPY_AGAIN)
}

fn found(reference: &LayoutReference, image: &LayoutImage, manifest: &Manifest) -> Vec<Finding> {
    let name = render::foreign(&image.reference.to_string());
    let kind = image::kind_of(manifest);
    let seen = format!("it is there, {kind}, and named {name}");
    let mut findings = vec![Finding::good("image", seen).details([image.digest.to_string()])];
    if let (Some(now), Some(tag)) = (&image.tag_moved_to, reference.name()) {
        let seen = format!("{} leads to {now} now", render::foreign(tag));
        findings.push(
            Finding::notice("tag", seen)
                .cause("another image was copied into the folder under this name")
                .remedy("for that one, leave out the digest"),
        );
    }
    findings
}

/// Looks for every blob of the image and of its referrers. Manifests were hashed; blobs are compared by size.
fn content(layout: &ImageLayout, tree: &ImageTree, graph: &ReferrerGraph) -> Finding {
    const CHECK: &str = "content";
    const SHOWN: usize = 8;
    let children = |tree: &ImageTree| {
        let children = tree.children.iter();
        let children = children.filter_map(|child| child.manifest.clone());
        children.collect::<Vec<_>>()
    };
    let referrers = graph.referrers.iter();
    let referrers = referrers.filter_map(|referrer| referrer.manifest.clone());
    let below = graph.indexes.values().flat_map(children);
    let manifests = [tree.root.clone()].into_iter().chain(children(tree));
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    for manifest in manifests.chain(referrers).chain(below) {
        blobs.extend(
            manifest
                .blobs()
                .map(|blob| (blob.digest.clone(), blob.size)),
        );
    }
    let mut wrong = Vec::new();
    for (digest, size) in &blobs {
        match layout.blob_size(digest) {
            Ok(Some(there)) if there == *size => {}
            Ok(Some(there)) => wrong.push(format!("{digest} has {there} bytes instead of {size}")),
            Ok(None) => wrong.push(format!("{digest} is not there")),
            Err(error) => wrong.push(format!("{digest}: {error}")),
        }
    }
    let missing = tree.missing.iter();
    let missing =
        missing.map(|child| format!("{} is not there, a manifest of the index", child.digest));
    wrong.extend(missing);
    if wrong.is_empty() {
        let blobs = render::count(blobs.len(), "blob");
        return Finding::good(
            CHECK,
            format!("{blobs} with the sizes that manifests give them"),
        );
    }
    let count = render::count(wrong.len(), "object");
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    wrong.extend((more > 0).then(|| format!("and {more} more")));
    Finding::failed(
        CHECK,
        Exit::Incomplete,
        format!("{count} missing or of another size"),
    )
    .details(wrong)
    .cause("a copy into the folder was interrupted, or left out platforms or blobs")
    .remedy(COPY_AGAIN)
}

fn referrers(tree: &ImageTree, graph: &ReferrerGraph) -> Finding {
    const CHECK: &str = "referrers";
    let problems = FoldedProblem::fold(graph.errors());
    if !problems.is_empty() {
        let known = render::count(graph.referrers.len(), "referrer");
        let seen = format!("{known} found, but not everything could be read");
        return Finding::failed(CHECK, Exit::Incomplete, seen)
            .details(problems.iter().map(image::folded_line))
            .cause(
                "a manifest that index.json leads to is missing or damaged; it may be a referrer",
            )
            .remedy(COPY_AGAIN);
    }
    let subject = tree.root.digest();
    let own = graph.referrers_of(subject).count();
    let children = image::on_children(tree, graph);
    let elsewhere: usize = children.iter().map(|(_, count)| count).sum();
    let per_child = children
        .iter()
        .map(|(name, count)| format!("{name}: {count}"));
    if own + elsewhere == 0 {
        return Finding::notice(CHECK, "nothing refers to it")
            .cause("the tool that filled the folder copied the image alone, as skopeo does and others do by default")
            .remedy(
                "copy it with its referrers: oras cp -r, regctl image copy --referrers --digest-tags, or stellaops mirror copy",
            );
    }
    let verb = if own == 1 { "refers" } else { "refer" };
    let seen = match elsewhere {
        0 => format!("{own} {verb} to it"),
        _ => format!("{own} {verb} to it, {elsewhere} more to its platforms"),
    };
    Finding::good(CHECK, seen)
        .details(image::by_category(subject, graph))
        .details(per_child)
}
