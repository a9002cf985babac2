use std::slice::from_ref;
use std::time::Duration;

use oci_content::ArtifactCategory::{Attestation, Sbom, Signature};
use oci_content::{ArtifactCategory, Digest};

use super::ViolationKind::*;
use super::*;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn referrer(name: &str, subject: &str, category: ArtifactCategory) -> JudgedReferrer {
    let mut referrer = JudgedReferrer::new(digest(name), digest(subject), category);
    referrer.artifact_type = Some(format!("application/vnd.example.{category}.{name}"));
    referrer
}

/// An index of two platforms.
fn image(name: &str, referrers: Vec<JudgedReferrer>) -> JudgedImage {
    let reference = format!("registry.example.com/team/{name}:1.0");
    let mut image = JudgedImage::new(reference.parse().unwrap(), digest("index"));
    for platform in ["linux/amd64", "linux/arm64"] {
        image
            .platforms
            .push((digest(platform), platform.to_owned()));
    }
    image.referrers = referrers;
    image
}

fn at_day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400)
}

const NOW: u64 = 20_000;

fn judge(rule: &str, bundle: &JudgedBundle) -> Vec<Violation> {
    let policy = Policy::parse(&format!("version: 1\nrules:\n- name: tried\n  {rule}\n")).unwrap();
    policy.judge(bundle, at_day(NOW))
}

fn kinds(rule: &str, referrers: &[JudgedReferrer]) -> Vec<ViolationKind> {
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image("app", referrers.to_vec()));
    judge(rule, &bundle)
        .iter()
        .map(|found| found.kind)
        .collect()
}

#[test]
fn what_is_required_is_counted_per_image_or_per_platform() {
    let on_index = referrer("a", "index", Sbom);
    let on_amd = referrer("b", "linux/amd64", Sbom);
    let on_arm = referrer("c", "linux/arm64", Sbom);
    let per_image = "require: {category: sbom}";
    let per_platform = "require: {category: sbom, per: platform}";
    assert_eq!(kinds(per_image, from_ref(&on_index)), []);
    assert_eq!(
        kinds(per_image, from_ref(&on_amd)),
        [RequiredReferrerMissing]
    );
    assert_eq!(kinds(per_platform, &[on_amd.clone(), on_arm]), []);
    assert_eq!(kinds(per_platform, &[on_amd]), [RequiredReferrerMissing]);
    assert_eq!(
        kinds(per_platform, from_ref(&on_index)),
        [RequiredReferrerMissing; 2]
    );
    // Signatures on referrers are none of the image.
    let nested = referrer("d", "a", Signature);
    let signature = "require: {category: signature}";
    assert_eq!(
        kinds(signature, &[on_index.clone(), nested]),
        [RequiredReferrerMissing]
    );
    // Two names of one referrer are one referrer.
    let two = "require: {category: sbom, min: 2}";
    assert_eq!(
        kinds(two, &[on_index.clone(), on_index.clone()]),
        [RequiredReferrerMissing]
    );
    assert_eq!(kinds(two, &[on_index, referrer("e", "index", Sbom)]), []);
}

#[test]
fn a_finding_names_rule_image_and_what_is_missing_and_where_it_is_instead() {
    let mut bundle = JudgedBundle::new(false);
    bundle
        .images
        .push(image("app", vec![referrer("b", "linux/arm64", Sbom)]));
    let found = judge("require: {category: sbom}", &bundle);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].image, Some(bundle.images[0].reference.clone()));
    let expected = "a referrer of the category sbom on the image, as the rule \"tried\" demands";
    assert_eq!(found[0].expected, expected);
    assert_eq!(
        found[0].found,
        "none (1 on its platforms, for which `per: platform` asks)"
    );
    let found = judge("require: {category: sbom, per: platform}", &bundle);
    let place = format!("on the platform linux/amd64 ({})", digest("linux/amd64"));
    assert!(found[0].expected.contains(&place), "{found:?}");
    assert_eq!(found[0].found, "none");
}

#[test]
fn an_index_without_platforms_does_not_pass_a_rule_about_them() {
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image("app", Vec::new()));
    bundle.images[0].platforms.clear();
    for rule in [
        "require: {category: sbom, per: platform}",
        "signed: [platform]",
    ] {
        let found = judge(rule, &bundle);
        assert_eq!(found[0].kind, RequiredReferrerMissing);
        assert_eq!(found[0].found, "an index without one");
    }
}

