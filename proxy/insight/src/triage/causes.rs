//! What each reason means to the person whose job failed: whose side it is on, and the one thing to do.
//!
//! A reason's own blame is the gateway's view, and its remedy is for whoever runs it. These are for the caller.

use serde::{Deserialize, Serialize};

/// On whose side the cause is, in the caller's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The program that calls.
    Code,
    /// What the workload may do, or how its pod is set up to prove itself.
    Access,
    /// The credential that is attached.
    Credential,
    /// The API that was called.
    Api,
    /// The way to the API.
    Network,
    /// The gateway.
    Gateway,
}

impl Blame {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Code => "your code",
            Self::Access => "your access",
            Self::Credential => "the credential",
            Self::Api => "the API",
            Self::Network => "the network",
            Self::Gateway => "the gateway",
        }
    }
}

/// What requests with this reason have in common, so that they count as one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One workload at one target.
    Access,
    /// One workload and one kind of request.
    Request,
    /// The credential, whoever uses it.
    Credential,
    /// The API, whoever calls it.
    Api,
    /// What the gateway says of the proof, whoever showed it.
    Proof,
    /// The gateway, whoever calls.
    Gateway,
}

/// What a reason means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) reason: &'static str,
    pub(super) label: &'static str,
    pub(super) scope: Scope,
    pub(super) blame: Blame,
    /// After "qa/nightly": what it does or lacks.
    pub(super) says: &'static str,
    pub(super) action: &'static str,
    pub(super) ask: Ask,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The workload's owner.
    Owner,
    /// Whoever writes the resources.
    Operator,
    /// Whoever runs the gateway.
    Platform,
    /// The API's own support or status page.
    Api,
}

impl Blame {
    /// Whether the caller's access or its credential is at fault.
    pub fn is_access(self) -> bool {
        matches!(self, Self::Access | Self::Credential)
    }
}

impl Ask {
    /// Who that is, if the records do not name anybody.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Owner => "the workload's owner",
            Self::Operator => "whoever keeps its policies and credentials",
            Self::Platform => "whoever runs the gateway",
            Self::Api => "the API's support",
        }
    }
}

/// What a reason of a later version means.
pub(super) const UNKNOWN: Meaning = Meaning {
    reason: "",
    label: "OTHER",
    scope: Scope::Access,
    blame: Blame::Gateway,
    says: "got a reason that this version does not know",
    action: "use the `countersign` of the gateway's version",
    ask: Ask::Platform,
};

/// What it means when the API answers a permitted request with an error of its own.
pub(super) const API_SAID_NO: Meaning = Meaning {
    reason: "permitted",
    label: "API-ERROR",
    scope: Scope::Request,
    blame: Blame::Code,
    says: "got an error of the API itself",
    action: "look the error up in the API's documentation; identity, policy and credential are fine",
    ask: Ask::Owner,
};

/// What a reason means.
pub(super) fn of(reason: &str) -> &'static Meaning {
    let found = MEANINGS.iter().find(|meaning| meaning.reason == reason);
    found.unwrap_or(&UNKNOWN)
}

/// Whether a reason has a meaning here; for the test that all have.
pub fn is_known(reason: &str) -> bool {
    !of(reason).reason.is_empty()
}

macro_rules! meanings {
    ($( $label:literal $scope:ident $blame:ident $ask:ident { $( $reason:literal: $says:literal, $action:literal; )+ } )+) => {
        const MEANINGS: &[Meaning] = &[ $( $( Meaning {
            reason: $reason, label: $label, scope: Scope::$scope, blame: Blame::$blame,
            says: $says, action: $action, ask: Ask::$ask,
        }, )+ )+ ];
    };
}

