use std::collections::{BTreeSet, HashSet};

use super::*;

/// Whoever adds a reason that blames somebody else has asked what else could cause it.
#[test]
fn the_documentation_tells_apart_what_blames_caller_or_upstream() {
    let documented: BTreeSet<_> = include_str!("../../../../docs/reasons.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let code = cells.next()?.strip_suffix('`')?;
            let cell = |cell: Option<&'static str>| Some(cell?.trim_end_matches(" |"));
            let (blame, else_cause) = (cell(cells.next())?, cell(cells.next())?);
            assert!(!else_cause.is_empty(), "{code}");
            Some((code, blame))
        })
        .collect();
    let blaming: BTreeSet<_> = Reason::ALL
        .iter()
        .map(|reason| reason.facts())
        .filter(|facts| matches!(facts.blame, Blame::Caller | Blame::Upstream))
        .map(|facts| (facts.code, facts.blame.as_str()))
        .collect();
    assert_eq!(documented, blaming);
}

#[test]
fn codes_are_distinct_and_stable_in_form() {
    let mut seen = HashSet::new();
    for reason in Reason::ALL {
        let facts = reason.facts();
        assert!(seen.insert(facts.code), "{} is there twice", facts.code);
        assert!(
            facts
                .code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{} is no code",
            facts.code
        );
        assert!(http::StatusCode::from_u16(facts.status).is_ok());
        for sentence in [facts.caller, facts.remedy] {
            assert!(sentence.ends_with('.'), "{}: {sentence}", facts.code);
        }
    }
}
