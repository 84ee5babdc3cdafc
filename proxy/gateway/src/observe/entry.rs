//! The fields of a decision record. `docs/decision-record.md` explains each as it stands in JSON.

use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_config::{
    model::{Policy, ResourceName, SlotName, Workload},
    path::CanonicalPath,
    policy::{Nearest, PodFacts},
};
use countersign_core::destination::Authority;
use countersign_identity::SignedClaims;
use http::{Method, uri::PathAndQuery};
use uuid::Uuid;

use super::{
    CUT,
    trace_context::{Parent, TraceId},
};

/// What is known of one request so far. Each module fills in its own part; a part that stays `None` was not
/// reached.
///
/// Filling it in clones references, never text.
#[derive(Debug)]
pub struct Entry {
    /// A version 7 UUID; it is in the answer too (`Proxy-Status`, refusals).
    pub id: Uuid,
    /// The trace in the caller's `traceparent`, or one of the gateway's own if it makes spans.
    pub trace_id: Option<TraceId>,
    /// The caller's span, if the gateway makes spans.
    pub parent: Option<Box<Parent>>,
    /// The listener's name.
    pub listener: Option<Arc<str>>,
    /// The peer of the client's connection. For diagnosis; it proves nothing.
    pub client: Option<SocketAddr>,
    /// Where a redirected connection was going, by the caller's DNS.
    pub original_destination: Option<SocketAddr>,
    /// The proven caller.
    pub caller: Option<Arc<CallerPart>>,
    /// What a token says that proved no caller, if its signature is its issuer's.
    pub refused_token: Option<Arc<SignedClaims>>,
    /// The workload of the caller.
    pub workload: Option<Arc<Workload>>,
    /// The policy that decided.
    pub policy: Option<PolicyPart>,
    /// Where the request was to go.
    pub target: Option<TargetPart>,
    /// The credential that was put on it.
    pub credential: Option<CredentialPart>,
    /// The upstream that answered, or failed to.
    pub upstream: Option<UpstreamPart>,
    /// Body bytes, counted where they are moved.
    pub bytes: Bytes,
    /// How long each step took.
    pub timing: Timing,
    /// For a refusal of a proven caller: the revision of the resources in force.
    pub revision: Option<Arc<str>>,
    /// For a policy miss: the rule that came nearest, and what kept it from matching.
    pub nearest: Option<Box<Nearest>>,
    /// The operator's sentence, for what was refused or failed.
    pub detail: Option<Cow<'static, str>>,
}

impl Entry {
    /// An entry that knows nothing but its id.
    // Inlined, it is made on the stack and copied to its box.
    #[inline(never)]
    pub(super) fn new(id: Uuid) -> Self {
        Self {
            id,
            trace_id: None,
            parent: None,
            listener: None,
            client: None,
            original_destination: None,
            caller: None,
            refused_token: None,
            workload: None,
            policy: None,
            target: None,
            credential: None,
            upstream: None,
            bytes: Bytes::default(),
            timing: Timing::default(),
            revision: None,
            nearest: None,
            detail: None,
        }
    }
}

/// Who called, and how that was proven. Made once a connection and shared by its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerPart {
    /// The kind of proof, for example `service-account-token`.
    pub proof: &'static str,
    /// The configured name of the issuer or trust domain that vouched.
    pub issuer: Option<Arc<str>>,
    /// The token's `sub`, or the SPIFFE ID.
    pub subject: Option<Arc<str>>,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// What the Kubernetes API said of the pod, if it was asked.
    pub kubernetes: Option<Arc<PodFacts>>,
    /// The token's `jti`, or the certificate's serial number.
    pub token_id: Option<Arc<str>>,
}

/// The policy that decided.
#[derive(Debug, Clone)]
pub struct PolicyPart {
    /// The policy; its mode is recorded too.
    pub policy: Arc<Policy>,
    /// The index of the allow rule that matched.
    pub rule: Option<usize>,
    /// The revision of the resources it belongs to.
    pub revision: Arc<str>,
    /// What an enforced policy would have refused the request for.
    pub would_refuse: Option<&'static str>,
}

/// Where a request was to go.
#[derive(Debug, Clone)]
pub struct TargetPart {
    /// The target's name, if one has this host.
    pub name: Option<ResourceName>,
    /// The canonical authority.
    pub authority: Authority,
    /// The request's method; `None` for a tunnel.
    pub method: Option<Method>,
    /// The caller's path, not what was sent upstream: for a webhook that is the secret.
    pub path: Option<PathOnly>,
    /// What the client spoke: `h2`, `http/1.1`, `http/1.0`, `connect` or `websocket`.
    pub protocol: &'static str,
}

