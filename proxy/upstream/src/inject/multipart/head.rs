//! The boundary of a form, and the name of a part.

use countersign_config::fields::{decode, fold};
use countersign_core::wire::overrides::is_method_field;
use http::{HeaderMap, header::CONTENT_TYPE};

use super::parameters::{UNCLEAR, is_token, only, parse};

/// The longest boundary (RFC 2046, section 5.1.1).
const MOST_BOUNDARY: usize = 70;

/// A part's name, as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'h>(&'h str);

impl Name<'_> {
    /// Whether some server takes it for the field with this folded name.
    pub(super) fn is(&self, folded: &str) -> bool {
        let name = self.0.as_bytes();
        fold(name) == folded || fold(&decode(name)) == folded
    }

    /// Whether some server takes it for the method.
    pub(super) fn overrides_method(&self) -> bool {
        is_method_field(self.0.as_bytes())
    }
}

/// The boundary in a request's head.
///
/// # Errors
/// When it is not certain to every server: another kind of multipart body, several content types, or no
/// plain boundary.
pub(in crate::inject) fn boundary(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return Err("is a multipart one with several content types");
    };
    let unclear = "is a multipart one without a plain boundary";
    let content_type = content_type.to_str().map_err(|_| unclear)?;
    let (kind, parameters) = parse(content_type).map_err(|_| unclear)?;
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return Err("is a multipart one of another kind than form-data");
    }
    let is_known = |(name, text): &(&str, &str)| {
        name.eq_ignore_ascii_case("boundary")
            || (name.eq_ignore_ascii_case("charset") && text.eq_ignore_ascii_case("utf-8"))
    };
    let boundary = only(content_type, &parameters, "boundary").map_err(|_| unclear)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    let is_plain = (1..=MOST_BOUNDARY).contains(&boundary.len()) && boundary.bytes().all(plain);
    if !is_plain || !parameters.iter().all(is_known) {
        return Err(unclear);
    }
    Ok(boundary)
}

/// The name of the part with this head.
///
/// # Errors
/// When it is not certain to every server, or the part is a form itself.
pub(super) fn name(head: &[u8]) -> Result<Name<'_>, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "the head of a part is not UTF-8")?;
    let mut disposition = None;
    for line in head.split("\r\n") {
        if line.contains(|letter: char| letter.is_control() && letter != '\t') {
            return Err("a head of a part has a control character");
        }
        // A folded line begins with a blank, which is no token.
        let (name, value) = line.split_once(':').ok_or(UNCLEAR)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(UNCLEAR);
        }
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some()
        {
            return Err("a part has several Content-Dispositions");
        }
        let is_form = |value: &str| {
            let begun = value.trim_start().get(.."multipart/".len());
            begun.is_some_and(|begun| begun.eq_ignore_ascii_case("multipart/"))
        };
        if name.eq_ignore_ascii_case("content-type") && is_form(value) {
            return Err("a part is a multipart form itself");
        }
    }
    let disposition = disposition.ok_or("a part has no Content-Disposition")?;
    let (kind, parameters) = parse(disposition)?;
    if !kind.eq_ignore_ascii_case("form-data") {
        return Err("a part is not form-data");
    }
    let name = only(disposition, &parameters, "name")?;
    // Escapes, and encoded words (RFC 2047), which some servers decode.
    if name.contains('\\') || name.contains("=?") {
        return Err(UNCLEAR);
    }
    Ok(Name(name))
}
