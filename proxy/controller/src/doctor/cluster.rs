//! The API server, and the clocks: a token of a node whose clock is ahead is refused.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    api::{Answer, Api, Resource, Unread},
    report::Finding,
};

/// The first Kubernetes that runs a preStop hook which sleeps, and native sidecars, by default.
const OLDEST: u64 = 30;

/// A clock that is this far off should be looked at.
const NOTICE: SignedDuration = SignedDuration::from_secs(5);
/// What a gateway forgives a token whose time lies ahead.
const FORGIVEN: SignedDuration = SignedDuration::from_mins(1);
/// A kubelet renews its lease every ten seconds; one that waited for the API server is late, not behind.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// The most nodes that are named.
const NAMED: usize = 5;

const NODES: Resource = Resource::new("", "v1", "nodes");
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");

/// What the API server says of itself.
pub(super) fn version(answer: &Answer) -> Finding {
    let version = answer.body["gitVersion"].as_str().unwrap_or("unknown");
    let minor = answer.body["minor"].as_str().unwrap_or_default();
    // Some providers write `30+`.
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let minor: u64 = minor.parse().unwrap_or(u64::MAX);
    if answer.body["major"] == "1" && minor < OLDEST {
        return Finding::failed(
            "kubernetes_version",
            format!("this is Kubernetes {version}, and 1.{OLDEST} is needed"),
            "upgrade the cluster: older ones stop gateways and relays too early",
        );
    }
    Finding::fine(
        "kubernetes_version",
        format!("Kubernetes {version} answers"),
    )
}

/// This machine's clock.
pub(super) fn own_clock(server: Timestamp, now: Timestamp) -> Finding {
    let off = now.duration_since(server);
    if off.abs() < NOTICE {
        return Finding::fine("clock", "this machine's clock agrees with the API server's");
    }
    let seconds = off.as_secs().abs();
    let direction = if off.is_positive() {
        "ahead of"
    } else {
        "behind"
    };
    Finding::warning(
        "clock",
        format!("this machine's clock is {seconds} s {direction} the API server's"),
        "synchronise the clock; the ages of certificates in this report are by the API server's",
    )
}

/// The nodes' clocks, by the leases that their kubelets renew.
pub(super) async fn node_clocks(api: &Api, server: Timestamp) -> Vec<Finding> {
    let leases = api.list(LEASES, "kube-node-lease", "").await;
    let nodes = api.list(NODES, "", "").await;
    let (leases, nodes) = match (leases, nodes) {
        (Ok(leases), Ok(nodes)) => (leases, nodes),
        (Err(why), _) | (_, Err(why)) => return unread(&why),
    };
    let mut off: Vec<(&str, SignedDuration)> = Vec::new();
    let mut checked = 0;
    for node in nodes.iter().filter(|node| is_ready(node)) {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let lease = leases
            .iter()
            .find(|lease| lease["metadata"]["name"] == name);
        let renewed = lease.and_then(|lease| lease["spec"]["renewTime"].as_str());
        let Some(renewed) = renewed.and_then(|time| time.parse::<Timestamp>().ok()) else {
            continue;
        };
        checked += 1;
        let ahead = renewed.duration_since(server);
        if ahead >= NOTICE || ahead <= -LATE {
            off.push((name, ahead));
        }
    }
    if off.is_empty() {
        let text = match checked {
            0 => return Vec::new(),
            1 => "the clock of the ready node is right".to_owned(),
            more => format!("the clocks of all {more} ready nodes are right"),
        };
        return vec![Finding::fine("node_clock", text)];
    }
    off.sort_by_key(|(_, ahead)| std::cmp::Reverse(ahead.abs()));
    off.iter()
        .take(NAMED)
        .map(|(name, ahead)| node_off(name, *ahead))
        .collect()
}

fn node_off(name: &str, ahead: SignedDuration) -> Finding {
    let seconds = ahead.as_secs().abs();
    let remedy = format!("synchronise the clock of {name}: chronyc tracking, timedatectl");
    if ahead.is_negative() {
        return Finding::warning(
            "node_clock",
            format!(
                "the node {name} is {seconds} s behind, or its kubelet does not renew its lease"
            ),
            remedy,
        );
    }
    let text = format!("the clock of the node {name} is {seconds} s ahead");
    if ahead < FORGIVEN {
        return Finding::warning("node_clock", text, remedy);
    }
    Finding::failed(
        "node_clock",
        format!(
            "{text}: what runs there takes certificates and tokens for expired too early, and a gateway there does so with everybody's"
        ),
        remedy,
    )
}

fn unread(why: &Unread) -> Vec<Finding> {
    vec![Finding::unknown("node_clock", "the nodes' clocks", why)]
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
}
