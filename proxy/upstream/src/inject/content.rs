//! How a server may interpret a body, by its content type and its first bytes.

use http::{HeaderMap, HeaderValue, header};

/// Charsets in which ASCII bytes are ASCII.
const PLAIN_CHARSETS: [&str; 5] = ["utf-8", "utf8", "us-ascii", "ascii", "latin1"];

/// Families of such charsets.
const PLAIN_FAMILIES: [&str; 2] = ["iso-8859-", "windows-125"];

/// How a server may interpret a body, by its content type and its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON, to every server.
    Json,
    /// JSON to some servers.
    OtherJson,
    /// A multipart form.
    Multipart,
    /// Text in a charset in which ASCII names may be hidden.
    OtherCharset,
    /// A form, or unknown.
    Form,
}

/// Any of the content types may be the one that the server uses: it is JSON if one of them says just that,
/// and multipart if one of them does.
pub(super) fn kind(headers: &HeaderMap) -> Kind {
    let values = || {
        let all = headers.get_all(header::CONTENT_TYPE).iter();
        all.map(HeaderValue::as_bytes)
    };
    let mut all = values();
    if let (Some(one), None) = (all.next(), all.next())
        && is_json(one)
    {
        return Kind::Json;
    }
    if values().any(|value| mentions(value, b"multipart/")) {
        return Kind::Multipart;
    }
    if !values().all(is_plain) {
        return Kind::OtherCharset;
    }
    if values().any(|value| mentions(value, b"json")) {
        return Kind::OtherJson;
    }
    Kind::Form
}

/// `application/json`, with `charset=utf-8` or nothing else.
fn is_json(content_type: &[u8]) -> bool {
    let mut parts = content_type.split(|byte| *byte == b';');
    let essence = parts.next().unwrap_or_default().trim_ascii();
    let is_utf8 = |parameter: &[u8]| {
        let parameter = parameter.trim_ascii();
        [&b"charset=utf-8"[..], b"charset=\"utf-8\""]
            .iter()
            .any(|utf8| parameter.eq_ignore_ascii_case(utf8))
    };
    essence.eq_ignore_ascii_case(b"application/json")
        && parts.next().is_none_or(is_utf8)
        && parts.next().is_none()
}

fn mentions(content_type: &[u8], word: &[u8]) -> bool {
    content_type
        .windows(word.len())
        .any(|found| found.eq_ignore_ascii_case(word))
}

/// Whether every charset that it names keeps ASCII.
fn is_plain(content_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split("charset").skip(1).all(|rest| {
        let value = rest.trim_start_matches([' ', '\t', '*', '=', '"', '\'']);
        let end = value.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        let name = &value[..end.unwrap_or(value.len())];
        name.is_empty()
            || PLAIN_CHARSETS.contains(&name)
            || PLAIN_FAMILIES.iter().any(|family| name.starts_with(family))
    })
}

/// Whether a body begins as a JSON object or array; `None` needs more bytes.
pub(super) fn begins_as_json(begun: &[u8]) -> Option<bool> {
    let mut tokens = begun
        .iter()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    match tokens.next() {
        None => None,
        Some(b'{') => tokens.next().map(|next| matches!(next, b'"' | b'}')),
        Some(b'[') => tokens.next().map(|next| {
            next.is_ascii_digit()
                || matches!(next, b'[' | b'{' | b']' | b'"' | b'-' | b't' | b'f' | b'n')
        }),
        Some(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["application/json"], Kind::Json)]
    #[case(&["Application/JSON; charset=UTF-8"], Kind::Json)]
    #[case(&["application/json;charset=\"utf-8\""], Kind::Json)]
    #[case(&["application/json", "application/json"], Kind::OtherJson)]
    #[case(&["application/x+json"], Kind::OtherJson)]
    #[case(&["application/vnd.api+json"], Kind::OtherJson)]
    #[case(&["application/json; charset=us-ascii"], Kind::OtherJson)]
    #[case(&["application/json; profile=x"], Kind::OtherJson)]
    #[case(&["application/json, text/plain"], Kind::OtherJson)]
    #[case(&["text/json"], Kind::OtherJson)]
    #[case(&["application/x-www-form-urlencoded; charset=utf-16"], Kind::OtherCharset)]
    #[case(&["application/json; charset=utf-16"], Kind::OtherCharset)]
    #[case(&["text/plain; charset = \"UTF-7\""], Kind::OtherCharset)]
    #[case(&["text/plain; charset=utf-8; charset=ibm037"], Kind::OtherCharset)]
    #[case(&["text/plain", "text/plain; charset=utf-32"], Kind::OtherCharset)]
    #[case(&["application/x-www-form-urlencoded; charset=ISO-8859-1"], Kind::Form)]
    #[case(&["application/x-www-form-urlencoded;charset=UTF-8"], Kind::Form)]
    #[case(&[], Kind::Form)]
    #[case(&[""], Kind::Form)]
    #[case(&["application/json", "Multipart/form-data; boundary=x"], Kind::Multipart)]
    fn t71_a_type_says_what_a_server_may_take_a_body_for(
        #[case] types: &[&str],
        #[case] expected: Kind,
    ) {
        let mut headers = HeaderMap::new();
        for value in types {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(kind(&headers), expected);
    }

    #[rstest]
    #[case("", None)]
    #[case(" \n{ ", None)]
    #[case("[", None)]
    #[case("{\"a\":1}", Some(true))]
    #[case("{ }", Some(true))]
    #[case("[{}]", Some(true))]
    #[case("[]", Some(true))]
    #[case("token=x", Some(false))]
    #[case("{&token=x", Some(false))]
    #[case("[&token=x", Some(false))]
    #[case("&token=x", Some(false))]
    #[case("\u{feff}{\"a\":1}", Some(false))]
    #[case("\"&token=x\"", Some(false))]
    #[case("1", Some(false))]
    fn t71_json_begins_as_json(#[case] begun: &str, #[case] expected: Option<bool>) {
        assert_eq!(begins_as_json(begun.as_bytes()), expected);
    }
}
