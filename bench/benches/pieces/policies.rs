//! The dashboard's policy among others, and requests that are asked about.

use std::{fmt::Write as _, fs, hint::black_box};

use countersign_config::{
    host::Host,
    load,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, PolicySet, Recognised, RequestFacts},
};
use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;

/// How many policies each of the others has.
const EACH: usize = 3;

/// A request of the dashboard to Slack, and the policies that decide on it.
pub(crate) struct Asked {
    policies: PolicySet,
    caller: CallerFacts,
    who: Recognised,
    host: Host,
    path: CanonicalPath,
    now: Timestamp,
}

impl Asked {
    /// What one rule permits, among the policies of so many other workloads, three of each.
    pub(crate) fn permitted(others: usize) -> Self {
        let asked = Self::new(others, "/api/chat.postMessage");
        assert!(matches!(asked.decide(), Decision::Permit(_)));
        asked
    }

    /// What no rule permits.
    pub(crate) fn refused(others: usize) -> Self {
        let asked = Self::new(others, "/api/chat.delete");
        assert!(!matches!(asked.decide(), Decision::Permit(_)));
        asked
    }

    fn new(others: usize, path: &'static str) -> Self {
        let policies = dashboard(others);
        let caller = CallerFacts {
            cluster: Some("prod-eu".into()),
            namespace: Some("qa".into()),
            service_account: Some("nightly-dashboard".into()),
            ..CallerFacts::default()
        };
        let path = PathAndQuery::from_static(path);
        Self {
            who: policies.recognise(&caller),
            policies,
            caller,
            host: Host::parse("slack.com").expect("it is a host"),
            path: CanonicalPath::check(&path).expect("it is canonical"),
            now: "2026-11-23T05:10:00Z".parse().expect("it is a time"),
        }
    }

    /// How many policies there are.
    pub(crate) fn policies(&self) -> usize {
        self.policies.policies().len()
    }

    /// Which workloads the caller is: once a connection.
    pub(crate) fn recognise(&self) {
        black_box(self.policies.recognise(black_box(&self.caller)));
    }

    /// Whether it may: for each request.
    pub(crate) fn decide(&self) -> Decision<'_> {
        let request = RequestFacts {
            host: &self.host,
            port: 443,
            method: &Method::POST,
            path: &self.path,
        };
        let (who, caller) = (black_box(&self.who), &self.caller);
        self.policies
            .decide(who, caller, black_box(&request), self.now)
    }
}

/// The dashboard's policy and those of `others` workloads.
pub(crate) fn dashboard(others: usize) -> PolicySet {
    let mut yaml = String::from(CREDENTIAL);
    let mut add = |name: &str, policies: usize| {
        let workload = WORKLOAD.replace("{name}", name);
        write!(yaml, "{workload}").expect("a String takes it");
        for number in 0..policies {
            let policy = POLICY
                .replace("{name}", name)
                .replace("{number}", &number.to_string());
            write!(yaml, "{policy}").expect("a String takes it");
        }
    };
    add("nightly-dashboard", 1);
    for number in 0..others {
        add(&format!("other-{number}"), EACH);
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("policy.yaml"), yaml).expect("a file");
    match load::resources(&[directory.path()]) {
        Ok(loaded) => loaded.policies,
        Err(problems) => panic!("{problems:?}"),
    }
}

const CREDENTIAL: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: slack-bot, namespace: qa }
spec:
  target: slack
  static:
    token: { file: /run/secrets/slack/token }
";

const WORKLOAD: &str = "\
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: {name}, namespace: qa }
spec:
  owner: qa-platform@example.com
  purpose: Posts last night's test results
  match:
    - { cluster: prod-eu, serviceAccount: {name} }
";

const POLICY: &str = "\
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: {name}-{number}, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [{name}]
  target: slack
  credential: slack-bot
  allow:
    - methods: [POST]
      paths: [/api/chat.postMessage, \"/api/files.*\"]
  conditions:
    schedule: { cron: \"0 6 * * MON-FRI\", duration: 45m, timeZone: Europe/Berlin }
    rate: 60/m
";
