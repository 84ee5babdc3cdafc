//! The list of all reasons.

mod doubts;

pub use doubts::OtherCauses;

/// Who is at fault for a refusal or failure, so that on-call staff know whom to contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The code that made the request, or the pod's configuration.
    Caller,
    /// The resources: a policy, a credential, the gateway's configuration.
    Operator,
    /// Something that the gateway depends on: an issuer, the API server, a secret store.
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

/// The format of a refusal. One rule decides it: if the same request, sent again, is refused again until a
/// person changes something, the refusal is final and has the format of the API's own errors, at which
/// SDKs give up at once. Otherwise it is an HTTP error, which SDKs may retry: the fault may pass, or another
/// connection (with another name, or a new proof of identity) does not have it. What cannot be read as a
/// request to an API, because HTTP or the name in it is broken, is an HTTP error too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The API's own errors, because the refusal is final.
    Api,
    /// HTTP errors, because a retry may help or there is no request to an API.
    Http,
    /// HTTP's status with the API's own body, as an API itself responds to too many requests.
    ApiBody,
}

/// The constant properties of a reason.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its stable name in records, metrics and responses.
    pub code: &'static str,
    /// What happened, in one sentence.
    pub meaning: &'static str,
    /// The HTTP status, if the response does not have the API's own format.
    pub status: u16,
    /// Who is at fault.
    pub blame: Blame,
    /// The format of the response.
    pub language: Language,
    /// One sentence for the caller; it reveals nothing about the policy.
    pub caller: &'static str,
    /// What the operator or the SRE can do.
    pub remedy: &'static str,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $blame:ident, $language:ident,
        caller: $caller:literal, remedy: $remedy:literal; )+) => {
        /// Why a request was refused or failed. Exhaustive: every module's error maps to one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// All reasons, for documentation and dashboards.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// Its constant properties.
            pub const fn facts(self) -> &'static Facts {
                match self { $( Self::$name => &Facts {
                    code: $code, meaning: concat!($($doc),+), status: $status, blame: Blame::$blame, language: Language::$language,
                    caller: $caller, remedy: $remedy,
                }, )+ }
            }
        }
    };
}

