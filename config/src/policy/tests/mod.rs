//! Test resources: the nightly dashboard, a release bot, Slack and Qase.

mod decide;
mod explain;
mod invariants;
mod near_host;
mod recognise;

use std::{collections::BTreeMap, slice, sync::Arc, time::Duration};

use http::{HeaderName, Method, uri::PathAndQuery};
use jiff::Timestamp;

use super::*;
use crate::{
    condition::Condition,
    host::{Host, HostPattern},
    model::{
        Approval, Attach, Conditions, Credential, Mode, Place, Policy, Provider, RateLimitScope,
        ResourceName, Route, Rule, SecretSource, Selector, Slots, Strip, Target, Template,
        Workload,
    },
    path::{CanonicalPath, PathPatterns},
    schedule::Schedule,
};

/// A Monday, 06:10 in Berlin.
const MORNING: &str = "2026-11-23T05:10:00Z";

fn qa(name: &str) -> ResourceName {
    ResourceName::namespaced("qa", name)
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn host_patterns(hosts: &[&str]) -> Vec<HostPattern> {
    hosts
        .iter()
        .map(|host| HostPattern::parse(host).expect("a pattern"))
        .collect()
}

fn account(name: &str) -> Selector {
    Selector {
        cluster: Some("prod-eu".to_owned()),
        namespace: Some("qa".to_owned()),
        service_account: Some(name.to_owned()),
        cron_job: None,
        pod_labels: BTreeMap::new(),
        images: Vec::new(),
        spiffe_id: None,
    }
}

fn workload(name: &str, selectors: Vec<Selector>) -> Arc<Workload> {
    Arc::new(Workload {
        name: qa(name),
        owner: "qa-platform@example.com".to_owned(),
        purpose: None,
        environment: None,
        review_by: None,
        selectors,
    })
}

fn route(host: &str, paths: &[&str], slot: Option<&str>) -> Route {
    Route {
        host: Some(HostPattern::parse(host).expect("a pattern")),
        paths: PathPatterns::parse(paths, false).expect("patterns"),
        deny: None,
        attach: slot.map(|slot| Attach {
            slot: slot.into(),
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
    }
}

fn target(name: &str, hosts: &[&str], slots: &[&str], routes: Vec<Route>) -> Arc<Target> {
    Arc::new(Target {
        name: ResourceName::cluster_wide(name),
        hosts: host_patterns(hosts),
        ports: vec![443],
        intercept: true,
        slots: Slots {
            default: slots[0].into(),
            names: slots.iter().map(|slot| (*slot).into()).collect(),
        },
        routes,
        auth_failure: Vec::new(),
        refusal: None,
        transport_faults: crate::model::TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Credential,
        encoded_slash: crate::path::EncodedSlash::Refuse,
    })
}

fn slack() -> Arc<Target> {
    let denied = Route {
        paths: PathPatterns::parse(&["/api/oauth.*", "/api/auth.revoke"], true).expect("patterns"),
        deny: Some("credential-endpoint".to_owned()),
        ..route("slack.com", &[], None)
    };
    target(
        "slack",
        &["slack.com", "files.slack.com", "wss*.slack.com"],
        &["bot", "app"],
        vec![
            denied,
            route("slack.com", &["/api/apps.connections.open"], Some("app")),
            route("slack.com", &["/api/**"], Some("bot")),
            route("files.slack.com", &["/upload/v1/**"], None),
            route("files.slack.com", &[], Some("bot")),
            route("wss*.slack.com", &[], None),
        ],
    )
}

fn qase() -> Arc<Target> {
    let routes = vec![route("api.qase.io", &[], Some("token"))];
    target("qase", &["api.qase.io"], &["token"], routes)
}

fn credential(name: &str, target: &Target) -> Arc<Credential> {
    Arc::new(Credential {
        name: qa(name),
        target: target.name.clone(),
        provider: Provider::Static {
            token: SecretSource::File("/run/secrets/token".into()),
        },
        allowed_namespaces: vec!["qa".to_owned()],
        rotate_by: None,
        max_age: None,
        idle_after: std::time::Duration::from_mins(10),
        revoke_when_idle: false,
    })
}

fn rule(hosts: &[&str], methods: &[Method], paths: &[&str]) -> Rule {
    Rule {
        hosts: host_patterns(hosts),
        methods: methods.to_vec(),
        paths: PathPatterns::parse(paths, false).expect("patterns"),
    }
}

/// An enforcing policy that fills the target's default slot.
fn policy(name: &str, who: &Arc<Workload>, target: &Arc<Target>, allow: Vec<Rule>) -> Policy {
    Policy {
        name: qa(name),
        owner: "qa-platform@example.com".to_owned(),
        workloads: vec![who.clone()],
        target: target.clone(),
        credentials: vec![(target.slots.default.clone(), credential("default", target))],
        allow,
        conditions: Conditions::default(),
        mode: Mode::Enforce,
        approval: Approval::default(),
    }
}

fn reads_qase(who: &Arc<Workload>) -> Policy {
    Policy {
        conditions: Conditions {
            schedule: Some(
                Schedule::parse("0 6 * * MON-FRI", Duration::from_mins(45), "Europe/Berlin")
                    .expect("a schedule"),
            ),
            not_after: Some(at("2027-06-30T00:00:00Z")),
            when: Some(
                Condition::parse("!has(request.query.limit) || int(request.query.limit) <= 100")
                    .expect("a condition"),
            ),
            rate: None,
            wait_for_rate_limit: None,
        },
        ..policy(
            "dashboard-reads-qase",
            who,
            &qase(),
            vec![rule(&[], &[Method::GET], &["/v1/run/*", "/v1/result/*"])],
        )
    }
}

fn posts_to_slack(who: &Arc<Workload>) -> Policy {
    policy(
        "dashboard-posts-to-slack",
        who,
        &slack(),
        vec![
            rule(&[], &[Method::POST], &["/api/chat.postMessage"]),
            rule(&["files.slack.com"], &[Method::POST], &["/upload/v1/**"]),
        ],
    )
}

fn dashboard() -> Arc<Workload> {
    workload("nightly-dashboard", vec![account("nightly-dashboard")])
}

fn set(workloads: &[Arc<Workload>], policies: Vec<Policy>) -> PolicySet {
    PolicySet::compile(Resources {
        workloads: workloads.to_vec(),
        targets: vec![slack(), qase()],
        credentials: Vec::new(),
        policies: policies.into_iter().map(Arc::new).collect(),
        revision: "9f2c1a".to_owned(),
    })
}

fn nightly() -> PolicySet {
    let who = dashboard();
    set(
        slice::from_ref(&who),
        vec![reads_qase(&who), posts_to_slack(&who)],
    )
}

fn caller(service_account: &str) -> CallerFacts {
    CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some(service_account.into()),
        ..CallerFacts::default()
    }
}

/// A request in short form: `POST slack.com/api/chat.postMessage`.
struct Request {
    method: Method,
    host: Host,
    port: u16,
    path: CanonicalPath,
}

impl Request {
    fn new(text: &str) -> Self {
        let (method, url) = text.split_once(' ').expect("a method and a URL");
        let (host, path) = url.split_at(url.find('/').expect("a path"));
        let (host, port) = host.split_once(':').unwrap_or((host, "443"));
        let target = PathAndQuery::try_from(path).expect("a path");
        Self {
            method: method.parse().expect("a method"),
            host: Host::parse(host).expect("a host"),
            port: port.parse().expect("a port"),
            path: CanonicalPath::check(&target).expect("canonical"),
        }
    }

    fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            host: &self.host,
            port: self.port,
            method: &self.method,
            path: &self.path,
        }
    }
}

fn decide<'s>(policies: &'s PolicySet, who: &CallerFacts, text: &str, now: &str) -> Decision<'s> {
    let request = Request::new(text);
    policies.decide(&policies.recognise(who), who, &request.facts(), at(now))
}

/// A decision in one line.
fn told(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Unmatched => "unmatched".to_owned(),
        Decision::Deny(denial) => denial.reason.to_string(),
        Decision::Permit(grant) => {
            let rule = grant
                .rule
                .map_or("none".to_owned(), |rule| rule.to_string());
            let slot = grant.credential.map_or("none", |(attach, _)| &attach.slot);
            let but = grant
                .would_deny
                .map_or(String::new(), |reason| format!(" but {reason}"));
            format!("{} {rule} {slot}{but}", grant.policy.name.name())
        }
    }
}
