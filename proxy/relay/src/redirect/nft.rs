//! The rules for nftables: one table of our own, replaced as a whole.

use std::fmt::Write;

use super::{Family, QUIC, Redirection};

/// Removes our table, whether it exists or not: `delete` alone fails if it does not.
pub const REMOVE: &str = "table inet countersign\ndelete table inet countersign\n";

/// The chain that redirects. Its name is as old as the rules: scripts look for it.
const CHAIN: &str = "steer";

/// The ruleset, for `nft -f`. Loading it again gives the same rules.
pub fn ruleset(redirection: &Redirection) -> String {
    let mut text = String::from(REMOVE);
    text.push_str("table inet countersign {\n");
    chain(&mut text, CHAIN, "nat hook output priority -100", |text| {
        exclusions(text, redirection);
        if !redirection.exclude_ports.is_empty() {
            line(
                text,
                &format!("tcp dport {} return", set(&redirection.exclude_ports)),
            );
        }
        let only = if redirection.only_ports.is_empty() {
            "meta l4proto tcp".to_owned()
        } else {
            format!("tcp dport {}", set(&redirection.only_ports))
        };
        line(text, &format!("{only} redirect to :{}", redirection.port));
    });
    if redirection.rejects_quic() {
        chain(
            &mut text,
            "reject_quic",
            "filter hook output priority 0",
            |text| {
                exclusions(text, redirection);
                let rule = format!("udp dport {QUIC} reject with icmpx type port-unreachable");
                line(text, &rule);
            },
        );
    }
    text.push_str("}\n");
    text
}

fn chain(text: &mut String, name: &str, hook: &str, rules: impl FnOnce(&mut String)) {
    writeln!(text, "\tchain {name} {{").expect("writing to a String cannot fail");
    line(text, &format!("type {hook}; policy accept;"));
    rules(text);
    text.push_str("\t}\n");
}

/// The relay itself, the pod's own loopback, and what was excluded.
fn exclusions(text: &mut String, redirection: &Redirection) {
    let Redirection { uid, gid, .. } = redirection;
    line(text, &format!("meta skuid {uid} meta skgid {gid} return"));
    line(text, "oifname \"lo\" return");
    for (family, keyword) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        for network in redirection.networks(family) {
            line(text, &format!("{keyword} daddr {network} return"));
        }
    }
}

fn line(text: &mut String, rule: &str) {
    writeln!(text, "\t\t{rule}").expect("writing to a String cannot fail");
}

fn set(ports: &std::collections::BTreeSet<u16>) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}
