//! Rates, and how long a request may wait.

use std::{num::NonZeroU32, time::Duration};

use super::super::fields::duration;
use crate::{
    model::Rate,
    yaml::{Findings, Location},
};

/// How long a request may wait for the end of an API's rate limit.
pub(super) fn wait(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_mins(1);
    let wait = duration(text, location, findings)?;
    if wait > LONGEST {
        findings.error(
            location,
            "bad-duration",
            "no request may wait this long for a rate limit",
            "write at most a minute (`1m`)",
        );
        return None;
    }
    Some(wait)
}

/// `60/m`: the number of requests per second, minute or hour.
pub(super) fn rate(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Rate> {
    let parsed = text.split_once('/').and_then(|(requests, unit)| {
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        Some(Rate {
            requests: requests.parse::<NonZeroU32>().ok()?,
            period: Duration::from_secs(seconds),
        })
    });
    if parsed.is_none() {
        findings.error(
            location,
            "bad-rate",
            "this is not a rate",
            "write requests and unit, such as `60/m`; the units are `s`, `m` and `h`",
        );
    }
    parsed
}
