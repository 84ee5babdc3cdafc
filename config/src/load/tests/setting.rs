//! What the resources ask of a gateway that it does not have.

use std::fs;

use rstest::rstest;

use super::{BASE, Problems, gateway, outline, resources_in};
use crate::setting::Setting;

const GATEWAY: &str = "
apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: main }
spec:
  resources: [{ directory: /etc/countersign/policy }]
  identity:
    issuers:
      - { name: prod-eu, issuer: https://issuer.example.com, jwks: { file: /etc/jwks.json } }
    trustDomains:
      - { name: prod.example.com, bundle: { file: /etc/bundle.pem } }
";

const VAULT: &str =
    "  vault: { address: https://vault.example.com, auth: { tokenFile: /run/token } }\n";

fn found(base: &str, gateway_text: &str) -> Problems {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway");
    fs::write(&file, gateway_text).unwrap();
    let (gateway, _) = gateway(&file).unwrap();
    fs::write(directory.path().join("base.yaml"), base).unwrap();
    let setting = Setting::default().of(&gateway);
    resources_in(&[directory.path()], &setting)
        .unwrap()
        .warnings
}

#[rstest]
#[case::known("serviceAccount: app", "serviceAccount: app\n      cluster: prod-eu", &[])]
#[case::cluster("serviceAccount: app", "serviceAccount: app\n      cluster: prod-ue", &["9: unknown-cluster"])]
#[case::known_domain("serviceAccount: app", "spiffeId: spiffe://prod.example.com/a", &["8: matches-nobody"])]
#[case::domain("serviceAccount: app", "spiffeId: spiffe://prod.example.org/a", &["8: unknown-trust-domain"])]
#[case::vault("file: /run/secrets/slack/bot", "vault: { path: a, key: b }", &["16: no-vault"])]
fn what_the_gateway_does_not_have_is_told(
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: &[&str],
) {
    let base = BASE.replacen(from, to, 1);
    assert_eq!(outline(&found(&base, GATEWAY)), expected);
}

#[rstest]
#[case::asked("{ certificate: /a, key: /b, clientTrust: spiffe }", &[])]
#[case::not_asked("{ certificate: /a, key: /b }", &["8: matches-nobody"])]
fn a_certificate_must_be_asked_for(#[case] tls: &str, #[case] expected: &[&str]) {
    let base = BASE.replacen(
        "serviceAccount: app",
        "spiffeId: spiffe://prod.example.com/a",
        1,
    );
    let listener = format!("  listeners: [{{ name: a, address: \"127.0.0.1:1\", tls: {tls} }}]\n");
    let found = found(&base, &format!("{GATEWAY}{listener}"));
    assert_eq!(outline(&found), expected);
}

#[rstest]
#[case::named("serviceAccount: app\n      cluster: prod-eu", &[])]
#[case::any("serviceAccount: app", &["8: any-cluster"])]
fn of_several_clusters_one_is_named(#[case] selector: &str, #[case] expected: &[&str]) {
    let base = BASE.replacen("serviceAccount: app", selector, 1);
    let second = "    issuers:\n      - { name: prod-us, issuer: https://us.example.com, jwks: { file: /j } }\n";
    let text = GATEWAY.replacen("    issuers:\n", second, 1);
    assert_eq!(outline(&found(&base, &text)), expected);
}

/// What only the API server knows of pods is known to a gateway that asks it.
#[rstest]
#[case::cron_job("cronJob: app")]
#[case::labels("podLabels: { app: app }")]
fn pods_are_asked_about(#[case] part: &str) {
    let selector = format!("serviceAccount: app\n      {part}");
    let base = BASE.replacen("serviceAccount: app", &selector, 1);
    assert_eq!(outline(&found(&base, GATEWAY)), ["9: matches-nobody"]);
    let review = "podFacts: true, tokenReview: { cluster: in-cluster }, jwks:";
    let asking = GATEWAY.replacen("jwks:", review, 1);
    assert_eq!(outline(&found(&base, &asking)), [""; 0]);
}

#[test]
fn without_an_issuer_no_token_matches() {
    let (head, rest) = GATEWAY.split_once("    issuers:\n").unwrap();
    let (_, domains) = rest.split_once("    trustDomains").unwrap();
    let text = format!("{head}    trustDomains{domains}");
    assert_eq!(outline(&found(BASE, &text)), ["8: unknown-cluster"]);
}

#[test]
fn a_gateway_with_a_vault_reads_it() {
    let base = BASE.replacen(
        "file: /run/secrets/slack/bot",
        "vault: { path: a, key: b }",
        1,
    );
    let text = format!("{GATEWAY}{VAULT}");
    assert_eq!(outline(&found(&base, &text)), [""; 0]);
}

#[test]
fn the_likely_cluster_is_named() {
    let base = BASE.replacen(
        "serviceAccount: app",
        "serviceAccount: app\n      cluster: prod-ue",
        1,
    );
    let found = found(&base, GATEWAY);
    assert_eq!(found.0[0].remedy, "did you mean `prod-eu`?");
}
