//! For the whole catalog, host by host and route by route: a credential goes only where policy permits,
//! for requests of pods and of the gateway itself.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;
use rstest::rstest;

use super::{
    load_texts,
    several::{HEAD, target as written},
};
use crate::{
    host::{Host, HostPattern},
    model::{Policy, ResourceName, Rule, Target},
    path::{CanonicalPath, PathPatterns},
    policy::{CallerFacts, Decision, PolicySet, RequestFacts, Resources},
};

const NAMES: [&str; 3] = ["slack", "slack-gov", "qase"];

/// An enterprise's and a workspace's own host, as operators add them.
const EXTENDED: [(&str, &str); 2] = [("qase", "api-acme.qase.io"), ("slack", "acme.slack.com")];

/// A host and a path.
type Place = (String, String);

fn now() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().unwrap()
}

/// A policy for one place of a target, with every slot filled.
fn policy(target: &Target, (host, path): &Place, further: &str) -> String {
    let name = &target.name;
    let mut text = String::new();
    for (name, host) in EXTENDED {
        let spec = format!("extends: {name}\n  hosts: [{host}]");
        writeln!(text, "{}---", written(name, &spec)).unwrap();
    }
    write!(
        text,
        "{HEAD}Workload\nmetadata: {{ name: app, namespace: qa }}\nspec:\n  owner: a\n  reviewBy: 2099-06-30\n  \
         match: [{{ serviceAccount: app }}]\n---\n"
    )
    .unwrap();
    let mut slots = String::new();
    for slot in &target.slots.names {
        write!(
            text,
            "{HEAD}Credential\nmetadata: {{ name: {slot}, namespace: qa }}\nspec: {{ target: {name}, static: \
             {{ token: {{ file: /run/{slot} }} }} }}\n---\n"
        )
        .unwrap();
        write!(slots, "{slot}: {slot}, ").unwrap();
    }
    write!(
        text,
        "{HEAD}AccessPolicy\nmetadata: {{ name: p, namespace: qa }}\nspec:\n  owner: a\n  workloads: [app]\n  \
         target: {name}\n  credentials: {{ {slots} }}\n  allow:\n    - {{ hosts: [\"{host}\"], paths: [\"{path}\"] }}\n\
         {further}"
    )
    .unwrap();
    text
}

/// All places that the catalog's routes name, and near misses of each.
fn places(set: &PolicySet) -> BTreeSet<Place> {
    let fill = |text: &str| text.replace("**", "qz/qz").replace('*', "qz");
    let mut places = BTreeSet::new();
    for target in set.targets() {
        for host in target.hosts.iter().map(|host| fill(&host.to_string())) {
            for route in &target.routes {
                let paths = route.paths.written();
                for path in paths.first().into_iter().chain(paths.last()) {
                    places.insert((host.clone(), fill(path)));
                }
            }
            for path in ["/", "/qz", "/api/auth.test", "/v1/project", "/api/qz"] {
                places.insert((host.clone(), path.to_owned()));
            }
            for near in [
                format!("not{host}"),
                format!("{host}.evil.test"),
                format!("x.{host}"),
            ] {
                places.insert((near, "/api/auth.test".to_owned()));
            }
        }
    }
    places
}

fn load(text: &str) -> PolicySet {
    let loaded = load_texts(&[text], None);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .policies
}

fn catalogs(name: &str) -> Arc<Target> {
    let all = load_texts(&[], None).unwrap().policies;
    let found = all
        .targets()
        .iter()
        .find(|target| target.name.name() == name);
    Arc::clone(found.unwrap())
}

/// The same with one policy that permits only this place.
fn naming(set: &PolicySet, (host, path): &Place) -> PolicySet {
    let policy = Policy {
        allow: vec![Rule {
            hosts: vec![HostPattern::parse(host).unwrap()],
            methods: Vec::new(),
            paths: PathPatterns::parse(&[path], false).unwrap(),
        }],
        ..Policy::clone(&set.policies()[0])
    };
    PolicySet::compile(Resources {
        workloads: set.workloads().to_vec(),
        targets: set.targets().to_vec(),
        credentials: set.credentials().to_vec(),
        policies: vec![Arc::new(policy)],
        revision: String::new(),
    })
}

