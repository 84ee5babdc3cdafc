//! Headers that must not be forwarded: hop-by-hop ones, and imitations of the credential's.

use countersign_config::model::{Attach, Place, Route};
use countersign_core::wire::hop_by_hop;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{MAX_FORWARDS, PROXY_AUTHENTICATE},
    request::Parts,
};

use super::InjectError;

/// Decrements `Max-Forwards` (RFC 9110, section 7.6.2); zero was already refused.
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

/// Removes what is meant for the next hop only from an upstream's response, and what only a proxy may
/// ask of its client.
pub fn strip_response(headers: &mut HeaderMap) {
    hop_by_hop::strip_response(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

/// Refuses headers that a server that folds `_` or `.` into `-` (as CGI and WSGI do) would treat as the
/// credential's header, or as one that is stripped.
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
