use std::collections::BTreeMap;

use http::{Method, uri::PathAndQuery};
use rstest::rstest;

use super::*;
use crate::{facts::PodFacts, host::Host, path::CanonicalPath};

fn holds_for(condition: &str, target: &str, caller: &CallerFacts) -> Result<bool, String> {
    let condition =
        Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    let host = Host::parse("api.qase.io").expect("a host");
    let target = PathAndQuery::try_from(target).expect("a target");
    let request = RequestFacts {
        host: &host,
        port: 443,
        method: &Method::GET,
        path: &CanonicalPath::check(&target).expect("canonical"),
    };
    let now = "2026-11-23T05:10:00.25Z".parse().expect("a timestamp");
    condition
        .holds(caller, &request, now)
        .map_err(|error| error.to_string())
}

fn caller() -> CallerFacts {
    CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some("nightly".into()),
        pod: Some("nightly-1".into()),
        kubernetes: Some(Arc::new(PodFacts {
            labels: BTreeMap::from([("team".to_owned(), "qa".to_owned())]),
            cron_job: Some("nightly".to_owned()),
            ..PodFacts::default()
        })),
        ..CallerFacts::default()
    }
}

const LIMIT: &str = "!has(request.query.limit) || int(request.query.limit) <= 100";

#[rstest]
#[case::absent("/v1/run/DEMO", Ok(true))]
#[case::other_field("/v1/run/DEMO?limits=500", Ok(true))]
#[case::at_the_limit("/v1/run/DEMO?limit=100", Ok(true))]
#[case::above("/v1/run/DEMO?limit=101", Ok(false))]
#[case::encoded_name("/v1/run/DEMO?l%69mit=101", Ok(false))]
#[case::encoded_value("/v1/run/DEMO?limit=%31%30%31", Ok(false))]
#[case::repeated("/v1/run/DEMO?limit=1&limit=500", Err("`int` does not take list"))]
#[case::repeated_encoded("/v1/run/DEMO?limit=1&%6Cimit=500", Err("`int` does not take list"))]
#[case::no_number("/v1/run/DEMO?limit=SECRET", Err("`int` cannot use its argument"))]
#[case::empty("/v1/run/DEMO?limit", Err("`int` cannot use its argument"))]
#[case::not_utf8("/v1/run/DEMO?limit=%FF", Err("the query is not UTF-8"))]
fn the_limit_of_the_nightly_dashboard(#[case] target: &str, #[case] expected: Result<bool, &str>) {
    let result = holds_for(LIMIT, target, &caller());
    assert_eq!(
        result.as_ref().map_err(String::as_str),
        expected.as_ref().map_err(|e| *e)
    );
}

#[rstest]
#[case("request.method == 'GET'", true)]
#[case("request.host == 'api.qase.io' && request.port == 443", true)]
#[case("request.path.startsWith('/v1/run/')", true)]
#[case("request.path == '/v1/run/DEMO%20X'", true)]
#[case("request.query.title == 'a b c'", true)]
#[case("request.query['include'] == ['cases', 'x']", true)]
#[case("size(request.query) == 3", true)]
#[case("request.query.include.exists(i, i == 'x')", true)]
#[case("request.query.include.all(i, i == 'x')", false)]
#[case("request.query.flag == ''", true)]
#[case("caller.namespace == 'qa' && caller.serviceAccount == 'nightly'", true)]
#[case("caller.labels.team in ['qa', 'release']", true)]
#[case(
    "caller.cronJob == 'nightly' && caller.cluster == 'prod-eu' && caller.pod != ''",
    true
)]
#[case("has(caller.spiffeId)", false)]
#[case("now < timestamp('2027-01-01T00:00:00Z')", true)]
#[case("now == timestamp('2026-11-23T05:10:00.25Z')", true)]
#[case("now.getHours('Europe/Berlin') == 6", true)]
#[case("request.path.matches('^/v[0-9]+/run/')", true)]
#[case("caller.namespace == 'release' ? false : true", true)]
fn conditions_see(#[case] condition: &str, #[case] expected: bool) {
    let target = "/v1/run/DEMO%20X?include=cases&title=a+b%20c&include=x&flag";
    assert_eq!(holds_for(condition, target, &caller()), Ok(expected));
}

