use oci_content::Registry;
use registry_probe::ProbeReport;

/// Returns which product a registry is as far as its name and its answers show, and what shows it.
pub(super) fn of(report: &ProbeReport) -> (&'static str, &'static str) {
    if let Some(product) = by_name(&report.registry) {
        return (product, "its name");
    }
    let of_facts = report.facts.iter().flat_map(|fact| &fact.evidence);
    let answers = report.evidence.iter().chain(of_facts);
    let values: Vec<_> = answers
        .flat_map(|evidence| &evidence.headers)
        .map(|(name, value)| format!("{name}: {}", value.to_ascii_lowercase()))
        .collect();
    let product = BY_HEADER
        .into_iter()
        .find(|(part, _)| values.iter().any(|value| value.contains(part)));
    product.map_or(("unknown", "nothing"), |(_, product)| {
        (product, "its answers")
    })
}

/// What headers contain.
const BY_HEADER: [(&str, &str); 9] = [
    ("service=\"harbor-registry\"", "Harbor"),
    ("artifactory", "JFrog Artifactory"),
    ("/jwt/auth", "GitLab"),
    ("server: zot", "zot"),
    ("server: nexus", "Sonatype Nexus"),
    ("realm=\"sonatype nexus", "Sonatype Nexus"),
    ("gitea", "Gitea or Forgejo"),
    ("quay", "Quay"),
    (
        "docker-distribution-api-version: registry/2.0",
        "distribution, or built on it",
    ),
];

fn by_name(registry: &Registry) -> Option<&'static str> {
    let name = registry.as_str();
    let host = name.split(':').next().unwrap_or(name);
    let is = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    let product = match host {
        _ if is("docker.io") => "Docker Hub",
        _ if is("ghcr.io") => "GitHub Container Registry",
        _ if is("gcr.io") || is("pkg.dev") => "Google Artifact Registry",
        _ if is("azurecr.io") => "Azure Container Registry",
        _ if is("amazonaws.com") || is("public.ecr.aws") => "Amazon ECR",
        _ if is("quay.io") => "Quay",
        _ if is("jfrog.io") => "JFrog Artifactory",
        _ if is("registry.gitlab.com") => "GitLab",
        _ => return None,
    };
    Some(product)
}
