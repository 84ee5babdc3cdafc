//! What a person reads is a sentence, and not a structure of a library.

use serde_json::Value;

/// Names of libraries' variants that would make no sense to whoever reads them.
const VARIANTS: [&str; 12] = [
    "UnknownIssuer",
    "UnknownCA",
    "BadCertificate",
    "CertificateExpired",
    "CertificateUnknown",
    "NotValidForName",
    "ExpiredContext",
    "CaUsedAsEndEntity",
    "InvalidContentType",
    "InvalidMessage",
    "KeyMismatch",
    "NoRecordsFound",
];

/// Fails if the detail of a record or event shows what Rust prints for programmers.
///
/// # Panics
/// Then.
#[track_caller]
pub fn is_told_in_sentences(record: &Value) {
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(!shows_a_structure(detail), "{detail}");
}

/// `Query { name: ...`, `Name("...")`, the name of a known variant, or the system's number of an error.
pub fn shows_a_structure(text: &str) -> bool {
    let named = VARIANTS.iter().any(|variant| text.contains(variant)) || shows_a_number(text);
    let opened = |(at, _): (usize, &str)| {
        let word: String = text[..at]
            .chars()
            .rev()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        word.ends_with(|first: char| first.is_ascii_uppercase()) && word.len() > 2
    };
    named
        || text.match_indices(" { ").any(opened)
        || text.match_indices("(\"").any(opened)
        || text.contains("Some(")
}

/// `(os error 2)` means nothing to whoever reads it.
pub fn shows_a_number(text: &str) -> bool {
    text.contains("(os error")
}

#[test]
fn a_structure_is_seen_and_a_sentence_is_not() {
    for text in [
        "no records found for Query { name: Name(\"slack.com.\"), query_type: A }",
        "invalid peer certificate: UnknownIssuer",
        "it is Name(\"x\")",
        "got Some(3)",
        "cannot read /x: No such file or directory (os error 2)",
        "it broke: Error { kind: Io }",
    ] {
        assert!(shows_a_structure(text), "{text}");
    }
    for text in [
        "the token names the issuer \"https://a/\", which is not configured",
        "with rules: [{apiGroups: [\"\"], resources: [secrets], verbs: [get]}]",
        "Give it a policy with: path \"a\" { capabilities = [\"read\"] }",
        "AccessPolicy qa/x, allow[0]: paths: expected /a, got /b",
    ] {
        assert!(!shows_a_structure(text), "{text}");
    }
}
