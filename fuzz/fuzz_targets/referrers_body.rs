//! Answers of the referrers API: nothing panics, and only a list is ever read as a list of
//! referrers.
//!
//! The first line of the input is the status, the content type and the error codes, separated by
//! `|`; the body follows.

#![no_main]

use fuzz::split_head;
use libfuzzer_sys::fuzz_target;
use oci_content::{Capability, Descriptor};
use registry_client::{AnswerParts, Body, ReferrersAnswer, ReferrersList};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((head, body)) = split_head(data) else {
        return;
    };
    let mut head = head.split('|');
    let Some(Ok(status)) = head.next().map(str::parse::<u16>) else {
        return;
    };
    let content_type = head.next();
    let codes: Vec<String> = head.map(str::to_owned).collect();

    let read = Body::read(body, content_type);
    if let Body::Index(list) = &read {
        check(list, body);
    }
    let mut parts = AnswerParts::new(status, content_type, &codes, body);
    for foreign in [false, true] {
        parts.foreign = foreign;
        match ReferrersAnswer::decide(parts) {
            ReferrersAnswer::List(list) => {
                assert_eq!(status, 200);
                let Body::Index(same) = &read else {
                    panic!("a list out of {read:?}");
                };
                assert_eq!(list.entries, same.entries);
            }
            // What cannot be read never means "there is nothing".
            ReferrersAnswer::Unreadable(reason) => {
                assert_eq!(status, 200);
                assert!(matches!(read, Body::Unreadable(_) | Body::Absent));
                assert!(!reason.is_empty());
            }
            ReferrersAnswer::SubjectUnknown => assert_eq!(status, 400),
            ReferrersAnswer::RepositoryUnknown => assert!(status == 404 && !foreign),
            ReferrersAnswer::Blocked => assert!(matches!(status, 401 | 403)),
            ReferrersAnswer::NoAnswer {
                capability,
                false_200,
                reason,
                ..
            } => {
                assert_ne!(capability, Capability::Supported);
                assert_eq!(false_200, status == 200);
                if false_200 {
                    assert!(matches!(read, Body::OtherJson(_) | Body::Page(_)));
                }
                assert!(!reason.is_empty());
            }
            ReferrersAnswer::Unavailable {
                rate_limited,
                foreign: elsewhere,
                ..
            } => {
                assert!(rate_limited == (status == 429) || status == 400);
                assert_eq!(elsewhere, foreign);
                assert!(!matches!(status, 200 | 404));
            }
            other => panic!("{other:?}"),
        }
    }
});

/// Compares with a second parser that knows JSON but not lists of referrers.
fn check(list: &ReferrersList, body: &[u8]) {
    // It parses everything except what is nested too deeply for it.
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let object = value.as_object().expect("a list is an object");
    assert!(!object.contains_key("layers") || object["layers"].is_null());
    let Some(entries) = object["manifests"].as_array() else {
        assert!(object["manifests"].is_null() && list.entries.is_empty());
        return;
    };
    assert_eq!(entries.len(), list.entries.len() + list.unread);
    for (entry, read) in entries.iter().zip(&list.entries) {
        let Ok(read) = read else { continue };
        assert_eq!(entry["digest"].as_str().unwrap(), read.digest.to_string());
        assert_eq!(entry["size"].as_u64().unwrap(), read.size);
        // Its serialized form reads as the same.
        let written = serde_json::to_string(read).unwrap();
        assert_eq!(Descriptor::from_json(&written).as_ref(), Ok(read));
    }
}
