//! References and their parts: nothing panics, and a parsed value is written as text that parses to
//! the same value.

#![no_main]

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use oci_content::{
    Digest, LegacyTag, Platform, Reference, Registry, RepositoryName, Tag, referrers_tag,
};

fuzz_target!(|text: &str| {
    let _ = round_trip::<RepositoryName>(text);
    if let Some(registry) = round_trip::<Registry>(text) {
        assert!(!registry.host().is_empty() && !registry.api_host().is_empty());
        assert!(!registry.as_str().bytes().any(|b| b.is_ascii_uppercase()));
        // The requested URL must lead to the host that the reference shows.
        if let Ok(url) = url::Url::parse(&format!("https://{registry}/")) {
            let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
            let same = match (host.parse::<IpAddr>(), registry.host().parse::<IpAddr>()) {
                (Ok(asked), Ok(shown)) => asked == shown,
                _ => host == registry.host(),
            };
            assert!(same, "{registry} is {url}");
        }
    }
    if let Some(tag) = round_trip::<Tag>(text)
        && let Some(legacy) = LegacyTag::from_tag(&tag)
    {
        assert_eq!(legacy.tag(), tag);
    }
    if let Some(digest) = round_trip::<Digest>(text) {
        assert_eq!(digest.encoded().len(), digest.algorithm().encoded_len());
        assert!(LegacyTag::from_tag(&referrers_tag(&digest)).is_none());
    }
    if let Some(reference) = round_trip::<Reference>(text) {
        assert!(reference.tag().is_some() || reference.digest().is_some());
    }
    if let Some(platform) = Platform::parse(text) {
        assert_eq!(platform.to_string(), text);
        assert!(platform.selects(&platform));
    }
});

fn round_trip<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string().parse::<T>().unwrap(), value);
    Some(value)
}
