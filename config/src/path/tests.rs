use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn path(text: &str) -> CanonicalPath {
    let target = PathAndQuery::try_from(text).expect("a path for http");
    CanonicalPath::check(&target).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

#[rstest]
#[case("/")]
#[case("/api/chat.postMessage")]
#[case("/api/")]
#[case("/v1/run/DEMO?limit=100&a=%zz;..//")]
#[case("/a/...")]
#[case("/a/.well-known/..x")]
#[case("/a!$&'()*+,=:@b")]
#[case("/a%20b")]
#[case("/a%3Fb%23c")]
#[case("/100%25")]
#[case("/%C3%BC/%E2%82%AC/%F0%9F%98%80")]
fn is_canonical(#[case] text: &str) {
    assert_eq!(path(text).path_and_query().as_str(), text);
}

#[rstest]
#[case::dot_dot("/a/../b")]
#[case::dot_dot_last("/a/..")]
#[case::dot("/a/./b")]
#[case::encoded_dot("/a/%2E%2E/b")]
#[case::encoded_dot_lower("/a/%2e%2e/b")]
#[case::half_encoded_dot("/a/.%2E/b")]
#[case::double_slash("//a")]
#[case::double_slash_inside("/a//b")]
#[case::double_slash_last("/a//")]
#[case::parameter("/a;x=1/b")]
#[case::dot_dot_parameter("/a/..;/b")]
#[case::encoded_semicolon("/a%3Bx")]
#[case::backslash("/a\\..\\b")]
#[case::encoded_backslash("/a%5Cb")]
#[case::encoded_slash("/a%2Fb")]
#[case::encoded_nul("/a%00b")]
#[case::encoded_line_feed("/a%0Ab")]
#[case::encoded_delete("/a%7Fb")]
#[case::encoded_c1_control("/a%C2%85b")]
#[case::encoded_unreserved("/%61pi")]
#[case::encoded_tilde("/%7Euser")]
#[case::lower_case_digits("/a%c3%bc")]
#[case::broken("/a%")]
#[case::broken_short("/a%2")]
#[case::broken_across_segments("/a%2/0b")]
#[case::broken_digits("/a%G0")]
#[case::encoded_twice("/a/%252E%252E/b")]
#[case::encoded_twice_slash("/a%252fb")]
#[case::overlong_dot("/a/%C0%AE%C0%AE/b")]
#[case::overlong_slash("/a%E0%80%AFb")]
#[case::latin_1("/caf%E9")]
#[case::surrogate("/%ED%A0%80")]
#[case::stray_continuation("/%80")]
#[case::cut_short("/%E2%82/x")]
#[case::non_ascii("/caf\u{e9}")]
#[case::brace("/a{b}")]
#[case::quote("/a\"b")]
#[case::pipe("/a|b")]
#[case::asterisk_form("*")]
fn is_refused(#[case] text: &str) {
    let target = PathAndQuery::try_from(text).expect("http takes it, so we must not");
    assert!(CanonicalPath::check(&target).is_err(), "{text:?} was taken");
}

fn kept(text: &str) -> Result<CanonicalPath, PathProblem> {
    let target = PathAndQuery::try_from(text).expect("a path for http");
    CanonicalPath::check_with(&target, EncodedSlash::Keep)
}

#[rstest]
#[case::id("/api/v4/projects/group%2Fsub%2Fproject/issues", true)]
#[case::file("/files/lib%2Fclass.rb/raw", true)]
#[case::only_a_slash("/a/%2F/b", false)]
#[case::first("/a/%2Fb", false)]
#[case::last("/a/b%2F", false)]
#[case::two_together("/a/b%2F%2Fc", false)]
#[case::dot_dot("/a/b%2F..%2Fc", false)]
#[case::dot_dot_first("/a/..%2Fc", false)]
#[case::dot_dot_last("/a/b%2F..", false)]
#[case::dot("/a/b%2F.%2Fc", false)]
#[case::dot_dot_encoded("/a/b%2F%2E%2E", false)]
#[case::parameter("/a/b%2F..;", false)]
#[case::lower_case_digits("/a/b%2fc", false)]
#[case::encoded_twice("/a/b%252Fc", false)]
#[case::encoded_backslash("/a/b%5Cc", false)]
#[case::overlong("/a/b%C0%AFc", false)]
fn a_server_may_keep_slashes_in_ids(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(kept(text).is_ok(), expected, "{text}");
    // By default they are refused, with what to do about it.
    let target = PathAndQuery::try_from(text).expect("a path for http");
    let problem = CanonicalPath::check(&target).expect_err("not canonical");
    assert!(problem.is_encoded_slash() || !expected, "{problem}");
}

/// An encoded slash never separates segments, in paths or in patterns.
#[rstest]
#[case("/projects/*/issues", "/projects/a%2Fb/issues", true)]
#[case("/projects/a%2Fb/**", "/projects/a%2Fb/issues/1", true)]
#[case("/projects/a%2F*", "/projects/a%2Fb", true)]
#[case("/projects/a%2F*", "/projects/a%2Fb%2Fc", true)]
#[case("/projects/a%2F*", "/projects/ab%2Fc", false)]
#[case("/projects/a/b", "/projects/a%2Fb", false)]
#[case("/projects/a%2Fb", "/projects/a/b", false)]
#[case("/projects/*/*", "/projects/a%2Fb", false)]
#[case("/projects/*", "/projects/a%2Fb", true)]
#[case("/projects/a/**", "/projects/a%2Fb", false)]
#[case("/**/b", "/projects/a%2Fb", false)]
fn patterns_take_encoded_slashes_as_part_of_a_segment(
    #[case] pattern: &str,
    #[case] text: &str,
    #[case] expected: bool,
) {
    let path = kept(text).unwrap();
    for ignore_case in [false, true] {
        let patterns = PathPatterns::parse(&[pattern], ignore_case).expect("a pattern");
        assert_eq!(patterns.matches(&path), expected, "{pattern} {text}");
    }
}

#[rstest]
#[case("/v1/run/*", "/v1/run/DEMO", true)]
#[case("/v1/run/*", "/v1/run/DEMO?limit=1", true)]
#[case("/v1/run/*", "/v1/run", false)]
#[case("/v1/run/*", "/v1/run/", false)]
#[case("/v1/run/*", "/v1/run/DEMO/", false)]
#[case("/v1/run/*", "/v1/run/DEMO/1", false)]
#[case("/v1/run/*", "/v1/runs/DEMO", false)]
#[case("/v1/run/*", "/v1/RUN/DEMO", false)]
#[case("/api/oauth.*", "/api/oauth.v2.access", true)]
#[case("/api/oauth.*", "/api/oauth.", true)]
#[case("/api/oauth.*", "/api/oauth", false)]
#[case("/api/oauth.*", "/api/oauth.v2/access", false)]
#[case("/api/oauth.*", "/api/xoauth.access", false)]
#[case("/upload/v1/**", "/upload/v1/a/b", true)]
#[case("/upload/v1/**", "/upload/v1", true)]
#[case("/upload/v1/**", "/upload/v1/", true)]
#[case("/upload/v1/**", "/upload/v11", false)]
#[case("/upload/v1/**", "/upload/v2/a", false)]
#[case("/**", "/", true)]
#[case("/**", "/a/b/", true)]
#[case("/**/end", "/end", true)]
#[case("/**/end", "/a/b/end", true)]
#[case("/**/end", "/a/b/end/", false)]
#[case("/**/a/*/c", "/a/b/a/b/c", true)]
#[case("/a/**/b/**/c", "/a/b/b/x/c", true)]
#[case("/a/**/b/**/c", "/a/x/c", false)]
#[case("/a*b*c", "/abbc", true)]
#[case("/a*b*c", "/acb", false)]
#[case("/a/", "/a/", true)]
#[case("/a/", "/a", false)]
#[case("/a%20b", "/a%20b", true)]
fn patterns_mean(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
    let patterns = PathPatterns::parse(&[pattern], false).expect("a pattern");
    assert_eq!(patterns.matches(&path(text)), expected);
}

#[rstest]
#[case("/api/auth.revoke", "/api/auth.revoke", true)]
#[case("/api/auth.revoke", "/API/Auth.Revoke", true)]
#[case("/api/auth.revoke", "/api/auth.revoke/", true)]
#[case("/api/oauth.*", "/api/OAuth.v2.access/", true)]
#[case("/api/auth.revoke", "/api/auth.revoked", false)]
#[case("/api/auth.revoke", "/api/auth.revoke/x", false)]
fn patterns_that_deny_mean_more(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
    let patterns = PathPatterns::parse(&[pattern], true).expect("a pattern");
    assert_eq!(patterns.matches(&path(text)), expected);
}

#[rstest]
#[case::relative("api")]
#[case::empty("")]
#[case::part_double_star("/a**")]
#[case::triple_star("/***")]
#[case::empty_segment("/a//b")]
#[case::dot_dot("/a/../b")]
#[case::encoded("/%61")]
#[case::query("/a?b=*")]
#[case::url("https://slack.com/a")]
#[case::brace("/{a,b}")]
#[case::nine_wildcards("/*/*/*/*/*/*/*/*/*")]
fn what_is_no_pattern(#[case] pattern: &str) {
    let result = PathPatterns::parse(&["/fine", pattern], false);
    assert_eq!(result.expect_err("an error").0, 1);
}

#[test]
fn counts_and_lengths_are_bounded_at_their_edge() {
    let at_most = "/".to_owned() + &"a".repeat(511);
    assert!(PathPatterns::parse(&[&at_most], false).is_ok());
    assert!(PathPatterns::parse(&[at_most + "a"], false).is_err());
    assert!(PathPatterns::parse(&["/a"; 256], false).is_ok());
    assert!(PathPatterns::parse(&["/a"; 257], false).is_err());
}

#[test]
fn no_patterns_are_any_path() {
    let none = PathPatterns::parse::<&str>(&[], false).expect("no patterns");
    assert!(none.is_any() && none.matches(&path("/a")));
    let some = PathPatterns::parse(&["/b"], false).expect("a pattern");
    assert!(!some.is_any() && !some.matches(&path("/a")));
    assert_eq!(some.written(), ["/b"]);
}

/// The meaning of patterns in the simplest form, with exponential time.
fn reference(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|n| reference(rest, &path[n..])),
        (["*", rest @ ..], [first, others @ ..]) => !first.is_empty() && reference(rest, others),
        ([glob, rest @ ..], [first, others @ ..]) => {
            reference_glob(glob.as_bytes(), first.as_bytes()) && reference(rest, others)
        }
        _ => false,
    }
}

