//! Which failures have their cause in common, and what works again when it is gone.

use super::{
    causes::{Meaning, Scope},
    episode::Sample,
};

/// What is known of a failed request besides its record's sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) who: &'a str,
    pub(super) authority: &'a str,
    pub(super) source: &'a str,
    pub(super) series: &'a str,
    /// Whether the same kind of request worked before.
    pub(super) worked: bool,
}

/// Names in [`Collected::worked`](super::collect::Collected::worked).
pub(super) mod key {
    pub(in crate::triage) fn workload(name: &str) -> String {
        format!("w {name}")
    }
    pub(in crate::triage) fn credential(name: &str) -> String {
        format!("c {name}")
    }
    pub(in crate::triage) fn api(authority: &str) -> String {
        format!("a {authority}")
    }
    pub(in crate::triage) fn target(workload: &str, authority: &str) -> String {
        format!("t {workload} {authority}")
    }
    /// Anything at all through one gateway.
    pub(in crate::triage) fn source(name: &str) -> String {
        format!("s {name}")
    }
}

/// The name of a request's cause, and the key of what works when it is gone.
pub(super) fn of(meaning: &Meaning, sample: &Sample, facts: &Facts<'_>) -> (String, String) {
    let Facts {
        who,
        authority,
        source,
        series,
        worked,
    } = *facts;
    let reason = meaning.reason;
    match meaning.scope {
        Scope::Request => {
            let error = sample.api_error.clone().unwrap_or_default();
            let status = sample.status.unwrap_or_default();
            (
                format!("{reason} {series} {error} {status}"),
                series.to_owned(),
            )
        }
        Scope::Access => {
            let cured = if worked {
                series.to_owned()
            } else {
                key::target(who, authority)
            };
            (format!("{reason} {who} {authority} {worked}"), cured)
        }
        Scope::Credential => {
            let name = sample.credential.clone().unwrap_or_else(|| {
                // Before a value was obtained the record may not have its name.
                format!("of {who} at {authority}")
            });
            let error = sample.api_error.clone().unwrap_or_default();
            // The same credential goes on working for what needs other rights.
            let cured = if meaning.label == "SCOPE" {
                series.to_owned()
            } else {
                key::credential(&name)
            };
            let cause = if meaning.label == "RATE" {
                format!("rate {name}")
            } else {
                format!("{reason} {name} {error}")
            };
            (cause, cured)
        }
        Scope::Api => (
            format!("{} {authority}", meaning.label),
            key::api(authority),
        ),
        Scope::Proof => {
            let masked = masked(sample.detail.as_deref().unwrap_or_default());
            let cured = if who.is_empty() {
                String::new()
            } else {
                key::workload(who)
            };
            (format!("{reason} {masked}"), cured)
        }
        Scope::Gateway => (format!("{reason} {source}"), key::source(source)),
    }
}

/// A sentence without its numbers, which differ from one record to the next.
fn masked(detail: &str) -> String {
    let mut masked = String::with_capacity(detail.len());
    for character in detail.chars().take(300) {
        let shown = if character.is_ascii_digit() {
            '#'
        } else {
            character
        };
        if !(shown == '#' && masked.ends_with('#')) {
            masked.push(shown);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_tell_causes_apart() {
        assert_eq!(masked("expired 12:05, 3 min ago"), "expired #:#, # min ago");
    }
}
