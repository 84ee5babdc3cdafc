//! The proof that a client presents in `Proxy-Authorization` (RFC 9110, section 11.7.2).

use base64::{Engine, engine::general_purpose::STANDARD_PAD_INDIFFERENT};
use countersign_core::secret::Secret;
use http::{HeaderMap, HeaderValue, header::PROXY_AUTHORIZATION};
use zeroize::Zeroizing;

use super::{IdentifyError, token::MAX_TOKEN};

/// Enough for a token and a user name as base64.
const MAX_BASIC: usize = (MAX_TOKEN + 256) / 3 * 4;

/// The token in `Proxy-Authorization`: as `Bearer`, or as the password of `Basic` for clients that only
/// accept a proxy URL with user and password. The user name is ignored.
pub(super) fn presented(headers: &HeaderMap) -> Result<Option<Secret>, IdentifyError> {
    let mut values = headers.get_all(PROXY_AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value).map(Some),
        (Some(_), Some(_)) => Err(IdentifyError::Malformed(
            "there is more than one Proxy-Authorization header",
        )),
    }
}

fn parse(value: &HeaderValue) -> Result<Secret, IdentifyError> {
    let value = value.to_str().map_err(|_| {
        IdentifyError::Malformed("Proxy-Authorization contains characters other than visible ASCII")
    })?;
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    let credentials = credentials.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("Bearer") {
        token(credentials)
    } else if scheme.eq_ignore_ascii_case("Basic") {
        basic(credentials)
    } else {
        Err(IdentifyError::UnsupportedScheme)
    }
}

fn basic(credentials: &str) -> Result<Secret, IdentifyError> {
    if credentials.len() > MAX_BASIC {
        return Err(IdentifyError::Malformed("it is longer than 16 KiB"));
    }
    let decoded = STANDARD_PAD_INDIFFERENT
        .decode(credentials)
        .map(Zeroizing::new)
        .map_err(|_| IdentifyError::Malformed("Basic credentials are not base64"))?;
    let colon = decoded
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(IdentifyError::Malformed(
            "Basic credentials have no password",
        ))?;
    let password = std::str::from_utf8(&decoded[colon + 1..])
        .map_err(|_| IdentifyError::Malformed("the Basic password is not a token"))?;
    token(password)
}

/// RFC 6750, section 2.1: letters, digits and `-._~+/=`. Nothing else is accepted, so that two
/// credentials joined by a comma are not read as one.
fn token(text: &str) -> Result<Secret, IdentifyError> {
    if text.is_empty() {
        return Err(IdentifyError::Malformed("the token is empty"));
    }
    if text.len() > MAX_TOKEN {
        return Err(IdentifyError::Malformed("it is longer than 16 KiB"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(IdentifyError::Malformed(
            "the token has characters that are not allowed in a token",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(values: &[&str]) -> Result<Option<Secret>, IdentifyError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROXY_AUTHORIZATION, value.parse().unwrap());
        }
        presented(&headers)
    }

    #[rstest]
    #[case::none(&[], None)]
    #[case::bearer(&["Bearer a.b.c"], Some("a.b.c"))]
    #[case::scheme_in_any_case(&["bEARER a.b.c"], Some("a.b.c"))]
    #[case::several_spaces(&["Bearer   a.b.c"], Some("a.b.c"))]
    #[case::basic(&["Basic cG9kOmEuYi5j"], Some("a.b.c"))]
    #[case::basic_without_user(&["basic OmEuYi5j"], Some("a.b.c"))]
    #[case::basic_padded(&["Basic dTphLmIuYw=="], Some("a.b.c"))]
    #[case::basic_unpadded(&["Basic dTphLmIuYw"], Some("a.b.c"))]
    fn is_found(#[case] values: &[&str], #[case] expected: Option<&str>) {
        let found = of(values).unwrap();
        assert_eq!(found.as_ref().map(Secret::expose), expected);
    }

    #[rstest]
    #[case::two_headers(&["Bearer a.b.c", "Bearer a.b.c"])]
    #[case::two_joined(&["Bearer a.b.c, Bearer d.e.f"])]
    #[case::comma(&["Bearer a.b.c,d.e.f"])]
    #[case::no_token(&["Bearer"])]
    #[case::blank_token(&["Bearer  "])]
    #[case::inner_space(&["Bearer a.b .c"])]
    #[case::not_base64(&["Basic ***"])]
    #[case::basic_without_colon(&["Basic YS5iLmM="])]
    #[case::basic_with_empty_password(&["Basic cG9kOg=="])]
    #[case::basic_password_with_colon(&["Basic cG9kOmEuYi5jOmQ="])]
    #[case::basic_not_utf8(&["Basic Ov8="])]
    fn is_malformed(#[case] values: &[&str]) {
        assert!(matches!(of(values), Err(IdentifyError::Malformed(_))));
    }

    #[rstest]
    #[case("Digest a.b.c")]
    #[case("Negotiate YQ==")]
    #[case("Bearer\ta.b.c")]
    #[case("a.b.c")]
    fn is_of_another_scheme(#[case] value: &str) {
        assert_eq!(of(&[value]), Err(IdentifyError::UnsupportedScheme));
    }

    #[rstest]
    #[case(16 * 1024, true)]
    #[case(16 * 1024 + 1, false)]
    fn is_bounded(#[case] length: usize, #[case] accepted: bool) {
        let token = "a".repeat(length);
        assert_eq!(of(&[&format!("Bearer {token}")]).is_ok(), accepted);
        let basic = STANDARD_PAD_INDIFFERENT.encode(format!("u:{token}"));
        assert_eq!(of(&[&format!("Basic {basic}")]).is_ok(), accepted);
    }
}
