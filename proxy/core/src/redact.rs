//! The last line of defence: anything that looks like a credential is removed from free text before it
//! is recorded or logged.
//!
//! Our own secrets are [`crate::secret::Secret`] and cannot be shown. This is for text from elsewhere:
//! an API's error, a caller's path, a library's message.

use std::{borrow::Cow, sync::LazyLock};

use countersign_types::secret_forms::{JWT, LEAST_AFTER_PREFIX, TOKEN_PREFIXES, WEBHOOKS};
use regex::Regex;

/// The replacement for a redacted part.
pub const REDACTED: &str = "[redacted]";

/// Deliberately broad: a lost word in a message costs less than a leaked token. No pattern matches
/// across a quote or a backslash, so a line of JSON stays valid.
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| {
    let any = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| regex::escape(text)).collect();
        format!("(?:{})", texts.join("|"))
    };
    let patterns = [
        format!(
            r"{}[0-9A-Za-z_-]{{{LEAST_AFTER_PREFIX},}}",
            any(&TOKEN_PREFIXES)
        ),
        // Slack's tokens of kinds that the table does not know.
        format!(r"xox[a-z](?:\.xox[a-z])?-[0-9A-Za-z_-]{{{LEAST_AFTER_PREFIX},}}"),
        // Without the host, a webhook's path is recognised by its team id, which our placeholder
        // (`/services/countersign/...`) does not have.
        format!(r#"{}[^\s"\\]+"#, any(&WEBHOOKS)),
        r#"/(?:services|workflows|triggers)/[TE][0-9A-Z]{6,}/[^\s"\\]+"#.to_owned(),
        // Authorization values.
        r#"(?i:bearer)\s+[^\s"\\]{8,}"#.to_owned(),
        r"(?i:basic)\s+[0-9A-Za-z+/]{16,}={0,2}".to_owned(),
        // JWTs, complete or cut off.
        format!(r"{JWT}[0-9A-Za-z_-]{{10,}}(?:\.[0-9A-Za-z_-]+){{0,2}}"),
        // Qase's tokens, and other 256-bit values in hex.
        r"\b[0-9a-fA-F]{64}\b".to_owned(),
        // Fields of a query or form, and userinfo.
        r#"(?i:token|secret|password)=[^\s"\\&]+"#.to_owned(),
        r#"://[^/\s"\\:@]*:[^/\s"\\@]+@"#.to_owned(),
    ];
    Regex::new(&patterns.join("|")).expect("the patterns are constant and tested")
});

/// `text` without anything that looks like a credential. Borrows if nothing is removed.
pub fn redact(text: &str) -> Cow<'_, str> {
    CREDENTIALS.replace_all(text, REDACTED)
}

/// The most characters that [`quoted`] shows.
const QUOTED: usize = 200;

/// A text of others within a sentence: in quotes, on one line, without anything that looks like a credential, and
/// at most 200 characters.
pub fn quoted(text: &str) -> String {
    // What is searched is bounded too. It is longer than what is shown, so that no credential is cut into a piece
    // that no longer looks like one.
    let searched = redact(&text[..text.floor_char_boundary(QUOTED * 8)]);
    match searched.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}[cut]\"", printable(&searched[..end])),
        None => format!("\"{}\"", printable(&searched)),
    }
}

/// For tools that print fields of records; JSON has its own escapes.
pub use countersign_types::shown::escaped as printable;

