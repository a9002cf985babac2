//! Types that stand as their text in a document.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::created::Created;
use crate::entry_path::EntryPath;
use crate::stream_name::StreamName;
use crate::trust_name::TrustName;

macro_rules! text_form {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

text_form!(Created, EntryPath, StreamName, TrustName);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(text: &str, wrong: &str)
    where
        T: Serialize + de::DeserializeOwned + PartialEq + std::fmt::Debug + std::str::FromStr,
        T::Err: std::fmt::Debug,
    {
        let value: T = text.parse().unwrap();
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
        assert!(serde_json::from_str::<T>(&format!("{wrong:?}")).is_err());
        assert!(serde_json::from_str::<T>("7").is_err());
    }

    #[test]
    fn a_name_is_its_text_in_json_and_is_checked_when_it_is_read() {
        check::<Created>("2026-11-30T04:05:06Z", "2026-11-31T04:05:06Z");
        check::<EntryPath>("trust/root.json", "trust/../root.json");
        check::<StreamName>("prod", "Prod");
        check::<TrustName>("root.json", ".json");
    }
}
