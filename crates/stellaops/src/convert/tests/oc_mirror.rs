use super::*;

#[test]
fn images_by_name() {
    let text = r"
apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: registry.redhat.io/ubi9/ubi:latest
  - name: quay.io/team/tool@sha256:0000000000000000000000000000000000000000000000000000000000000000
  - name: registry.redhat.io/ubi9/ubi:latest
";
    outcome(Kind::OcMirror, text, Some("inside.test:8443/ocp")).is(
        r"
jobs:
  inside-test-8443-ocp:
    images:
    - reference: registry.redhat.io/ubi9/ubi:latest
    - reference: quay.io/team/tool@sha256:0000000000000000000000000000000000000000000000000000000000000000
    to:
      registry: inside.test:8443/ocp
",
        &[(7, Setting, "makes a tag from the digest")],
    );
}

#[test]
fn platform_operators_and_helm_are_named() {
    let text = r"
apiVersion: mirror.openshift.io/v1alpha2
kind: ImageSetConfiguration
archiveSize: 4
storageConfig:
  registry: {imageURL: inside.test/meta, skipTLS: true}
mirror:
  platform:
    graph: true
    channels:
    - {name: stable-4.16, minVersion: 4.16.1}
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.16
    packages: [{name: web-terminal}]
  helm:
    repositories:
    - {name: podinfo, url: 'https://charts.test', charts: [{name: podinfo, version: 5.0.0}]}
  samples: [{name: ruby}]
  additionalImages: [{name: quay.io/team/app:1}]
";
    outcome(Kind::OcMirror, text, None).is(
        r"
jobs:
  mirror:
    images:
    - reference: quay.io/team/app:1
    to:
      registry: target.invalid
",
        &[
            NO_TARGET,
            (4, Setting, "archiveSize"),
            (5, Setting, "storageConfig"),
            (8, LeftOut, "platform (stable-4.16)"),
            (12, LeftOut, "redhat-operator-index:v4.16"),
            (15, LeftOut, "helm (podinfo)"),
            (18, LeftOut, "samples (ruby)"),
        ],
    );
}

#[test]
fn blocked_images_stay_out() {
    let text = r"
apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  blockedImages:
  - name: ubi8/ubi:fake
  - name: .*-debug
  - name: '(?=x)'
  additionalImages:
  - name: registry.redhat.io/ubi8/ubi:latest
  - name: registry.redhat.io/ubi8/ubi:fake
  - name: quay.io/team/app-debug
";
    outcome(Kind::OcMirror, text, Some("inside.test")).is(
        r"
jobs:
  inside-test:
    images:
    - reference: registry.redhat.io/ubi8/ubi:latest
    to:
      registry: inside.test
",
        &[
            (8, LeftOut, "blockedImages"),
            (11, Setting, "is blocked by \"ubi8/ubi:fake\" of line 6"),
            (12, Setting, "is blocked by \".*-debug\" of line 7"),
        ],
    );
}

#[test]
fn targets_and_platforms_of_an_image() {
    let text = r"
apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: quay.io/team/app:1
    targetRepo: moved/app
    platforms:
    - {os: linux, architecture: arm64}
    - {os: linux, architecture: amd64}
  - {name: 'quay.io/team/web:1', targetTag: stable}
  - {name: 'quay.io/team/web:2', targetTag: '2', platforms: [{os: linux}]}
  - {name: 'quay.io/team/web:3', targetRepo: 'Not:a/path'}
  - {name: 'quay.io/team/web:4', targetRepo: team/web}
";
    outcome(Kind::OcMirror, text, Some("inside.test/ocp")).is(
        r"
jobs:
  inside-test-ocp:
    images:
    - reference: quay.io/team/app:1
    platforms: [linux/amd64, linux/arm64]
    to:
      registry: inside.test/ocp
      map:
      - quay.io/team/app=ocp/moved/app
  inside-test-ocp-2:
    images:
    - reference: quay.io/team/web:4
    to:
      registry: inside.test/ocp
",
        &[
            (11, LeftOut, "targetTag stable"),
            (12, LeftOut, "linux/"),
            (13, LeftOut, "Not:a/path"),
        ],
    );
}

#[test]
fn other_documents_are_named() {
    let text = r"
apiVersion: mirror.openshift.io/v1alpha1
kind: ImageSetConfiguration
mirror:
  additionalimages: [{name: quay.io/team/app}]
  additionalImages: [{name: 'oci:///srv/catalog'}, quay.io/team/app, {image: x}]
---
kind: DeleteImageSetConfiguration
";
    outcome(Kind::OcMirror, text, Some("inside.test")).is(
        "",
        &[
            (2, LeftOut, "v1alpha2 or v2alpha1"),
            (5, LeftOut, "unknown key \"additionalimages\""),
            (6, LeftOut, "oci://"),
            (6, LeftOut, "not a mapping"),
            (6, LeftOut, "it has no name"),
            (6, LeftOut, "it has no name"),
            (7, LeftOut, "first document"),
        ],
    );
}
