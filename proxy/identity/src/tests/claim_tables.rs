//! Which claims pass, and their near misses.

use rstest::rstest;

use super::*;

#[expect(
    clippy::unnecessary_wraps,
    reason = "stands where a claim may be taken away"
)]
fn seconds(from_now: i64) -> Option<Value> {
    Some((now().as_second() + from_now).into())
}

#[rstest]
#[case::audience_as_a_string("aud", Some("countersign".into()))]
#[case::among_others("aud", Some(json!(["vault", "countersign"])))]
#[case::last_second("exp", seconds(1))]
#[case::with_a_fraction("exp", Some(json!(1_795_411_000.5)))]
#[case::no_nbf("nbf", None)]
#[case::no_iat("iat", None)]
#[case::nbf_at_the_leeway("nbf", seconds(60))]
#[case::iat_at_the_leeway("iat", seconds(60))]
#[case::exactly_a_day("exp", seconds(24 * 3600 - 60))]
#[case::no_jti("jti", None)]
#[case::no_kubernetes("kubernetes.io", None)]
#[case::no_pod("kubernetes.io/pod", None)]
#[case::long_pod_name("kubernetes.io/pod/name", Some(Value::from("a".repeat(100))))]
#[case::unknown_claim("groups", Some(json!(["system:masters"])))]
#[tokio::test]
async fn these_claims_pass(#[case] path: &str, #[case] value: Option<Value>) {
    let gateway = WithFile::new(&[&RSA]);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    gateway
        .by(&RSA.token(&header, &claims_with(path, value)))
        .await
        .unwrap();
}

/// THREATS 35, 37, 40 and similar cases.
#[rstest]
#[case::no_exp("exp", None, "BadClaims")]
#[case::exp_as_a_string("exp", Some("1795411000".into()), "BadClaims")]
#[case::exp_null("exp", Some(Value::Null), "BadClaims")]
#[case::exp_beyond_time("exp", Some(json!(1e300)), "BadClaims")]
#[case::exp_in_a_list("exp", Some(json!([1_795_411_000])), "BadClaims")]
#[case::exp_now("exp", seconds(0), "Expired")]
#[case::exp_past("exp", seconds(-1), "Expired")]
#[case::nbf_as_a_string("nbf", Some("1".into()), "BadClaims")]
#[case::nbf_null("nbf", Some(Value::Null), "BadClaims")]
#[case::nbf_ahead("nbf", seconds(61), "NotYetValid")]
#[case::iat_as_a_string("iat", Some("1".into()), "BadClaims")]
#[case::iat_ahead("iat", seconds(61), "NotYetValid")]
#[case::a_second_more_than_a_day("exp", seconds(24 * 3600 - 59), "LivesTooLong")]
#[case::ten_years("exp", seconds(10 * 365 * 24 * 3600), "LivesTooLong")]
#[case::made_long_ago("iat", seconds(-24 * 3600), "LivesTooLong")]
#[case::no_aud("aud", None, "BadClaims")]
#[case::aud_empty("aud", Some(json!([])), "WrongAudience")]
#[case::aud_other("aud", Some(json!(["vault"])), "WrongAudience")]
#[case::aud_longer("aud", Some("countersign-dev".into()), "WrongAudience")]
#[case::aud_shorter("aud", Some("counter".into()), "WrongAudience")]
#[case::aud_other_case("aud", Some("Countersign".into()), "WrongAudience")]
#[case::aud_joined("aud", Some("vault,countersign".into()), "WrongAudience")]
#[case::aud_mixed("aud", Some(json!(["countersign", 1])), "BadClaims")]
#[case::aud_nested("aud", Some(json!([["countersign"]])), "BadClaims")]
#[case::aud_object("aud", Some(json!({ "countersign": true })), "BadClaims")]
#[case::no_iss("iss", None, "BadClaims")]
#[case::iss_in_a_list("iss", Some(json!([ISS])), "BadClaims")]
#[case::iss_with_slash("iss", Some(format!("{ISS}/").into()), "UnknownIssuer")]
#[case::iss_other("iss", Some("https://evil.test".into()), "UnknownIssuer")]
#[case::no_sub("sub", None, "BadClaims")]
#[case::sub_of_a_person("sub", Some("alice@example.com".into()), "BadClaims")]
#[case::sub_of_a_node("sub", Some("system:node:node-1".into()), "BadClaims")]
#[case::sub_short("sub", Some("system:serviceaccount:qa".into()), "BadClaims")]
#[case::sub_long("sub", Some("system:serviceaccount:qa:a:b".into()), "BadClaims")]
#[case::sub_other_account("sub", Some("system:serviceaccount:qa:other".into()), "BadClaims")]
#[case::sub_capitals("sub", Some("system:serviceaccount:QA:nightly-dashboard".into()), "BadClaims")]
#[case::sub_dot_for_hyphen(
    "sub",
    Some("system:serviceaccount:qa:nightly.dashboard".into()),
    "BadClaims"
)]
#[case::jti_number("jti", Some(json!(7)), "BadClaims")]
#[case::other_namespace("kubernetes.io/namespace", Some("prod".into()), "BadClaims")]
#[case::no_namespace("kubernetes.io/namespace", None, "BadClaims")]
#[case::other_account("kubernetes.io/serviceaccount/name", Some("root".into()), "BadClaims")]
#[case::pod_without_name("kubernetes.io/pod/name", None, "BadClaims")]
#[case::pod_with_newline("kubernetes.io/pod/name", Some("a\nb".into()), "BadClaims")]
#[case::kubernetes_no_object("kubernetes.io", Some("qa".into()), "BadClaims")]
#[tokio::test]
async fn these_claims_are_refused(
    #[case] path: &str,
    #[case] value: Option<Value>,
    #[case] expected: &str,
) {
    let gateway = WithFile::new(&[&RSA]);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let refused = gateway
        .by(&RSA.token(&header, &claims_with(path, value)))
        .await;
    let refused = format!("{:?}", refused.unwrap_err());
    assert!(refused.starts_with(expected), "{refused}");
}

