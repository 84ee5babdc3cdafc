//! Where: an API, how a credential is attached to a request for it, and how it reports failures.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use super::{ResourceName, TRACEPARENT};
use crate::{
    host::{Host, HostPattern},
    path::{CanonicalPath, EncodedSlash, PathPatterns},
};

/// The name of a credential slot, for example `bot`.
pub type SlotName = Arc<str>;

/// An API to which requests may be sent.
#[derive(Debug, Clone)]
pub struct Target {
    /// The resource's name, for example `slack`.
    pub name: ResourceName,
    /// Its hosts; never empty, and not overlapping with another target's at the same port.
    pub hosts: Vec<HostPattern>,
    /// The ports it may be reached at; never empty.
    pub ports: Vec<u16>,
    /// Whether connections to it are decrypted. If not, it has one route for every request, which
    /// attaches and strips nothing, and policies decide about tunnels.
    pub intercept: bool,
    /// The kinds of credential it knows.
    pub slots: Slots,
    /// What to do by host and path; the first match counts. A request that matches none is
    /// refused. Never empty.
    pub routes: Vec<Route>,
    /// How it reports that a credential failed; the first match counts.
    pub auth_failure: Vec<AuthFailure>,
    /// How to refuse in the API's own format; `None` is `application/problem+json`.
    pub refusal: Option<RefusalShapes>,
    /// How a caller is told that the API could not be reached or broke off before its response.
    pub transport_faults: TransportFaults,
    /// A cheap request that shows whether a credential works.
    pub probe: Option<Probe>,
    /// Which requests its 429 applies to.
    pub rate_limit: RateLimitScope,
    /// Whether its ids may have slashes in them.
    pub encoded_slash: EncodedSlash,
}

impl Target {
    /// The only route of a target that is not decrypted.
    pub(crate) fn unread_route() -> Route {
        Route {
            host: None,
            paths: PathPatterns::default(),
            deny: None,
            attach: None,
            strip: Strip::default(),
            inspect_body: false,
        }
    }

    /// The route for a request: the first that matches.
    pub fn route_for(&self, host: &Host, path: &CanonicalPath) -> Option<&Route> {
        self.routes.iter().find(|route| route.is_for(host, path))
    }
}

/// The credential slots of a target.
#[derive(Debug, Clone)]
pub struct Slots {
    /// The slot that a policy's plain `credential:` fills.
    pub default: SlotName,
    /// All slots, including the default.
    pub names: Vec<SlotName>,
}

/// What happens to a request for this host and path.
#[derive(Debug, Clone)]
pub struct Route {
    /// `None` is any host of the target.
    pub host: Option<HostPattern>,
    /// Empty is any path.
    pub paths: PathPatterns,
    /// Always refused, with this text as the reason's detail (for example `credential-endpoint`). The
    /// paths of such a route match without regard to ASCII case.
    pub deny: Option<String>,
    /// The credential to put on the request; `None` sends none.
    pub attach: Option<Attach>,
    /// What is removed from the caller's request, in addition to what `attach` sets.
    pub strip: Strip,
    /// Whether response bodies may be inspected. Not where they are files.
    pub inspect_body: bool,
}

impl Route {
    /// Whether it matches this request. An earlier route may match too.
    pub fn is_for(&self, host: &Host, path: &CanonicalPath) -> bool {
        self.host.as_ref().is_none_or(|own| own.matches(host)) && self.paths.matches(path)
    }

    /// The slot that a probe on this route would test.
    pub fn probed_slot(&self) -> Option<&SlotName> {
        let attach = self.attach.as_ref()?;
        (self.deny.is_none() && self.inspect_body).then_some(&attach.slot)
    }
}

/// A credential's place on a request.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The slot whose credential is used.
    pub slot: SlotName,
    /// Where it goes.
    pub place: Place,
}

/// Where on the request a credential goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// A header; every header of this name that the caller sent is removed first.
    Header {
        /// The header's name.
        name: HeaderName,
        /// Its value.
        value: Template,
    },
    /// A query field; every field of this name that the caller sent is removed first.
    Query {
        /// The field's name, compared after percent-decoding.
        name: String,
        /// Its value, percent-encoded when it is set.
        value: Template,
    },
    /// The whole path, as for an incoming webhook whose path is the secret. The secret is the path alone
    /// or a whole `https://` URL of a host of this target.
    Path {
        /// The path; must start with `/` once the secret is filled in.
        value: Template,
    },
}

/// A text with exactly one `{token}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What stands before the secret.
    pub before: String,
    /// What stands after it.
    pub after: String,
}

/// What is removed from the caller's request.
#[derive(Debug, Clone, Default)]
pub struct Strip {
    /// Header names.
    pub headers: Vec<HeaderName>,
    /// Names of `application/x-www-form-urlencoded` body fields.
    pub form_fields: Vec<String>,
    /// Names of query fields.
    pub query: Vec<String>,
}

