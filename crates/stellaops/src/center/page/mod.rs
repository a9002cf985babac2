//! The page of the service: what failed and what to do about it stands first.
//!
//! It is written on the server and complete without scripts. One small script keeps it up to date.

mod advice;
mod clock;
mod run;
mod status;
mod table;
mod words;

use maud::{DOCTYPE, Markup, html};

pub(crate) use self::clock::Clock;
pub(crate) use self::run::{RunView, run};
pub(crate) use self::status::{StatusView, status};

pub(crate) const STYLE: &str = include_str!("style.css");
pub(crate) const SCRIPT: &str = include_str!("live.js");
pub(crate) const ICON: &str = include_str!("icon.svg");

/// Returns the page for a request that could not be answered.
pub(crate) fn failed(status: u16, message: &str) -> Markup {
    let main = html! {
        h1 { "This page cannot be shown" }
        p { (message) }
        p { "HTTP status " (status) ". " a href="/" { "Go to the status page" } }
    };
    whole(&format!("{status}"), &main)
}

/// Returns the whole document around a main part.
fn whole(title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – export-center" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                script src="/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.bar {
                    nav aria-label="Site" { a.home href="/" { "export-center" } }
                    p.live role="status" id="live" {}
                }
                main id="main" tabindex="-1" { (main) }
                footer {
                    p {
                        "export-center " (env!("STELLAOPS_VERSION")) " · "
                        a href="/.well-known/openapi" { "API" } " · "
                        a href="/metrics" { "Metrics" } " · "
                        a href="/readyz" { "Readiness" }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
