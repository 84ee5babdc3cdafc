//! `diff` beside the decision itself, on random pairs of revisions and random requests.

use std::cell::Cell;

use proptest::{prelude::*, sample::select, test_runner::TestRunner};

use super::*;

const ACCOUNTS: [&str; 4] = ["a", "b", "c", "nobody"];
const IDS: [&str; 3] = [
    "spiffe://x.org/ns/qa/sa/a",
    "spiffe://x.org/ns/qa/sa/b",
    "spiffe://x.org/job",
];
const HOSTS: [&[&str]; 4] = [
    &[],
    &["slack.com"],
    &["wss*.slack.com", "files.slack.com"],
    &["wss-a.slack.com"],
];
const METHODS: [&[&str]; 4] = [&[], &["GET"], &["POST", "PUT"], &["CONNECT", "GET"]];
const PATHS: [&[&str]; 9] = [
    &[],
    &["/api/*"],
    &["/v1/**", "/upload/**"],
    &["/api/chat.*"],
    &["/api/chat.postMessage", "/v1/run/*"],
    &["/**/a"],
    &["/v1/*/b", "/v1/a%20b"],
    &["/API/x", "/api/auth.*"],
    &["/v1/"],
];
const WHENS: [&str; 3] = [
    "request.method == 'GET'",
    "!has(request.query.limit) || int(request.query.limit) <= 100",
    "caller.cluster == 'prod-eu'",
];
const TIMES: [&str; 12] = [
    "2026-03-16T08:00:00Z",
    "2026-03-20T11:29:59Z",
    "2026-03-20T11:30:00Z",
    "2026-03-29T00:30:00Z",
    "2026-03-29T01:30:00Z",
    "2026-03-30T10:30:00Z",
    "2026-06-30T23:59:59.5Z",
    "2026-07-01T00:00:00Z",
    "2026-10-25T00:30:00Z",
    "2026-10-25T01:30:00Z",
    "2026-12-28T11:00:00Z",
    "2027-03-10T16:00:00Z",
];

fn any_selector() -> impl Strategy<Value = Selector> {
    (0..8_u8, select(&ACCOUNTS[..3]), select(&IDS[..])).prop_map(|(kind, name, id)| {
        let mut selector = account(name);
        match kind {
            0 => selector.cluster = Some("prod-eu".to_owned()),
            1 => selector.cron_job = Some("nightly".to_owned()),
            2 => selector.pod_labels = BTreeMap::from([("app".to_owned(), "x".to_owned())]),
            3 => selector.images = vec!["i@1".to_owned(), "i@2".to_owned()],
            4 => selector.images = vec!["i@2".to_owned()],
            5 => {
                selector.namespace = None;
                selector.service_account = None;
                selector.spiffe_id = Some(id.to_owned());
            }
            _ => {}
        }
        selector
    })
}

fn any_caller() -> impl Strategy<Value = CallerFacts> {
    let pod = (any::<bool>(), any::<bool>(), 0..4_u8).prop_map(|(job, label, images)| {
        let images: &[&str] = match images {
            0 => &[],
            1 => &["i@1"],
            2 => &["i@2"],
            _ => &["i@1", "i@2"],
        };
        let labels = [("app".to_owned(), if label { "x" } else { "y" }.to_owned())];
        countersign_config::policy::PodFacts {
            labels: BTreeMap::from(labels),
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            cron_job: job.then(|| "nightly".to_owned()),
            ..Default::default()
        }
    });
    (
        select(&ACCOUNTS[..]),
        0..4_u8,
        select(&IDS[..]),
        proptest::option::of(pod),
        any::<bool>(),
    )
        .prop_map(|(name, kind, id, pod, europe)| {
            let mut facts = caller(name);
            if !europe {
                facts.cluster = Some("prod-us".into());
            }
            facts.kubernetes = pod.map(Arc::new);
            match kind {
                0 => CallerFacts {
                    spiffe_id: Some(id.into()),
                    ..CallerFacts::default()
                },
                // Both proofs, of one service account.
                1 if name.len() == 1 && name != "c" => CallerFacts {
                    spiffe_id: Some(format!("spiffe://x.org/ns/qa/sa/{name}").into()),
                    ..facts
                },
                _ => facts,
            }
        })
}

