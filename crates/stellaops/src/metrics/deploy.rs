//! The metrics that the alert rules and the dashboard of `deploy/` query.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::*;

/// Returns metrics in which everything that a service counts has happened.
fn busy() -> Metrics {
    let metrics = Metrics::new();
    let registry: Registry = "r.test".parse().unwrap();
    let job: JobName = "nightly".parse().unwrap();
    metrics.expect(&registry);
    metrics.expect_job(&job);
    metrics.expect_runs(&job);
    metrics.request(&registry, "200", 0.1);
    metrics.certificate_ends(&registry, SystemTime::now());
    metrics.job_succeeded(&job, Timestamp::now());
    let run = serde_json::json!({
        "id": "20261130-000017", "job": "nightly", "kind": "bundle", "trigger": "schedule", "status": "succeeded",
        "created": "2026-11-30T02:00:00Z", "started": "2026-11-30T02:00:01Z", "finished": "2026-11-30T02:10:00Z",
        "progress": {}, "outputs": [], "referrers": {}, "warnings": [], "errors": [], "sequence": 1,
    });
    let run: Run = serde_json::from_value(run).unwrap();
    metrics.run_ended(&run, Duration::from_secs(1));
    metrics.job_ran(&job, Duration::from_secs(1));
    metrics.drift(job.as_str(), [0, 0, 0]);
    metrics
}

/// Returns the names of the series of a text in Prometheus' format.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the names of metrics in a query: words that are not functions, labels, keywords or values.
fn queried(query: &str) -> BTreeSet<String> {
    let without_values = Regex::new(r#""[^"]*""#).unwrap().replace_all(query, "\"\"");
    let without_labels = Regex::new(r"\{[^}]*\}").unwrap();
    let without_labels = without_labels.replace_all(&without_values, "");
    let without_lists = Regex::new(r"\b(by|on|without|ignoring) *\([^)]*\)").unwrap();
    let without_lists = without_lists.replace_all(&without_labels, "");
    let without_ranges = Regex::new(r"\[[^\]]*\]").unwrap();
    let query = without_ranges.replace_all(&without_lists, "");
    let words = Regex::new(r"[a-z_]{3,}( *\()?").unwrap();
    let words = words.find_iter(&query).map(|word| word.as_str());
    words
        .filter(|word| !word.ends_with('(') && !["unless", "and", "bool"].contains(word))
        .map(|word| word.trim().to_owned())
        .collect()
}

/// Collects the values of a key, wherever it is.
fn values<'a>(document: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match document {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => values(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_alert_rules_and_the_dashboard_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let rules: Value = serde_saphyr::from_str(&read("prometheus/alerts.yaml")).unwrap();
    let dashboard: Value = serde_json::from_str(&read("grafana/export-center.json")).unwrap();
    let mut queries = Vec::new();
    values(&rules, "expr", &mut queries);
    values(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 20, "{}", queries.len());
    let known = names(&busy().render());
    let mut used = BTreeSet::new();
    for query in queries {
        for name in queried(query) {
            // Prometheus' own.
            assert!(name == "up" || known.contains(&name), "{name} in {query}");
            used.insert(name);
        }
    }
    assert!(used.len() > 12, "{used:?}");
}

#[test]
fn the_labels_of_the_alert_rules_exist() {
    let text = busy().render();
    for series in [
        "export_runs_total{profile=\"nightly\",status=\"succeeded\"}",
        "export_runs_total{profile=\"nightly\",status=\"failed\"}",
        "export_runs_total{profile=\"nightly\",status=\"incomplete\"}",
        "mirror_last_success_timestamp_seconds{job=\"nightly\"}",
        "mirror_drift{job=\"nightly\",kind=\"missing\"}",
        "registry_rate_limit_waits_total{registry=\"r.test\",status=\"429\"}",
        "registry_certificate_expiry_timestamp_seconds{registry=\"r.test\"}",
    ] {
        assert!(text.contains(series), "{series} is not in\n{text}");
    }
}
