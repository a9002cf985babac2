use super::*;

const REGSYNC_SMALL: &str = r#"
version: 1
creds:
  - registry: cache.lab.test:5000
    tls: disabled
  - registry: docker.io
    user: "{{env \"HUB_USER\"}}"
    pass: "{{file \"/run/secrets/hub\"}}"
defaults:
  parallel: 2
  interval: 60m
sync:
  - source: nginx:1.27
    target: cache.lab.test:5000/library/nginx:1.27
    type: image
  - source: redis
    target: cache.lab.test:5000/hub/redis
    type: repository
    tags:
      allow: ["7", "7\\.\\d+", latest]
      deny: ['.*-rc\d*']
"#;

#[test]
fn images_and_repositories_of_docker_hub() {
    outcome(Kind::Regsync, REGSYNC_SMALL, None).is(
        r"
registries:
  cache.lab.test:5000: {plain_http: true}
jobs:
  cache-lab-test-5000:
    images:
    - reference: docker.io/library/nginx:1.27
    - repository: docker.io/library/redis
      tags: {regex: '^(?:7|7\.\d+|latest)$', exclude: '^.*-rc\d*$'}
    to:
      registry: cache.lab.test:5000
      map:
      - docker.io/library/redis=hub/redis
    schedule:
      cron: '0 * * * *'
",
        &[
            (6, Setting, "stellaops registry login docker.io -u USER"),
            (10, Setting, "parallel"),
        ],
    );
}

const REGSYNC_RANGES: &str = r#"
version: 1
x-pinned: &pinned
  type: repository
  referrers: true
  digestTags: true
  platforms: [linux/arm64, linux/amd64]
defaults:
  schedule: "TZ=Europe/Berlin 30 2 * * *"
sync:
  - <<: *pinned
    source: ghcr.io/team/api
    target: mirror.test/team/api
    tagSets:
      - semverRange: [">=1.4 <2.0", "^3.1"]
        deny: [".*-debug"]
      - allow: [edge]
  - <<: *pinned
    source: quay.io/team/web
    target: mirror.test/team/web
    tags: {semverRange: ["1.2.3.4"]}
"#;

#[test]
fn tag_sets_ranges_and_merge_keys() {
    outcome(Kind::Regsync, REGSYNC_RANGES, None).is(
        r"
jobs:
  mirror-test:
    images:
    - repository: ghcr.io/team/api
      tags: {semver: '>=1.4.0, <2.0.0', exclude: '^.*-debug$'}
    - repository: ghcr.io/team/api
      tags: {semver: '>=3.1.0, <4.0.0', exclude: '^.*-debug$'}
    - repository: ghcr.io/team/api
      tags: {regex: '^edge$'}
    platforms: [linux/amd64, linux/arm64]
    to:
      registry: mirror.test
    schedule:
      cron: '30 2 * * *'
      time_zone: 'Europe/Berlin'
",
        &[
            (3, Setting, "x-pinned"),
            (15, Differs, "pre-releases"),
            (15, Differs, "pre-releases"),
            (18, LeftOut, "more than three parts"),
        ],
    );
}

const REGSYNC_WHOLE: &str = r#"
version: 1
creds:
  - registry: harbor.test
    user: robot
    pass: hunter2
    regcert: "{{file \"/certs/ca.pem\"}}"
    clientCert: |
      -----BEGIN CERTIFICATE-----
    clientKey: |
      -----BEGIN PRIVATE KEY-----
    reqPerSec: 20
    reqConcurrent: 8
    hostname: harbor.internal.test
sync:
  - source: harbor.test
    target: dr.test/harbor
    type: registry
    repos:
      allow: ["team/.*", "base/[^/]+", "tools/helper"]
    tags:
      allow: ["v.*"]
  - source: harbor.test
    target: dr.test/all
    type: registry
    repos: {deny: ["scratch/.*"]}
"#;

#[test]
fn a_whole_registry_and_its_certificates() {
    let found = outcome(Kind::Regsync, REGSYNC_WHOLE, None);
    found.is(
        r"
registries:
  harbor.test: {max_in_flight: 8, requests_per_second: 20, ca_file: '/certs/ca.pem'}
jobs:
  dr-test-harbor:
    images:
    - repositories: 'harbor.test/team/**'
      tags: {regex: '^v.*$'}
    - repositories: 'harbor.test/base/*'
      tags: {regex: '^v.*$'}
    - repository: harbor.test/tools/helper
      tags: {regex: '^v.*$'}
    to:
      registry: dr.test/harbor
",
        &[
            (4, Setting, "login harbor.test -u robot"),
            (4, Setting, "client_cert"),
            (4, Setting, "client_key"),
            (14, Setting, "hostname"),
            (23, LeftOut, "repos.deny"),
        ],
    );
    let all = found.yaml + &found.comments + &found.notes.join("\n");
    assert!(!all.contains("hunter2") && !all.contains("BEGIN"), "{all}");
}

