//! Names of query and form fields as servers understand them.
//!
//! Servers parse field names differently. Each rule here is applied by some server; no server applies
//! all of them. Two names that any server could take for the same field must be recognised as equal, so
//! names are compared after all these differences are folded away.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Decodes a name or value of a query or form: `+` is a space, `%XX` a byte, and `%uXXXX` a character,
/// as in IIS.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.iter().any(|byte| b"+%".contains(byte)) {
        return Cow::Borrowed(raw);
    }
    let mut spaced = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => spaced.push(b' '),
            b'%' => match wide(after) {
                Some(letter) => {
                    spaced.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &after[5..];
                }
                None => spaced.push(b'%'),
            },
            other => spaced.push(*other),
        }
    }
    Cow::Owned(percent_decode(&spaced).collect())
}

/// `uXXXX`.
fn wide(text: &[u8]) -> Option<char> {
    let (b'u' | b'U', digits) = text.split_first()? else {
        return None;
    };
    let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
        .and_then(char::from_u32)
}

/// A decoded name in folded form: lower case; cut at the first NUL or bracket; without white space, byte
/// order marks and other control characters; `.` and inner spaces become `_`.
pub fn fold(name: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    if name.iter().all(plain) {
        return String::from_utf8_lossy(name);
    }
    let text = String::from_utf8_lossy(name);
    let text = text.split(['\0', '[']).next().unwrap_or_default();
    let shown = |letter: &char| {
        !matches!(letter, '\u{feff}' | '\u{200b}'..='\u{200f}')
            && (!letter.is_control() || letter.is_whitespace())
    };
    let text: String = text.chars().filter(shown).collect();
    let letters = text.trim().chars().flat_map(char::to_lowercase);
    let folded = letters.map(|letter| match letter {
        '.' => '_',
        blank if blank.is_whitespace() => '_',
        other => other,
    });
    Cow::Owned(folded.collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("token", "token")]
    #[case::case("Token", "token")]
    #[case::encoded("%74oken", "token")]
    #[case::encoded_case("%54OKEN", "token")]
    #[case::wide("%u0074oken", "token")]
    #[case::kelvin_sign("to%E2%84%AAen", "token")]
    #[case::cut_by_nul("token%00x", "token")]
    #[case::spaces("+token%20", "token")]
    #[case::tab("%09token", "token")]
    #[case::control("tok%01en", "token")]
    #[case::list("token[]", "token")]
    #[case::index("token[0]", "token")]
    #[case::encoded_bracket("token%5B%5D", "token")]
    #[case::half_a_bracket("token[", "token")]
    #[case::byte_order_mark("%EF%BB%BFtoken", "token")]
    #[case::dot("api.key", "api_key")]
    #[case::space_within("api+key", "api_key")]
    #[case::another("tokens", "tokens")]
    #[case::prefixed("xtoken", "xtoken")]
    #[case::twice_encoded("%2574oken", "%74oken")]
    #[case::odd_percent("%zztoken", "%zztoken")]
    #[case::odd_wide("%u00zz", "%u00zz")]
    #[case::short_wide("%u00", "%u00")]
    fn names_that_some_server_takes_for_one_are_alike(#[case] written: &str, #[case] folded: &str) {
        assert_eq!(fold(&decode(written.as_bytes())), folded);
    }
}
