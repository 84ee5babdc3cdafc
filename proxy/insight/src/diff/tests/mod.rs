//! Resources for comparing: two APIs and some workloads.

mod differences;
mod properties;

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use countersign_config::{
    condition::Condition,
    host::HostPattern,
    model::{
        Approval, Attach, Conditions, Credential, Mode, Place, Policy, Provider, Rate,
        RateLimitScope, ResourceName, Route, Rule, SecretSource, Selector, Slots, Strip, Target,
        Template, TransportFaults, Workload,
    },
    path::{EncodedSlash, PathPatterns},
    policy::Resources,
    schedule::Schedule,
};
use http::HeaderName;

use super::*;

/// A Monday.
const NOW: &str = "2026-03-16T08:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn qa(name: &str) -> ResourceName {
    ResourceName::namespaced("qa", name)
}

fn account(name: &str) -> Selector {
    Selector {
        cluster: None,
        namespace: Some("qa".to_owned()),
        service_account: Some(name.to_owned()),
        cron_job: None,
        pod_labels: BTreeMap::new(),
        images: Vec::new(),
        spiffe_id: None,
    }
}

fn caller(name: &str) -> CallerFacts {
    CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some(name.into()),
        ..CallerFacts::default()
    }
}

fn workload(name: &str, selectors: Vec<Selector>) -> Arc<Workload> {
    Arc::new(Workload {
        name: qa(name),
        owner: "qa@example.com".to_owned(),
        purpose: None,
        environment: None,
        review_by: None,
        selectors,
    })
}

fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    let parse = |host: &&str| HostPattern::parse(host).expect("a pattern");
    hosts.iter().map(parse).collect()
}

fn route(host: Option<&str>, paths: &[&str], slot: Option<&str>) -> Route {
    Route {
        host: host.map(|host| HostPattern::parse(host).expect("a pattern")),
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

fn denied(host: Option<&str>, paths: &[&str]) -> Route {
    Route {
        paths: PathPatterns::parse(paths, true).expect("patterns"),
        deny: Some("credential-endpoint".to_owned()),
        ..route(host, &[], None)
    }
}

fn target(name: &str, hosts: &[&str], routes: Vec<Route>) -> Target {
    Target {
        name: ResourceName::cluster_wide(name),
        hosts: patterns(hosts),
        ports: vec![443],
        intercept: true,
        slots: Slots {
            default: "bot".into(),
            names: vec!["bot".into(), "app".into()],
        },
        routes,
        auth_failure: Vec::new(),
        refusal: None,
        transport_faults: TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Credential,
        encoded_slash: EncodedSlash::Refuse,
    }
}

fn slack() -> Target {
    target(
        "slack",
        &["slack.com", "files.slack.com", "wss*.slack.com"],
        vec![
            denied(Some("slack.com"), &["/api/oauth.*", "/api/auth.revoke"]),
            route(
                Some("slack.com"),
                &["/api/apps.connections.open"],
                Some("app"),
            ),
            route(Some("slack.com"), &["/api/**"], Some("bot")),
            route(Some("files.slack.com"), &[], None),
            route(Some("wss*.slack.com"), &[], None),
        ],
    )
}

fn qase() -> Target {
    target(
        "qase",
        &["api.qase.io"],
        vec![route(None, &["/v1/**"], Some("bot"))],
    )
}

fn credential(name: &str, target: &Target) -> Arc<Credential> {
    Arc::new(Credential {
        name: qa(name),
        target: target.name.clone(),
        provider: Provider::Static {
            token: SecretSource::File(format!("/run/{name}").into()),
        },
        allowed_namespaces: vec!["qa".to_owned()],
        rotate_by: None,
        max_age: None,
        idle_after: Duration::from_mins(10),
        revoke_when_idle: false,
    })
}

fn rule(hosts: &[&str], methods: &[&str], paths: &[&str]) -> Rule {
    Rule {
        hosts: patterns(hosts),
        methods: methods
            .iter()
            .map(|method| method.parse().expect("a method"))
            .collect(),
        paths: PathPatterns::parse(paths, false).expect("patterns"),
    }
}

fn policy(
    name: &str,
    workloads: &[Arc<Workload>],
    target: &Arc<Target>,
    allow: Vec<Rule>,
) -> Policy {
    Policy {
        name: qa(name),
        owner: "qa@example.com".to_owned(),
        workloads: workloads.to_vec(),
        credentials: vec![("bot".into(), credential("bot", target))],
        target: Arc::clone(target),
        allow,
        conditions: Conditions::default(),
        mode: Mode::Enforce,
        approval: Approval::default(),
    }
}

fn schedule(cron: &str, minutes: u64, zone: &str) -> Schedule {
    Schedule::parse(cron, Duration::from_mins(minutes), zone).expect("a schedule")
}

fn set(workloads: &[Arc<Workload>], policies: Vec<Policy>, revision: &str) -> PolicySet {
    let policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
    PolicySet::compile(Resources {
        workloads: workloads.to_vec(),
        targets: policies
            .iter()
            .map(|policy| Arc::clone(&policy.target))
            .collect(),
        credentials: Vec::new(),
        policies,
        revision: revision.to_owned(),
    })
}

/// A request such as `GET slack.com/api/x`, with a port if it is not 443.
fn request(text: &str) -> (Method, Host, u16, CanonicalPath) {
    let (method, url) = text.split_once(' ').expect("a method and a URL");
    let (authority, path) = url.split_once('/').expect("a path");
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let path = format!("/{path}").parse().expect("a path");
    (
        method.parse().expect("a method"),
        Host::parse(host).expect("a host"),
        port.parse().expect("a port"),
        CanonicalPath::check_with(&path, EncodedSlash::Keep).expect("it is canonical"),
    )
}
