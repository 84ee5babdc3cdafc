use std::collections::HashSet;

use super::*;

/// Whoever adds a reason that blames somebody else has asked what else could cause it.
#[test]
fn what_blames_caller_or_upstream_is_told_apart() {
    for reason in Reason::ALL {
        let facts = reason.facts();
        let blaming = matches!(facts.blame, Blame::Caller | Blame::Upstream);
        let causes = reason.other_causes();
        assert_eq!(causes.is_some(), blaming, "{}", facts.code);
        if let Some(causes) = causes {
            assert!(!causes.what.is_empty(), "{}", facts.code);
            let none = causes.what.starts_with("none");
            assert!(none || !causes.told_apart.is_empty(), "{}", facts.code);
        }
    }
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
        for sentence in [facts.meaning.trim(), facts.caller, facts.remedy] {
            assert!(sentence.ends_with('.'), "{}: {sentence}", facts.code);
        }
    }
}
