//! `WWW-Authenticate` headers, one per line: nothing panics, a realm is a plain web address, and no
//! line hides the challenge of another.

#![no_main]

use fuzz::headers;
use http::{HeaderValue, header::WWW_AUTHENTICATE};
use libfuzzer_sys::fuzz_target;
use registry_client::fuzzing::bearer_challenge;
use url::Url;

fuzz_target!(|data: &[u8]| {
    let mut headers = headers(&WWW_AUTHENTICATE, data);
    let found = bearer_challenge(&headers);
    if let Some((realm, service)) = &found {
        assert!(matches!(realm.scheme(), "http" | "https"), "{realm}");
        assert!(
            realm.host_str().is_some_and(|host| !host.is_empty()),
            "{realm}"
        );
        assert!(
            realm.username().is_empty() && realm.password().is_none(),
            "{realm}"
        );
        assert!(realm.fragment().is_none(), "{realm}");
        assert_eq!(Url::parse(realm.as_str()).unwrap(), *realm);
        assert_ne!(service.as_deref(), Some(""));
    }

    let good =
        HeaderValue::from_static("Bearer realm=\"https://auth.test/token\",service=\"r.test\"");
    headers.append(WWW_AUTHENTICATE, good);
    let (realm, service) = bearer_challenge(&headers).unwrap();
    match found {
        Some(first) => assert_eq!((realm, service), first),
        None => assert_eq!(
            (realm.as_str(), service.as_deref()),
            ("https://auth.test/token", Some("r.test"))
        ),
    }
});
