//! Headers and query fields that make a server act on another method or path than those that policy has
//! checked.
//!
//! There are many, and each framework has its own (CVE-2018-14773), so they are recognised by the
//! structure of their names: `method`, `verb`, `url`, `uri` or `path`, with a qualifier such as
//! original, rewritten, forwarded or override. Separators are ignored, because CGI and similar
//! interfaces fold them.

use std::borrow::Cow;

use countersign_types::fields::{decode, fold};

/// What a header would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrides {
    /// The method.
    Method,
    /// The path or the query.
    Path,
}

/// The longest name that is checked, without separators.
const LONGEST: usize = 64;

/// Qualifiers of a method or path.
const QUALIFIERS: [&str; 17] = [
    "original",
    "orig",
    "rewritten",
    "rewrite",
    "override",
    "overriding",
    "forwarded",
    "forward",
    "replaced",
    "proxied",
    "proxy",
    "request",
    "tunneled",
    "tunnelled",
    "unencoded",
    "http",
    "real",
];

/// Qualifiers before which anything can stand, such as a vendor's name.
const ALWAYS: [&str; 6] = [
    "original",
    "rewritten",
    "rewrite",
    "override",
    "unencoded",
    "http",
];

const METHODS: [&str; 2] = ["method", "verb"];
const PATHS: [&str; 7] = [
    "url",
    "uri",
    "path",
    "pathinfo",
    "scriptname",
    "prefix",
    "querystring",
];
/// Paths that need only an `x-` before them.
const BARE: [&str; 5] = ["url", "uri", "path", "pathinfo", "scriptname"];

/// What a header of this name would change; header names are lower case.
pub fn of_header(name: &str) -> Option<Overrides> {
    // Most headers are excluded by their last letter.
    let may_be = match name.as_bytes().last()? {
        b'd' => name.ends_with("method"),
        b'b' => name.ends_with("verb"),
        b'e' => name.ends_with("override") || name.ends_with("name"),
        b'l' => name.ends_with("url") || name.ends_with("tunnel"),
        b'i' => name.ends_with("uri"),
        b'h' => name.ends_with("path"),
        b'o' => name.ends_with("info"),
        b'x' => name.ends_with("prefix"),
        b'g' => name.ends_with("string"),
        _ => false,
    };
    if !may_be {
        return None;
    }
    let mut letters = [0; LONGEST];
    let mut count = 0;
    for byte in name.bytes().filter(|byte| !b"-_.".contains(byte)) {
        *letters.get_mut(count)? = byte;
        count += 1;
    }
    of_letters(std::str::from_utf8(&letters[..count]).ok()?)
}

fn of_letters(letters: &str) -> Option<Overrides> {
    let (own, rest) = match letters.strip_prefix('x') {
        Some(rest) => (true, rest),
        None => (false, letters),
    };
    let overriding = ["override", "tunnel"]
        .iter()
        .find_map(|end| rest.strip_suffix(end));
    let stem = overriding.unwrap_or(rest);
    let kinds = [(&METHODS[..], Overrides::Method), (&PATHS, Overrides::Path)];
    for (nouns, overrides) in kinds {
        for noun in nouns {
            let Some(before) = stem.strip_suffix(noun) else {
                continue;
            };
            let bare = before.is_empty() && own && (*noun == "method" || BARE.contains(noun));
            if overriding.is_some() || bare || is_qualified(before) {
                return Some(overrides);
            }
        }
    }
    None
}

/// One or more qualifiers, or anything before one of `ALWAYS`.
fn is_qualified(before: &str) -> bool {
    if ALWAYS.iter().any(|end| before.ends_with(end)) {
        return true;
    }
    let mut rest = before;
    while let Some(shorter) = QUALIFIERS.iter().find_map(|word| rest.strip_prefix(word)) {
        if shorter.is_empty() {
            return true;
        }
        rest = shorter;
    }
    false
}

/// Whether a query has a field that replaces the method: `_method` and similar ones, which frameworks
/// also read from queries, or one of the headers' names.
pub fn method_in_query(query: &str) -> bool {
    let fields = query.split(['&', ';']);
    fields
        .map(|field| field.split('=').next().unwrap_or_default())
        .any(|name| is_method_field(name.as_bytes()))
}