/// The credential that a request carries, if it is permitted.
fn carried(set: &PolicySet, (host, path): &Place) -> Option<String> {
    let host = Host::parse(host).unwrap();
    let path = CanonicalPath::check(&path.parse::<PathAndQuery>().unwrap()).unwrap();
    let caller = CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some("app".into()),
        ..CallerFacts::default()
    };
    let request = RequestFacts {
        host: &host,
        port: 443,
        method: &Method::POST,
        path: &path,
    };
    let who = set.recognise(&caller);
    match set.decide(&who, &caller, &request, now()) {
        Decision::Permit(grant) => grant
            .credential
            .map(|(_, credential)| credential.name.to_string()),
        Decision::Deny(_) | Decision::Unmatched => None,
    }
}

#[rstest]
fn t75_a_credential_goes_only_to_the_place_that_policy_names(
    #[values("slack", "slack-gov", "qase")] name: &str,
) {
    let catalogs = catalogs(name);
    let host = catalogs.hosts[0].to_string();
    let path = match name {
        "qase" => "/v1/project",
        _ => "/api/auth.test",
    };
    let all = load(&policy(&catalogs, &(host, path.to_owned()), ""));
    let target = Arc::clone(&all.policies()[0].target);
    let places = places(&all);
    let mut carrying = 0;
    for named in &places {
        let set = naming(&all, named);
        for asked in &places {
            let carried = carried(&set, asked);
            assert!(
                carried.is_none() || asked == named,
                "policy names {named:?}, and {asked:?} carries {carried:?}"
            );
            carrying += usize::from(carried.is_some());
        }
        // The gateway itself may send requests only where a pod could.
        for slot in &target.slots.names {
            let name = ResourceName::namespaced("qa", slot);
            if let Some((host, port)) = set.probe_place(&name, now()) {
                let probe = target.probe.as_ref().unwrap();
                let (host, path) = (host.to_string(), probe.path.as_str());
                assert_eq!((&*host, path, port), (&*named.0, &*named.1, 443));
                assert_eq!(*slot, probe.slot);
            }
        }
    }
    assert!(carrying > 3, "{name}: {carrying}");
}

#[test]
fn every_target_of_the_catalog_is_among_these() {
    let all = load_texts(&[], None).unwrap().policies;
    let mut names: Vec<_> = all.targets().iter().map(|t| t.name.to_string()).collect();
    names.sort();
    let mut tested = NAMES.map(str::to_owned);
    tested.sort();
    assert_eq!(names, tested);
}

/// A policy that does not permit the probe now, for whatever reason, permits no probe.
#[rstest]
#[case::permitted("/api/auth.test", "", true)]
#[case::other_path("/api/chat.postMessage", "", false)]
#[case::other_method("/api/auth.test", "      methods: [GET]\n", false)]
#[case::over(
    "/api/auth.test",
    "  conditions: { notAfter: 2026-11-23T05:10:00Z }\n",
    false
)]
#[case::not_over(
    "/api/auth.test",
    "  conditions: { notAfter: 2026-11-23T05:10:01Z }\n",
    true
)]
#[case::not_open(
    "/api/auth.test",
    "  conditions: { schedule: { cron: \"0 12 * * *\", duration: 1h, timeZone: UTC } }\n",
    false
)]
#[case::of_a_caller("/api/auth.test", "  conditions: { when: \"true\" }\n", false)]
fn t75_a_probe_goes_where_policy_permits_it_now(
    #[case] path: &str,
    #[case] further: &str,
    #[case] goes: bool,
) {
    let named = ("slack.com".to_owned(), path.to_owned());
    let mut text = policy(&catalogs("slack"), &named, "");
    if further.trim_start().starts_with("methods") {
        text = text.replace("- { hosts", "- { methods: [GET], hosts");
    } else {
        text.push_str(further);
    }
    let set = load(&text);
    let place = |slot| set.probe_place(&ResourceName::namespaced("qa", slot), now());
    assert_eq!(place("bot").is_some(), goes);
    for slot in ["user", "app", "webhook"] {
        assert_eq!(place(slot), None);
    }
}