meanings! {
    "IDENTITY" Proof Access Owner {
        "identity_missing": "shows no proof of identity", "give the pod a projected token for this gateway, in its proxy URL or through the relay";
        "identity_malformed": "shows a proof that cannot be read", "send one Proxy-Authorization header with the pod's token";
        "identity_invalid": "shows a proof that is not its issuer's", "compare the issuer's keys with the detail; the pod may run in another cluster";
        "identity_too_long_lived": "shows a token that lives too long", "project the token with a shorter expirationSeconds; a token from a Secret never qualifies";
        "identity_key_withdrawn": "shows a token of a withdrawn key", "let the pod read its renewed token; if all pods get this, put the key back into the issuer's set";
        "identity_throttled": "is slowed down after bad proofs", "find what sends bad tokens from its address";
        "identity_chain": "shows too large a certificate chain", "send only the leaf and its intermediates";
        "identity_mismatch": "shows a token and a certificate of different workloads", "send one of the two, or correct the certificate's SPIFFE ID";
        "identity_audience": "shows a token for another audience", "project a token with the audience of this gateway, and use that file";
        "identity_revoked": "shows a token that the cluster no longer accepts", "restart the pod; its service account or the pod itself was replaced";
        "caller_token_missing": "shows no token that could be exchanged", "send the projected token too; a certificate alone cannot be exchanged";
    }
    "IDENTITY" Proof Access Operator {
        "identity_issuer_unknown": "comes from an issuer that is not configured", "add the cluster to identity.issuers, or the trust domain to identity.trustDomains";
    }
    "IDENTITY" Proof Code Owner {
        "identity_expired": "shows a proof that has expired", "read the token's file again for every connection; the kubelet replaces it";
    }
    "CLOCK" Proof Gateway Platform {
        "identity_not_yet_valid": "shows a proof that is not valid yet by the gateway's clock", "set the clock of the gateway's node (NTP)";
    }
    "IDENTITY" Gateway Gateway Platform {
        "identity_keys_unavailable": "cannot be identified: the issuer's keys are not available", "make the issuer's keys reachable for the gateway (see detail)";
        "identity_pod_unknown": "cannot be identified: its pod is not known yet", "see the detail: the watch of pods, the API server, or a role that does not grant to list and watch pods";
        "identity_pod_changed": "had a connection that was closed when its pod's labels or images changed", "nothing: a new connection is decided by what the pod is now";
        "identity_review_unavailable": "cannot be identified: the API server cannot be asked", "make the cluster's API server reachable for the gateway (see detail)";
    }
    "POLICY" Access Access Operator {
        "workload_unknown": "matches no Workload", "write a Workload whose selectors match the caller";
        "target_not_granted": "has no policy for this service", "write an AccessPolicy for this workload and target";
        "request_not_allowed": "may not make this request", "extend the closest rule";
        "policy_expired": "had access that has expired", "review the access, then move conditions.notAfter";
        "condition_false": "does not meet a condition of its access", "compare the request with conditions.when";
        "condition_error": "has a condition that cannot be evaluated", "make conditions.when robust: guard optional keys with has()";
        "path_denied": "calls a path that is closed to workloads", "a person should call it, not a workload";
        "no_route": "calls a path that the service's TargetService does not know", "correct the path, or add a route to the TargetService";
        "slot_not_granted": "has no credential for this kind of request", "add the slot under the policy's credentials";
        "host_unmatched": "calls a host that no target has", "write a TargetService and an AccessPolicy for the host";
        "access_changed": "had a connection that was closed when its access changed", "nothing, if the change was meant: a new connection works";
        "protocol_unknown": "speaks a protocol that is not carried", "exclude the port from the redirection rules";
        "loop_refused": "has its connection sent back to the gateway", "exclude the gateway's own user from the redirection rules";
        "upstream_address": "calls an address that is not allowed", "if a private address is meant, add its range to upstream.allowAddresses";
    }
    "WINDOW" Access Access Operator {
        "outside_schedule": "calls outside of its window", "run the job within the window, or move conditions.schedule";
    }
    "CODE" Access Code Owner {
        "governed_elsewhere": "calls a governed host at another port or address", "call the service by its name and usual port";
        "tunnel_only": "sends a request where only a tunnel is carried", "use CONNECT, as for https:// URLs";
        "tunnel_unreadable": "sends something in a tunnel that cannot be read", "use TLS or HTTP/1.1 in tunnels";
        "authority_mismatch": "names another host than its connection", "use one connection for one host";
        "authority_invalid": "calls an invalid host", "correct the URL";
        "plaintext_refused": "calls over http://", "use https://";
        "path_not_canonical": "sends a path that is not canonical", "send the path without dot segments, empty segments and needless escapes";
        "request_malformed": "sends invalid HTTP", "see the detail; update the HTTP client";
        "head_too_large": "sends too large a head", "send fewer or smaller headers";
        "head_timeout": "does not finish its request's head", "look for what stalls the client";
        "method_refused": "uses a method that is never forwarded", "use another method";
        "method_override": "overrides the method in a header or field", "use the method itself";
        "path_override": "overrides the path in a header", "call the path itself";
        "header_alias": "sends a header that looks like the credential's", "remove the header that the detail names";
        "form_unreadable": "sends a form that cannot be checked", "send it urlencoded, uncompressed and smaller, or as JSON";
        "form_credential": "sends a credential in a form", "remove the field that the detail names";
        "early_data": "sends data before its tunnel is open", "wait for the response to CONNECT";
        "rate_limited": "calls more often than its policy allows", "slow it down, or raise conditions.rate";
        "share_exceeded": "holds its share of the gateway's connections", "close connections that are not needed";
        "upstream_share_exceeded": "holds its share of connections to the service", "finish requests before beginning more";
        "memory_share": "holds most of the gateway's memory", "send less at a time";
        "client_gone": "left before the response had ended", "look at its timeouts; nothing refused it";
        "body_stalled": "stopped sending or reading a body", "see bytes and detail for the side that stalled";
    }
    "TRUST" Access Access Owner {
        "client_tls": "does not complete TLS with the gateway", "mount the gateway's CA bundle in the pod and set its CA variable";
        "own_certificate": "does not accept the gateway's certificate", "mount the gateway's CA bundle in the pod and set its CA variable; if the detail says that the certificate itself is bad, replace it";
    }
    "CREDENTIAL" Credential Credential Operator {
        "credential_missing": "is not where its Credential says", "put the secret where the Credential says";
        "credential_refused": "is not issued", "compare the Credential with what is registered at its issuer (see detail)";
        "credential_dead": "is no longer valid and cannot be renewed", "reinstall the app and put its new refresh token where the Credential says";
        "credential_state_unusable": "has a state that cannot be used", "repair the state store as the detail says";
        "credential_unsupported": "needs something that the gateway is not configured for", "add to the Gateway resource what the detail names";
        "credential_unusable": "has characters that do not fit its place", "compare the secret's form with the Credential (see detail)";
        "credential_rejected": "is rejected by the API", "put a working secret where the Credential says; no restart is needed";
    }
    "CREDENTIAL" Credential Credential Platform {
        "credential_source_unavailable": "cannot be fetched: its source is not reached", "make the secret store reachable (see detail)";
    }
    "SCOPE" Credential Access Operator {
        "credential_insufficient": "lacks a right", "add the scope at the service and reinstall the app; policy is fine";
    }
    "GATEWAY" Credential Gateway Platform {
        "credential_unseen": "was sent and not seen by the API", "compare the TargetService's attach with what the service expects";
    }
    "RATE" Credential Code Owner {
        "upstream_rate_limited": "is over the API's rate limit", "slow down whoever sends most, or give it a credential of its own";
        "api_rate_limited": "is over the API's rate limit", "slow down whoever sends most, or give it a credential of its own";
    }
    "API" Api Api Api {
        "upstream_error": "answers with errors of its own", "see the API's status page; nothing here needs a change";
        "upstream_timeout": "does not answer in time", "see the API's status page";
        "upstream_broken": "breaks connections off", "see the API's status page";
        "upstream_not_taken": "turns requests away without acting on them", "see the API's status page";
        "upstream_chain": "sends too large a certificate chain", "tell the API's operators";
        "upstream_connect": "cannot be connected to", "see the API's status page, then the egress rules of the gateway";
        "upstream_resolve": "has a name without an address", "compare the host with the API's documentation";
    }
    "NETWORK" Api Network Platform {
        "upstream_certificate": "shows a certificate that is not valid", "find what intercepts the connection, or add its CA to upstream.roots";
        "resolver_unavailable": "cannot be resolved: the name servers do not answer", "make the gateway's name servers reachable (port 53)";
        "network_unreachable": "is not reachable from the gateway's machine", "see routes and egress rules of the gateway's machine";
        "upstream_proxy_refused": "is refused by the corporate proxy", "ask the proxy's operators to allow the service";
        "upstream_proxy_unreachable": "is behind a corporate proxy that is not reached", "check the proxy in upstream.proxy";
        "upstream_proxy_certificate": "is behind a corporate proxy with an unknown certificate", "put its CA into upstream.proxyRoots";
        "upstream_proxy_authentication": "is behind a corporate proxy that wants authentication", "correct upstream.proxyAuthentication";
        "upstream_proxy_failed": "is not reached by the corporate proxy", "see the API's status page, then ask the proxy's operators";
    }
    "GATEWAY" Gateway Gateway Platform {
        "response_too_large": "refuses a response that exceeds a bound", "raise the limit that the detail names";
        "overloaded": "has too many connections open", "raise the limit that the detail names, or add replicas";
        "memory_short": "has no free memory", "raise limits.memory together with the container's memory, or add replicas";
        "interception_unavailable": "has no certificate yet to intercept with", "see certificates_waiting in /readyz: the controller signs what the gateway asks for";
        "records_full": "can record nothing, and forwards nothing that it cannot record", "make the sink that /readyz names take records again";
        "draining": "was shutting down", "nothing: clients try again at another replica";
        "internal": "failed", "report it with the record";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_one_meaning() {
        let reasons: HashSet<_> = MEANINGS.iter().map(|meaning| meaning.reason).collect();
        assert_eq!(reasons.len(), MEANINGS.len());
        assert!(!is_known("reason_of_tomorrow"));
    }
}
