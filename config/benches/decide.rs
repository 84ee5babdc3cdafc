//! What a decision costs with 1,000 workloads and 3,000 policies. The aim is a microsecond.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros write undocumented items, and a benchmark may stop"
)]

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Duration};

use countersign_config::{
    condition::Condition,
    host::{Host, HostPattern},
    model::{
        Approval, Attach, Conditions, Credential, Mode, Place, Policy, Provider, RateLimitScope,
        ResourceName, Route, Rule, SecretSource, Selector, Slots, Strip, Target, Template,
        Workload,
    },
    path::{CanonicalPath, PathPatterns},
    policy::{CallerFacts, PolicySet, RequestFacts, Resources},
    schedule::Schedule,
};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderName, Method, uri::PathAndQuery};
use jiff::Timestamp;

const WORKLOADS: usize = 1000;
const TARGETS: usize = 10;

fn paths(patterns: &[&str]) -> PathPatterns {
    PathPatterns::parse(patterns, false).unwrap()
}

fn workload(number: usize) -> Arc<Workload> {
    Arc::new(Workload {
        name: ResourceName::namespaced("qa", &format!("w{number}")),
        owner: "qa@example.com".to_owned(),
        purpose: None,
        environment: None,
        review_by: None,
        selectors: vec![Selector {
            cluster: Some("prod-eu".to_owned()),
            namespace: Some("qa".to_owned()),
            service_account: Some(format!("w{number}")),
            cron_job: None,
            pod_labels: BTreeMap::new(),
            images: Vec::new(),
            spiffe_id: None,
        }],
    })
}

/// With the routes of the catalog's Slack.
fn target(number: usize) -> Arc<Target> {
    let host = format!("api{number}.example.com");
    let route = |patterns: &[&str], deny: bool| Route {
        host: Some(HostPattern::parse(&host).unwrap()),
        paths: PathPatterns::parse(patterns, deny).unwrap(),
        deny: deny.then(|| "credential-endpoint".to_owned()),
        attach: (!deny).then(|| Attach {
            slot: "bot".into(),
            place: Place::Header {
                name: HeaderName::from_static("authorization"),
                value: Template {
                    before: "Bearer ".to_owned(),
                    after: String::new(),
                },
            },
        }),
        strip: Strip::default(),
        inspect_body: true,
    };
    Arc::new(Target {
        name: ResourceName::cluster_wide(&format!("t{number}")),
        hosts: vec![
            HostPattern::parse(&host).unwrap(),
            HostPattern::parse(&format!("wss*.t{number}.example.com")).unwrap(),
        ],
        ports: vec![443],
        intercept: true,
        slots: Slots {
            default: "bot".into(),
            names: vec!["bot".into()],
        },
        routes: vec![
            route(
                &[
                    "/api/oauth.*",
                    "/api/tooling.*",
                    "/api/auth.revoke",
                    "/api/apps.uninstall",
                    "/api/apps.manifest.*",
                ],
                true,
            ),
            route(&["/api/apps.connections.open"], false),
            route(&["/api/**"], false),
        ],
        auth_failure: Vec::new(),
        refusal: None,
        transport_faults: countersign_config::model::TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Credential,
        encoded_slash: countersign_config::path::EncodedSlash::Refuse,
    })
}

fn policies(conditions: &Conditions) -> PolicySet {
    let workloads: Vec<_> = (0..WORKLOADS).map(workload).collect();
    let targets: Vec<_> = (0..TARGETS).map(target).collect();
    let policies = (0..3 * WORKLOADS).map(|number| {
        let target = &targets[number % TARGETS];
        Arc::new(Policy {
            name: ResourceName::namespaced("qa", &format!("p{number}")),
            owner: "qa@example.com".to_owned(),
            workloads: vec![workloads[number % WORKLOADS].clone()],
            target: target.clone(),
            credentials: vec![(
                "bot".into(),
                Arc::new(Credential {
                    name: ResourceName::namespaced("qa", &format!("c{number}")),
                    target: target.name.clone(),
                    provider: Provider::Static {
                        token: SecretSource::File("/run/token".into()),
                    },
                    allowed_namespaces: vec!["qa".to_owned()],
                    rotate_by: None,
                    max_age: None,
                    idle_after: std::time::Duration::from_mins(10),
                    revoke_when_idle: false,
                }),
            )],
            allow: vec![
                Rule {
                    hosts: Vec::new(),
                    methods: vec![Method::GET],
                    paths: paths(&["/api/users.*", "/api/conversations.*"]),
                },
                Rule {
                    hosts: Vec::new(),
                    methods: vec![Method::POST],
                    paths: paths(&["/api/files.*", "/api/chat.postMessage"]),
                },
            ],
            conditions: conditions.clone(),
            mode: Mode::Enforce,
            approval: Approval::default(),
        })
    });
    PolicySet::compile(Resources {
        policies: policies.collect(),
        workloads,
        targets,
        credentials: Vec::new(),
        revision: "bench".to_owned(),
    })
}

fn decisions(c: &mut Criterion) {
    let caller = CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some("w507".into()),
        ..CallerFacts::default()
    };
    let host = Host::parse("api7.example.com").unwrap();
    let target = PathAndQuery::from_static("/api/chat.postMessage?limit=50");
    let path = CanonicalPath::check(&target).unwrap();
    let request = RequestFacts {
        host: &host,
        port: 443,
        method: &Method::POST,
        path: &path,
    };
    let denied = RequestFacts {
        method: &Method::PUT,
        ..request
    };
    let now: Timestamp = "2026-11-23T05:10:00Z".parse().unwrap();
    let schedule = Schedule::parse("0 6 * * MON-FRI", Duration::from_mins(45), "Europe/Berlin");
    let scheduled = Conditions {
        schedule: Some(schedule.unwrap()),
        ..Conditions::default()
    };
    let when = "!has(request.query.limit) || int(request.query.limit) <= 100";
    let conditional = Conditions {
        when: Some(Condition::parse(when).unwrap()),
        ..Conditions::default()
    };

    let plain = policies(&Conditions::default());
    let who = plain.recognise(&caller);
    assert!(plain.decide(&who, &caller, &request, now).is_permit());
    c.bench_function("permit", |b| {
        b.iter(|| {
            plain
                .decide(black_box(&who), &caller, black_box(&request), now)
                .is_permit()
        });
    });
    c.bench_function("deny with the nearest rule", |b| {
        b.iter(|| {
            plain
                .decide(black_box(&who), &caller, black_box(&denied), now)
                .is_permit()
        });
    });
    c.bench_function("recognise", |b| {
        b.iter(|| plain.recognise(black_box(&caller)));
    });
    c.bench_function("check a path", |b| {
        b.iter(|| CanonicalPath::check(black_box(&target)));
    });
    c.bench_function("parse a host", |b| {
        b.iter(|| Host::parse(black_box("api7.example.com")));
    });
    for (name, conditions) in [
        ("permit in a schedule", scheduled),
        ("permit by CEL", conditional),
    ] {
        let set = policies(&conditions);
        let who = set.recognise(&caller);
        assert!(set.decide(&who, &caller, &request, now).is_permit());
        c.bench_function(name, |b| {
            b.iter(|| {
                set.decide(black_box(&who), &caller, black_box(&request), now)
                    .is_permit()
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
