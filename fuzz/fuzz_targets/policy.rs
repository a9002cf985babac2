//! Policy files and the dates of documents: nothing panics, and parsing twice gives the same
//! judgement.

#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use oci_content::{ArtifactCategory, Digest};
use oci_referrers::{JudgedBundle, JudgedImage, JudgedReferrer, Policy, document_date};

fuzz_target!(|text: &str| {
    let date = document_date(text.as_bytes());
    let Ok(policy) = Policy::parse(text) else {
        return;
    };
    let (root, child) = (Digest::of(b"root"), Digest::of(b"child"));
    let mut image = JudgedImage::new("r.test/team/app:1".parse().unwrap(), root.clone());
    image.platforms.push((child.clone(), "linux/arm64".into()));
    for (number, category) in ArtifactCategory::ALL.into_iter().enumerate() {
        let digest = Digest::of(&[number as u8]);
        let subject = if number % 2 == 0 { &root } else { &child };
        let mut referrer = JudgedReferrer::new(digest, subject.clone(), category);
        referrer.artifact_type = Some(format!("application/vnd.test.{category}"));
        referrer.created = date.filter(|_| number > 0);
        image.referrers.push(referrer);
    }
    let mut bundle = JudgedBundle::new(false);
    bundle.images.push(image);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let found = policy.judge(&bundle, now);
    assert_eq!(found, Policy::parse(text).unwrap().judge(&bundle, now));
    for violation in &found {
        assert!(violation.expected.contains("the rule \""), "{violation:?}");
    }
});
