//! What is asked of policy from outside: `diff`, `test`, `who-can` and `review`, over resources and the logs of a
//! synthetic month. What each answer says in detail is tested in `proxy/insight`; here are the command lines, their
//! formats and their exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use countersign_tests::{
    month::{GATEWAYS, Month},
    process,
};
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

/// The end of the month.
pub(super) const AT: &str = "2026-11-04T00:00:00Z";

const CREDENTIAL: &str = "apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: slack-bot, namespace: qa }
spec:
  target: slack
  static: { token: { file: /run/secrets/slack/token } }
  rotateBy: 2026-10-20
";

/// A workload of the month, or one like them, and its policy.
fn workload(name: &str, paths: &str) -> String {
    format!(
        "---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: {{ name: {name}, namespace: qa }}
spec:
  owner: qa-team@example.com
  purpose: Is asked about
  environment: production
  reviewBy: 2027-06-30
  match: [{{ cluster: prod-eu, serviceAccount: {name} }}]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: {name}-policy, namespace: qa }}
spec:
  owner: qa-team@example.com
  workloads: [{name}]
  target: slack
  credential: slack-bot
  allow: [{{ hosts: [slack.com], methods: [POST], paths: [{paths}] }}]
"
    )
}

/// Resources for a part of the month, the same after two edits, and the month's logs.
pub(super) struct Asked {
    folder: TempDir,
}

impl Asked {
    pub(super) fn new() -> Self {
        let asked = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let all = "\"/api/*\"";
        let posts = "\"/api/chat.postMessage\"";
        let one = [
            CREDENTIAL.to_owned(),
            workload("nightly", all),
            workload("report", all),
            workload("retired", posts),
        ];
        let other = [
            CREDENTIAL.to_owned(),
            workload("nightly", posts),
            workload("report", all),
        ];
        asked.write("before.yaml", &one.concat());
        asked.write("after.yaml", &other.concat());
        fs::create_dir(asked.path("logs")).expect("a folder of the test");
        let month = Month::with(7, |_| false);
        for (number, name) in GATEWAYS.iter().enumerate() {
            asked.write(&format!("logs/{name}.jsonl"), &month.log(number));
        }
        asked
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a folder of the test");
    }

