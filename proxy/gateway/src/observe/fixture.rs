//! A record with every field filled in, for the tests of `observe`.

use std::{sync::Arc, time::Duration};

use countersign_config::{
    host::Host,
    model::{
        Approval, Conditions, Mode, Policy, RateLimitScope, ResourceName, Slots, Target, Workload,
    },
    policy::{Mismatch, Nearest, PodFacts},
};
use countersign_core::{clock::Clock, destination::Authority, metrics::Metrics};
use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    CallerPart, CredentialPart, DecisionLog, Entry, MemoryLog, PolicyPart, Recorder, TargetPart,
    TraceId, UpstreamPart,
};

/// A recorder whose clock stands at 2026-11-23T05:10:03.412Z, and its log.
pub(crate) fn recorder() -> (Recorder, MemoryLog) {
    let (log, memory) = DecisionLog::memory();
    (Recorder::new(log, Metrics::new(), clock()), memory)
}

pub(super) fn clock() -> Clock {
    let time: Timestamp = "2026-11-23T05:10:03.412Z".parse().unwrap();
    Clock::manual(time)
}

/// A proven caller.
pub(super) fn caller(subject: &str) -> Arc<CallerPart> {
    Arc::new(CallerPart {
        proof: "service-account-token",
        issuer: Some("prod-eu".into()),
        subject: Some(subject.into()),
        pod: None,
        kubernetes: None,
        token_id: None,
    })
}

/// Fills in everything, as in the example of `docs/decision-record.md`.
pub(super) fn fill(entry: &mut Entry) {
    let workload = Arc::new(workload());
    let policy = Arc::new(policy(&workload));
    entry.id = Uuid::from_u128(0x0194_f3c1_2a44_7000_8000_0000_0000_0001);
    entry.trace_id =
        TraceId::from_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    entry.listener = Some("proxy".into());
    entry.client = Some(([10, 0, 0, 7], 51234).into());
    entry.original_destination = Some(([203, 0, 113, 7], 443).into());
    entry.caller = Some(Arc::new(CallerPart {
        proof: "service-account-token",
        issuer: Some("prod-eu".into()),
        subject: Some("system:serviceaccount:qa:nightly-dashboard".into()),
        pod: Some("nightly-dashboard-29341-x8k2p".into()),
        kubernetes: Some(Arc::new(PodFacts {
            node: Some("node-1".to_owned()),
            job: Some("nightly-dashboard-29341".to_owned()),
            cron_job: Some("nightly-dashboard".to_owned()),
            ..PodFacts::default()
        })),
        token_id: Some("7a357c9a-0f0e-4d0c-8a3b-6d1f2e3c4b5a".into()),
    }));
    entry.target = Some(TargetPart {
        name: Some(policy.target.name.clone()),
        authority: Authority::new(Host::parse("slack.com").unwrap(), 443),
        method: Some(Method::POST),
        path: Some(PathAndQuery::from_static("/api/chat.postMessage?pretty=canary").into()),
        protocol: "h2",
    });
    entry.credential = Some(CredentialPart {
        name: ResourceName::namespaced("qa", "slack-bot"),
        slot: "bot".into(),
        generation: 7,
        age_s: 812,
        expires_in_s: Some(42388),
        stale: false,
        rejected: None,
    });
    entry.upstream = Some(UpstreamPart {
        address: Some(([203, 0, 113, 7], 443).into()),
        reused: true,
        status: Some(200),
        api_error: Some("channel_not_found".into()),
        replayed: false,
        echoed: false,
    });
    entry.bytes.add_request(512);
    entry.bytes.add_response(1024);
    entry.timing.authorize = Duration::from_micros(1);
    entry.timing.first_byte = Some(Duration::from_micros(81200));
    entry.nearest = Some(Box::new(Nearest {
        policy: Arc::clone(&policy),
        rule: Some(0),
        mismatches: vec![Mismatch {
            what: "paths",
            expected: "/api/chat.postMessage".into(),
            actual: "/api/chat.delete".into(),
        }],
    }));
    entry.detail = Some("no rule allows this path".into());
    entry.workload = Some(workload);
    entry.policy = Some(PolicyPart {
        policy,
        rule: Some(0),
        revision: "9f2c1a".into(),
        would_refuse: Some("request_not_allowed"),
    });
}

pub(crate) fn workload() -> Workload {
    Workload {
        name: ResourceName::namespaced("qa", "nightly-dashboard"),
        owner: "qa-platform@example.com".into(),
        purpose: None,
        environment: Some("production".into()),
        review_by: None,
        selectors: Vec::new(),
    }
}

fn policy(workload: &Arc<Workload>) -> Policy {
    Policy {
        name: ResourceName::namespaced("qa", "dashboard-posts-to-slack"),
        owner: "qa-platform@example.com".into(),
        workloads: vec![Arc::clone(workload)],
        target: Arc::new(target()),
        credentials: Vec::new(),
        allow: Vec::new(),
        conditions: Conditions::default(),
        mode: Mode::Enforce,
        approval: Approval::default(),
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: ResourceName::cluster_wide("slack"),
        hosts: Vec::new(),
        ports: vec![443],
        intercept: true,
        slots: Slots {
            default: "bot".into(),
            names: vec!["bot".into()],
        },
        routes: Vec::new(),
        auth_failure: Vec::new(),
        refusal: None,
        transport_faults: countersign_config::model::TransportFaults::Status,
        probe: None,
        rate_limit: RateLimitScope::Credential,
        encoded_slash: countersign_config::path::EncodedSlash::Refuse,
    }
}
