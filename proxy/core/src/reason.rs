//! The one list of reasons.

/// Whose fault a refusal or failure is, so that whoever is paged knows whom to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The code that made the request, or the pod's set-up.
    Caller,
    /// The resources: a policy, a credential, the gateway's configuration.
    Operator,
    /// What the gateway leans on: an issuer, the API server, a secret store.
    Platform,
    /// The API that was called, or the network on the way to it.
    Upstream,
    /// The gateway itself.
    Gateway,
}

impl Blame {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Platform => "platform",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

/// Which of two languages a refusal inside a tunnel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The API's own, because sending the request again cannot help: SDKs give up at once.
    Api,
    /// HTTP's, because it is a fault of transport or a passing one: SDKs may try again.
    Http,
    /// HTTP's status with the API's own body: what an API says itself when it is asked too often.
    ApiBody,
}

/// All that is fixed about a reason.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its stable name, in records, metrics and answers.
    pub code: &'static str,
    /// The HTTP status, where the answer is not in the API's own language.
    pub status: u16,
    /// Whose fault it is.
    pub blame: Blame,
    /// The language it is told in.
    pub language: Language,
    /// One sentence for the caller; it gives away nothing about the policy.
    pub caller: &'static str,
    /// What the operator or the SRE can do.
    pub remedy: &'static str,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $blame:ident, $language:ident,
        caller: $caller:literal, remedy: $remedy:literal; )+) => {
        /// Why a request was refused, or failed on its way. Exhaustive: every room's error becomes one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// Every reason there is, for documents and dashboards.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// All that is fixed about it.
            pub const fn facts(self) -> &'static Facts {
                match self { $( Self::$name => &Facts {
                    code: $code, status: $status, blame: Blame::$blame, language: Language::$language,
                    caller: $caller, remedy: $remedy,
                }, )+ }
            }
        }
    };
}