    /// The exit code, and what was written to both outputs. `@NAME` is a file of the folder.
    pub(super) fn run(&self, line: &str) -> (Option<i32>, String, String) {
        let arguments = line.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let mut command = Command::new(process::binary().expect("it is built"));
        command.args(arguments).current_dir(self.folder.path());
        let done = command.output().expect("it can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    }
}

/// Each command, and the schema of its JSON.
const QUESTIONS: [(&str, &str); 5] = [
    ("diff @before.yaml @after.yaml", "countersign.diff/v1"),
    (
        "diff @before.yaml @after.yaml --decisions @logs",
        "countersign.replay/v1",
    ),
    (
        "test @expected.yaml --resources @before.yaml",
        "countersign.test/v1",
    ),
    (
        "who-can POST https://slack.com/api/chat.postMessage --resources @before.yaml --decisions @logs",
        "countersign.who-can/v1",
    ),
    (
        "review @before.yaml --decisions @logs --unused 7",
        "countersign.review/v1",
    ),
];

pub(super) const EXPECTED: &str = "tests:
  - { as: qa/nightly, request: \"POST https://slack.com/api/chat.postMessage\", expect: permit, policy: qa/nightly-policy }
  - { as: qa/nightly, request: \"GET https://slack.com/api/chat.postMessage\", expect: deny, reason: request_not_allowed }
  - { as: qa/retired, request: \"POST https://slack.com/api/conversations.list\", expect: permit }
";

#[test]
fn every_question_is_answered_in_every_format_with_the_same_exit_code() {
    let asked = Asked::new();
    asked.write("expected.yaml", EXPECTED);
    for (line, schema) in QUESTIONS {
        let line = format!("{line} --at {AT}");
        let (code, text, told) = asked.run(&line);
        assert_eq!(code, Some(1), "{line}\n{text}{told}");
        assert!(text.contains("qa/"), "{line}\n{text}");
        let (code, json, _) = asked.run(&format!("{line} -o json"));
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            (code, &json["schema"]),
            (Some(1), &schema.into()),
            "{json:#}"
        );
        let (code, yaml, _) = asked.run(&format!("{line} --output yaml"));
        let yaml: Value = serde_saphyr::from_str(&yaml).expect("YAML");
        assert_eq!((code, yaml), (Some(1), json), "{line}");
        let (code, markdown, _) = asked.run(&format!("{line} -o markdown"));
        assert!(code == Some(1) && markdown.contains("|---|"), "{markdown}");
        let (code, _, told) = asked.run(&format!("{line} -o prose"));
        assert!(code == Some(2) && told.contains("markdown"), "{told}");
    }
}

#[test]
fn diff_names_what_was_taken_away_and_the_replay_what_would_have_failed() {
    let asked = Asked::new();
    let (_, text, _) = asked.run(&format!("diff @before.yaml @after.yaml --at {AT}"));
    assert!(text.contains("qa/nightly"), "{text}");
    assert!(text.contains("qa/retired"), "{text}");
    assert!(!text.contains("qa/report"), "{text}");
    // The job lists channels too, which the edit takes away.
    let replay = format!("diff @before.yaml @after.yaml --decisions @logs --at {AT}");
    let (code, text, told) = asked.run(&replay);
    assert_eq!(code, Some(1), "{text}{told}");
    assert!(text.contains("/api/conversations.list"), "{text}");
    assert!(!text.contains("qa/report"), "{text}");
    let (code, text, _) = asked.run("diff @before.yaml @before.yaml");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn test_says_what_is_not_as_expected_also_for_a_ci() {
    let asked = Asked::new();
    asked.write("expected.yaml", EXPECTED);
    let line = format!("test @expected.yaml --resources @before.yaml --at {AT}");
    let (code, text, _) = asked.run(&line);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("expected permit, but it is denied: request_not_allowed"),
        "{text}"
    );
    let (code, junit, _) = asked.run(&format!("{line} -o junit"));
    assert_eq!(code, Some(1), "{junit}");
    assert!(junit.contains("tests=\"3\" failures=\"1\""), "{junit}");
    let right = EXPECTED.lines().take(3).collect::<Vec<_>>().join("\n");
    asked.write("expected.yaml", &right);
    assert_eq!(asked.run(&line).0, Some(0));
    asked.write(
        "expected.yaml",
        &EXPECTED.replace("qa/retired", "qa/retird"),
    );
    let (code, _, told) = asked.run(&line);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("expected.yaml:4:"), "{told}");
    assert!(told.contains("no workload matches this caller"), "{told}");
}

#[test]
fn who_can_names_who_may_and_who_did() {
    let asked = Asked::new();
    let ask = |request: &str| {
        asked.run(&format!(
            "who-can {request} --resources @before.yaml --decisions @logs --at {AT}"
        ))
    };
    let (code, text, _) = ask("POST https://slack.com/api/chat.postMessage");
    assert_eq!(code, Some(1), "{text}");
    let of = |name: &str| {
        let line = text.lines().position(|line| line.contains(name));
        let lines = text.lines().skip(line.unwrap_or(usize::MAX)).take(8);
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(of("qa/nightly").contains("2026-11-03T"), "{text}");
    assert!(of("qa/retired").contains("not since 2026-10-05"), "{text}");
    assert!(text.contains("qa/slack-bot"), "{text}");
    let (code, text, _) = ask("DELETE https://slack.com/api/chat.postMessage");
    assert!(
        code == Some(0) && text.contains("no policy permits it"),
        "{text}"
    );
    let (code, text, _) = ask("GET https://elsewhere.example/");
    assert!(
        code == Some(0) && text.contains("no target in use"),
        "{text}"
    );
    let (code, _, told) = ask("GET http://slack.com/api/chat.postMessage");
    assert!(code == Some(2) && told.contains("https://"), "{told}");
}

#[test]
fn review_finds_what_is_unused_overdue_and_too_wide_and_is_signed_off() {
    let asked = Asked::new();
    let line = format!("review @before.yaml --decisions @logs --unused 7 --at {AT}");
    let found = |line: &str| {
        let (code, json, told) = asked.run(&format!("{line} -o json"));
        assert_eq!(code, Some(1), "{told}");
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let findings = json["findings"].as_array().cloned().unwrap_or_default();
        let name = |finding: &Value| {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("code"), text("subject"))
        };
        findings.iter().map(name).collect::<Vec<_>>()
    };
    let all = found(&line);
    for expected in [
        "grant-unused AccessPolicy qa/retired-policy",
        "rule-too-wide AccessPolicy qa/nightly-policy",
        "rotation-overdue Credential qa/slack-bot",
    ] {
        assert!(
            all.iter().any(|found| found == expected),
            "{expected}: {all:#?}"
        );
    }
    assert!(
        !all.contains(&"grant-unused AccessPolicy qa/nightly-policy".to_owned()),
        "{all:#?}"
    );
    let (code, html, _) = asked.run(&format!("{line} -o html"));
    assert!(
        code == Some(1) && html.starts_with("<!DOCTYPE html>"),
        "{html}"
    );
    let (code, csv, _) = asked.run(&format!("{line} -o csv"));
    assert!(code == Some(1) && csv.contains("qa/retired"), "{csv}");

    let (_, signed, told) = asked.run(&format!(
        "{line} --sign-off ada@example.com --workload qa/nightly"
    ));
    assert!(signed.contains("ada@example.com"), "{signed}{told}");
    let (_, later, _) = asked.run(&line);
    assert!(later.contains("ada@example.com"), "{later}");
    let (code, _, told) = asked.run(&format!(
        "{line} --sign-off ada@example.com --workload qa/nobody"
    ));
    assert!(code == Some(2) && told.contains("qa/nobody"), "{told}");
}

/// The narrower rules lose nothing that was used.
#[test]
fn what_review_suggests_permits_all_that_happened() {
    let asked = Asked::new();
    let (code, yaml, told) = asked.run(&format!(
        "review @before.yaml --decisions @logs --suggest --at {AT}"
    ));
    assert_eq!(code, Some(1), "{told}");
    assert!(yaml.contains("/api/chat.postMessage"), "{yaml}");
    asked.write("suggested.yaml", &merged(&asked.path("before.yaml"), &yaml));
    let (code, text, told) = asked.run(&format!(
        "diff @before.yaml @suggested.yaml --decisions @logs --at {AT}"
    ));
    assert_eq!(code, Some(0), "{text}{told}\n{yaml}");
    let (code, text, _) = asked.run(&format!("diff @before.yaml @suggested.yaml --at {AT}"));
    assert_eq!(code, Some(1), "it is narrower: {text}");
}

/// The resources, with the rules that were suggested in place of those of the same policy.
fn merged(before: &Path, suggested: &str) -> String {
    let before = fs::read_to_string(before).expect("a file of the test");
    let mut documents: Vec<String> = before.split("---\n").map(str::to_owned).collect();
    for suggestion in suggested.split("---\n") {
        let Some((head, rules)) = suggestion.split_once('\n') else {
            continue;
        };
        let Some(name) = head.strip_prefix("# AccessPolicy qa/") else {
            continue;
        };
        let named = format!("metadata: {{ name: {name}, ");
        let policy = documents.iter_mut().find(|it| it.contains(&named));
        let policy = policy.expect("it is of a policy that is there");
        let kept = policy.lines().filter(|line| !line.starts_with("  allow:"));
        let lines = kept.map(str::to_owned);
        let lines = lines.chain(rules.lines().map(|line| format!("  {line}")));
        *policy = lines.map(|line| line + "\n").collect();
    }
    documents.join("---\n")
}

#[rstest]
#[case::resources("who-can GET https://slack.com/ --resources @nowhere", "nowhere")]
#[case::log(
    "who-can GET https://slack.com/ --resources @before.yaml --decisions @nowhere",
    "nowhere"
)]
#[case::old("diff @nowhere @after.yaml", "nowhere")]
#[case::file("test @nowhere --resources @before.yaml", "nowhere")]
#[case::days("review @before.yaml --unused 0", "--unused")]
#[case::suggest_without_a_log("review @before.yaml --suggest", "--decisions")]
#[case::no_records("review @before.yaml --decisions @before.yaml", "no records")]
fn a_question_that_cannot_be_answered_has_exit_code_2(#[case] line: &str, #[case] told: &str) {
    let asked = Asked::new();
    let (code, text, error) = asked.run(line);
    assert_eq!((code, &*text), (Some(2), ""), "{error}");
    assert!(error.contains(told), "{error}");
    assert!(!error.contains("(os error"), "{error}");
}