#[test]
fn an_artifact_type_may_be_a_pattern_and_a_denied_one_is_found_at_every_level() {
    let nested = referrer("x", "a", Attestation);
    let referrers = [referrer("a", "index", Sbom), nested];
    assert_eq!(
        kinds(
            "require: {artifact_type: application/vnd.example.sbom.a}",
            &referrers
        ),
        []
    );
    assert_eq!(
        kinds(
            "require: {artifact_type: \"application/*.sbom.*\"}",
            &referrers
        ),
        []
    );
    assert_eq!(
        kinds("require: {artifact_type: application}", &referrers),
        [RequiredReferrerMissing]
    );
    assert_eq!(
        kinds("deny: {category: attestation}", &referrers),
        [DeniedReferrer]
    );
    assert_eq!(kinds("deny: {category: vex}", &referrers), []);
    let both = "deny: [{artifact_type: \"*.x\"}, {category: sbom}]";
    assert_eq!(kinds(both, &referrers), [DeniedReferrer; 2]);
}

#[test]
fn images_platforms_and_each_referrer_of_a_category_can_have_to_be_signed() {
    let sboms = [referrer("a", "index", Sbom), referrer("b", "index", Sbom)];
    let on_a = referrer("s", "a", Signature);
    let on_index = referrer("t", "index", Signature);
    let [a, b] = sboms;
    assert_eq!(
        kinds("signed: [sbom]", &[a.clone(), b.clone(), on_a.clone()]),
        [RequiredSignatureMissing]
    );
    assert_eq!(kinds("signed: [sbom]", &[a.clone(), on_a.clone()]), []);
    assert_eq!(
        kinds("signed: [image, sbom]", &[a, on_a, on_index.clone()]),
        []
    );
    assert_eq!(kinds("signed: [image]", &[b]), [RequiredSignatureMissing]);
    assert_eq!(
        kinds("signed: [platform]", &[on_index]),
        [RequiredSignatureMissing; 2]
    );
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image("app", Vec::new()));
    let found = judge("signed: [bundle]", &bundle);
    assert_eq!(
        (found[0].kind, &found[0].image),
        (RequiredSignatureMissing, &None)
    );
    bundle.signed = true;
    assert_eq!(judge("signed: [bundle]", &bundle), []);
}

#[test]
fn what_is_too_old_undated_or_of_the_future_does_not_count() {
    let dated = |name: &str, days: Option<u64>| {
        let mut sbom = referrer(name, "index", Sbom);
        sbom.created = days.map(at_day);
        sbom
    };
    let rule = "require: {category: sbom, max_age: 30d}";
    let lenient = "require: {category: sbom, max_age: 30d, undated: allow}";
    for (days, strict, with_leave) in [
        (Some(NOW), true, true),
        (Some(NOW - 30), true, true),
        (Some(NOW - 31), false, false),
        (Some(NOW + 1), true, true),
        (Some(NOW + 2), false, false),
        (None, false, true),
    ] {
        let expected = |young: bool| if young { vec![] } else { vec![ReferrerTooOld] };
        assert_eq!(
            kinds(rule, &[dated("a", days)]),
            expected(strict),
            "{days:?}"
        );
        assert_eq!(
            kinds(lenient, &[dated("a", days)]),
            expected(with_leave),
            "{days:?}"
        );
    }
    // One of several is enough, unless more are asked for.
    let several = [dated("a", Some(1)), dated("b", Some(NOW)), dated("c", None)];
    assert_eq!(kinds(rule, &several), []);
    assert_eq!(
        kinds("require: {category: sbom, min: 2, max_age: 30d}", &several),
        [ReferrerTooOld]
    );
    let mut bundle = JudgedBundle::new(false);
    let old = vec![
        dated("a", Some(NOW - 45)),
        dated("b", None),
        dated("c", Some(NOW + 400)),
    ];
    bundle.images.push(image("app", old));
    let found = judge(rule, &bundle);
    let text = "the newest is of 2024-08-20, 45 days ago; 1 dated in the future (2025-11-08); 1 without a date";
    assert_eq!(found[0].found, text);
}

#[test]
fn a_rule_that_is_about_no_image_says_so() {
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image("app", Vec::new()));
    bundle.images.push(image("db", Vec::new()));
    for images in ["images: [registry.example.com/other/*]", "except: [\"**\"]"] {
        let found = judge(&format!("{images}\n  signed: [image]"), &bundle);
        assert_eq!(
            (found.len(), found[0].kind, found[0].forbids()),
            (1, RuleUnused, false)
        );
    }
    let found = judge(
        "images: [\"*/team/*\"]\n  except: [\"**/db\"]\n  signed: [image]",
        &bundle,
    );
    assert_eq!((found.len(), found[0].forbids()), (1, true));
    assert_eq!(found[0].image, Some(bundle.images[0].reference.clone()));
}