/// Whether this is the name of such a field.
pub fn is_method_field(written: &[u8]) -> bool {
    // Most names are plain letters and are excluded quickly.
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
    let says = |word: &[u8]| {
        let mut windows = written.windows(word.len());
        windows.any(|found| found.eq_ignore_ascii_case(word))
    };
    if written.iter().all(plain) && !says(b"method") && !says(b"verb") {
        return false;
    }
    let decoded = decode(written);
    let name: Cow<'_, str> = fold(&decoded);
    match &*name {
        "_method" | "_verb" | "_httpmethod" | "_http_method" | "$method" | "$httpmethod" => true,
        name => {
            let header = name.starts_with('x') || name.ends_with("override");
            header && name != "x_method" && of_header(name) == Some(Overrides::Method)
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("x-http-method-override")]
    #[case("x-http-method")]
    #[case("x-http-verb")]
    #[case("x-method-override")]
    #[case("x-verb-override")]
    #[case("x-method")]
    #[case("x-original-method")]
    #[case("x-forwarded-method")]
    #[case("x-request-method")]
    #[case("x-method-tunnel")]
    #[case("x-tunneled-method")]
    #[case("http-method")]
    #[case("http-method-override")]
    #[case("method-override")]
    #[case("x_http_method_override")]
    #[case("x.http.method.override")]
    #[case("x-http-method_override")]
    #[case("xhttpmethodoverride")]
    #[case("x-vendor-method-override")]
    #[case("x-vendor-http-method")]
    fn t47_headers_that_override_the_method(#[case] name: &str) {
        assert_eq!(of_header(name), Some(Overrides::Method), "{name}");
    }

    #[rstest]
    #[case("x-original-url")]
    #[case("x-original-uri")]
    #[case("x-original-path")]
    #[case("x-rewrite-url")]
    #[case("x-rewrite-uri")]
    #[case("x-rewritten-url")]
    #[case("x-override-url")]
    #[case("x-url-override")]
    #[case("x-path-override")]
    #[case("x-forwarded-prefix")]
    #[case("x-forwarded-uri")]
    #[case("x-forwarded-url")]
    #[case("x-forwarded-path")]
    #[case("x-forwarded-request-uri")]
    #[case("x-envoy-original-path")]
    #[case("x-replaced-path")]
    #[case("x-waws-unencoded-url")]
    #[case("x-ms-original-url")]
    #[case("x-http-path")]
    #[case("x-http-url-override")]
    #[case("x-proxy-url")]
    #[case("x-real-url")]
    #[case("x-request-uri")]
    #[case("request-uri")]
    #[case("original-url")]
    #[case("x-url")]
    #[case("x-uri")]
    #[case("x-path")]
    #[case("x-path-info")]
    #[case("x-script-name")]
    #[case("x-original-query-string")]
    #[case("x_original_url")]
    #[case("x.original.url")]
    #[case("x-original_url")]
    #[case("xoriginalurl")]
    fn t67_headers_that_rewrite_the_path(#[case] name: &str) {
        assert_eq!(of_header(name), Some(Overrides::Path), "{name}");
    }

    #[rstest]
    #[case("x-requested-with")]
    #[case("x-request-id")]
    #[case("x-forwarded-for")]
    #[case("x-forwarded-proto")]
    #[case("x-forwarded-host")]
    #[case("x-forwarded-port")]
    #[case("x-original-filename")]
    #[case("x-original-name")]
    #[case("x-file-name")]
    #[case("x-http-methods")]
    #[case("x-payment-method")]
    #[case("x-auth-method")]
    #[case("access-control-request-method")]
    #[case("x-upload-path")]
    #[case("x-callback-url")]
    #[case("x-webhook-url")]
    #[case("x-key-prefix")]
    #[case("x-cost-override")]
    #[case("x-curl")]
    #[case("x-goog-api-client")]
    #[case("x-stainless-runtime")]
    #[case("x-slack-user")]
    #[case("x-amz-content-sha256")]
    #[case("x-amz-copy-source")]
    #[case("x-b3-sampled")]
    #[case("content-length")]
    #[case("content-type")]
    #[case("accept-encoding")]
    #[case("user-agent")]
    #[case("authorization")]
    #[case("cache-control")]
    #[case("if-none-match")]
    #[case("referer")]
    #[case("method")]
    #[case("path")]
    #[case("x")]
    #[case("_")]
    fn honest_headers_pass(#[case] name: &str) {
        assert_eq!(of_header(name), None, "{name}");
    }

    #[test]
    fn a_name_of_any_length_is_looked_at() {
        assert_eq!(of_header(&format!("x-{}-url", "a".repeat(500))), None);
        let name = format!("x{}original-url", "-".repeat(500));
        assert_eq!(of_header(&name), Some(Overrides::Path));
    }

    #[rstest]
    #[case("_method=DELETE", true)]
    #[case("a=1&_METHOD=delete", true)]
    #[case("%5Fmethod=DELETE", true)]
    #[case("_method[]=DELETE", true)]
    #[case("+_method=DELETE", true)]
    #[case("_method%00=DELETE", true)]
    #[case("a=1;_method=DELETE", true)]
    #[case("_method", true)]
    #[case("x-http-method-override=DELETE", true)]
    #[case("X-HTTP-Method=DELETE", true)]
    #[case("http_method_override=DELETE", true)]
    #[case("$httpMethod=DELETE", true)]
    #[case("method=sms", false)]
    #[case("methods=_method", false)]
    #[case("payment_method=card", false)]
    #[case("http_method=GET", false)]
    #[case("my_method=1&_methods=2&x_method=3", false)]
    #[case("", false)]
    fn t47_a_query_that_overrides_the_method(#[case] query: &str, #[case] found: bool) {
        assert_eq!(method_in_query(query), found);
    }
}
