//! That the quick parser reads what it takes just as the full parser does.

use std::{fs, path::Path, sync::LazyLock};

use proptest::{prelude::*, sample::Index};

use super::*;

/// Both trees; `None` where the quick parser leaves the document to the other.
fn compared(text: &str) -> Option<Node<'_>> {
    let quick = quick::parse(text, 0)?;
    let full = full(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(format!("{quick:#?}"), format!("{full:#?}"), "{text}");
    Some(quick)
}

/// The documents of every YAML file beneath a directory.
fn files_beneath(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_beneath(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(split(&text).into_iter().map(|(_, text)| text.to_owned()));
        }
    }
}

/// Those of the catalog, of tests and of examples.
static DOCUMENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["src/catalog", "tests/resources", "../examples"] {
        files_beneath(&crate_root.join(directory), &mut found);
    }
    found
});

#[test]
fn what_is_usually_written_is_read_quickly() {
    let documents = &*DOCUMENTS;
    assert!(documents.len() > 30, "{}", documents.len());
    let quick = documents.iter().filter(|text| compared(text).is_some());
    let quick = quick.count();
    assert!(
        quick * 3 > documents.len() * 2,
        "{quick} of {}",
        documents.len()
    );
}

#[test]
fn a_list_may_stand_right_below_its_key() {
    for text in ["a:\n- b\n-  c\nd: e\n", "a:\n-   b: c\n    d: e\n"] {
        assert!(compared(text).is_some(), "{text}");
    }
}

/// Pieces of which lines are made, sound ones and others.
const PIECES: &[&str] = &[
    "a",
    "b: ",
    "key:",
    "key: ",
    "- ",
    "-",
    "  ",
    "    ",
    " ",
    "\n",
    "\n",
    "\n  ",
    "\n- ",
    "\n  - ",
    "#",
    " # c",
    ":",
    ": ",
    ",",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "\"",
    "'",
    "\"x y\"",
    "'x'",
    "''",
    "true",
    "null",
    "~",
    "yes",
    "12",
    "0",
    "007",
    "1.5",
    "-3",
    "1e3",
    "0x1f",
    "2027-06-30",
    "45m",
    "60/m",
    "/v1/*",
    "*",
    "&a",
    "*a",
    "!t",
    "|",
    ">",
    "%",
    "@",
    "`",
    "?",
    "? ",
    "<<: ",
    "---",
    "...",
    "\\",
    "https://x:80/",
    "x:y",
    "\t",
    "\u{e4}",
    "{ a: b }",
    "[a, b]",
    "{ a: [b], c: \"d\" }",
    "=",
    "word",
    "9223372036854775807",
    "99999999999999999999",
    "infinity",
    ".inf",
    "a#b",
    "a b",
    "\r\n",
];

proptest! {
    // More with `PROPTEST_CASES`.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn pieces_are_read_alike(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..24)) {
        compared(&pieces.concat());
    }

    /// Documents that were right until something was put in, taken out or repeated.
    #[test]
    fn edited_documents_are_read_alike(
        document: Index,
        edits in prop::collection::vec(
            (any::<Index>(), 0..4_usize, prop::sample::select(PIECES)),
            1..4,
        ),
    ) {
        let mut text: Vec<char> = document.get(&DOCUMENTS).chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        compared(&text.into_iter().collect::<String>());
    }
}