const REGSYNC_NAMES: &str = r#"
version: 1
defaults:
  referrers: false
  backup: "old-{{.Ref.Tag}}"
sync:
  - {source: "alpine:3.20", target: "t.test/alpine:edge", type: image}
  - {source: "alpine@sha256:0000000000000000000000000000000000000000000000000000000000000000", target: "t.test/alpine:1", type: image}
  - {source: "{{env \"FROM\"}}/app", target: t.test/app, type: repository}
  - {source: "ocidir:///srv/app", target: t.test/app, type: repository}
  - {source: "busybox:latest", target: t.test/busybox, type: repository}
  - {source: "https://me:hunter2@r.test/app", target: t.test/app, type: repository}
  - {source: r.test/app, target: t.test/app, type: mirror}
  - {source: r.test/app, target: t.test/app}
  - {source: r.test/app, target: t.test/app, type: repository, referrerSource: r.test/sigs}
  - {source: a.test/app, target: t.test/app, type: repository}
  - {source: b.test/app, target: t.test/app, type: repository, tag: {allow: [x]}}
  - {source: c.test/app, target: t.test/app, type: repository, platform: linux/s390x, tags: {allow: ['\Qx\E']}}
  - {source: d.test/app, target: t.test/app, type: image, platform: linux/s390x}
"#;

#[test]
fn names_that_have_no_place_here() {
    let found = outcome(Kind::Regsync, REGSYNC_NAMES, None);
    found.is(
        r"
jobs:
  t-test:
    images:
    - repository: a.test/app
    to:
      registry: t.test
  t-test-2:
    images:
    - repository: b.test/app
    to:
      registry: t.test
  t-test-3:
    images:
    - reference: d.test/app:latest
    platforms: [linux/s390x]
    to:
      registry: t.test
",
        &[
            (4, Setting, "referrers"),
            (5, Setting, "backup"),
            (7, LeftOut, "tag 3.20 at the source and tag edge"),
            (8, LeftOut, "no tag at the source"),
            (9, LeftOut, "template"),
            (10, LeftOut, "ocidir://"),
            (11, LeftOut, "a repository is named"),
            (12, LeftOut, "***@r.test/app"),
            (13, LeftOut, "\"mirror\""),
            (14, LeftOut, "without source, target and type"),
            (15, LeftOut, "referrerSource"),
            (17, LeftOut, "unknown key \"tag\""),
            (18, LeftOut, "\\Q"),
            (19, Differs, "linux/s390x"),
        ],
    );
    assert!(!found.comments.contains("hunter2"), "{}", found.comments);
}

const REGSYNC_TUNED: &str = r#"
version: 2
cred: []
defaults:
  ratelimit: {min: 100, retry: 15m}
  interval: 45m
  cacheTime: 5m
  skipDockerConfig: true
  hooks: {post: {type: exec, params: [notify]}}
sync:
  - source: registry.k8s.io/pause
    target: t.test/k8s/pause
    type: repository
    fastCheck: true
    mediaTypes: [application/vnd.oci.image.index.v1+json]
    referrerFilters: [{artifactType: application/spdx+json}]
    interval: 12h
    tags: {allow: ['3\.(9|10)'], deny: ['v1|v2', '(?i).*windows.*']}
"#;

#[test]
fn settings_without_counterpart() {
    outcome(Kind::Regsync, REGSYNC_TUNED, None).is(
        r"
jobs:
  t-test-k8s:
    images:
    - repository: registry.k8s.io/pause
      tags: {regex: '(?:^3\.(9|10)$)', exclude: '(?:^v1|v2$)|(?:^(?i).*windows.*$)'}
    to:
      registry: t.test/k8s
    schedule:
      cron: '0 */12 * * *'
",
        &[
            (2, LeftOut, "version"),
            (3, LeftOut, "unknown key \"cred\""),
            (5, Setting, "ratelimit"),
            (6, Setting, "45m"),
            (7, Setting, "cacheTime"),
            (8, Setting, "skipDockerConfig"),
            (9, Setting, "hooks"),
            (14, Setting, "fastCheck"),
            (15, Setting, "mediaTypes"),
            (16, Setting, "referrerFilters"),
        ],
    );
}
