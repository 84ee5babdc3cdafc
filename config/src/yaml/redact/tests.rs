//! What is shown and what is hidden: each rule with its near miss.

use rstest::rstest;

use super::*;

const CANARY: &str = "hunter2";

#[rstest]
#[case::plain("token: hunter2", "token: …")]
#[case::quoted_key("\"token\": \"hunter2\"", "\"token\": …")]
#[case::flow("static: { token: hunter2 }", "static: { token: …")]
#[case::flow_no_space("{\"token\":\"hunter2\"}", "{\"token\": …")]
#[case::client_secret("    clientSecret: hunter2 # mine", "    clientSecret: …")]
#[case::other_key_in_a_reference("token: { file: /x, value: hunter2 }", "token: …")]
#[case::wrong_key("token: { value: hunter2 }", "token: …")]
#[case::no_path("token: { file: hunter2 }", "token: …")]
#[case::no_mapping("token: { file: /x, kubernetesSecret: hunter2 }", "token: …")]
#[case::list("refreshToken: [hunter2]", "refreshToken: …")]
#[case::alias("token: &anchor hunter2", "token: …")]
fn hides_the_value_of_a_secret_like_key(#[case] line: &str, #[case] shown: &str) {
    let line_shown = super::line(line, 1);
    assert_eq!(line_shown, shown);
    assert!(!line_shown.contains(CANARY));
}

#[rstest]
#[case("token: { file: /run/secrets/qase/token }   # or vault")]
#[case("token: { kubernetesSecret: { name: slack, key: bot } }")]
#[case("identity: { tokenFile: /run/secrets/token }")]
#[case("tokenReview: { cluster: in-cluster, cacheFor: 10s }")]
#[case("token:")]
#[case("credential: slack-bot")]
#[case("attach: { slot: bot, header: Authorization, value: \"Bearer {token}\" }")]
#[case("images: [\"ghcr.io/acme/dashboard@sha256:9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b\"]")]
#[case("paths: [\"/api/files.getUploadURLExternal\", \"/v1/run/*\"]")]
#[case("name: nightly-dashboard-for-the-whole-of-europe-2")]
#[case("when: \"!has(request.query.limit) || int(request.query.limit) <= 100\"")]
fn shows_what_is_no_secret(#[case] line: &str) {
    assert_eq!(super::line(line, 1), line);
}

#[rstest]
#[case("token:\n  hunter2", 2)]
#[case("token:\nhunter2", 2)]
#[case("token:\n  value: hunter2", 2)]
#[case("token:\n  file: hunter2", 2)]
#[case("token:\n  a:\n    b: hunter2", 3)]
#[case("token: |\n  first\n  hunter2", 3)]
#[case("token: \"first\n  hunter2\"", 2)]
#[case("token: {\n  value: hunter2 }", 2)]
#[case("refreshToken:\n  - hunter2", 2)]
fn hides_what_is_beneath_a_secret_like_key(#[case] text: &str, #[case] number: usize) {
    let shown = super::line(text, number);
    assert!(shown.contains(HIDDEN) && !shown.contains(CANARY), "{shown}");
}

#[test]
fn shows_a_reference_beneath_a_secret_like_key() {
    assert_eq!(super::line("token:\n  file: /run/x", 2), "  file: /run/x");
    assert_eq!(
        super::line("token:\n  file: /run/x\nrotateBy: soon", 3),
        "rotateBy: soon"
    );
}

#[rstest]
#[case("credential: xoxb-1234-abcdefgh", "credential: xoxb-…")]
#[case("- xoxe.xoxp-1-Mi0yLTEyMzQ1Njc4", "- xoxe.xox…")]
#[case("no credential `xapp-1-A0123-4567`", "no credential `xapp-…`")]
#[case("owner: 0123456789abcdef0123456789abcdef", "owner: …")]
#[case("value: Bearer abcdefghij", "value: Bearer …")]
#[case(
    "url: https://hooks.slack.com/services/T0/B0/abcdef",
    "url: https://hooks.slack.com/services/…"
)]
#[case("proxy: http://me:hunter2@proxy:3128", "proxy: http://…@proxy:3128")]
#[case("x: eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.", "x: …")]
fn hides_what_looks_like_a_credential(#[case] text: &str, #[case] shown: &str) {
    assert_eq!(super::line(text, 1), shown);
}

#[test]
fn hides_every_form_of_the_table() {
    for prefix in TOKEN_PREFIXES {
        let line = format!("note: {prefix}hunter2hunter");
        assert_eq!(super::line(&line, 1), format!("note: {prefix}…"));
    }
    for webhook in WEBHOOKS {
        let line = format!("url: https://{webhook}T0/B0/hunter2");
        assert_eq!(super::line(&line, 1), format!("url: https://{webhook}…"));
    }
}

#[test]
fn replaces_what_would_disturb_a_terminal() {
    assert_eq!(
        super::text("a\u{1b}[31mb\u{202e}c"),
        "a\u{fffd}[31mb\u{fffd}c"
    );
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[ -~\\n…é{}:\\-]{0,200}", number in 0_usize..12) {
        let _ = super::line(&text, number);
        let _ = super::text(&text);
    }
}
