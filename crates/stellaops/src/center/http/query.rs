use std::fmt::Display;
use std::str::FromStr;

use axum::http::Uri;

use super::error::ApiError;

/// The parameters after the `?` of a request.
///
/// One that the route does not have is refused: a misspelt filter would otherwise answer everything.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the parameters of a route that has these.
    pub(crate) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let text = uri.query().unwrap_or_default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&&*name) {
                let reason = format!(
                    "this is not a parameter here; there are {}",
                    known.join(", ")
                );
                return Err(ApiError::invalid(&name, reason));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::invalid(&name, "it is given twice"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(given, _)| given == name)?;
        Some(&pair.1)
    }

    pub(crate) fn value<T: FromStr<Err: Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let parsed = text.parse().map(Some);
        parsed.map_err(|error: T::Err| ApiError::invalid(name, error.to_string()))
    }

    /// Returns `limit`: 50, unless another number from 1 to 200 is asked for.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.value("limit")?.unwrap_or(50);
        if (1..=200).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::invalid("limit", "it is from 1 to 200"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_given_once() {
        let parse = |uri: &str| {
            let query = Query::parse(&uri.parse().unwrap(), &["limit", "cursor"]);
            query.and_then(|query| query.limit())
        };
        for (uri, limit) in [
            ("/", 50),
            ("/?", 50),
            ("/?limit=200&cursor=a", 200),
            ("/?limit=1", 1),
        ] {
            assert_eq!(parse(uri).unwrap(), limit, "{uri}");
        }
        for (uri, field) in [
            ("/?limit=0", "limit"),
            ("/?limit=201", "limit"),
            ("/?limit=", "limit"),
            ("/?limit=-1", "limit"),
            ("/?limit=1&limit=1", "limit"),
            ("/?Limit=1", "Limit"),
        ] {
            let error = parse(uri).unwrap_err();
            assert!(error.message.starts_with(field), "{uri}: {error:?}");
            assert_eq!(error.status.as_u16(), 400);
        }
    }
}
