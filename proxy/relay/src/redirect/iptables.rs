//! The same rules as input for `iptables-restore --noflush` and `ip6tables-restore --noflush`:
//! two chains of our own, and a jump to each.

use std::fmt::Write;

use super::{Family, QUIC, Redirection};

const REDIRECT: &str = "COUNTERSIGN_REDIRECT";
const REJECT: &str = "COUNTERSIGN_REJECT";

/// Which of our rules are applied; adding a jump again would duplicate the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Present {
    redirect: Chain,
    reject: Chain,
}

/// The state of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Chain {
    declared: bool,
    jumped_to: bool,
}

impl Present {
    /// Parses the output of `iptables-save`.
    pub fn read(saved: &str) -> Self {
        Self {
            redirect: Chain::read(saved, REDIRECT),
            reject: Chain::read(saved, REJECT),
        }
    }
}

impl Chain {
    fn read(saved: &str, name: &str) -> Self {
        let declaration = format!(":{name} ");
        let end = format!("-j {name}");
        let is_jump =
            |line: &str| line.starts_with("-A OUTPUT ") && line.trim_end().ends_with(&end);
        Self {
            declared: saved.lines().any(|line| line.starts_with(&declaration)),
            jumped_to: saved.lines().any(is_jump),
        }
    }
}

/// The rules of one family. A declared chain is emptied first, so only the jumps depend on the present
/// state.
pub fn rules(redirection: &Redirection, family: Family, present: Present) -> String {
    let mut text = String::from("*nat\n");
    declare(&mut text, REDIRECT);
    exclusions(&mut text, REDIRECT, redirection, family);
    for port in &redirection.exclude_ports {
        rule(
            &mut text,
            REDIRECT,
            &format!("-p tcp -m tcp --dport {port} -j RETURN"),
        );
    }
    let to = format!("-j REDIRECT --to-ports {}", redirection.port);
    if redirection.only_ports.is_empty() {
        rule(&mut text, REDIRECT, &format!("-p tcp {to}"));
    }
    for port in &redirection.only_ports {
        rule(
            &mut text,
            REDIRECT,
            &format!("-p tcp -m tcp --dport {port} {to}"),
        );
    }
    if !present.redirect.jumped_to {
        push(&mut text, &format!("-I OUTPUT 1 {}", jump_redirect()));
    }
    text.push_str("COMMIT\n*filter\n");
    declare(&mut text, REJECT);
    if redirection.rejects_quic() {
        exclusions(&mut text, REJECT, redirection, family);
        let kind = match family {
            Family::V4 => "icmp-port-unreachable",
            Family::V6 => "icmp6-port-unreachable",
        };
        let reject = format!("-p udp -m udp --dport {QUIC} -j REJECT --reject-with {kind}");
        rule(&mut text, REJECT, &reject);
    }
    if !present.reject.jumped_to {
        push(&mut text, &format!("-I OUTPUT 1 {}", jump_reject()));
    }
    text.push_str("COMMIT\n");
    text
}

/// Removes those of our rules that are present.
pub fn removal(present: Present) -> String {
    let mut text = String::new();
    let tables = [
        ("nat", REDIRECT, jump_redirect(), present.redirect),
        ("filter", REJECT, jump_reject(), present.reject),
    ];
    for (table, chain, jump, present) in tables {
        push(&mut text, &format!("*{table}"));
        if present.jumped_to {
            push(&mut text, &format!("-D OUTPUT {jump}"));
        }
        if present.declared {
            push(&mut text, &format!("-F {chain}"));
            push(&mut text, &format!("-X {chain}"));
        }
        push(&mut text, "COMMIT");
    }
    text
}

fn jump_redirect() -> String {
    format!("-p tcp -j {REDIRECT}")
}

fn jump_reject() -> String {
    format!("-p udp -m udp --dport {QUIC} -j {REJECT}")
}

/// The relay itself, the pod's own loopback, and what was excluded.
fn exclusions(text: &mut String, chain: &str, redirection: &Redirection, family: Family) {
    let Redirection { uid, gid, .. } = redirection;
    rule(
        text,
        chain,
        &format!("-m owner --uid-owner {uid} --gid-owner {gid} -j RETURN"),
    );
    rule(text, chain, "-o lo -j RETURN");
    for network in redirection.networks(family) {
        rule(text, chain, &format!("-d {network} -j RETURN"));
    }
}

fn declare(text: &mut String, chain: &str) {
    push(text, &format!(":{chain} - [0:0]"));
}

fn rule(text: &mut String, chain: &str, rule: &str) {
    push(text, &format!("-A {chain} {rule}"));
}

fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}
