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
#[case::nbf_at_the_leeway("nbf", seconds(10))]
#[case::iat_at_the_leeway("iat", seconds(10))]
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

/// THREATS 35, 37, 40 and what is near them.
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
#[case::nbf_ahead("nbf", seconds(11), "NotYetValid")]
#[case::iat_as_a_string("iat", Some("1".into()), "BadClaims")]
#[case::iat_ahead("iat", seconds(11), "NotYetValid")]
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