reasons! {
    /// No proof of identity came with the request.
    IdentityMissing = "identity_missing", 407, Caller, Http,
        caller: "This proxy needs proof of who is calling: send a service-account token in Proxy-Authorization.",
        remedy: "Give the pod a projected token for this gateway's audience, in the proxy URL or through the relay.";
    /// `Proxy-Authorization` could not be understood.
    IdentityMalformed = "identity_malformed", 407, Caller, Http,
        caller: "The proof of identity could not be read.",
        remedy: "Send exactly one Proxy-Authorization header: `Bearer TOKEN`, or `Basic` with the token as password.";
    /// The proof's issuer or trust domain is none of the configured ones.
    IdentityIssuerUnknown = "identity_issuer_unknown", 407, Operator, Http,
        caller: "The issuer of the proof of identity is not trusted here.",
        remedy: "Add the cluster to identity.issuers (`issuer` must equal the token's `iss` exactly), or the trust domain to identity.trustDomains.";
    /// The signature, key or content of a token or certificate is wrong.
    IdentityInvalid = "identity_invalid", 407, Caller, Http,
        caller: "The proof of identity is not valid.",
        remedy: "Look at the detail: the signature, the key or the claims of the token are not those of its issuer, or the certificate is not an X.509-SVID of its trust domain.";
    /// The token was made for longer than the issuer's tokens may be.
    IdentityTooLongLived = "identity_too_long_lived", 407, Caller, Http,
        caller: "The token is good for too long: send one that is renewed more often.",
        remedy: "Project the token with an expirationSeconds of at most the issuer's identity.issuers[].maxTokenLife; a token from a Secret never qualifies.";
    /// Its issuer has withdrawn the key that the token was signed with.
    IdentityKeyWithdrawn = "identity_key_withdrawn", 407, Caller, Http,
        caller: "The proof of identity is signed with a key that is no longer its issuer's.",
        remedy: "Nothing, if the issuer's keys were changed on purpose: the pod reads its renewed token and connects again; else put the key back into the issuer's set.";
    /// Too many bad proofs came from this address.
    IdentityThrottled = "identity_throttled", 429, Caller, Http,
        caller: "Too many bad proofs of identity came from this address; see Retry-After.",
        remedy: "Find who sends bad tokens from the address in the record (identity_invalid); callers who are known already do not wait for theirs.";
    /// The certificate's chain is larger than any that is looked at.
    IdentityChain = "identity_chain", 407, Caller, Http,
        caller: "The client certificate came with too large a chain.",
        remedy: "Send the leaf and the intermediates between it and its trust domain's root, and nothing else: 6 certificates and 16 KiB at most.";
    /// Token and certificate are not of the same workload.
    IdentityMismatch = "identity_mismatch", 407, Caller, Http,
        caller: "The token and the client certificate do not name the same workload.",
        remedy: "Send one of the two, or let the certificate's SPIFFE ID end in /ns/NAMESPACE/sa/NAME of the token's service account.";
    /// The token is for someone else.
    IdentityAudience = "identity_audience", 407, Caller, Http,
        caller: "The token was issued for another audience.",
        remedy: "Project the token with the audience of this gateway's issuer (default: countersign).";
    /// The token or certificate has expired, or the connection has outlived its proof.
    IdentityExpired = "identity_expired", 407, Caller, Http,
        caller: "The proof of identity has expired.",
        remedy: "Read the projected token, or the certificate, afresh for every connection; it is renewed in place.";
    /// The token or certificate is not valid yet.
    IdentityNotYetValid = "identity_not_yet_valid", 407, Platform, Http,
        caller: "The proof of identity is not valid yet.",
        remedy: "Compare the clocks of the issuer and of this gateway.";
    /// The API server does not stand by the token any more.
    IdentityRevoked = "identity_revoked", 407, Caller, Http,
        caller: "The token is no longer valid.",
        remedy: "The pod or service account was deleted or recreated; a new pod brings a new token.";
    /// The issuer's keys, or the trust domain's bundle, cannot be had.
    IdentityKeysUnavailable = "identity_keys_unavailable", 503, Platform, Http,
        caller: "Identities cannot be checked at the moment.",
        remedy: "Make the issuer's JWKS, or the agent of the SPIFFE Workload API, reachable (see detail); nothing is wrong with the pod.";
    /// The API server cannot be asked.
    IdentityReviewUnavailable = "identity_review_unavailable", 503, Platform, Http,
        caller: "Identities cannot be checked at the moment.",
        remedy: "Make the API server's TokenReview reachable and permitted for the gateway (see detail).";
    /// The caller is proven, and no workload.
    WorkloadUnknown = "workload_unknown", 403, Operator, Api,
        caller: "This workload is not registered with the credential gateway.",
        remedy: "Write a Workload whose selectors match the caller, or correct the one that nearly does.";
    /// No policy grants this target.
    TargetNotGranted = "target_not_granted", 403, Operator, Api,
        caller: "This workload has no access to this service.",
        remedy: "Write an AccessPolicy for this workload and target.";
    /// A policy grants the target, but not this request.
    RequestNotAllowed = "request_not_allowed", 403, Operator, Api,
        caller: "This workload may not make this request.",
        remedy: "Extend the nearest rule if the request is wanted; else correct the code.";
    /// The request came outside of the policy's windows.
    OutsideSchedule = "outside_schedule", 403, Operator, Api,
        caller: "This request is not permitted at this time.",
        remedy: "Run the job within the window, or change conditions.schedule.";
    /// The policy's `notAfter` has passed.
    PolicyExpired = "policy_expired", 403, Operator, Api,
        caller: "The permission for this request has expired.",
        remedy: "Review the access, then move conditions.notAfter.";
    /// The policy's `when` was false.
    ConditionFalse = "condition_false", 403, Operator, Api,
        caller: "This request does not meet a condition of its permission.",
        remedy: "Compare the request with conditions.when.";
    /// The policy's `when` could not be evaluated.
    ConditionError = "condition_error", 403, Operator, Api,
        caller: "A condition of the permission could not be evaluated for this request.",
        remedy: "Make conditions.when robust: guard optional keys with has(), convert types.";
    /// The target denies this path to every workload.
    PathDenied = "path_denied", 403, Operator, Api,
        caller: "This path is closed to workloads.",
        remedy: "It hands out or ends credentials, so that a person should call it and not a workload; or it is \
                 no part of what the target is for.";
    /// The target has no route for the request.
    NoRoute = "no_route", 403, Operator, Api,
        caller: "The credential gateway knows no such path of this service.",
        remedy: "Add a route to the TargetService.";
    /// The policy fills the route's slot with no credential.
    SlotNotGranted = "slot_not_granted", 403, Operator, Api,
        caller: "This workload has no credential for this kind of request.",
        remedy: "Add the slot under the policy's credentials.";
    /// The policy's rate is used up.
    RateLimited = "rate_limited", 429, Caller, Http,
        caller: "This workload has made too many requests; see Retry-After.",
        remedy: "Slow the caller down, or raise conditions.rate.";
    /// What was open was permitted in a way that policy has replaced.
    AccessChanged = "access_changed", 403, Operator, Http,
        caller: "The permission for this connection has been replaced by another.",
        remedy: "Nothing, if the change was meant: a new connection is judged by what is in force now.";
    /// No target with a policy has this host.
    HostUnmatched = "host_unmatched", 403, Operator, Http,
        caller: "This host may not be reached through this proxy.",
        remedy: "Write a TargetService and an AccessPolicy for the host, or set unmatched: tunnel.";
    /// A governed host by another port or address than its target's.
    GovernedElsewhere = "governed_elsewhere", 403, Operator, Http,
        caller: "This service may not be reached in this way through this proxy.",
        remedy: "A governed host is never carried unread. Call it by its name and its usual port; if another port is meant, add it to the TargetService's `ports`.";
    /// A request, and no tunnel, to a host that is not decrypted.
    TunnelOnly = "tunnel_only", 403, Caller, Http,
        caller: "This service may only be reached through a tunnel.",
        remedy: "Let the client use CONNECT, as it does for https:// URLs; or let the TargetService be decrypted.";
    /// Which hosts a tunnel is for cannot be told.
    TunnelUnreadable = "tunnel_unreadable", 403, Caller, Http,
        caller: "This tunnel carries what this proxy cannot look into.",
        remedy: "See the detail; HTTP/2 without TLS and PROXY headers are not carried. Speak TLS, or HTTP/1.1.";
    /// CONNECT target, SNI, `:authority` and `Host` disagree.
    AuthorityMismatch = "authority_mismatch", 421, Caller, Http,
        caller: "The request names another host than its connection.",
        remedy: "The client mixes hosts on one connection; this is how domain fronting looks.";
    /// The destination is no usable authority.
    AuthorityInvalid = "authority_invalid", 400, Caller, Http,
        caller: "The destination is not a valid host and port.",
        remedy: "Correct the URL in the caller.";
    /// Plain HTTP to a host that gets credentials.
    PlaintextRefused = "plaintext_refused", 403, Caller, Http,
        caller: "This service may only be called over HTTPS.",
        remedy: "Use https:// in the caller.";
    /// The path may mean different things to different servers.
    PathNotCanonical = "path_not_canonical", 400, Caller, Http,
        caller: "The path is not in canonical form.",
        remedy: "Send the path without dot segments, empty segments and needless escapes.";
    /// The request's form contradicts itself or HTTP.
    RequestMalformed = "request_malformed", 400, Caller, Http,
        caller: "The request is not valid HTTP.",
        remedy: "Look at the detail; the client or something before it is at fault.";
    /// The head of the request is larger than the bound.
    HeadTooLarge = "head_too_large", 431, Caller, Http,
        caller: "The request's head is too large.",
        remedy: "Send fewer or smaller headers, or raise limits.headBytes.";
    /// The head did not arrive in time.
    HeadTimeout = "head_timeout", 408, Caller, Http,
        caller: "The request's head took too long.",
        remedy: "The client stalls; if it is only slow, raise limits.headTimeout.";
    /// A method that no request may have here.
    MethodRefused = "method_refused", 405, Caller, Http,
        caller: "This method is not accepted here.",
        remedy: "TRACE, TRACK and CONNECT within a tunnel are never forwarded.";
    /// A header or field that would change the method behind the policy's back.
    MethodOverride = "method_override", 400, Caller, Http,
        caller: "Headers and fields that override the method are not accepted.",
        remedy: "Use the method itself; the detail names what overrides it.";
    /// A header that would change the path behind the policy's back.
    PathOverride = "path_override", 400, Caller, Http,
        caller: "Headers that override the path are not accepted.",
        remedy: "Call the path itself; the detail names the header.";
    /// A header that some servers take for the one the credential goes into.
    HeaderAlias = "header_alias", 400, Caller, Http,
        caller: "A header looks like the one that carries the credential.",
        remedy: "Remove the header; underscores and hyphens are the same to some servers.";
    /// A form whose field must be removed is too large or encoded.
    FormUnreadable = "form_unreadable", 413, Caller, Http,
        caller: "This form cannot be checked for credentials: it is too large, compressed, multipart or in an odd charset.",
        remedy: "Send an urlencoded form in UTF-8, uncompressed and below limits.formBytes, or send JSON as application/json.";
    /// Bytes came before the tunnel was open.
    EarlyData = "early_data", 400, Caller, Http,
        caller: "Data was sent before the tunnel was open.",
        remedy: "The client must wait for the answer to CONNECT.";
    /// The client's TLS handshake failed.
    ClientTls = "client_tls", 400, Caller, Http,
        caller: "The TLS handshake failed.",
        remedy: "Usually the client does not trust the gateway's root: mount the bundle and set its CA variable.";
    /// Neither TLS nor HTTP, on a transparent listener.
    ProtocolUnknown = "protocol_unknown", 403, Operator, Http,
        caller: "This proxy carries only TLS and HTTP.",
        remedy: "Leave the port out of the steering rules, or set unmatched: tunnel.";
    /// The connection would come back to the gateway.
    LoopRefused = "loop_refused", 508, Operator, Http,
        caller: "The connection goes round in a loop.",
        remedy: "Steering rules must leave out the gateway's own user; nothing may connect to a transparent listener itself.";
    /// The secret's source has nothing usable.
    CredentialMissing = "credential_missing", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Put the secret where the Credential says (see detail).";
    /// The secret's source cannot be reached.
    CredentialSourceUnavailable = "credential_source_unavailable", 503, Platform, Http,
        caller: "The credential for this service is not available at the moment.",
        remedy: "Make the secret store reachable (see detail); nothing is wrong with the caller.";
    /// Its issuer or source refuses to give the credential.
    CredentialRefused = "credential_refused", 503, Operator, Api,
        caller: "The credential for this service was not issued.",
        remedy: "The error is in the detail. An issuer: compare client id, secret or key, scopes and audience of the Credential with what is registered there. A secret store: give the gateway the right that the detail names.";
    /// The credential is made from the caller's own token, and there is none.
    CallerTokenMissing = "caller_token_missing", 403, Caller, Api,
        caller: "Access to this service is made from the caller's own token, and none was shown.",
        remedy: "The Credential exchanges the pod's token (tokenExchange), and a certificate alone cannot be exchanged: send the projected service-account token in Proxy-Authorization besides.";
    /// Its issuer has ended the credential for good.
    CredentialDead = "credential_dead", 503, Operator, Api,
        caller: "The credential for this service is not valid any more.",
        remedy: "Reinstall the app and put its new refresh token where the Credential says (see detail).";
    /// The state of a credential that rotates cannot be used.
    CredentialStateUnusable = "credential_state_unusable", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Put the state store in order as the detail says; nothing in it was overwritten.";
    /// The credential names a source that the gateway was not set up for.
    CredentialUnsupported = "credential_unsupported", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Add to the Gateway's resource what the detail names.";
    /// The secret cannot stand where it must go.
    CredentialUnusable = "credential_unusable", 503, Operator, Api,
        caller: "The credential for this service cannot be used.",
        remedy: "Compare the form of the secret with what the Credential and the TargetService's attach need (see detail).";
    /// The API rejects the credential, and no better value can be had.
    CredentialRejected = "credential_rejected", 503, Operator, Api,
        caller: "The service rejects the credential that this proxy holds for it.",
        remedy: "Put a working secret where the Credential says; it is noticed by itself. `invalid_auth` may also mean that the gateway's address is not on the service's allow-list.";
    /// The API knows the credential, which does not suffice.
    CredentialInsufficient = "credential_insufficient", 403, Operator, Api,
        caller: "The credential does not suffice for this request.",
        remedy: "Give it what the detail names at the service (for Slack: add the scope and install the app again), or use another Credential.";
    /// The API saw no credential although one was sent.
    CredentialUnseen = "credential_unseen", 502, Gateway, Api,
        caller: "The service did not see the credential that this proxy sent.",
        remedy: "Compare the TargetService's `attach` with what the service wants; if the catalog's is wrong, please report it with this record.";
    /// The API's own rate limit, which it told of a moment ago, still holds.
    UpstreamRateLimited = "upstream_rate_limited", 429, Caller, ApiBody,
        caller: "The service's rate limit for this credential is used up; see Retry-After.",
        remedy: "Slow down the workloads that share the credential, or give them credentials of their own; conditions.waitForRateLimit lets requests wait.";
    /// The upstream's name has no address.
    UpstreamResolve = "upstream_resolve", 502, Upstream, Http,
        caller: "The service's name could not be resolved.",
        remedy: "Check the gateway's DNS.";
    /// The upstream's addresses may not be dialled.
    UpstreamAddress = "upstream_address", 403, Operator, Http,
        caller: "The service's address may not be reached through this proxy.",
        remedy: "If a private address is meant, name its range in upstream.allowAddresses.";
    /// No connection to the upstream.
    UpstreamConnect = "upstream_connect", 502, Upstream, Http,
        caller: "The service could not be reached.",
        remedy: "Check the network path and egress rules from the gateway.";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, Upstream, Http,
        caller: "The service did not answer in time.",
        remedy: "See the service's status page; if it is only slow, raise limits.responseTimeout.";
    /// The upstream's certificate is not what it must be.
    UpstreamCertificate = "upstream_certificate", 502, Upstream, Http,
        caller: "The service could not prove its identity.",
        remedy: "Something intercepts the connection, or its CA belongs into upstream.roots.";
    /// The upstream's certificate came with a chain that is larger than any that is looked at.
    UpstreamChain = "upstream_chain", 502, Upstream, Http,
        caller: "The service could not prove its identity.",
        remedy: "The server must send its leaf and the intermediates up to its root, and nothing else: 6 certificates and 16 KiB at most (see detail).";
    /// The upstream broke off or answered garbage.
    UpstreamBroken = "upstream_broken", 502, Upstream, Http,
        caller: "The service broke the connection or sent an invalid answer.",
        remedy: "See the detail and the service's status page.";
    /// The upstream did not take the request.
    UpstreamNotTaken = "upstream_not_taken", 503, Upstream, Http,
        caller: "The service did not take the request; it has not acted on it.",
        remedy: "The detail says how the service refused it, and why it was not sent again; see limits.replayBytes and the service's status page.";
    /// The corporate proxy refused.
    UpstreamProxyRefused = "upstream_proxy_refused", 502, Platform, Http,
        caller: "The service could not be reached.",
        remedy: "The proxy named in upstream.proxy refused the connection (see detail).";
    /// Too many open connections.
    Overloaded = "overloaded", 503, Gateway, Http,
        caller: "The proxy is overloaded.",
        remedy: "Raise the limit named in the detail, or add replicas.";
    /// A workload holds its share of the connections, and there are no more.
    ShareExceeded = "share_exceeded", 503, Caller, Http,
        caller: "This workload has too many connections to the proxy open.",
        remedy: "Close connections that are not needed, raise limits.connections, or add replicas: other workloads have a right to their share.";
    /// A caller holds its part of its workload's connections to an upstream.
    UpstreamShareExceeded = "upstream_share_exceeded", 503, Caller, Http,
        caller: "This caller has too many requests to the service in progress.",
        remedy: "Let it finish requests before it begins more, or raise limits.upstreamConnections: other callers of its workload have a right to theirs.";
    /// The workload holds most of the memory that peers may take.
    MemoryShare = "memory_share", 503, Caller, Http,
        caller: "Too much of this workload is under way at once; try again when some of it is done.",
        remedy: "Let the workload send less at a time (large forms, many streams), or raise limits.memory and with it the container's memory.";
    /// The memory that peers may take is used up.
    MemoryShort = "memory_short", 503, Gateway, Http,
        caller: "The proxy has no memory to spare at the moment.",
        remedy: "countersign_memory_held_bytes tells who holds it. Raise limits.memory and with it the container's memory, or add replicas.";
    /// The client went away.
    ClientGone = "client_gone", 499, Caller, Http,
        caller: "The client closed the connection.",
        remedy: "Look at the caller's timeouts.";
    /// A body stood still.
    BodyStalled = "body_stalled", 408, Caller, Http,
        caller: "The body stood still for too long.",
        remedy: "See bytes and detail for which side stalled.";
    /// The gateway is going away.
    Draining = "draining", 503, Gateway, Http,
        caller: "The proxy is restarting.",
        remedy: "Nothing; the client should try again.";
    /// A bug.
    Internal = "internal", 500, Gateway, Http,
        caller: "The proxy failed.",
        remedy: "Please report it with this record.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_stable_in_form() {
        let mut seen = HashSet::new();
        for reason in Reason::ALL {
            let facts = reason.facts();
            assert!(seen.insert(facts.code), "{} is there twice", facts.code);
            assert!(
                facts
                    .code
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{} is no code",
                facts.code
            );
            assert!(http::StatusCode::from_u16(facts.status).is_ok());
            for sentence in [facts.caller, facts.remedy] {
                assert!(sentence.ends_with('.'), "{}: {sentence}", facts.code);
            }
        }
    }
}
