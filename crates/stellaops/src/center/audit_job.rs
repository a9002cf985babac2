//! A run that audits the target of a job.

use jiff::Timestamp;
use mirror_import::{AuditReport, AuditStatus, DriftKind};

use super::runner::Running;
use super::view::AuditView;
use crate::exit::{Exit, Failure};
use crate::jobs::audit::{audit, place, repair, target};
use crate::log::escape;

/// The most findings that are kept.
const MAX_FINDINGS: usize = 100;

pub(super) async fn run(running: &Running<'_>) -> Result<(), Failure> {
    let context = running.context;
    let job = &running.run.job;
    let receipts = context.receipts_of(job.as_str())?;
    let Some((name, receipt)) = receipts.newest_proved()? else {
        let message = format!(
            "job {job} has no receipt of a run that was proved, so there is nothing to compare the target with; run the job first"
        );
        return Err(Failure::new(Exit::Usage, message));
    };
    context.log.info(&format!("Auditing by {name}"));
    let target = target(context, &receipt)?;
    let (mut report, mut result) = audit(context, &target, &receipt).await;
    let repairs = running.job.audit.as_ref().is_some_and(|audit| audit.repair);
    let mut repaired = false;
    if repairs && report.status == AuditStatus::Drifted {
        context.log.warn(&format!(
            "{} missing and {} changed at the target, which is sent again",
            report.count(DriftKind::Missing),
            report.count(DriftKind::Changed)
        ));
        match repair(context, &receipt, &target, false).await {
            Ok(()) => {
                (report, result) = audit(context, &target, &receipt).await;
                repaired = true;
            }
            Err(failure) => result = Err(failure),
        }
    }
    context.metrics.drifted(job.as_str(), &report);
    for question in &report.unanswered {
        context.log.warn(&format!("no answer: {question}"));
    }
    let view = AuditView {
        job: job.clone(),
        at: Timestamp::now(),
        missing: report.count(DriftKind::Missing) as u64,
        changed: report.count(DriftKind::Changed) as u64,
        extra: report.count(DriftKind::Extra) as u64,
        findings: findings(&report),
        repaired,
    };
    for finding in &view.findings {
        context.log.warn(finding);
    }
    running.state().save_audit(&view)?;
    result
}

fn findings(report: &AuditReport) -> Vec<String> {
    let findings = report.findings.iter().take(MAX_FINDINGS);
    findings
        .map(|finding| {
            let (kind, object) = (finding.kind, finding.object);
            escape(&format!(
                "{kind}: {object} {}: {}",
                place(finding),
                finding.cause()
            ))
        })
        .collect()
}
