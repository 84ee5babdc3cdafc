//! Placeholders that nobody filled in.

use std::fs;

use rstest::rstest;

use super::{BASE, gateway, load_texts, outline, problems};

/// The base with one text replaced, once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must be there once");
    BASE.replacen(from, to, 1)
}

#[rstest]
#[case::selector("serviceAccount: app", "serviceAccount: $SERVICE_ACCOUNT", 8)]
#[case::braces("serviceAccount: app", "serviceAccount: ${SERVICE_ACCOUNT}", 8)]
#[case::helm("serviceAccount: app", "serviceAccount: \"{{ .Values.name }}\"", 8)]
#[case::helm_without_quotes("serviceAccount: app", "serviceAccount: {{ .Values.name }}", 8)]
#[case::helm_control("  match:\n", "  {{- if .Values.match }}\n  match:\n", 7)]
#[case::kustomize("serviceAccount: app", "serviceAccount: $(NAME)", 8)]
#[case::owner(
    "  owner: qa@example.com\n  reviewBy",
    "  owner: ${OWNER}\n  reviewBy",
    5
)]
#[case::name("name: post", "name: post-${ENV}", 21)]
#[case::namespace(
    "name: post, namespace: qa",
    "name: post, namespace: \"%NAMESPACE%\"",
    21
)]
#[case::reference("credential: bot", "credential: ${CREDENTIAL}", 26)]
#[case::target("target: slack\n  credential", "target: ${TARGET}\n  credential", 25)]
#[case::path("/api/chat.postMessage", "/api/${METHOD}", 30)]
#[case::file("/run/secrets/slack/bot", "/run/secrets/$NAME/bot", 16)]
#[case::date("reviewBy: 2027-06-30", "reviewBy: ${DATE}", 6)]
#[case::rate("60/m", "${RATE}/m", 33)]
#[case::kind("kind: Credential", "kind: ${KIND}", 11)]
#[case::version("v1alpha1\nkind: Workload", "${VERSION}\nkind: Workload", 1)]
#[case::key("    - serviceAccount: app", "    - \"{{ key }}\": app", 8)]
#[case::missing_value("serviceAccount: app", "serviceAccount: <no value>", 8)]
fn a_placeholder_is_one_finding_wherever_it_is(
    #[case] from: &str,
    #[case] to: &str,
    #[case] line: usize,
) {
    let text = with(from, to);
    let found = outline(&problems(&text));
    assert!(
        found.contains(&format!("{line}: unrendered-template")),
        "{found:?}"
    );
    let here = found
        .iter()
        .filter(|one| one.starts_with(&format!("{line}: ")));
    // A key that is a placeholder is unknown, and the one that it stands for is missing.
    assert!(here.count() == 1 || from.contains("- service"), "{found:?}");
    assert!(load_texts(&[&text], None).is_err(), "it is no mere warning");
}

#[test]
fn what_means_nothing_here_is_a_mere_warning() {
    let text = with(
        "{ name: app, namespace: qa }",
        "{ name: app, namespace: qa, annotations: { team: \"${TEAM}\" } }",
    );
    assert_eq!(outline(&problems(&text)), ["3: unrendered-template"]);
    assert!(load_texts(&[&text], None).is_ok());
    let helper = "exec: { command: [/bin/sh, -c, \"cat ${HOME}/token\"] }";
    let text = with("file: /run/secrets/slack/bot", helper);
    assert_eq!(outline(&problems(&text)), ["16: unrendered-template"]);
    assert!(load_texts(&[&text], None).is_ok());
}

#[test]
fn a_gateway_is_looked_at_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let text = "apiVersion: countersign.dev/v1alpha1\nkind: Gateway\nmetadata: { name: main }\nspec:\n  \
                resources: [{ directory: \"${POLICY}\" }]\n  upstream: { roots: \"{{ .Values.roots }}\" }\n";
    fs::write(&file, text).unwrap();
    let found = outline(&gateway(&file).unwrap_err());
    assert_eq!(found, ["5: unrendered-template", "6: unrendered-template"]);
}

#[test]
fn a_comment_is_no_placeholder() {
    let text = format!("# {{{{ .Values.name }}}} and ${{X}}\n{BASE}");
    assert_eq!(outline(&problems(&text)), [""; 0]);
    // Nor is it the reason why something else is broken.
    let text = text.replacen("  allow:\n", "\tallow: # ${X}\n", 1);
    assert!(outline(&problems(&text))[0].ends_with("invalid-yaml"));
}