#[test]
fn a_rule_can_be_about_where_images_go_and_need_not_meet_one() {
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image("app", Vec::new()));
    let rule = "target: [\"registry.inside/mirror/**\"]\n  signed: [image]";
    let kinds = |rule: &str, bundle: &JudgedBundle| {
        let found = judge(rule, bundle).into_iter();
        found.map(|violation| violation.kind).collect::<Vec<_>>()
    };
    // Nobody knows where it goes.
    assert_eq!(kinds(rule, &bundle), [RuleUnused]);
    bundle.images[0].target = Some("registry.inside/mirror/team/app".to_owned());
    assert_eq!(kinds(rule, &bundle), [RequiredSignatureMissing]);
    let other = format!("images: [\"other.example.com/**\"]\n  {rule}");
    assert_eq!(kinds(&other, &bundle), [RuleUnused]);
    assert_eq!(kinds(&format!("unused: allow\n  {other}"), &bundle), []);
    let all = format!("unused: allow\nversion: 1\nrules:\n- name: tried\n  {other}\n");
    let all = Policy::parse(&all).unwrap();
    assert_eq!(all.judge(&bundle, at_day(NOW)), []);
    assert!(Policy::parse("version: 1\nunused: no\nrules: [{name: a, signed: [image]}]").is_err());
}

#[test]
fn only_the_dates_that_a_rule_asks_for_are_needed() {
    let policy = |rule: &str| {
        Policy::parse(&format!(
            "version: 1\nrules:\n- name: tried\n  images: [\"**/app\"]\n  {rule}\n"
        ))
        .unwrap()
    };
    let (app, db) = (
        image("app", vec![]).reference,
        image("db", vec![]).reference,
    );
    let (sbom, signature) = (referrer("a", "b", Sbom), referrer("a", "b", Signature));
    let dated = policy("require: {category: sbom, max_age: 2w}");
    assert!(dated.needs_dates() && dated.needs_date_of(&app, &sbom));
    assert!(!dated.needs_date_of(&app, &signature) && !dated.needs_date_of(&db, &sbom));
    assert!(!policy("require: {category: sbom}").needs_dates());
}

#[test]
fn what_no_rule_can_mean_is_an_error_that_names_key_and_line() {
    let head = "version: 1\nrules:\n- name: tried\n";
    for (text, parts) in [
        (
            format!("{head}  requires: {{category: sbom}}\n"),
            ["requires", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, minimum: 2}}\n"),
            ["minimum", "line 4"],
        ),
        (
            format!("{head}  require:\n  - category: sbom\n    mni: 2\n"),
            ["mni", "line 6"],
        ),
        (
            format!("{head}  require: {{category: sboms}}\n"),
            ["\"sboms\" is no category", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, min: 0}}\n"),
            ["nonzero", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, per: child}}\n"),
            ["child", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, max_age: 30}}\n"),
            ["30d", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, max_age: 0d}}\n"),
            ["no age", "line 4"],
        ),
        (
            format!("{head}  require: {{category: sbom, undated: deny}}\n"),
            ["max_age", "line 4"],
        ),
        (
            format!("{head}  require: {{min: 2}}\n"),
            ["either `category` or `artifact_type`", "line 4"],
        ),
        (format!("{head}  require: []\n"), ["empty list", "line 4"]),
        (
            format!("{head}  deny: {{category: sbom, min: 2}}\n"),
            ["min", "line 4"],
        ),
        (
            format!("{head}  signed: [images]\n"),
            ["\"images\" is nothing", "line 4"],
        ),
        (
            format!("{head}  signed: [signature]\n"),
            ["of its own", "line 4"],
        ),
        (
            format!("{head}  images: [\"r.test/app:1.0\"]\n  signed: [image]\n"),
            ["has a tag", "line 4"],
        ),
        (head.to_owned(), ["demands nothing", "line 3"]),
        (
            format!("{head}  signed: [image]\n- name: tried\n  signed: [image]\n"),
            ["two rules", "line"],
        ),
        (
            "version: 1\nrules: []\n".into(),
            ["without rules", "line 2"],
        ),
        ("version: 2\nrules: []\n".into(), ["version 2", "line 1"]),
        (
            "rules:\n- name: tried\n  signed: [image]\n".into(),
            ["missing field `version`", "line"],
        ),
        (String::new(), ["", ""]),
        ("{".into(), ["", "line"]),
        (
            "version: 1\nversion: 1\nrules: []\n".into(),
            ["duplicate", "line 2"],
        ),
    ] {
        let error = Policy::parse(&text).unwrap_err().to_string();
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{text}\n{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}
