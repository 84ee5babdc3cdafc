use crate::{
    reader::Reader,
    triage::{Options, triage},
};

fn line(minute: u8, workload: &str, policy: &str, reason: &str) -> String {
    let outcome = if reason == "permitted" {
        reason
    } else {
        "refused"
    };
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:{minute:02}:00Z","id":"{workload}{minute}","outcome":"{outcome}","reason":"{reason}","workload":{{"name":"qa/{workload}"}},"policy":{{"name":"qa/{policy}","revision":"r"}},"target":{{"name":"slack","authority":"slack.com:443","method":"POST","path":"/api/chat.postMessage"}},"upstream":{{"status":200}}}}"#
    ) + "\n"
}

/// Each workload's finding names its own policy, in whatever order the causes are.
#[test]
fn what_one_revision_changed_for_two_workloads_is_told_to_each() {
    let change =
        |name: &str| format!(r#"{{"kind":"AccessPolicy","name":"qa/{name}","change":"changed"}}"#);
    let reloaded = format!(
        r#"{{"schema":"countersign.event/v1","time":"2026-11-23T05:20:00Z","event":"reloaded","revision":"r2","changed":2,"changes":[{},{}]}}"#,
        change("one-posts"),
        change("two-posts"),
    );
    let both = |minute: u8, reason: &str| {
        ["one", "two"]
            .map(|name| line(minute, name, &format!("{name}-posts"), reason))
            .concat()
    };
    let log = [
        both(10, "permitted"),
        reloaded + "\n",
        (30..40)
            .map(|minute| both(minute, "request_not_allowed"))
            .collect(),
    ]
    .concat();
    for _ in 0..20 {
        let mut reader = Reader::stream("-", std::io::Cursor::new(log.clone()));
        let report = triage(&mut reader, Options::default());
        let mut told: Vec<_> = report
            .findings
            .iter()
            .map(|one| (one.affected[0].name.as_str(), one.action.as_str()))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                (
                    "qa/one",
                    "correct AccessPolicy qa/one-posts, or undo that change"
                ),
                (
                    "qa/two",
                    "correct AccessPolicy qa/two-posts, or undo that change"
                ),
            ]
        );
    }
}
