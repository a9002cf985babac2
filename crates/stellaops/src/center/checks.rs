//! What the service demands of a configuration, beyond what the file itself is checked for.

use std::collections::BTreeMap;

use bundle_format::StreamName;
use jiff::civil::DateTime;

use crate::arguments::output;
use crate::config::{Config, JobConfig, JobTarget, MirrorTo};
use crate::exit::{Exit, Failure};

/// Refuses a configuration whose jobs could never do what they say.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let mut series = BTreeMap::new();
    for (name, job) in &config.jobs {
        let wrong = |reason: &str| {
            let message = format!("configuration: jobs: {name}: {reason}");
            Err(Failure::new(Exit::Usage, message))
        };
        if let Err(reason) = check_schedules(job) {
            return wrong(&reason);
        }
        let is_registry = matches!(job.to, JobTarget::Mirror(MirrorTo::Registry(_)));
        if job.audit.is_some() && !is_registry {
            return wrong("audit goes with to.registry, because only registries are audited");
        }
        let JobTarget::Bundle(to) = &job.to else {
            continue;
        };
        if let Err(reason) = name.as_str().parse::<StreamName>() {
            return wrong(&format!(
                "its bundles are a stream of that name, and {reason}"
            ));
        }
        let path = to.path.to_string();
        output::check(&to.path.file(1), "to.bundle").map_err(|failure| {
            Failure::new(
                Exit::Usage,
                format!("configuration: jobs: {name}: {failure}"),
            )
        })?;
        if let Some(other) = series.insert(path, name) {
            return wrong(&format!("job {other} writes its bundles to the same files"));
        }
    }
    Ok(())
}

fn check_schedules(job: &JobConfig) -> Result<(), String> {
    let audit = job.audit.as_ref().map(|audit| &audit.schedule);
    for schedule in job.schedule.iter().chain(audit) {
        let cron = &schedule.cron;
        // Any day: what does not come within nine years of it never does.
        if cron
            .next_after(DateTime::constant(2024, 1, 1, 0, 0, 0, 0))
            .is_none()
        {
            return Err(format!(
                "the schedule {:?} names a day that never comes",
                cron.as_str()
            ));
        }
    }
    Ok(())
}
