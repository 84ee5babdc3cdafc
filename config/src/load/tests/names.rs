//! Names of Kubernetes objects, wherever they are written.

use rstest::rstest;

use super::{BASE, outline, problems};

/// The base with one text replaced, once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must be there once");
    BASE.replacen(from, to, 1)
}

#[rstest]
#[case::subject(
    "system:serviceaccount:qa:nightly",
    "`serviceAccount: nightly`, and `namespace: qa`"
)]
#[case::qualified("qa/nightly", "`namespace: qa` beside it")]
#[case::capitals("Nightly", "is it `nightly`?")]
#[case::underscore("night_ly", "is it `night-ly`?")]
#[case::quoted_spaces("\" nightly\"", "is it `nightly`?")]
#[case::pattern("night*", "an entry for each")]
#[case::list("\"a, b\"", "an entry for each")]
#[case::placeholder("<service-account>", "the name itself")]
#[case::spiffe("spiffe://prod/ns/qa/sa/nightly", "under `spiffeId`")]
fn a_selector_has_the_remedy_for_its_mistake(#[case] written: &str, #[case] remedy: &str) {
    let found = problems(&with(
        "serviceAccount: app",
        &format!("serviceAccount: {written}"),
    ));
    assert_eq!(outline(&found), ["8: bad-selector"], "{written}");
    assert!(found.0[0].remedy.contains(remedy), "{}", found.0[0].remedy);
}

#[rstest]
#[case::namespace(
    "serviceAccount: app",
    "serviceAccount: app\n      namespace: q.a",
    "9: bad-selector"
)]
#[case::cron_job(
    "serviceAccount: app",
    "serviceAccount: app\n      cronJob: Nightly",
    "9: bad-selector"
)]
#[case::label(
    "serviceAccount: app",
    "serviceAccount: app\n      podLabels: { app: a b }",
    "9: bad-selector"
)]
#[case::label_name(
    "serviceAccount: app",
    "serviceAccount: app\n      podLabels: { \"a b\": a }",
    "9: bad-selector"
)]
#[case::cluster(
    "serviceAccount: app",
    "serviceAccount: app\n      cluster: prod *",
    "9: bad-selector"
)]
#[case::resource("name: post", "name: post_it", "21: bad-name")]
#[case::of_its_namespace(
    "name: post, namespace: qa",
    "name: post, namespace: q.a",
    "21: bad-name"
)]
#[case::allowed(
    "  rotateBy: 2027-03-31",
    "  allowedNamespaces: [qa, Release]",
    "17: bad-name"
)]
#[case::secret(
    "{ file: /run/secrets/slack/bot }",
    "{ kubernetesSecret: { name: slack_bot, key: token } }",
    "16: bad-name"
)]
#[case::secret_key(
    "{ file: /run/secrets/slack/bot }",
    "{ kubernetesSecret: { name: slack, key: a/b } }",
    "16: bad-name"
)]
fn every_name_of_kubernetes_is_held_to_its_rule(
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: &str,
) {
    let found = problems(&with(from, to));
    assert_eq!(outline(&found)[0], expected, "{found}");
}

#[rstest]
#[case::dots("serviceAccount: app", "serviceAccount: app.example.com")]
#[case::namespace("serviceAccount: app", "serviceAccount: app\n      namespace: release")]
#[case::secret(
    "{ file: /run/secrets/slack/bot }",
    "{ kubernetesSecret: { name: slack.bot, key: TOKEN_1.txt } }"
)]
#[case::cluster("serviceAccount: app", "serviceAccount: app\n      cluster: Prod_EU")]
fn what_kubernetes_accepts_is_accepted(#[case] from: &str, #[case] to: &str) {
    assert_eq!(outline(&problems(&with(from, to))), [""; 0]);
}