fn any_target() -> impl Strategy<Value = Target> {
    let further = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..3_u8, further).prop_map(|(kind, (deny, port, slash, tunnel))| match kind {
        0 => Target {
            routes: if deny {
                slack().routes
            } else {
                slack().routes.split_off(1)
            },
            ports: if port { vec![443, 8443] } else { vec![443] },
            ..slack()
        },
        1 => Target {
            encoded_slash: if slash {
                EncodedSlash::Keep
            } else {
                EncodedSlash::Refuse
            },
            routes: [
                if deny {
                    vec![denied(None, &["/v1/run/**", "/v1/A"])]
                } else {
                    vec![]
                },
                qase().routes,
            ]
            .concat(),
            ..qase()
        },
        _ => Target {
            intercept: !tunnel,
            ..target(
                "other",
                &["*.example.com", "api.example.org"],
                vec![route(None, &[], None)],
            )
        },
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (select(&HOSTS[..]), select(&METHODS[..]), select(&PATHS[..]))
        .prop_map(|(hosts, methods, paths)| rule(hosts, methods, paths))
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    (0..8_u8, 0..6_u8, 0..8_usize, 0..6_u8).prop_map(|(when_open, end, when, rate)| Conditions {
        schedule: match when_open {
            0 => Some(schedule("0 12 * * MON-FRI", 60, "Europe/Berlin")),
            1 => Some(schedule("0 6 * * *", 90, "America/New_York")),
            2 => Some(schedule("30 2 * * SUN", 30, "Europe/Berlin")),
            _ => None,
        },
        not_after: (end == 0).then(|| at("2026-07-01T00:00:00Z")),
        when: WHENS
            .get(when)
            .map(|when| Condition::parse(when).expect("an expression")),
        rate: (rate < 2).then(|| Rate {
            requests: NonZeroU32::new(u32::from(rate) + 1).expect("above zero"),
            period: Duration::from_mins(1),
        }),
        wait_for_rate_limit: None,
    })
}

/// What a policy is made of; the workloads are numbers, so that two revisions can have different ones.
type Draft = (
    u8,
    Vec<usize>,
    usize,
    Vec<Rule>,
    Conditions,
    Vec<&'static str>,
    bool,
);

fn any_draft() -> impl Strategy<Value = Draft> {
    (
        0..12_u8,
        proptest::sample::subsequence(vec![0, 1, 2], 1..3),
        0..3_usize,
        prop::collection::vec(any_rule(), 1..3),
        any_conditions(),
        proptest::sample::subsequence(vec!["bot", "app"], 0..3),
        prop::bool::weighted(0.2),
    )
}

/// Workloads, targets and policies of one revision.
type Parts = (Vec<Vec<Selector>>, Vec<Target>, Vec<Draft>);

fn any_parts() -> impl Strategy<Value = Parts> {
    (
        prop::collection::vec(prop::collection::vec(any_selector(), 1..3), 3),
        prop::collection::vec(any_target(), 3),
        prop::collection::vec(any_draft(), 0..6),
    )
}

fn revision((workloads, targets, drafts): &Parts, name: &str) -> PolicySet {
    let workloads = workloads.iter().enumerate();
    let workloads: Vec<_> = workloads
        .map(|(index, selectors)| workload(&format!("w{index}"), selectors.clone()))
        .collect();
    let mut by_name: BTreeMap<_, Arc<Target>> = BTreeMap::new();
    for target in targets {
        by_name
            .entry(target.name.clone())
            .or_insert_with(|| Arc::new(target.clone()));
    }
    let targets: Vec<_> = by_name.into_values().collect();
    let policies = drafts
        .iter()
        .map(|(number, who, place, allow, conditions, slots, observe)| {
            let target = &targets[place % targets.len()];
            let who: Vec<_> = who
                .iter()
                .map(|index| Arc::clone(&workloads[*index]))
                .collect();
            let filled = slots.iter().map(|slot| {
                let name = format!("{slot}{}", number % 2);
                ((*slot).into(), credential(&name, target))
            });
            Policy {
                credentials: filled.collect(),
                conditions: conditions.clone(),
                mode: if *observe {
                    Mode::Observe
                } else {
                    Mode::Enforce
                },
                ..policy(&format!("p{number:02}"), &who, target, allow.clone())
            }
        });
    set(&workloads, policies.collect(), name)
}

/// Two revisions: of one some parts are in the other.
fn any_pair() -> impl Strategy<Value = (Parts, Parts)> {
    (any_parts(), any_parts(), any::<[bool; 3]>(), 0..6_usize).prop_map(|(old, new, kept, keep)| {
        let drafts = old.2.iter().take(keep).cloned().chain(new.2).collect();
        let next = (
            if kept[0] { old.0.clone() } else { new.0 },
            if kept[1] { old.1.clone() } else { new.1 },
            if kept[2] {
                old.2.iter().take(keep).cloned().collect()
            } else {
                drafts
            },
        );
        (old, next)
    })
}

const PLACES: [&str; 11] = [
    "slack.com",
    "files.slack.com",
    "wss.slack.com",
    "wss-a.slack.com",
    "wssx.slack.com:8443",
    "slack.com:8443",
    "api.qase.io",
    "a.example.com",
    "xn--bcher-kva.example.com",
    "api.example.org",
    "elsewhere.org",
];
const SEGMENTS: [&str; 18] = [
    "api",
    "API",
    "v1",
    "run",
    "a",
    "A",
    "b",
    "upload",
    "chat.postMessage",
    "chat.x",
    "auth.revoke",
    "AUTH.REVOKE",
    "oauth.v2",
    "apps.connections.open",
    "a%20b",
    "a%2Fb",
    "x",
    "result",
];

fn any_request() -> impl Strategy<Value = String> {
    (
        select(&["GET", "POST", "PUT", "DELETE", "CONNECT"][..]),
        select(&PLACES[..]),
        prop::collection::vec(select(&SEGMENTS[..]), 0..4),
        any::<bool>(),
        select(&["", "?limit=5", "?limit=500"][..]),
    )
        .prop_map(|(method, place, segments, slash, query)| {
            let slash = if slash && !segments.is_empty() {
                "/"
            } else {
                ""
            };
            format!("{method} {place}/{}{slash}{query}", segments.join("/"))
        })
}

fn check(
    old: &PolicySet,
    new: &PolicySet,
    requests: &[(CallerFacts, String, &str)],
    counts: &[Cell<usize>; 3],
) -> Result<(), TestCaseError> {
    let report = diff(old, new, at(NOW));
    prop_assert_eq!(&report.incomplete, &Vec::<String>::new());
    for difference in &report.differences {
        let example = &difference.example;
        let said = (&difference.before.effect, &difference.after.effect);
        let effects = (example.effect(old), example.effect(new));
        if difference.unknown.is_empty() {
            prop_assert_eq!((&effects.0, &effects.1), said, "{:?}", difference.example);
        }
        prop_assert_eq!(difference.confirmed, (&effects.0, &effects.1) == said);
        let facts = example.request();
        let mut own = report.of(&example.caller, &facts, example.at);
        prop_assert!(own.any(|found| std::ptr::eq(found, difference)));
    }
    counts[1].set(counts[1].get() + report.differences.len());
    for (caller, text, now) in requests {
        let (method, host, port, path) = request(text);
        let facts = RequestFacts {
            host: &host,
            port,
            method: &method,
            path: &path,
        };
        let [before, after] = [old, new].map(|side| effect(side, caller, &facts, at(now)));
        let found: Vec<_> = report.of(caller, &facts, at(now)).collect();
        counts[0].set(counts[0].get() + 1);
        if before == after {
            let wrong = found
                .iter()
                .find(|difference| difference.unknown.is_empty());
            prop_assert!(
                wrong.is_none(),
                "{text} at {now} by {caller:?} does not differ: {wrong:#?}"
            );
        } else {
            counts[2].set(counts[2].get() + 1);
            let told = found.iter().any(|difference| {
                difference.before.effect == before && difference.after.effect == after
            });
            prop_assert!(
                told,
                "{text} at {now} by {caller:?}: {before:?} -> {after:?}; {found:#?}"
            );
        }
    }
    Ok(())
}

/// What is computed and what is decided agree, in both directions.
#[test]
fn a_hundred_thousand_requests_differ_where_it_is_said_and_nowhere_else() {
    const PAIRS: u32 = 500;
    const REQUESTS: usize = 200;
    let asked = (any_caller(), any_request(), select(&TIMES[..]));
    let strategy = (any_pair(), prop::collection::vec(asked, REQUESTS));
    let counts = [const { Cell::new(0) }; 3];
    let mut runner = TestRunner::new(ProptestConfig {
        max_shrink_iters: 400,
        ..ProptestConfig::with_cases(PAIRS)
    });
    let result = runner.run(&strategy, |((old, new), requests)| {
        let (old, new) = (revision(&old, "old"), revision(&new, "new"));
        check(&old, &new, &requests, &counts)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let [requests, differences, differing] = counts.map(|count| count.get());
    println!("{requests} requests, {differing} of them differ, in {differences} differences");
    // A comparison that finds nothing to compare would prove nothing.
    assert!(
        requests >= 100_000 && differing > requests / 50,
        "{differing} of {requests} differ"
    );
}