#[rstest]
#[case::unknown_to_us("caller.spiffeId == 'x'", "there is no `spiffeId`")]
#[case::missing_label("caller.labels.tier == 'x'", "there is no `tier`")]
#[case::missing_field("request.query.limit == '1'", "there is no `limit`")]
#[case::field_named_by_the_caller("request.query[request.query.a] == ''", "a key is missing")]
#[case::no_bool("request.query.a", "the result is string, not bool")]
#[case::compares_text_with_number("request.query.a < 3", "")]
#[case::division("1 / int(request.query.zero) == 1", "division by zero")]
#[case::list_is_no_text("request.query.twice.startsWith('x')", "")]
fn what_fails_is_an_error_without_values(#[case] condition: &str, #[case] expected: &str) {
    let target = "/v1?a=SECRET&zero=0&twice=SECRET&twice=SECRET";
    let error = holds_for(condition, target, &caller()).expect_err("an error");
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("SECRET"), "{error}");
}

#[test]
fn a_field_in_a_spelling_of_its_own_is_there_as_it_is_written() {
    let target = "/?status[]=open&per.page=5";
    let condition = "request.query['status[]'] == 'open' && request.query['per.page'] == '5'";
    assert_eq!(holds_for(condition, target, &caller()), Ok(true));
}

/// Each condition would hold if the server's spelling of the field were not considered.
#[rstest]
#[case::case("limit=5&LIMIT=500")]
#[case::case_alone("LIMIT=500")]
#[case::encoded_case("%4Cimit=500")]
#[case::list("limit[]=500")]
#[case::index("limit%5B0%5D=500")]
#[case::half_a_bracket("limit[=500")]
#[case::cut_by_nul("limit%00=500")]
#[case::cut_by_nul_with_more("limit%00x=500")]
#[case::control("limi%01t=500")]
#[case::leading_blank("+limit=500")]
#[case::trailing_blank("limit%20=500")]
#[case::byte_order_mark("%EF%BB%BFlimit=500")]
#[case::wide("%u006Cimit=500&LIMIT")]
#[case::separator_behind("limit=5;limit=500")]
#[case::separator_before("a=1;limit=500")]
#[case::separator_in_the_value("limit=5;a=1")]
#[case::separator_and_case("a=1;LIMIT=500")]
fn t71_a_field_that_is_read_stands_in_one_spelling(
    #[case] query: &str,
    #[values(
        "!has(request.query.limit) || int(request.query.limit) <= 100",
        "!('limit' in request.query) || request.query.limit != '500'",
        "!('limit' in request.query) || request.query['limit'] != '500'",
        "request.query.all(name, name != 'limit')"
    )]
    condition: &str,
) {
    let target = format!("/v1?{query}&x=1");
    let error = holds_for(condition, &target, &caller()).expect_err("an error");
    assert!(!error.contains("500"), "{error}");
}

/// The near misses: fields that the condition does not read are not checked.
#[rstest]
#[case::another("limits=5&limit_=6&xlimit=7")]
#[case::others_are_ambiguous("a=1&A=2&b[]=3&b[]=4&c%00=5&d.e=6&d_e=7")]
#[case::separator_elsewhere("a=1;b=2")]
#[case::odd_bytes("a=%FF&%FF=b")]
#[case::itself("limit=100&a=%FF")]
fn t71_what_is_not_read_may_be_spelled_in_any_way(#[case] query: &str) {
    let target = format!("/v1?{query}");
    assert_eq!(holds_for(LIMIT, &target, &caller()), Ok(true));
}

#[test]
fn t71_where_any_field_may_be_read_none_may_have_several_spellings() {
    let condition = "size(request.query) < 9";
    assert_eq!(holds_for(condition, "/?a=1&a=2&b[]=3", &caller()), Ok(true));
    assert!(holds_for(condition, "/?a=1&A=2", &caller()).is_err());
    assert!(holds_for(condition, "/?b=1&b[]=2", &caller()).is_err());
}

#[test]
fn pod_facts_that_were_not_asked_for_are_absent() {
    let nobody = CallerFacts::default();
    assert_eq!(holds_for("has(caller.labels)", "/", &nobody), Ok(false));
    assert!(holds_for("caller.labels.team == 'qa'", "/", &nobody).is_err());
    assert!(holds_for("caller.labels.team != 'qa'", "/", &nobody).is_err());
}