/// Whether a character must not reach a terminal or a log unescaped.
pub use countersign_types::shown::disturbs as needs_escape;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::bot("bad xoxb-1234567890-abcdef here", "bad [redacted] here")]
    #[case::unknown("xoxz-1234567890-abcdef", "[redacted]")]
    #[case::user("xoxp-1234567890-abcdef", "[redacted]")]
    #[case::rotating("xoxe.xoxb-1-MyAbCdEf0123", "[redacted]")]
    #[case::refresh("xoxe-1-MyAbCdEf0123", "[redacted]")]
    #[case::github_installation("no ghs_16C7e42F292c6912E7710c838347Ae178B4a", "no [redacted]")]
    #[case::app("xapp-1-A012345-abcdef", "[redacted]")]
    #[case::workflow("xwfp-1-A012345-abcdef", "[redacted]")]
    #[case::too_short_for_a_token("xoxb-short", "xoxb-short")]
    #[case::no_such_prefix("oxb-1234567890-abcdef", "oxb-1234567890-abcdef")]
    #[case::webhook(
        "POST https://hooks.slack.com/services/T0/B0/zzz failed",
        "POST https://[redacted] failed"
    )]
    #[case::webhook_gov("hooks.slack-gov.com/workflows/T0/B0/zzz", "[redacted]")]
    #[case::webhook_path("/services/T01234567/B01234567/zzz", "[redacted]")]
    #[case::placeholder_path("/services/countersign/nightly", "/services/countersign/nightly")]
    #[case::bearer("Authorization: Bearer abcdefgh", "Authorization: [redacted]")]
    #[case::bearer_other_case("authorization: bearer abcdefgh", "authorization: [redacted]")]
    #[case::basic(
        "Proxy-Authorization: Basic eHg6eW91LWZvdW5kLW1l",
        "Proxy-Authorization: [redacted]"
    )]
    #[case::basic_in_english("a basic credential", "a basic credential")]
    #[case::jwt(
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln rejected",
        "token [redacted] rejected"
    )]
    #[case::jwt_cut_off("eyJhbGciOiJSUzI1NiJ9", "[redacted]")]
    #[case::qase(
        "Token: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.",
        "Token: [redacted]."
    )]
    #[case::sha1_is_no_token(
        "/v1/result/DEMO/0123456789abcdef0123456789abcdef01234567",
        "/v1/result/DEMO/0123456789abcdef0123456789abcdef01234567"
    )]
    #[case::form(
        "grant_type=x&refresh_token=abc&a=b",
        "grant_type=x&refresh_[redacted]&a=b"
    )]
    #[case::userinfo("http://user:pass@proxy:3128", "http[redacted]proxy:3128")]
    #[case::json_stays_json(
        r#"{"a":"Bearer abcdefgh","b":"token=x"}"#,
        r#"{"a":"[redacted]","b":"[redacted]"}"#
    )]
    #[case::plain(
        "the upstream reset the connection",
        "the upstream reset the connection"
    )]
    fn takes_out_credentials(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(redact(text), expected);
    }

    #[test]
    fn every_form_of_the_table_is_taken_out() {
        for prefix in TOKEN_PREFIXES {
            let (token, word) = (format!("{prefix}0123abcd"), format!("{prefix}0123abc"));
            assert_eq!(redact(&format!("bad {token} here")), "bad [redacted] here");
            assert_eq!(redact(&word), word, "too short for a token");
        }
        for webhook in WEBHOOKS {
            let text = format!("https://{webhook}T0/B0/zzz failed");
            assert_eq!(redact(&text), "https://[redacted] failed");
        }
    }

    #[rstest]
    #[case::plain("https://a/", "\"https://a/\"")]
    #[case::escaped("a\n\u{1b}[31m", "\"a\\u{a}\\u{1b}[31m\"")]
    #[case::masked("xoxb-1234567890-abcdef", "\"[redacted]\"")]
    #[case::empty("", "\"\"")]
    fn a_text_of_others_is_quoted(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(quoted(text), expected);
    }

    #[test]
    fn a_quoted_text_is_bounded_and_no_credential_is_cut_in_it() {
        let whole = "\u{e9}".repeat(QUOTED);
        assert_eq!(quoted(&whole), format!("\"{whole}\""));
        assert_eq!(
            quoted(&"\u{e9}".repeat(100_000)),
            format!("\"{whole}[cut]\"")
        );
        let before = "x ".repeat(QUOTED / 2 - 4);
        let shown = quoted(&format!("{before}xoxb-1234567890-abcdef"));
        assert!(!shown.contains("xoxb"), "{shown}");
    }

    #[rstest]
    #[case("plain text, also \u{e9}", "plain text, also \u{e9}")]
    #[case("\u{1b}[31mred", "\\u{1b}[31mred")]
    #[case("a\r\nb", "a\\u{d}\\u{a}b")]
    #[case("\u{9b}2J", "\\u{9b}2J")]
    #[case("\u{202e}gnp", "\\u{202e}gnp")]
    fn escapes_for_terminals(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(printable(text), expected);
    }
}