impl Strip {
    /// Whether the API gets to know nothing of the trace.
    pub fn drops_trace(&self) -> bool {
        self.headers.contains(&TRACEPARENT)
    }
}

/// One way in which the API says that a credential failed.
#[derive(Debug, Clone)]
pub struct AuthFailure {
    /// HTTP statuses that mean it; empty: any status.
    pub status: Vec<u16>,
    /// Top-level members that a JSON body must have, each with one of these values. Empty: the body is
    /// not read.
    pub json: Vec<(String, Vec<serde_json::Value>)>,
    /// The whole body, without surrounding white space, is one of these. Empty: the body is not read.
    /// Never together with `json`.
    pub text: Vec<String>,
    /// What to do then.
    pub then: AuthFailureAction,
    /// Who is at fault.
    pub blame: AuthFailureBlame,
}

impl AuthFailure {
    /// Whether the status and head of a response are sufficient to decide.
    pub fn is_status_alone(&self) -> bool {
        self.json.is_empty() && self.text.is_empty()
    }
}

/// Who is at fault for a failed credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailureBlame {
    /// The person responsible for the credential.
    Operator,
    /// The gateway itself, for example if the API says that it received no credential.
    Gateway,
}

/// What to do when a credential failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailureAction {
    /// Obtain a new credential and send the request once more.
    RefreshAndReplay,
    /// Read the secret's source again; send once more only if it changed.
    RereadSource,
    /// Pass the response on and record what it says.
    Report,
}

/// The formats in which an API refuses.
#[derive(Debug, Clone)]
pub struct RefusalShapes {
    /// The one for requests that are not in `at`.
    pub usual: RefusalShape,
    /// Those of some hosts and paths; the first match counts.
    pub at: Vec<RefusalAt>,
}

impl RefusalShapes {
    /// The format for a request. `path` is `None` if the request's is not canonical.
    pub fn of(&self, host: &Host, path: Option<&CanonicalPath>) -> &RefusalShape {
        let found = self.at.iter().find(|at| at.is_for(host, path));
        found.map_or(&self.usual, |at| &at.shape)
    }
}

/// The format for one host or for some paths.
#[derive(Debug, Clone)]
pub struct RefusalAt {
    /// `None` is any host of the target.
    pub host: Option<HostPattern>,
    /// Empty is any path, also one that is not canonical.
    pub paths: PathPatterns,
    /// The format.
    pub shape: RefusalShape,
}

impl RefusalAt {
    fn is_for(&self, host: &Host, path: Option<&CanonicalPath>) -> bool {
        self.host.as_ref().is_none_or(|own| own.matches(host))
            && (self.paths.is_any() || path.is_some_and(|path| self.paths.matches(path)))
    }
}

/// A refusal in the API's own format.
#[derive(Debug, Clone)]
pub struct RefusalShape {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: String,
    /// The body. Inside its texts `{reason}`, `{message}`, `{owner}`, `{id}` and `{explanation}` are filled
    /// in. A text is sent as it is if the content type is not JSON.
    pub body: serde_json::Value,
}

impl RefusalShape {
    /// Whether the body is sent as JSON.
    pub fn is_json(&self) -> bool {
        let essence = self.content_type.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase().ends_with("json")
    }
}

/// How a caller is told that the API could not be reached or broke off before its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportFaults {
    /// By a status: 502 or 503.
    Status,
    /// By closing the connection (HTTP/2: resetting the stream) without a response, as the API itself would:
    /// for SDKs that repeat a request after that, but not after such a status.
    Close,
}

/// A cheap request that shows whether a credential works.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its method.
    pub method: http::Method,
    /// The hosts of the target at which it may be made; never empty. Policy and the waiting request
    /// determine which of them is used.
    pub hosts: Vec<HostPattern>,
    /// The port; `None` is the waiting request's port.
    pub port: Option<u16>,
    /// Path and query.
    pub path: CanonicalPath,
    /// The slot whose credentials it tests: the one that its route attaches. At a host where another
    /// route matches its path, it is not made.
    pub slot: SlotName,
    /// How long its result is valid while the credential is used. Default 10 minutes.
    pub every: Duration,
    /// Top-level members of its JSON response that say whose credential it is, such as `team`.
    pub shows: Vec<String>,
}

impl Probe {
    /// The default of [`Self::every`].
    pub const DEFAULT_EVERY: Duration = Duration::from_mins(10);

    /// Whether it tests its slot's credentials at this host and port: the target's route there attaches
    /// one, and its response may be inspected.
    pub fn fits(&self, target: &Target, host: &Host, port: u16) -> bool {
        let here = self.port.is_none_or(|own| own == port)
            && self.hosts.iter().any(|pattern| pattern.matches(host));
        let attached = |route: &Route| route.probed_slot().is_some_and(|slot| *slot == self.slot);
        here && target.route_for(host, &self.path).is_some_and(attached)
    }
}

/// Which further requests an API's 429 applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitScope {
    /// All that carry the credential.
    Credential,
    /// Those that carry the credential to the same host and path.
    Path,
}
