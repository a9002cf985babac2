use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, MirrorGraph, Reference};
use oci_referrers::{JudgedBundle, JudgedImage, MAX_DATED_DOCUMENT_BYTES, Policy, document_date};
use registry_client::MemorySink;

use crate::content::Bill;
use crate::error::{PlanError, PlanErrorKind};
use crate::found::FoundImage;
use crate::observer::{PlanEvent, PlanObserver};
use crate::origin::Origin;
use crate::request::PlanRequest;

/// The number of documents that are fetched for their dates at once. Each is held in memory.
const MAX_CONCURRENT_DOCUMENTS: usize = 4;

/// The images as a policy sees them, with the dates that it needs; empty if there is no policy.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The policy, and the time from which ages count.
    policy: Option<(Policy, SystemTime)>,
    /// The images, by the references that were asked for.
    images: Vec<(Reference, JudgedImage)>,
}

impl Judged {
    /// Describes what was discovered, and fetches the documents whose dates decide.
    pub(crate) async fn new(
        request: &PlanRequest,
        found: &mut [FoundImage],
    ) -> Result<Self, PlanError> {
        let Some((policy, _)) = &request.policy else {
            return Ok(Self::default());
        };
        let mut images = Vec::new();
        let mut dates = BTreeMap::new();
        for found in found {
            let Some(mut image) = found.judged.take() else {
                continue;
            };
            let asked = image.reference.clone();
            if let Some(source) = request.copies_of.get(&asked) {
                image.target = Some(format!("{}/{}", asked.registry(), asked.repository()));
                image.reference = source.clone();
            }
            let known = found.graph.referrers.iter().zip(&found.bills);
            let known: BTreeMap<&Digest, _> = known
                .map(|(referrer, bill)| (&referrer.digest, bill))
                .collect();
            for referrer in &mut image.referrers {
                if !policy.needs_date_of(&image.reference, referrer) {
                    continue;
                }
                let bill = known
                    .get(&referrer.digest)
                    .copied()
                    .and_then(Option::as_ref);
                let payloads = bill.map_or(&[][..], Bill::payloads);
                fetch_dates(&found.origin, payloads, &mut dates).await?;
                let own = payloads.iter().filter_map(|(payload, _)| {
                    let date: Option<SystemTime> = *dates.get(payload)?;
                    date
                });
                referrer.created = own.max().or(referrer.created);
            }
            images.push((asked, image));
        }
        Ok(Self {
            policy: request.policy.clone(),
            images,
        })
    }

    /// Applies the policy to what a graph carries; `signed` says whether it goes into a signed
    /// bundle.
    pub(crate) fn check(
        &self,
        graph: &MirrorGraph,
        signed: bool,
        observer: &dyn PlanObserver,
    ) -> Result<(), PlanError> {
        let Some((policy, now)) = &self.policy else {
            return Ok(());
        };
        let carried = graph.referrers().map(|(_, artifact)| &artifact.digest);
        let carried: BTreeSet<&Digest> = carried.collect();
        let records = graph.images.iter();
        let images: BTreeSet<_> = records.map(|record| &record.reference).collect();
        let mut bundle = JudgedBundle::new(signed);
        for (asked, image) in &self.images {
            if images.contains(asked) {
                let mut image = image.clone();
                image
                    .referrers
                    .retain(|referrer| carried.contains(&referrer.digest));
                bundle.images.push(image);
            }
        }
        let violations = policy.judge(&bundle, *now);
        if violations.iter().any(|violation| violation.forbids()) {
            return Err(PlanError::policy(violations));
        }
        for violation in &violations {
            observer.planning(PlanEvent::PolicyWarning(violation));
        }
        Ok(())
    }
}

/// Fetches documents and reads their dates. A document that is missing or does not match its digest
/// is left for the transfer to report.
async fn fetch_dates(
    origin: &Origin,
    payloads: &[(Digest, u64)],
    dates: &mut BTreeMap<Digest, Option<SystemTime>>,
) -> Result<(), PlanError> {
    let wanted = payloads.iter().filter(|(payload, size)| {
        *size <= MAX_DATED_DOCUMENT_BYTES && !dates.contains_key(payload)
    });
    let fetches = wanted.map(|(payload, size)| async move {
        let mut sink = MemorySink::new(payload.clone(), *size);
        match origin.pull_blob(payload, *size, &mut sink).await {
            Ok(()) => {
                let document = sink.into_bytes().unwrap_or_default();
                Ok((payload.clone(), document_date(&document)))
            }
            Err(error) => match error.kind() {
                PlanErrorKind::Incomplete | PlanErrorKind::Integrity => Ok((payload.clone(), None)),
                kind => {
                    let what = format!("{payload}, whose date the policy asks for");
                    Err(PlanError::new(kind, what).caused_by(error))
                }
            },
        }
    });
    let fetched: Vec<_> = stream::iter(fetches.collect::<Vec<_>>())
        .buffer_unordered(MAX_CONCURRENT_DOCUMENTS)
        .try_collect()
        .await?;
    dates.extend(fetched);
    Ok(())
}
