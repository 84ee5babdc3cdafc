//! A tree that is put together here is the one that serde-saphyr reads.

use proptest::prelude::*;
use rstest::rstest;

use super::document;
use crate::{load::catalog, yaml::library};

/// Compares the trees, places and all. Returns whether the document was read without serde-saphyr.
fn agrees(text: &str) -> bool {
    let Some(quick) = document(text, 3) else {
        return false;
    };
    let other = library::document(text, 3);
    let other = other.unwrap_or_else(|error| panic!("only serde-saphyr refuses {text:?}: {error}"));
    assert_eq!(format!("{quick:?}"), format!("{other:?}"), "{text:?}");
    true
}

#[test]
fn the_catalog_is_put_together_directly() {
    for source in catalog() {
        assert!(agrees(&source.text), "{}", source.path.display());
    }
}

#[rstest]
#[case::block("a: b\nlist:\n  - one\n  - two: 2\n    three: ~\n")]
#[case::flow("{ a: [b, \"c d\", 'e''f'], g: { h: 1.5 } }")]
#[case::numbers("[1, -1, 0o17, 0x1f, 007, 1_000, 1e3, 18446744073709551615, .5]")]
#[case::words("[null, NULL, ~, true, True, yes, off, y, Infinity, inf, nan, nil, none]")]
#[case::dots("a: 1.2.3.4\nb: 10.0.0.0/8\nc: 2027-06-30T00:00:00Z\nd: 60/m\ne: 12:30:45\n")]
#[case::wide("key: zażółć # remark\n\"quoted key\": \"\\u00e9\\n\"\n")]
#[case::folded("a: one\n  two\nb: \"one\n  two\"\n")]
#[case::crlf("a: b\r\nc:\r\n  - d\r\n")]
#[case::marked("--- # first\na: b\n...\n")]
#[case::duplicates("a: 1\na: 2\n")]
#[case::deep("a: {b: {c: {d: {e: {f: [[[[g]]]]}}}}}")]
fn usual_documents_are_put_together_directly(#[case] text: &str) {
    assert!(agrees(text));
}

#[rstest]
#[case::tag("a: !!str 1\n")]
#[case::anchor("a: &x 1\nb: *x\n")]
#[case::merge("a: &x {b: 1}\nc: {<<: *x}\n")]
#[case::quoted_merge("\"<<\": {b: 1}\n")]
#[case::directive("%YAML 1.2\n---\na: 1\n")]
#[case::number_as_key("1: a\n")]
#[case::nothing_as_key("? \n: a\n")]
#[case::mapping_as_key("? {a: b}\n: c\n")]
#[case::broken("a: [b\n")]
#[case::tab("a:\n\tb: c\n")]
#[case::two("a: b\n--- \nc: d\n")]
#[case::other_letters_in_a_key("ключ: a\n")]
#[case::beyond_floats("a: 1e999\n")]
#[case::empty("")]
fn unusual_documents_are_left_to_the_library(#[case] text: &str) {
    assert!(document(text, 0).is_none());
}

#[test]
fn t72_large_and_deep_documents_are_left_to_the_library() {
    let long = format!("a: \"{}\"\n", "b".repeat(super::LONGEST));
    assert!(document(&long, 0).is_none());
    let deep = "[".repeat(super::LONGEST);
    assert!(document(&deep, 0).is_none());
    let levels = super::DEEPEST + 2;
    let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(document(&deep, 0).is_none());
}

/// Pieces of which documents are made, and mistakes too.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "a: ", "b:", "- ", "\n", "\n  ", "\n    ", "  ", "{", "}", "[", "]", ", ", ": ", "? ",
        "|\n  ", ">-\n  ", "# x", "---", "...", "\"", "'", "''", "~", "&a ", "*a", "!t ", "<<: ",
        "%", "\t", "\r\n", "\u{feff}", "é", "-1", "0x", "1.", ".5", "+", "true", "Null", "inf",
        "-.inf", ".nan", "0b1", "1e5",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "[ -~]{0,4}", 1 => "[a-z0-9./:]{1,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn whatever_is_put_together_agrees(pieces in prop::collection::vec(piece(), 0..14)) {
        agrees(&pieces.concat());
    }

    #[test]
    fn scalars_agree(text in "[-+~.0-9a-zA-Z_:/ ]{0,10}") {
        agrees(&format!("a: {text}\nb: [{text}]\n"));
        agrees(&format!("{text}: a\n"));
    }
}
