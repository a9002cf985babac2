use super::*;

const SCOPED: (usize, Weight, &str) = (2, Setting, "--scoped");
const ALL: (usize, Weight, &str) = (2, Setting, "--all");

#[test]
fn tags_digests_and_all_tags() {
    let text = r"
registry.test:
  images:
    busybox: []
    team/db:
      - 1.10
      - '2.0'
      - sha256:0000000000000000000000000000000000000000000000000000000000000000
    empty:
docker.io:
  images:
    redis: [7]
";
    outcome(Kind::Skopeo, text, Some("inside.test/mirror")).is(
        r"
jobs:
  inside-test-mirror:
    images:
    - repository: registry.test/busybox
    - reference: registry.test/team/db:1.10
    - reference: registry.test/team/db:2.0
    - reference: registry.test/team/db@sha256:0000000000000000000000000000000000000000000000000000000000000000
    - repository: registry.test/empty
    - reference: docker.io/library/redis:7
    to:
      registry: inside.test/mirror
",
        &[SCOPED, ALL],
    );
}

#[test]
fn patterns_are_not_anchored() {
    let text = r"
registry.test:
  images-by-tag-regex:
    nginx: ^1\.13\.[12]-alpine$
    app: lts
    odd: '[[a]'
    list: [a, b]
";
    outcome(Kind::Skopeo, text, None).is(
        r"
jobs:
  mirror:
    images:
    - repository: registry.test/nginx
      tags: {regex: '^1\.13\.[12]-alpine$'}
    - repository: registry.test/app
      tags: {regex: 'lts'}
    to:
      registry: target.invalid
",
        &[
            NO_TARGET,
            SCOPED,
            ALL,
            (6, LeftOut, "registry.test/odd"),
            (7, LeftOut, "registry.test/list"),
        ],
    );
}

#[test]
fn version_constraints_and_their_alternatives() {
    let text = r#"
registry.test:
  images-by-semver:
    alpine: ">= 3.12.0"
    two: "<1.2 || ^2.1"
    list: ["3.12 - 3.13", ">= 3.17"]
    pre: ">=1.2.0-0"
    not: "!=1.2.3"
    none:
"#;
    outcome(Kind::Skopeo, text, Some("inside.test")).is(
        r"
jobs:
  inside-test:
    images:
    - repository: registry.test/alpine
      tags: {semver: '>=3.12.0'}
    - repository: registry.test/two
      tags: {semver: '<1.2'}
    - repository: registry.test/two
      tags: {semver: '^2.1'}
    - repository: registry.test/list
      tags: {semver: '>=3.12, <=3.13'}
    - repository: registry.test/list
      tags: {semver: '>=3.17'}
    - repository: registry.test/pre
      tags: {semver: '>=1.2.0-0'}
    to:
      registry: inside.test
",
        &[
            SCOPED,
            ALL,
            (7, Differs, "pre-releases"),
            (8, LeftOut, "!="),
            (9, LeftOut, "no constraint"),
        ],
    );
}

#[test]
fn credentials_and_certificates() {
    let text = r"
registry.test:
  credentials: {username: john, password: hunter2}
  tls-verify: true
  cert-dir: /home/john/certs
  images: {app: [v1]}
quay.test:5000:
  tls-verify: false
  credentials: {username: 'r$(id)', password: hunter2}
  images: {coreos/etcd: [latest]}
";
    let found = outcome(Kind::Skopeo, text, Some("docker://inside.test/"));
    found.is(
        r"
registries:
  quay.test:5000: {insecure_skip_verify: true}
jobs:
  inside-test:
    images:
    - reference: registry.test/app:v1
    - reference: quay.test:5000/coreos/etcd:latest
    to:
      registry: inside.test
",
        &[
            SCOPED,
            ALL,
            (3, Setting, "login registry.test -u john"),
            (5, Setting, "ca_file"),
            (9, Setting, "login quay.test:5000 -u USER"),
        ],
    );
    assert!(!found.comments.contains("hunter2"), "{}", found.comments);
}

#[test]
fn mistakes_are_named_and_the_rest_is_converted() {
    let text = r"
registry.test:
  image: {app: [v1]}
  tls-verify: maybe
  images:
    'app:v1': [x]
    UPPER: []
    fine: ['no spaces allowed', ok]
    good: [ok]
me:hunter2@r.test: {images: {app: []}}
other.test: [app]
registry2.test:
  images: [app]
";
    let found = outcome(Kind::Skopeo, text, Some("inside.test"));
    found.is(
        r"
jobs:
  inside-test:
    images:
    - reference: registry.test/good:ok
    to:
      registry: inside.test
",
        &[
            SCOPED,
            ALL,
            (3, LeftOut, "unknown key \"image\""),
            (4, LeftOut, "neither true nor false"),
            (6, LeftOut, "a repository is named"),
            (7, LeftOut, "UPPER"),
            (8, LeftOut, "no spaces allowed"),
            (10, LeftOut, "login"),
            (11, LeftOut, "not a mapping"),
            (13, LeftOut, "not a mapping"),
        ],
    );
    assert!(!found.comments.contains("hunter2"), "{}", found.comments);
}
