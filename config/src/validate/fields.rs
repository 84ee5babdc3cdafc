//! Parses single fields: dates, durations, methods, hosts. Each reports a value that it cannot use.

use std::{str::FromStr, time::Duration};

use http::{HeaderName, Method, Uri};
use jiff::{SignedDuration, Timestamp, civil::Date};

use crate::{
    host::{Host, HostPattern},
    path::PathPatterns,
    yaml::{Findings, Location, read::closest},
};

/// Methods that a rule may name: RFC 9110 without CONNECT and TRACE, PATCH, and `WebDAV`.
const METHODS: [&str; 14] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "REPORT",
    "SEARCH",
];

/// A text that is not blank.
pub(super) fn non_blank(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<String> {
    if text.trim().is_empty() {
        findings.error(
            location,
            "empty-value",
            "this is empty",
            "write something here",
        );
        return None;
    }
    Some(text.to_owned())
}

/// A day: `2027-06-30`.
pub(super) fn date(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Date> {
    match text.parse::<Date>() {
        // jiff also reads the day of a longer timestamp.
        Ok(date) if text.len() == 10 => Some(date),
        Ok(_) | Err(_) => {
            findings.error(
                location,
                "bad-date",
                "this is not a date",
                "write year, month and day, such as `2027-06-30`",
            );
            None
        }
    }
}

/// A time: `2027-06-30T00:00:00Z`.
pub(super) fn timestamp(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Timestamp> {
    text.parse()
        .inspect_err(|_| {
            findings.error(
                location,
                "bad-date",
                "this is not a time",
                "write date, time and offset, such as `2027-06-30T00:00:00Z`",
            );
        })
        .ok()
}

/// A length of time above zero: `45m`, `1h30m`, `500ms`.
pub(super) fn duration(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Duration> {
    let parsed = SignedDuration::from_str(text)
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|duration| !duration.is_zero());
    if parsed.is_none() {
        findings.error(
            location,
            "bad-duration",
            "this is not a duration above zero",
            "write a number with its unit, such as `10s`, `45m` or `1h30m`",
        );
    }
    parsed
}

/// An HTTP method.
pub(super) fn method(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Method> {
    let known = METHODS.contains(&text);
    if let (true, Ok(method)) = (known, Method::from_bytes(text.as_bytes())) {
        return Some(method);
    }
    let upper = text.to_ascii_uppercase();
    let remedy = match (METHODS.contains(&upper.as_str()), closest(&upper, METHODS)) {
        (true, _) => format!("write it in capitals: `{upper}`"),
        (false, Some(close)) => format!("did you mean `{close}`?"),
        (false, None) => {
            "write a method such as `GET` or `POST`; to allow any method, remove `methods`"
                .to_owned()
        }
    };
    let message = format!("`{text}` is not a method that can be allowed");
    findings.error(location, "bad-method", message, remedy);
    None
}

/// A host pattern.
pub(super) fn host_pattern(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<HostPattern> {
    HostPattern::parse(text)
        .inspect_err(|error| {
            findings.error(
                location,
                "bad-host",
                error.to_string(),
                "write a host without scheme, port and path, such as `slack.com` or `*.example.com`",
            );
        })
        .ok()
}

/// Path patterns; `location` is that of their list.
pub(super) fn path_patterns(
    patterns: &[String],
    ignore_case: bool,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<PathPatterns> {
    let (index, problem) = match PathPatterns::parse(patterns, ignore_case) {
        Ok(patterns) => return Some(patterns),
        Err(first) => first,
    };
    let mut sound = true;
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err((_, problem)) = PathPatterns::parse(&[pattern], ignore_case) {
            sound = false;
            findings.error(
                &location.index(index),
                "bad-path",
                problem.to_string(),
                "write the path as in requests, from the first `/`, such as `/v1/run/*`",
            );
        }
    }
    if sound {
        findings.error(
            &location.index(index),
            "bad-path",
            problem.to_string(),
            "use fewer or simpler patterns",
        );
    }
    None
}

/// Reports patterns that match nothing at a target that refuses encoded slashes; `location` is that of
/// their list.
pub(super) fn without_encoded_slashes(
    patterns: &[String],
    location: &Location<'_>,
    findings: &Findings,
) {
    for (index, pattern) in patterns.iter().enumerate() {
        if PathPatterns::needs_encoded_slash(pattern) {
            findings.error(
                &location.index(index),
                "encoded-slash",
                "the target refuses paths with `%2F`, so this matches nothing",
                "write `encodedSlash: keep` in the TargetService if its API takes `%2F` as part of an id, or `/` here",
            );
        }
    }
}

/// A header's name.
pub(super) fn header_name(
    text: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<HeaderName> {
    HeaderName::from_str(text)
        .inspect_err(|_| {
            findings.error(
                location,
                "bad-header",
                "this is not a header name",
                "write only the name, such as `Authorization`",
            );
        })
        .ok()
}

/// Every entry of a list, if all of them can be used.
pub(super) fn each<T, U>(
    items: &[T],
    location: &Location<'_>,
    mut read: impl FnMut(&T, &Location<'_>) -> Option<U>,
) -> Option<Vec<U>> {
    // Not `map().collect()`, which would stop at the first mistake.
    let mut usable = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        usable.extend(read(item, &location.index(index)));
    }
    (usable.len() == items.len()).then_some(usable)
}

/// `https`, or `http` on loopback.
pub(super) fn safe_url(url: &str, location: &Location<'_>, findings: &Findings) -> bool {
    let safe = Uri::from_str(url).is_ok_and(|uri| {
        let host = uri.host().and_then(|host| Host::parse(host).ok());
        match (uri.scheme_str(), host) {
            (Some("https"), Some(_)) => true,
            (Some("http"), Some(Host::Ip(ip))) => ip.is_loopback(),
            (Some("http"), Some(host @ Host::Name(_))) => host.name() == Some("localhost"),
            _ => false,
        }
    });
    if !safe {
        findings.error(
            location,
            "bad-url",
            "this is not an https URL",
            "write a complete URL with `https://`; `http://` is for loopback only",
        );
    }
    safe
}

/// `https` always, because a secret is sent there.
pub(super) fn https_url(url: &str, location: &Location<'_>, findings: &Findings) -> bool {
    let sound = Uri::from_str(url).is_ok_and(|uri| {
        let host = uri.host().is_some_and(|host| Host::parse(host).is_ok());
        let plain = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        uri.scheme_str() == Some("https") && host && plain
    });
    if !sound {
        findings.error(
            location,
            "bad-url",
            "this is not an https URL",
            "write a complete URL with `https://`, without a user name",
        );
    }
    sound
}
