use super::*;

fn explained(policies: &PolicySet, who: &CallerFacts, text: &str) -> String {
    let request = Request::new(text);
    policies
        .explain(who, &request.facts(), at(MORNING))
        .to_string()
}

#[test]
fn tells_how_a_permit_came_about() {
    let text = explained(
        &nightly(),
        &caller("nightly-dashboard"),
        "POST slack.com/api/chat.postMessage?token=SECRET",
    );
    insta::assert_snapshot!(text);
}

#[test]
fn tells_how_a_denial_came_about() {
    let text = explained(
        &nightly(),
        &caller("nightly-dashboard"),
        "GET slack.com/api/conversations.history?token=SECRET",
    );
    assert!(!text.contains("SECRET"));
    insta::assert_snapshot!(text);
}

#[test]
fn tells_whom_it_does_not_know() {
    let text = explained(&nightly(), &caller("default"), "GET slack.com/api/x");
    insta::assert_snapshot!(text);
}

#[test]
fn tells_what_an_observing_policy_let_through() {
    let who = dashboard();
    let policies = vec![Policy {
        mode: Mode::Observe,
        ..reads_qase(&who)
    }];
    let text = explained(
        &set(slice::from_ref(&who), policies),
        &caller("nightly-dashboard"),
        "GET api.qase.io:443/v1/run/DEMO?limit=101",
    );
    insta::assert_snapshot!(text);
}
