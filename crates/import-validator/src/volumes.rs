use bundle_format::{BundleArchive, BundleFile, EntryPath, Limits, VolumeFaultKind};

use crate::report::{FindingKind, Findings};

/// Reports which volumes explain what is wrong with a bundle.
pub(crate) fn blame(file: &BundleFile, limits: &Limits, findings: &mut Findings) {
    let faults = file.find_faults(limits);
    if faults.is_empty() {
        return suspect(file, limits, findings);
    }
    for fault in faults {
        let kind = match fault.kind() {
            VolumeFaultKind::Missing => FindingKind::VolumeMissing,
            VolumeFaultKind::Size => FindingKind::VolumeSize,
            VolumeFaultKind::Unexpected => FindingKind::VolumeUnexpected,
            _ => FindingKind::VolumeContent,
        };
        findings
            .add(kind)
            .path(fault.path().display())
            .found(fault.reason());
    }
}

/// Reports the volumes that hold the damage, if no checksums show which volume is wrong.
fn suspect(file: &BundleFile, limits: &Limits, findings: &mut Findings) {
    let Some(first) = file.volumes().next().filter(|_| file.volumes().count() > 1) else {
        return;
    };
    // A bundle that cannot be read from its start may not be one: another tool may have packed it.
    let in_first = |at: &u64| {
        file.volumes_at(*at, 1)
            .is_some_and(|(volume, _)| volume == first)
    };
    let broken_at = findings.broken_at.filter(|at| !in_first(at));
    let mut places: Vec<_> = broken_at.map(|at| (at, 1)).into_iter().collect();
    let damaged: Vec<EntryPath> = findings
        .damaged()
        .filter_map(|path| path.parse().ok())
        .collect();
    if !damaged.is_empty()
        && let Ok(archive) = BundleArchive::open(file, limits)
    {
        let entries = damaged.iter().filter_map(|path| archive.plan().entry(path));
        places.extend(entries.map(|entry| (entry.offset, entry.stored_bytes)));
    }
    for (offset, length) in places {
        let Some((first, last)) = file.volumes_at(offset, length) else {
            return;
        };
        let found = if first == last {
            "the damage is in this volume".to_owned()
        } else {
            format!(
                "the damage is in this volume, or in one of those up to {}",
                last.display()
            )
        };
        findings
            .add(FindingKind::VolumeContent)
            .path(first.display())
            .found(found);
    }
}