fn reference_glob(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| reference_glob(rest, &text[n..])),
        ([byte, rest @ ..], [first, others @ ..]) => byte == first && reference_glob(rest, others),
        _ => false,
    }
}

/// Each pattern on its own, in the order of the list.
fn reference_of_all(patterns: &[String], path: &str, lenient: bool) -> bool {
    let one = |pattern: &String, path: &str| {
        let (pattern, path) = if lenient {
            (pattern.to_ascii_lowercase(), path.to_ascii_lowercase())
        } else {
            (pattern.clone(), path.to_owned())
        };
        let wanted: Vec<_> = pattern[1..].split('/').collect();
        let given: Option<Vec<_>> = path.strip_prefix('/').map(|path| path.split('/').collect());
        given.is_some_and(|given| reference(&wanted, &given))
    };
    let shorter = path.strip_suffix('/').filter(|_| lenient);
    patterns.is_empty()
        || patterns
            .iter()
            .any(|pattern| one(pattern, path) || shorter.is_some_and(|path| one(pattern, path)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_list_matches_as_its_patterns_do_one_by_one(
        patterns in prop::collection::vec(
            "(/(\\*|\\*\\*|[abAB]{1,2}|[aB]?\\*b?)){1,3}/?|/[abAB]{1,3}/?|/",
            0..12,
        ),
        path in "(/[abAB]{1,3}){0,3}/?",
        lenient: bool,
    ) {
        let text = if path.is_empty() { "/" } else { &path };
        let Ok(parsed) = PathPatterns::parse(&patterns, lenient) else { return Ok(()) };
        prop_assert_eq!(
            parsed.matches(&super::tests::path(text)),
            reference_of_all(&patterns, text, lenient),
            "{:?} against {}, lenient: {}", patterns, text, lenient
        );
    }
}

#[rstest]
#[case::exact(false)]
#[case::lenient(true)]
fn each_of_many_literals_is_found(#[case] lenient: bool) {
    let name = |number: usize| format!("/api/{}{number}.list", "x".repeat(number % 7));
    let all: Vec<_> = (0..200).map(name).collect();
    let patterns = PathPatterns::parse(&all, lenient).expect("patterns");
    for text in &all {
        assert!(patterns.matches(&path(text)), "{text}");
        assert_eq!(patterns.matches(&path(&text.to_uppercase())), lenient);
        assert_eq!(patterns.matches(&path(&format!("{text}/"))), lenient);
        assert!(!patterns.matches(&path(&format!("{text}s"))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn matches_as_the_reference_does(
        pattern in prop::collection::vec("\\*|\\*\\*|[ab]{1,2}|a?\\*b?|a\\*a\\*|", 1..6),
        given in prop::collection::vec("[ab]{1,3}", 0..6),
        slash: bool,
    ) {
        let pattern = format!("/{}", pattern.join("/"));
        let slash = if slash || given.is_empty() { "/" } else { "" };
        let text = format!("{}{}{slash}", if given.is_empty() { "" } else { "/" }, given.join("/"));
        let Ok(patterns) = PathPatterns::parse(&[&pattern], false) else { return Ok(()) };
        let wanted: Vec<_> = pattern[1..].split('/').collect();
        let segments: Vec<_> = text[1..].split('/').collect();
        prop_assert_eq!(
            patterns.matches(&path(&text)),
            reference(&wanted, &segments),
            "{} against {}", pattern, text
        );
    }

    /// A path that passes has no other reading: decoding it changes neither segments nor dots.
    #[test]
    fn what_is_canonical_survives_decoding(text in "/[a./%25EFC0-9;\\\\]{0,20}") {
        let Ok(target) = PathAndQuery::try_from(text.as_str()) else { return Ok(()) };
        if CanonicalPath::check(&target).is_err() {
            return Ok(());
        }
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
        let decoded = decoded.expect("escapes are UTF-8");
        prop_assert_eq!(decoded.split('/').count(), text.split('/').count());
        prop_assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."));
        prop_assert!(!decoded.contains(['\\', ';']));
    }
}