reasons! {
    /// The request had no proof of identity.
    IdentityMissing = "identity_missing", 407, Caller, Http,
        caller: "This proxy needs proof of who is calling: send a service-account token in Proxy-Authorization.",
        remedy: "Give the pod a projected token for this gateway's audience, in the proxy URL or through the relay.";
    /// `Proxy-Authorization` could not be parsed.
    IdentityMalformed = "identity_malformed", 407, Caller, Http,
        caller: "The proof of identity could not be read.",
        remedy: "Send exactly one Proxy-Authorization header: `Bearer TOKEN`, or `Basic` with the token as password.";
    /// The proof's issuer or trust domain is not configured.
    IdentityIssuerUnknown = "identity_issuer_unknown", 407, Operator, Http,
        caller: "The issuer of the proof of identity is not trusted here.",
        remedy: "Add the cluster to identity.issuers (`issuer` must equal the token's `iss` exactly), or the trust domain to identity.trustDomains.";
    /// The signature, key or content of a token or certificate is wrong.
    IdentityInvalid = "identity_invalid", 407, Caller, Http,
        caller: "The proof of identity is not valid.",
        remedy: "See the detail: the signature, the key or the claims of the token are not those of its issuer, or the certificate is not an X.509-SVID of its trust domain.";
    /// The token's lifetime is longer than the issuer's limit.
    IdentityTooLongLived = "identity_too_long_lived", 407, Caller, Http,
        caller: "The token's lifetime is too long: send one that is renewed more often.",
        remedy: "Project the token with an expirationSeconds of at most the issuer's identity.issuers[].maxTokenLife; a token from a Secret never qualifies.";
    /// The issuer has withdrawn the key that signed the token.
    IdentityKeyWithdrawn = "identity_key_withdrawn", 407, Caller, Http,
        caller: "The proof of identity is signed with a key that its issuer has withdrawn.",
        remedy: "Nothing, if the issuer's keys were changed on purpose: the pod reads its renewed token and connects again. Otherwise put the key back into the issuer's set.";
    /// Too many bad proofs came from this address.
    IdentityThrottled = "identity_throttled", 429, Caller, Http,
        caller: "Too many bad proofs of identity came from this address; see Retry-After.",
        remedy: "Find out what sends bad tokens from the address in the record (identity_invalid). Callers that are already known are not delayed.";
    /// The certificate chain is larger than the bounds.
    IdentityChain = "identity_chain", 407, Caller, Http,
        caller: "The client's certificate chain is too large.",
        remedy: "Send only the leaf and the intermediates between it and its trust domain's root: at most 6 certificates and 16 KiB.";
    /// Token and certificate belong to different workloads.
    IdentityMismatch = "identity_mismatch", 407, Caller, Http,
        caller: "The token and the client certificate do not name the same workload.",
        remedy: "Send one of the two, or let the certificate's SPIFFE ID end in /ns/NAMESPACE/sa/NAME of the token's service account.";
    /// The token is for another audience.
    IdentityAudience = "identity_audience", 407, Caller, Http,
        caller: "The token was issued for another audience.",
        remedy: "Project the token with the audience of this gateway's issuer (default: countersign).";
    /// The token or certificate has expired, or the connection has outlived its proof.
    IdentityExpired = "identity_expired", 407, Caller, Http,
        caller: "The proof of identity has expired.",
        remedy: "Read the projected token, or the certificate, again for every connection; its file is replaced regularly.";
    /// The token or certificate is not valid yet.
    IdentityNotYetValid = "identity_not_yet_valid", 407, Platform, Http,
        caller: "The proof of identity is not valid yet.",
        remedy: "Compare the clocks of the issuer and of this gateway.";
    /// The API server no longer accepts the token.
    IdentityRevoked = "identity_revoked", 407, Caller, Http,
        caller: "The token is no longer valid.",
        remedy: "The pod or service account was deleted or recreated; a new pod gets a new token.";
    /// The issuer's keys, or the trust domain's bundle, are not available.
    IdentityKeysUnavailable = "identity_keys_unavailable", 503, Platform, Http,
        caller: "Identities cannot be checked at the moment.",
        remedy: "Make the issuer's JWKS, or the agent of the SPIFFE Workload API, reachable (see detail); nothing is wrong with the pod.";
    /// Nothing is known of the token's pod.
    IdentityPodUnknown = "identity_pod_unknown", 503, Platform, Http,
        caller: "The proxy does not know this pod yet; try again.",
        remedy: "See the detail: the watch of pods has not begun, the API server is away, or a role does not grant to list and watch pods and jobs in the namespace.";
    /// The pod is not what it was when its connection was accepted.
    IdentityPodChanged = "identity_pod_changed", 503, Platform, Http,
        caller: "This pod's labels or images have changed; connect again.",
        remedy: "Nothing: a new connection is decided by what is known of the pod now. If it happens often, find out what changes the pod's labels.";
    /// The API server cannot be asked.
    IdentityReviewUnavailable = "identity_review_unavailable", 503, Platform, Http,
        caller: "Identities cannot be checked at the moment.",
        remedy: "See the detail: the API server is not reached, does not accept the gateway's own token, or does not let it create TokenReviews.";
    /// The caller is identified, but matches no workload.
    WorkloadUnknown = "workload_unknown", 403, Operator, Api,
        caller: "This workload is not registered with the credential gateway.",
        remedy: "Write a Workload whose selectors match the caller, or correct the one that almost matches.";
    /// No policy grants this target.
    TargetNotGranted = "target_not_granted", 403, Operator, Api,
        caller: "This workload has no access to this service.",
        remedy: "Write an AccessPolicy for this workload and target.";
    /// A policy grants the target, but not this request.
    RequestNotAllowed = "request_not_allowed", 403, Operator, Api,
        caller: "This workload may not make this request.",
        remedy: "If the request should be permitted, extend the closest rule; otherwise correct the code.";
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
        remedy: "It issues or revokes credentials, so a person should call it and not a workload; or it is not part of the target's purpose.";
    /// The target has no route for the request.
    NoRoute = "no_route", 403, Operator, Api,
        caller: "The credential gateway does not know this path of the service.",
        remedy: "Add a route to the TargetService.";
    /// The policy has no credential for the route's slot.
    SlotNotGranted = "slot_not_granted", 403, Operator, Api,
        caller: "This workload has no credential for this kind of request.",
        remedy: "Add the slot under the policy's credentials.";
    /// The policy's rate is used up.
    RateLimited = "rate_limited", 429, Caller, Http,
        caller: "This workload has made too many requests; see Retry-After.",
        remedy: "Slow the caller down, or raise conditions.rate.";
    /// The permission under which a tunnel or WebSocket was opened has been replaced.
    AccessChanged = "access_changed", 403, Operator, Http,
        caller: "The permission for this connection has been replaced by another.",
        remedy: "Nothing, if the change was intended: a new connection is decided by the current policy.";
    /// No target with a policy has this host.
    HostUnmatched = "host_unmatched", 403, Operator, Http,
        caller: "This host may not be reached through this proxy.",
        remedy: "Write a TargetService and an AccessPolicy for the host, or set unmatched: tunnel.";
    /// A governed host at another port or address than its target's.
    GovernedElsewhere = "governed_elsewhere", 403, Operator, Api,
        caller: "This service may not be reached in this way through this proxy.",
        remedy: "A governed host is never tunnelled without decryption. Call it by its name and its usual port; to use another port, add it to the TargetService's `ports`.";
    /// A request, not a tunnel, to a host that is not decrypted.
    TunnelOnly = "tunnel_only", 403, Caller, Api,
        caller: "This service may only be reached through a tunnel.",
        remedy: "Let the client use CONNECT, as for https:// URLs, or remove `intercept: false` from the TargetService.";
    /// The host that a tunnel is for cannot be determined.
    TunnelUnreadable = "tunnel_unreadable", 403, Caller, Http,
        caller: "This proxy cannot inspect the protocol in this tunnel.",
        remedy: "See the detail; HTTP/2 without TLS and PROXY headers are not allowed in tunnels. Use TLS or HTTP/1.1.";
    /// CONNECT target, SNI, `:authority` and `Host` disagree.
    AuthorityMismatch = "authority_mismatch", 421, Caller, Http,
        caller: "The request names another host than its connection.",
        remedy: "The client uses several hosts on one connection; domain fronting looks the same.";
    /// The destination is not a valid authority.
    AuthorityInvalid = "authority_invalid", 400, Caller, Http,
        caller: "The destination is not a valid host and port.",
        remedy: "Correct the URL in the caller.";
    /// Plain HTTP to a host that gets credentials.
    PlaintextRefused = "plaintext_refused", 403, Caller, Api,
        caller: "This service may only be called over HTTPS.",
        remedy: "Use https:// in the caller.";
    /// The path may mean different things to different servers.
    PathNotCanonical = "path_not_canonical", 400, Caller, Api,
        caller: "The path is not in canonical form.",
        remedy: "Send the path without dot segments, empty segments and unnecessary escapes.";
    /// The request contradicts itself or violates HTTP.
    RequestMalformed = "request_malformed", 400, Caller, Http,
        caller: "The request is not valid HTTP.",
        remedy: "See the detail; the client, or something between it and the gateway, is at fault.";
    /// The head of the request is larger than the bound.
    HeadTooLarge = "head_too_large", 431, Caller, Http,
        caller: "The request's head is too large.",
        remedy: "Send fewer or smaller headers, or raise limits.headBytes.";
    /// The head did not arrive in time.
    HeadTimeout = "head_timeout", 408, Caller, Http,
        caller: "The request's head took too long.",
        remedy: "The client stalls; if it is only slow, raise limits.headTimeout.";
    /// A method that is never allowed.
    MethodRefused = "method_refused", 405, Caller, Api,
        caller: "This method is not accepted here.",
        remedy: "TRACE, TRACK and CONNECT inside a tunnel are never forwarded.";
    /// A header or field that would change the method after policy has decided.
    MethodOverride = "method_override", 400, Caller, Api,
        caller: "Headers and fields that override the method are not accepted.",
        remedy: "Use the method itself; the detail names what overrides it.";
    /// A header that would change the path after policy has decided.
    PathOverride = "path_override", 400, Caller, Api,
        caller: "Headers that override the path are not accepted.",
        remedy: "Call the path itself; the detail names the header.";
    /// A header that some servers treat as the one for the credential.
    HeaderAlias = "header_alias", 400, Caller, Api,
        caller: "A header looks like the one that carries the credential.",
        remedy: "Remove the header; some servers treat underscores and hyphens as the same.";
    /// A form whose field must be removed is too large or encoded.
    FormUnreadable = "form_unreadable", 413, Caller, Api,
        caller: "This form cannot be checked for credentials: it is too large, compressed, in an unsupported charset, or multipart with more than one reading.",
        remedy: "Send a urlencoded form in UTF-8, uncompressed and smaller than limits.formBytes, multipart/form-data as browsers write it, or JSON as application/json.";
    /// A multipart form has a field for a credential.
    FormCredential = "form_credential", 400, Caller, Api,
        caller: "The form has a field for a credential, which this proxy supplies: send the form without it.",
        remedy: "Remove the field that the detail names from the caller's form; in a urlencoded form it would be removed here, out of a multipart form it cannot.";
    /// Bytes came before the tunnel was open.
    EarlyData = "early_data", 400, Caller, Http,
        caller: "Data was sent before the tunnel was open.",
        remedy: "The client must wait for the response to CONNECT.";
    /// The client's TLS handshake failed.
    ClientTls = "client_tls", 400, Caller, Http,
        caller: "The TLS handshake failed.",
        remedy: "Usually the client does not trust the gateway's root: mount the bundle and set its CA variable.";
    /// The client does not accept a certificate of the gateway's own.
    OwnCertificate = "own_certificate", 400, Operator, Http,
        caller: "The client does not accept the certificate of this proxy.",
        remedy: "See the detail for the certificate's file. Replace it if it has expired; otherwise give the client the root that issued it, in its CA variable or as the relay's --gateway-ca.";
    /// The signer of the intermediate has not signed it.
    InterceptionUnavailable = "interception_unavailable", 503, Operator, Http,
        caller: "This proxy has no certificate for that host at the moment.",
        remedy: "See the detail and /readyz: the controller signs the gateway's intermediate. Its log, and `kubectl describe csr`, say why it does not.";
    /// Neither TLS nor HTTP, on a transparent listener.
    ProtocolUnknown = "protocol_unknown", 403, Operator, Http,
        caller: "This proxy carries only TLS and HTTP.",
        remedy: "Exclude the port from the redirection rules, or set unmatched: tunnel.";
    /// The connection would come back to the gateway.
    LoopRefused = "loop_refused", 508, Operator, Api,
        caller: "The connection is a loop.",
        remedy: "The redirection rules must exclude the gateway's own user; nothing may connect directly to a transparent listener.";
    /// The secret's source has nothing usable.
    CredentialMissing = "credential_missing", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Put the secret where the Credential says (see detail).";
    /// The secret's source cannot be reached.
    CredentialSourceUnavailable = "credential_source_unavailable", 503, Platform, Http,
        caller: "The credential for this service is not available at the moment.",
        remedy: "Make the secret store reachable (see detail); nothing is wrong with the caller.";
    /// Its issuer or source refuses to provide the credential.
    CredentialRefused = "credential_refused", 503, Operator, Api,
        caller: "The credential for this service was not issued.",
        remedy: "See the detail for the error. For an issuer, compare client id, secret or key, scopes and audience of the Credential with what is registered there. For a secret store, correct what the detail names: the gateway's own token there, or its rights.";
    /// The credential is made from the caller's own token, and there is none.
    CallerTokenMissing = "caller_token_missing", 403, Caller, Api,
        caller: "Access to this service needs the caller's own token, and none was sent.",
        remedy: "The Credential exchanges the pod's token (tokenExchange), and a certificate alone cannot be exchanged: also send the projected service-account token in Proxy-Authorization.";
    /// Its issuer has invalidated the credential for good.
    CredentialDead = "credential_dead", 503, Operator, Api,
        caller: "The credential for this service is no longer valid.",
        remedy: "Reinstall the app and put its new refresh token where the Credential says (see detail).";
    /// The state of a credential that rotates cannot be used.
    CredentialStateUnusable = "credential_state_unusable", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Repair the state store as the detail says; nothing in it was overwritten.";
    /// The credential names a source that the gateway is not configured for.
    CredentialUnsupported = "credential_unsupported", 503, Operator, Api,
        caller: "The credential for this service is not available.",
        remedy: "Add to the Gateway resource what the detail names.";
    /// The secret has characters that are not valid in its place.
    CredentialUnusable = "credential_unusable", 503, Operator, Api,
        caller: "The credential for this service cannot be used.",
        remedy: "Compare the form of the secret with what the Credential and the TargetService's attach need (see detail).";
    /// The API rejects the credential, and there is no better value.
    CredentialRejected = "credential_rejected", 503, Operator, Api,
        caller: "The service rejects the credential that this proxy holds for it.",
        remedy: "Put a working secret where the Credential says; the gateway notices it without a restart. `invalid_auth` may also mean that the gateway's address is not on the service's allow-list.";
    /// The API accepts the credential, but it lacks a right.
    CredentialInsufficient = "credential_insufficient", 403, Operator, Api,
        caller: "The credential lacks a right for this request.",
        remedy: "Give it what the detail names at the service (for Slack: add the scope and install the app again), or use another Credential.";
    /// The API received no credential although one was sent.
    CredentialUnseen = "credential_unseen", 502, Gateway, Api,
        caller: "The service did not see the credential that this proxy sent.",
        remedy: "Compare the TargetService's `attach` with what the service expects; if the catalog's is wrong, please report it with this record.";
    /// A rate limit that the API reported earlier still applies.
    UpstreamRateLimited = "upstream_rate_limited", 429, Caller, ApiBody,
        caller: "The service's rate limit for this credential is used up; see Retry-After.",
        remedy: "Slow down the workloads that share the credential, or give them credentials of their own; conditions.waitForRateLimit lets requests wait.";
    /// The API itself said that there were too many requests.
    ApiRateLimited = "api_rate_limited", 429, Caller, ApiBody,
        caller: "The service's rate limit is used up; see Retry-After.",
        remedy: "Slow down whoever sends most with the credential (countersign_requests_total by policy), or give the workloads credentials of their own; conditions.waitForRateLimit lets requests wait.";
    /// The API answered with an error of its own.
    UpstreamError = "upstream_error", 502, Upstream, Http,
        caller: "The service failed.",
        remedy: "See upstream.status and upstream.api_error, and the service's status page. If only some requests get it, they may cause it.";
    /// The upstream's name has no address.
    UpstreamResolve = "upstream_resolve", 502, Upstream, Http,
        caller: "The service's name could not be resolved.",
        remedy: "The name servers answer, and do not know an address: compare the host with the service's documentation, and with what other machines resolve (the name servers may have a view of their own).";
    /// The name servers cannot be asked.
    ResolverUnavailable = "resolver_unavailable", 502, Platform, Http,
        caller: "The service's name could not be resolved.",
        remedy: "Make the name servers of the gateway's /etc/resolv.conf answer it (see detail): egress rules must let it reach port 53.";
    /// The upstream's addresses are not allowed.
    UpstreamAddress = "upstream_address", 403, Operator, Api,
        caller: "The service's address may not be reached through this proxy.",
        remedy: "If a private address is intended, add its range to upstream.allowAddresses.";
    /// No connection to the upstream.
    UpstreamConnect = "upstream_connect", 502, Upstream, Http,
        caller: "The service could not be reached.",
        remedy: "Check the network path and egress rules from the gateway: a firewall that rejects looks the same as a server that does not listen.";
    /// This machine does not let the connection out.
    NetworkUnreachable = "network_unreachable", 502, Platform, Http,
        caller: "The service could not be reached.",
        remedy: "Nothing was sent: see the routes, the address families and the egress rules of the gateway's own machine (see detail).";
    /// The upstream did not respond in time.
    UpstreamTimeout = "upstream_timeout", 504, Upstream, Http,
        caller: "The service did not respond in time.",
        remedy: "See the detail and the service's status page. If there was no connection, check the egress rules from the gateway; if it is only slow, raise limits.responseTimeout.";
    /// The upstream's certificate is not valid.
    UpstreamCertificate = "upstream_certificate", 502, Upstream, Http,
        caller: "The service could not prove its identity.",
        remedy: "Something intercepts the connection, or its CA must be added to upstream.roots.";
    /// The upstream's certificate chain is larger than the bounds.
    UpstreamChain = "upstream_chain", 502, Upstream, Http,
        caller: "The service could not prove its identity.",
        remedy: "The server must send only its leaf and the intermediates up to its root: at most 6 certificates and 16 KiB (see detail).";
    /// The upstream broke off or sent an invalid response.
    UpstreamBroken = "upstream_broken", 502, Upstream, Http,
        caller: "The service broke the connection or sent an invalid response.",
        remedy: "See the detail and the service's status page.";
    /// A response exceeds a bound of the gateway.
    ResponseTooLarge = "response_too_large", 502, Gateway, Api,
        caller: "The service's response exceeds a bound of this proxy.",
        remedy: "The detail names the bound. Raise limits.headBytes if it is the head's size; the others are fixed: please report it with this record.";
    /// The upstream did not take the request.
    UpstreamNotTaken = "upstream_not_taken", 503, Upstream, Http,
        caller: "The service refused the request without acting on it.",
        remedy: "The detail says how the service refused it, and why it was not sent again; see limits.replayBytes and the service's status page.";
    /// The corporate proxy refused.
    UpstreamProxyRefused = "upstream_proxy_refused", 502, Platform, Http,
        caller: "The service could not be reached.",
        remedy: "The proxy named in upstream.proxy refused the connection (see detail): ask its operators to allow this service for the gateway.";
    /// The corporate proxy cannot be reached.
    UpstreamProxyUnreachable = "upstream_proxy_unreachable", 502, Platform, Http,
        caller: "The service could not be reached.",
        remedy: "The proxy named in upstream.proxy cannot be reached or does not answer (see detail): check its address, the egress rules, and the proxy itself.";
    /// The corporate proxy's certificate is not valid.
    UpstreamProxyCertificate = "upstream_proxy_certificate", 502, Operator, Http,
        caller: "The service could not be reached.",
        remedy: "Put the CA of the corporate proxy's certificate into the file of upstream.proxyRoots, or name the proxy as its certificate does (see detail).";
    /// The corporate proxy wants authentication, or does not accept the gateway's.
    UpstreamProxyAuthentication = "upstream_proxy_authentication", 502, Operator, Http,
        caller: "The service could not be reached.",
        remedy: "Correct upstream.proxyAuthentication: the user name, or the password in its file (see detail).";
    /// The corporate proxy could not reach the service.
    UpstreamProxyFailed = "upstream_proxy_failed", 502, Upstream, Http,
        caller: "The service could not be reached.",
        remedy: "The proxy named in upstream.proxy tried and could not open a connection (see detail): see the service's status page, then ask the proxy's operators.";
    /// Too many open connections.
    Overloaded = "overloaded", 503, Gateway, Http,
        caller: "The proxy is overloaded.",
        remedy: "Raise the limit named in the detail, or add replicas.";
    /// A workload has its share of the connections, and none is free.
    ShareExceeded = "share_exceeded", 503, Caller, Http,
        caller: "This workload has too many connections to the proxy open.",
        remedy: "Close unneeded connections, raise limits.connections, or add replicas: other workloads have a right to their share.";
    /// A caller has its share of its workload's connections to an upstream.
    UpstreamShareExceeded = "upstream_share_exceeded", 503, Caller, Http,
        caller: "This caller has too many requests to the service in progress.",
        remedy: "Let it finish requests before it begins more, or raise limits.upstreamConnections: other callers of its workload have a right to their share.";
    /// The workload holds most of the memory budget.
    MemoryShare = "memory_share", 503, Caller, Http,
        caller: "This workload has too much in progress at once; try again when some of it is done.",
        remedy: "Let the workload send less at a time (large forms, many streams), or raise limits.memory together with the container's memory.";
    /// The memory budget is used up.
    MemoryShort = "memory_short", 503, Gateway, Http,
        caller: "The proxy has no free memory at the moment.",
        remedy: "countersign_memory_held_bytes shows who holds it. Raise limits.memory together with the container's memory, or add replicas.";
    /// Its record could not be written, and the operator wants no request without one.
    RecordsFull = "records_full", 503, Platform, Http,
        caller: "The proxy cannot record requests at the moment, and forwards none that it could not record.",
        remedy: "sinks in /readyz and countersign_decision_sink_up say which sink of observe.decisions takes nothing. Make it take records again, or set its whenFull to drop.";
    /// The client went away.
    ClientGone = "client_gone", 499, Caller, Http,
        caller: "The client closed the connection.",
        remedy: "Check the caller's timeouts.";
    /// A body made no progress.
    BodyStalled = "body_stalled", 408, Caller, Http,
        caller: "The body made no progress for too long.",
        remedy: "See bytes and detail to find which side stalled.";
    /// The gateway is shutting down.
    Draining = "draining", 503, Gateway, Http,
        caller: "The proxy is restarting.",
        remedy: "Nothing; the client should try again.";
    /// A bug.
    Internal = "internal", 500, Gateway, Http,
        caller: "The proxy failed.",
        remedy: "Please report it with this record.";
}

#[cfg(test)]
mod tests;
