use std::time::Duration;

use crate::persona::Persona;
use crate::referrers::{NO_ROUTE, ReferrersApi};
use crate::tags::{BadNumber, Order, StrayLast, TagLink, TagListing};
use crate::token::TokenStyle;

/// What a persona does, as far as it can be written down as data.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) auth: Auth,
    pub(crate) referrers: ReferrersApi,
    /// `None`: as the specification has it.
    pub(crate) tags: Option<TagListing>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Auth {
    Bearer {
        realm: &'static str,
        style: TokenStyle,
    },
}

const MINUTE: Duration = Duration::from_secs(60);

const DIST2_TAGS: TagListing = TagListing {
    order: Order::Scrambled,
    page: None,
    most: None,
    link: TagLink::Never,
    content_type: "application/json; charset=utf-8",
    bad_number: BadNumber::Ignored,
    stray_last: StrayLast::Placed,
    unknown_is_empty: false,
};

impl Profile {
    pub(crate) fn of(persona: Persona) -> Self {
        let bearer = |ttl| Auth::Bearer {
            realm: "/token",
            style: TokenStyle {
                ttl,
                token_only: false,
                refuses: false,
            },
        };
        match persona {
            Persona::SpecFull => Self {
                auth: bearer(60 * MINUTE),
                referrers: ReferrersApi::Specified,
                tags: None,
            },
            Persona::Dist2 => Self {
                auth: bearer(5 * MINUTE),
                referrers: ReferrersApi::Absent(NO_ROUTE),
                tags: Some(DIST2_TAGS),
            },
        }
    }
}
