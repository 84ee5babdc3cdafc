//! What is said about some edits.

use super::*;

/// Differences in short: `GET /api/* of qa/a: refused -> permitted`.
fn said(report: &Report) -> Vec<String> {
    let list = |described: Vec<Described>| {
        let texts: Vec<_> = described.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let one = |difference: &Difference| {
        let (methods, except) = difference.methods();
        let callers: Vec<_> = difference.callers.iter().map(Callers::text).collect();
        format!(
            "{} | {} | {}{} | {} | {} -> {}{}",
            callers.join("; "),
            list(difference.hosts()),
            methods.map_or_else(|| "any".to_owned(), |methods| methods.join(" ")),
            except
                .iter()
                .flat_map(|name| [" -", name.as_str()])
                .collect::<String>(),
            list(difference.paths()),
            difference.before.effect.as_str(),
            difference.after.effect.as_str(),
            difference
                .unknown
                .iter()
                .flat_map(|clause| [" ? ", clause.as_str()])
                .collect::<String>(),
        )
    };
    report.differences.iter().map(one).collect()
}

struct Edit {
    before: Policy,
    after: Policy,
}

fn edited(edit: impl FnOnce(&mut Policy)) -> Edit {
    let before = policy(
        "posts",
        &[workload("a", vec![account("a")])],
        &Arc::new(slack()),
        vec![rule(&["slack.com"], &["POST"], &["/api/chat.postMessage"])],
    );
    let mut after = before.clone();
    edit(&mut after);
    Edit { before, after }
}

impl Edit {
    fn report(&self) -> Report {
        let one = |policy: &Policy| set(&policy.workloads.clone(), vec![policy.clone()], "r");
        diff(&one(&self.before), &one(&self.after), at(NOW))
    }

    fn said(&self) -> Vec<String> {
        said(&self.report())
    }
}

#[test]
fn the_same_is_no_difference_however_it_is_written() {
    let edit = edited(|policy| {
        policy.owner = "other@example.com".to_owned();
        policy.allow = vec![
            rule(&["slack.com"], &["POST"], &["/api/chat.postMessage"]),
            // The first rule has it already.
            rule(&["slack.com"], &["POST"], &["/api/chat.postMessage"]),
        ];
    });
    assert!(edit.report().is_empty());
}

#[test]
fn a_wider_path_permits_what_the_narrower_did_not() {
    let edit = edited(|policy| {
        policy.allow[0].paths = PathPatterns::parse(&["/api/chat.*"], false).expect("patterns");
    });
    assert_eq!(
        edit.said(),
        [
            "qa/a | slack.com | POST | /api/chat.* except /api/chat.postMessage | refused -> permitted"
        ]
    );
}

#[test]
fn a_denied_route_is_not_opened_by_a_rule() {
    let edit = edited(|policy| {
        policy
            .allow
            .push(rule(&["slack.com"], &["POST"], &["/api/auth.*"]));
    });
    assert_eq!(
        edit.said(),
        [
            "qa/a | slack.com | POST | /api/auth.* except /api/oauth.* or /api/auth.revoke | refused -> permitted"
        ]
    );
}

#[test]
fn another_credential_is_a_difference_and_another_owner_is_none() {
    let edit = edited(|policy| policy.credentials[0].1 = credential("other", &policy.target));
    assert_eq!(
        edit.said(),
        ["qa/a | slack.com | POST | /api/chat.postMessage | permitted -> permitted"]
    );
    let report = edit.report();
    let credentials =
        [&report.differences[0].before, &report.differences[0].after].map(|outcome| {
            outcome
                .effect
                .sent()
                .and_then(|sent| sent.credential.clone())
        });
    assert_eq!(
        credentials,
        [Some("qa/bot".to_owned()), Some("qa/other".to_owned())]
    );
}

#[test]
fn a_window_that_follows_another_clock_differs_for_some_weeks() {
    let mut edit = edited(|_| {});
    edit.before.conditions.schedule = Some(schedule("0 12 * * *", 60, "Europe/Berlin"));
    edit.after.conditions.schedule = Some(schedule("0 6 * * *", 60, "America/New_York"));
    let report = edit.report();
    let mut days: Vec<_> = report
        .differences
        .iter()
        .map(|difference| {
            (
                difference.before.effect.as_str(),
                difference.times().len(),
                difference.times()[0].0,
            )
        })
        .collect();
    days.sort();
    // Of the three weeks in spring 13 days are left; a week in autumn, and three days of the next spring.
    assert_eq!(
        days,
        [
            ("permitted", 23, at("2026-03-16T11:00:00Z")),
            ("refused", 23, at("2026-03-16T10:00:00Z")),
        ]
    );
}

#[test]
fn what_depends_on_an_expression_is_unknown_and_names_it() {
    let edit =
        edited(|policy| policy.conditions.when = Condition::parse("caller.cluster == 'x'").ok());
    assert_eq!(
        edit.said(),
        [
            "qa/a | slack.com | POST | /api/chat.postMessage | permitted -> refused ? when: caller.cluster == 'x'"
        ]
    );
    let mut same = edited(|_| {});
    same.before.conditions.when = Condition::parse("caller.cluster == 'x'").ok();
    same.after.conditions.when = Condition::parse("caller.cluster == 'x'").ok();
    assert!(same.report().is_empty());
}

#[test]
fn another_rate_is_unknown_and_names_both() {
    let rate = |requests| {
        Some(Rate {
            requests: NonZeroU32::new(requests).expect("above zero"),
            period: Duration::from_mins(1),
        })
    };
    let mut edit = edited(|policy| policy.conditions.rate = rate(60));
    let text = "qa/a | slack.com | POST | /api/chat.postMessage | permitted -> permitted ? rate: ";
    assert_eq!(edit.said(), [format!("{text}no rate -> 60/m")]);
    edit.before.conditions.rate = rate(30);
    assert_eq!(edit.said(), [format!("{text}30/m -> 60/m")]);
    edit.before.conditions.rate = rate(60);
    assert!(edit.report().is_empty());
}

#[test]
fn a_policy_on_trial_lets_everything_pass() {
    let edit = edited(|policy| policy.mode = Mode::Observe);
    let said = edit.said();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(
        said.iter()
            .all(|line| line.ends_with("refused -> observed")),
        "{said:#?}"
    );
}

#[test]
fn a_target_that_nobody_used_is_governed_for_everyone() {
    let slack = Arc::new(slack());
    let workloads = [
        workload("a", vec![account("a")]),
        workload("b", vec![account("b")]),
    ];
    let posts = policy(
        "posts",
        &workloads[..1],
        &slack,
        vec![rule(&["slack.com"], &["POST"], &["/api/chat.x"])],
    );
    let report = diff(
        &set(&workloads, vec![], "old"),
        &set(&workloads, vec![posts], "new"),
        at(NOW),
    );
    assert_eq!(
        said(&report),
        [
            "callers that match no workload; qa/b | any | any | any | unmatched -> refused",
            "qa/a | slack.com | any -POST | any | unmatched -> refused",
            "qa/a | slack.com | POST | any except /api/chat.x | unmatched -> refused",
            "qa/a | files.slack.com, wss*.slack.com | any | any | unmatched -> refused",
            "qa/a | slack.com | POST | /api/chat.x | unmatched -> permitted",
        ]
    );
}

#[test]
fn a_selector_that_matches_fewer_takes_access_away() {
    let mut edit = edited(|policy| {
        let mut narrow = account("a");
        narrow.cron_job = Some("nightly".to_owned());
        policy.workloads = vec![workload("a", vec![narrow])];
    });
    assert_eq!(
        edit.said(),
        ["qa/a | slack.com | POST | /api/chat.postMessage | permitted -> refused"]
    );
    let report = edit.report();
    assert_eq!(
        report.differences[0].callers[0].workloads,
        [vec!["qa/a".to_owned()], vec![]]
    );
    // The other way round it is given.
    std::mem::swap(&mut edit.before, &mut edit.after);
    assert_eq!(
        edit.said(),
        ["qa/a | slack.com | POST | /api/chat.postMessage | refused -> permitted"]
    );
}