#[rstest]
#[case::syntax("request.method ==")]
#[case::empty("")]
#[case::assignment("request.method = 'GET'")]
#[case::unknown_variable("reqest.method == 'GET'")]
#[case::unknown_field("request.headers.host == 'x'")]
#[case::unknown_caller_field("caller.name == 'x'")]
#[case::whole_variable("request == caller")]
#[case::dynamic_field("request['method'] == 'GET'")]
#[case::unknown_function("lower(request.method) == 'get'")]
#[case::unknown_method("request.method.lower() == 'get'")]
#[case::variable_out_of_scope("['a'].exists(i, i == 'a') && i == 'a'")]
#[case::number("1")]
#[case::text("'true'")]
#[case::sum("1 + 1")]
#[case::field_of_a_variable("request.method")]
#[case::nested_comprehension("[1].all(x, [1].all(y, x == y))")]
#[case::nested_in_the_range("[[1]].map(x, x).all(y, y == [1])")]
#[case::pattern_from_the_request("'a'.matches(request.query.p)")]
#[case::pattern_that_is_none("request.path.matches('(')")]
#[case::message("Foo{a: 1} == 1")]
#[case::optional("request.?query.hasValue()")]
fn is_refused_when_read(#[case] condition: &str) {
    assert!(Condition::parse(condition).is_err());
}

#[test]
fn length_size_and_depth_are_bounded() {
    let padded = |length: usize| format!("true{:length$}", "", length = length - 4);
    assert!(Condition::parse(&padded(2048)).is_ok());
    assert!(Condition::parse(&padded(2049)).is_err());
    let wide = |count: usize| format!("{} in [{}]", 1, vec!["1"; count].join(","));
    assert!(Condition::parse(&wide(200)).is_ok());
    assert!(Condition::parse(&wide(300)).is_err());
    let deep = |count: usize| format!("{}[1]{} == 1", "[".repeat(count), "]".repeat(count));
    assert!(Condition::parse(&deep(10)).is_ok());
    assert!(Condition::parse(&deep(40)).is_err());
    assert!(Condition::parse(&deep(900)).is_err());
    let not = |count: usize| format!("{}true", "!(".repeat(count)) + &")".repeat(count);
    assert!(Condition::parse(&not(500)).is_err());
    let pattern = format!("request.path.matches('{}')", "a".repeat(129));
    assert!(Condition::parse(&pattern).is_err());
}

#[test]
fn what_it_is_asked_about_is_bounded() {
    let fields = |count: usize| format!("/?{}", vec!["a=1"; count].join("&"));
    let condition = "size(request.query) == 1";
    assert_eq!(holds_for(condition, &fields(256), &caller()), Ok(true));
    assert!(holds_for(condition, &fields(257), &caller()).is_err());
    let long = |length: usize| format!("/?a={}", "x".repeat(length - 2));
    assert_eq!(holds_for(condition, &long(8192), &caller()), Ok(true));
    assert!(holds_for(condition, &long(8193), &caller()).is_err());
    // A condition that does not read the query accepts any query.
    assert_eq!(
        holds_for("request.port == 443", &long(8193), &caller()),
        Ok(true)
    );
}

/// Each of these is nested as deeply as the length allows; none may overflow the stack.
#[rstest]
#[case::lists("[", "1", "] == 1")]
#[case::brackets("!(", "true", ")")]
#[case::bangs("! ", "true", "")]
#[case::minuses("", "1 == 1", " - 1")]
#[case::alternatives("1==1?true:", "true", "")]
#[case::fields("", "request.query", ".a")]
#[case::indices("", "request.query", "[1]")]
#[case::calls("", "request.path", ".size()")]
#[case::functions("int(", "1", ")")]
#[case::maps("{1:", "1", "}")]
fn deep_nesting_is_no_crash(#[case] before: &str, #[case] core: &str, #[case] after: &str) {
    let levels = (MAX_LENGTH - core.len()) / (before.len() + after.len());
    let text = before.repeat(levels) + core + &after.repeat(levels);
    match Condition::parse(&text) {
        Err(_) => {}
        // The parser folds an even number of `!` in a row.
        Ok(_) => assert_eq!(before, "! "),
    }
}

/// Every way to CEL's other parser. `clippy` must object to each: an expectation that is not met fails
/// the lints.
#[test]
fn the_parser_that_overflows_the_stack_is_forbidden() {
    #[expect(clippy::disallowed_methods, reason = "what is forbidden")]
    let _ = Env::compile;
    #[expect(clippy::disallowed_methods, reason = "what is forbidden")]
    let _ = Env::parser;
    #[expect(clippy::disallowed_types, reason = "what is forbidden")]
    let _ = cel::Program::compile;
    #[expect(clippy::disallowed_types, reason = "what is forbidden")]
    let _ = <cel::Program as TryFrom<&str>>::try_from;
    #[expect(clippy::disallowed_types, reason = "what is forbidden")]
    let _ = cel::parser::Parser::new;
    #[expect(clippy::disallowed_types, reason = "what is forbidden")]
    let _ = <cel::parser::Parser as Default>::default;
}
