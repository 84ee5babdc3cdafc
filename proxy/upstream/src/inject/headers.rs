//! Headers that must not travel on: hop-by-hop ones (RFC 9110, section 7.6.1), and imitations.

use countersign_config::model::{Attach, Place, Route};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        CONNECTION, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use smallvec::SmallVec;

use super::InjectError;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes what is meant for the next hop only, and what `Connection` nominates.
///
/// `TE: trailers` is set again where it was: gRPC servers insist on it, and we pass a response's.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_connection(headers);
    // A request's trailers are not sent on, so none are announced.
    remove_all(headers, &[PROXY_AUTHORIZATION, HTTP2_SETTINGS, TRAILER, TE]);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// One forwarding less is left (RFC 9110, section 7.6.2); accept refuses what has none left.
pub(super) fn count_forward(parts: &mut Parts) {
    if parts.method != Method::OPTIONS {
        return;
    }
    if let Some(left) = parts.headers.get_mut(MAX_FORWARDS)
        && let Some(count) = left.to_str().ok().and_then(|left| left.parse::<u64>().ok())
    {
        *left = HeaderValue::from(count.saturating_sub(1));
    }
}

/// Removes hop-by-hop headers from an upstream's response.
pub fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

fn strip_connection(headers: &mut HeaderMap) {
    // `Connection` is rare on a request within a tunnel: look before allocating.
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            // What is no header name nominates nothing.
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    remove_all(
        headers,
        &[PROXY_CONNECTION, KEEP_ALIVE, TRANSFER_ENCODING, UPGRADE],
    );
}

/// Removes headers of which hardly one is there: one walk over those that are costs less than a
/// hash for each name.
fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    let there: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| names.contains(name))
        .cloned()
        .collect();
    for name in there {
        headers.remove(name);
    }
}

/// Refuses headers that a server which folds `_` or `.` into `-` (as CGI and WSGI do) would take for the
/// credential's header, or for one that is stripped.
pub(super) fn refuse_aliases(
    headers: &HeaderMap,
    route: &Route,
    attach: Option<&Attach>,
) -> Result<(), InjectError> {
    let ours = match attach.map(|attach| &attach.place) {
        Some(Place::Header { name, .. }) => Some(name),
        Some(Place::Query { .. } | Place::Path { .. }) | None => None,
    };
    for name in headers.keys() {
        let text = name.as_str();
        if !text.contains(['_', '.']) {
            continue;
        }
        let imitates =
            |guarded: &HeaderName| guarded != name && folded_equal(text, guarded.as_str());
        if ours.is_some_and(imitates) || route.strip.headers.iter().any(imitates) {
            return Err(InjectError::HeaderAlias(text.to_owned()));
        }
    }
    Ok(())
}

fn folded_equal(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if b"_.".contains(&byte) { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}
