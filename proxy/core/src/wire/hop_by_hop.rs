//! Headers for the next hop only (RFC 9110, section 7.6.1). The gateway and the relay are such hops.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use smallvec::SmallVec;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes the headers of a request that are for the next hop only, including those that `Connection`
/// nominates.
///
/// `TE: trailers` is kept: gRPC servers require it, and a response's trailers are passed on.
pub fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_connection(headers);
    // The gateway does not pass on a request's trailers, so it announces none.
    remove_all(headers, &[PROXY_AUTHORIZATION, HTTP2_SETTINGS, TRAILER, TE]);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The same for a response.
pub fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
}

fn strip_connection(headers: &mut HeaderMap) {
    // `Connection` is rare on a request inside a tunnel: check before allocating.
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            // A token that is not a header name nominates nothing.
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

/// Removes headers that are rarely present: one pass over the present headers costs less than a hash for
/// each name.
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        fields.collect()
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_connection_nominates_goes_and_the_rest_stays() {
        let fields = [
            ("connection", "close, X-Mine,, not a name"),
            ("x-mine", "1"),
            ("x-yours", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-status", "countersign; details=\"x\""),
        ];
        for strip in [strip_request, strip_response] {
            let mut headers = headers(&fields);
            strip(&mut headers);
            assert_eq!(left(&headers), ["proxy-status", "x-yours"]);
        }
    }

    #[test]
    fn a_request_keeps_no_proof_for_this_hop() {
        let mut headers = headers(&[
            ("proxy-authorization", "Bearer pod"),
            ("trailer", "authorization"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
            ("expect", "100-continue"),
        ]);
        strip_request(&mut headers);
        assert_eq!(left(&headers), ["expect"]);
    }

    #[rstest]
    #[case::wanted("trailers", true)]
    #[case::other_case("Trailers", true)]
    #[case::a_coding("gzip", false)]
    #[case::among_others("trailers, gzip", false)]
    fn te_says_trailers_or_nothing(#[case] te: &str, #[case] stays: bool) {
        let mut headers = headers(&[("te", te), ("connection", "TE")]);
        strip_request(&mut headers);
        let expected = stays.then_some("trailers");
        let te = headers.get(TE).map(|te| te.to_str().unwrap());
        assert_eq!(te, expected);
    }

    #[test]
    fn a_gateways_challenge_reaches_the_client() {
        let mut headers = headers(&[("proxy-authenticate", "Bearer")]);
        strip_response(&mut headers);
        assert_eq!(left(&headers), ["proxy-authenticate"]);
    }
}
