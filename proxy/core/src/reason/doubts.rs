//! What else can cause a reason's symptom, so that nobody is blamed in haste.

use super::Reason;

/// What else can cause what a reason reports.
#[derive(Debug, Clone, Copy)]
pub struct OtherCauses {
    /// The other causes, or that there are none.
    pub what: &'static str,
    /// How they are told apart; empty if there are none.
    pub told_apart: &'static str,
}

macro_rules! doubts {
    ($( $name:ident: $what:literal, $told_apart:literal; )+) => {
        impl Reason {
            /// What else can cause it, for a reason that blames the caller or the upstream. A reason that blames the
            /// operator, the platform or the gateway is meant so: caller and API can do nothing about it.
            pub const fn other_causes(self) -> Option<OtherCauses> {
                match self {
                    $( Self::$name => Some(OtherCauses { what: $what, told_apart: $told_apart }), )+
                    _ => None,
                }
            }
        }
    };
}

doubts! {
    IdentityMissing: "the relay or the pod's proxy URL lacks the token; something in between removes `Proxy-Authorization`",
        "not told apart. Compare with other pods in the same namespace";
    IdentityMalformed: "something in between changes the header",
        "not told apart";
    IdentityInvalid: "the configured keys are not the issuer's",
        "keys that cannot be fetched, or are in the set in a form that cannot be used (P-521, for ES512, too), are `identity_keys_unavailable` (platform), another `iss` is `identity_issuer_unknown` (operator). The detail says whether signature, key or claims are wrong, and names the key";
    IdentityTooLongLived: "`maxTokenLife` is too short",
        "the detail has both durations";
    IdentityKeyWithdrawn: "keys were removed from the issuer's set by mistake",
        "then all callers of the issuer get it";
    IdentityThrottled: "another client behind the same address sends bad tokens",
        "callers that are already known are not throttled; the others' records say `identity_invalid`";
    IdentityChain: "none; the bounds are fixed and in the remedy",
        "";
    IdentityMismatch: "the SVID is issued for the wrong service account",
        "the detail names both";
    IdentityAudience: "the gateway's `audience` was changed",
        "the detail names both audiences, and how they differ if it is hard to see";
    IdentityExpired: "the gateway's clock is ahead; the kubelet does not renew the file",
        "the detail has the expiry and the gateway's time. If the clock is wrong, many callers get it at once. A clock that is behind is `identity_not_yet_valid` (platform)";
    IdentityRevoked: "the API server is another cluster's, or has lost the pod",
        "the detail has what the API server says, or that the pod has ended. An API server that fails is `identity_review_unavailable` (platform), a pod of which nothing is known `identity_pod_unknown` (platform)";
    RateLimited: "`conditions.rate` is too low",
        "the detail has the rate";
    TunnelOnly: "`intercept: false` was set on the target",
        "the remedy names it";
    TunnelUnreadable: "none",
        "the detail says what came";
    AuthorityMismatch: "none: certificates are for one host each, so clients have no reason to share connections",
        "the detail names the connection's host";
    AuthorityInvalid: "none",
        "the detail has what is wrong with the host";
    PlaintextRefused: "the API redirected to `http://`",
        "the record before it has `upstream.status` 3xx";
    PathNotCanonical: "the API itself gives out such paths; its ids contain slashes and the target does not say `encodedSlash: keep`",
        "the detail has the rule that is broken, and names the setting";
    RequestMalformed: "something between caller and gateway changes the request",
        "not told apart. What the gateway itself cannot send on is `internal` (gateway). Over HTTP/2 the cause is one of those in the detail";
    HeadTooLarge: "`limits.headBytes` is too small; more than 100 headers over HTTP/1.1",
        "the detail names both bounds";
    HeadTimeout: "the gateway has no CPU",
        "then `countersign_overhead_seconds` grows. A client that does not answer pings is `client_gone`";
    MethodRefused: "none",
        "";
    MethodOverride: "a framework adds the header",
        "the detail names it";
    PathOverride: "a proxy in front adds the header",
        "the detail names it";
    HeaderAlias: "a proxy in front adds the header",
        "the detail names it";
    FormUnreadable: "`limits.formBytes` is too small; a multipart form of a client that writes it in an unusual way",
        "the detail says whether it is its size, or what has more than one reading";
    FormCredential: "the target strips a field that this API does not take for a credential",
        "the detail has the field and the part; the strip is in the TargetService";
    EarlyData: "none",
        "";
    ClientTls: "the gateway has no CPU",
        "the detail has the alert, or the time limit. A client that says that it does not accept the gateway's certificate, or leaves while that is not valid, is `own_certificate` (operator)";
    CallerTokenMissing: "the credential should not be `tokenExchange`",
        "the remedy names it";
    UpstreamRateLimited: "another workload uses up the credential",
        "the detail names the workloads that share it, and their owners";
    ApiRateLimited: "another workload uses up the credential; the API limits the address or everybody",
        "the detail names the workloads that share it; if there is no other, it is the caller or the API";
    ShareExceeded: "`limits.connections` is too small",
        "`countersign_client_connections` shows how many are open";
    UpstreamShareExceeded: "the upstream is slow, so that connections stay busy",
        "`timing_us.first_byte` of the caller's other records. If all connections are busy it is `overloaded` (gateway)";
    MemoryShare: "`limits.memory` is too small",
        "`countersign_memory_held_bytes`. If others hold it, it is `memory_short` (gateway)";
    ClientGone: "a load balancer or node cuts the connection; over HTTP/2, a body that does not fit its Content-Length",
        "a connection that the gateway closes has a reason of its own: `draining`, `memory_short`, `memory_share`, `share_exceeded`, `body_stalled`, `access_changed`; one that the upstream broke is `upstream_broken`";
    BodyStalled: "the upstream does not read",
        "then it is `upstream_broken`, with \"stood still\" in the detail";
    UpstreamError: "a load balancer or proxy in front of the API; the request itself",
        "`upstream.api_error` is the API's own code, and null for a page of something in front. If only some requests get it, they may cause it";
    UpstreamResolve: "the host in the TargetService is wrong; the name servers have a view of their own",
        "name servers that fail or do not answer are `resolver_unavailable` (platform)";
    UpstreamConnect: "a firewall on the way rejects",
        "what this machine does not let out is `network_unreachable` (platform); sockets or ports that are used up are `overloaded` (gateway). A firewall that rejects on the way is not told apart";
    UpstreamProxyFailed: "the corporate proxy itself is overloaded or broken: it answers 5xx, too",
        "not told apart by status; the detail has its words. That it cannot be reached is `upstream_proxy_unreachable` (platform), a refusal `upstream_proxy_refused` (platform), its certificate and authentication are the operator's";
    UpstreamTimeout: "a firewall on the way drops packets; `limits.connectTimeout` or `limits.responseTimeout` is too short",
        "the detail says whether a connection stood, and names the limit. Name servers that are slow are `resolver_unavailable` (platform), the gateway's own full pool is `overloaded` (gateway)";
    UpstreamCertificate: "a proxy intercepts TLS; a root is missing in `upstream.roots`; the gateway's clock is wrong",
        "the detail says which of issuer, name and time does not fit, and by how much";
    UpstreamChain: "none; the bounds are fixed and in the remedy",
        "";
    UpstreamBroken: "a proxy on the way cuts the connection; `limits.bodyIdleTimeout` is too short; over HTTP/2, a head between 4 and 16 times `limits.headBytes` that is short on the wire, since its fields are repeated",
        "a bound of the gateway's is `response_too_large` (gateway), a client that leaves is `client_gone`. The detail has the limit";
    UpstreamNotTaken: "`limits.replayBytes` is too small to send the request again",
        "the detail says why it was not sent again";
}