/// A path that prints without its query, which must not be recorded by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct PathOnly(PathAndQuery);

impl PathOnly {
    /// The path, raw.
    pub fn as_str(&self) -> &str {
        self.0.path()
    }

    /// The path and query, if the path is canonical.
    pub fn canonical(&self) -> Option<CanonicalPath> {
        CanonicalPath::check(&self.0).ok()
    }

    /// A copy in memory of its own, cut if it is longer than `most`.
    pub(super) fn trimmed(&self, most: usize) -> Self {
        let path = self.as_str();
        let kept = &path[..path.floor_char_boundary(most)];
        let copied = if kept.len() == path.len() {
            bytes::Bytes::copy_from_slice(path.as_bytes())
        } else {
            format!("{kept}{CUT}").into()
        };
        // A path that was cut is still a path.
        PathAndQuery::from_maybe_shared(copied).map_or_else(|_| self.clone(), Self)
    }
}

impl From<PathAndQuery> for PathOnly {
    fn from(path: PathAndQuery) -> Self {
        Self(path)
    }
}

impl fmt::Debug for PathOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The credential that was put on a request; never its value.
#[derive(Debug, Clone)]
pub struct CredentialPart {
    /// The resource's name.
    pub name: ResourceName,
    /// The target's slot it fills.
    pub slot: SlotName,
    /// Counts the values obtained for it since the gateway started.
    pub generation: u64,
    /// Seconds since this value was obtained.
    pub age_s: u64,
    /// Seconds until it expires; `None` if it does not, as far as is known.
    pub expires_in_s: Option<u64>,
    /// Whether it was used although its source failed when last asked.
    pub stale: bool,
    /// A value that the API rejected.
    pub rejected: Option<Box<RejectedPart>>,
}

/// A value that the API rejected before it was replaced, or in spite of that.
#[derive(Debug, Clone)]
pub struct RejectedPart {
    /// The value's generation.
    pub generation: u64,
    /// The API's error code, if it sent one. Redacted when it is recorded.
    pub api_error: Option<String>,
}

/// The upstream's side of a request.
#[derive(Debug, Clone, Default)]
pub struct UpstreamPart {
    /// The address that was checked and dialled; `None` if none was.
    pub address: Option<SocketAddr>,
    /// Whether the connection was used before.
    pub reused: bool,
    /// The status of the response.
    pub status: Option<u16>,
    /// The API's error code, if it sent one. Redacted when it is recorded.
    pub api_error: Option<String>,
    /// Whether the request was sent a second time with a new credential.
    pub replayed: bool,
    /// Whether the response contained the credential that the request carried.
    pub echoed: bool,
}

/// Shared counters of body bytes.
pub type Bytes = Arc<ByteCounts>;

/// Body bytes in both directions; for a tunnel all bytes. Framing is not counted.
#[derive(Debug, Default)]
pub struct ByteCounts {
    request: AtomicU64,
    response: AtomicU64,
}

impl ByteCounts {
    /// Counts bytes from the client.
    pub fn add_request(&self, bytes: u64) {
        self.request.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes to the client.
    pub fn add_response(&self, bytes: u64) {
        self.response.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes from the client so far.
    pub fn request(&self) -> u64 {
        self.request.load(Ordering::Relaxed)
    }

    /// Bytes to the client so far.
    pub fn response(&self) -> u64 {
        self.response.load(Ordering::Relaxed)
    }
}

/// How long the steps of a request took. A step that was not reached took no time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Proving the caller; nothing on a connection that is proven already.
    pub identify: Duration,
    /// The decision.
    pub authorize: Duration,
    /// Waiting for the end of the API's rate limit, where policy permits that.
    pub waited: Duration,
    /// Obtaining the credential.
    pub credential: Duration,
    /// Resolving, dialling and greeting the upstream; nothing on a reused connection.
    pub connect: Duration,
    /// From opening the record to the head of the upstream's response.
    pub first_byte: Option<Duration>,
    /// The same for a response that rejected the credential, after which the request was sent again.
    pub rejected: Option<Duration>,
}

impl Timing {
    /// The time that the gateway adds before the request is sent on.
    pub fn overhead(&self) -> Duration {
        self.identify + self.authorize + self.credential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_shows_no_query() {
        let path = PathOnly::from(PathAndQuery::from_static("/v1/run?token=canary"));
        assert_eq!(path.as_str(), "/v1/run");
        assert_eq!(format!("{path:?}"), "\"/v1/run\"");
    }
}