/// What an API server signs for a Secret of type `kubernetes.io/service-account-token`, and the same
/// with an expiry: without a start its lifetime is unknown.
#[rstest]
#[case::of_a_secret(None, "BadClaims(\"`exp` must be a number of seconds\")")]
#[case::with_an_end(seconds(60), "BadClaims(\"`iat`, or else `nbf`, must say")]
#[tokio::test]
async fn t66_a_token_that_says_no_beginning_is_refused(
    #[case] end: Option<Value>,
    #[case] expected: &str,
) {
    let gateway = WithFile::new(&[&RSA]);
    let mut claims = claims_with("exp", end);
    let named = claims.as_object_mut().unwrap();
    for name in ["iat", "nbf"] {
        named.remove(name);
    }
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let refused = gateway.by(&RSA.token(&header, &claims)).await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.starts_with(expected), "{refused}");
}

#[rstest]
#[case::by_nbf("iat", 24 * 3600 - 60, true)]
#[case::by_nbf_too_long("iat", 24 * 3600 - 59, false)]
#[case::by_iat("nbf", 24 * 3600 - 60, true)]
#[case::by_iat_too_long("nbf", 24 * 3600 - 59, false)]
#[tokio::test]
async fn t66_either_beginning_counts(#[case] absent: &str, #[case] end: i64, #[case] good: bool) {
    let gateway = WithFile::new(&[&RSA]);
    let mut claims = claims_with("exp", seconds(end));
    claims.as_object_mut().unwrap().remove(absent);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let result = gateway.by(&RSA.token(&header, &claims)).await;
    assert_eq!(result.is_ok(), good, "{result:?}");
}

#[tokio::test]
async fn t66_the_sentence_names_both_lengths() {
    let gateway = WithFile::new(&[&RSA]);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let long = claims_with("exp", seconds(365 * 24 * 3600 + 3600 - 60));
    let refused = gateway.by(&RSA.token(&header, &long)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the token's lifetime is 365d 1h, longer than the issuer's maxTokenLife of 1d"
    );
}

/// What a person reads must tell him which side to correct, and how.
#[rstest]
#[case::slash(
    "iss", Some(format!("{ISS}/").into()),
    &format!("names the issuer \"{ISS}/\", which is not configured; the nearest that is configured is \"{ISS}\" (they differ only by the slash at the end)")
)]
#[case::audience(
    "aud", Some(json!(["https://kubernetes.default.svc"])),
    "is for the audience \"https://kubernetes.default.svc\", not for the audience \"countersign\""
)]
#[case::audience_in_another_case("aud", Some("Countersign".into()), "not for the audience \"countersign\" (they differ only in upper and lower case)")]
#[case::many_audiences("aud", Some(json!(["a", "b", "c", "d", "e", "f"])), "the audience \"a\", \"b\", \"c\", \"d\" and 2 more, not")]
#[case::no_audience("aud", Some(json!([])), "the token is for no audience, not for")]
#[case::ahead(
    "iat",
    seconds(3660),
    "(`iat`), 1h 1m from now by this gateway's clock, and a clock that is 1m ahead is accepted"
)]
#[case::nbf_ahead("nbf", seconds(61), "(`nbf`), 1m 1s from now")]
#[case::expired("exp", seconds(-12), "the proof expired at 2026-11-23T05:09:48Z, 12s ago by this gateway's clock")]
#[tokio::test]
async fn the_sentence_names_what_differs(
    #[case] path: &str,
    #[case] value: Option<Value>,
    #[case] told: &str,
) {
    let gateway = WithFile::new(&[&RSA]);
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let token = RSA.token(&header, &claims_with(path, value));
    let refused = gateway.by(&token).await.unwrap_err().to_string();
    assert!(refused.contains(told), "{refused}");
}

#[tokio::test]
async fn names_in_a_token_are_masked_and_bounded() {
    let gateway = WithFile::new(&[&RSA]);
    let long = format!("https://canary:canary@x/\u{1b}[31m{}", "x".repeat(2000));
    for (path, value) in [("iss", json!(long)), ("aud", json!(vec![long.clone(); 5]))] {
        let header = json!({ "alg": "RS256", "kid": "rsa-1" });
        let token = RSA.token(&header, &claims_with(path, Some(value)));
        let told = gateway.by(&token).await.unwrap_err().to_string();
        assert!(told.len() < 1200 && told.contains("[cut]"), "{told}");
        assert!(
            !told.contains("canary") && !told.contains('\u{1b}'),
            "{told}"
        );
    }
    let header =
        json!({ "alg": "RS256", "kid": format!("xoxb-1234567890-canary{}", "x".repeat(900)) });
    let told = gateway
        .by(&RSA.token(&header, &claims()))
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("the key \"[redacted]\""), "{told}");
}

#[tokio::test]
async fn a_claim_that_occurs_twice_is_refused() {
    let gateway = WithFile::new(&[&RSA]);
    let twice = claims()
        .to_string()
        .replacen('{', r#"{"aud":["vault"],"#, 1);
    let token = RSA.token_of_text(&json!({ "alg": "RS256", "kid": "rsa-1" }), &twice);
    let refused = gateway.by(&token).await.unwrap_err();
    assert!(
        matches!(refused, IdentifyError::Malformed(_)),
        "{refused:?}"
    );
}
