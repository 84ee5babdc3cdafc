//! One request: what the gateway decided, and how it ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Text;

/// One request, tunnel or refused connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decision<'a> {
    /// When it was accepted.
    pub time: Timestamp,
    /// A UUID of version 7; the response has it too.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// The trace of the caller.
    #[serde(borrow, default)]
    pub trace_id: Option<Text<'a>>,
    /// How it ended.
    pub outcome: Outcome,
    /// The stable reason code.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// Who is at fault, as the gateway sees it.
    #[serde(borrow, default)]
    pub blame: Option<Text<'a>>,
    /// The listener's name.
    #[serde(borrow, default)]
    pub listener: Option<Text<'a>>,
    /// The address that a redirected client connected to.
    #[serde(borrow, default)]
    pub original_destination: Option<Text<'a>>,
    /// Who called.
    #[serde(borrow, default)]
    pub caller: Option<Caller<'a>>,
    /// What a token said that was refused; it identifies nobody.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub refused_token: Option<RefusedToken<'a>>,
    /// The workload of the caller.
    #[serde(borrow, default)]
    pub workload: Option<Workload<'a>>,
    /// The policy that decided.
    #[serde(borrow, default)]
    pub policy: Option<Policy<'a>>,
    /// Where the request was to go.
    #[serde(borrow, default)]
    pub target: Option<Target<'a>>,
    /// The credential that it carried.
    #[serde(borrow, default)]
    pub credential: Option<Credential<'a>>,
    /// The API's side.
    #[serde(borrow, default)]
    pub upstream: Option<Upstream<'a>>,
    /// Body bytes.
    #[serde(default)]
    pub bytes: Bytes,
    /// How long its steps took.
    #[serde(default)]
    pub timing_us: Timing,
    /// The revision in effect, of a refusal that no policy decided.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Text<'a>>,
    /// The rule that came closest, if no policy matched.
    #[serde(borrow, default)]
    pub nearest: Option<Nearest<'a>>,
    /// The operator's sentence.
    #[serde(borrow, default)]
    pub detail: Option<Text<'a>>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was forwarded, and the upstream did not fail.
    Permitted,
    /// The gateway refused it.
    Refused,
    /// It was permitted and failed.
    Failed,
    /// It was carried on without being decrypted.
    Tunnelled,
    /// An outcome of a later version.
    #[serde(other)]
    Other,
}

/// Who called, and how that was proven.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller<'a> {
    /// The kind of proof; `None` for a client that proved nothing.
    #[serde(borrow)]
    pub proof: Option<Text<'a>>,
    /// The issuer or trust domain that vouched.
    #[serde(borrow)]
    pub issuer: Option<Text<'a>>,
    /// The token's `sub`, or the SPIFFE ID.
    #[serde(borrow)]
    pub subject: Option<Text<'a>>,
    /// The pod's name.
    #[serde(borrow)]
    pub pod: Option<Text<'a>>,
    /// The token's `jti`, or the certificate's serial number.
    #[serde(borrow)]
    pub token_id: Option<Text<'a>>,
    /// Address and port of the peer; it proves nothing.
    #[serde(borrow)]
    pub client: Option<Text<'a>>,
}

/// The claims of a token that was refused, though its issuer has signed it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedToken<'a> {
    /// The issuer.
    #[serde(borrow)]
    pub issuer: Option<Text<'a>>,
    /// Its `sub`.
    #[serde(borrow)]
    pub subject: Option<Text<'a>>,
    /// The namespace of its service account.
    #[serde(borrow)]
    pub namespace: Option<Text<'a>>,
    /// The service account.
    #[serde(borrow)]
    pub service_account: Option<Text<'a>>,
    /// The pod's name.
    #[serde(borrow)]
    pub pod: Option<Text<'a>>,
    /// Its audiences.
    #[serde(borrow)]
    pub audiences: Vec<Text<'a>>,
    /// Its `jti`.
    #[serde(borrow)]
    pub token_id: Option<Text<'a>>,
}

/// The workload of the caller.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload<'a> {
    /// `NAMESPACE/NAME`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Who is responsible for it.
    #[serde(borrow)]
    pub owner: Option<Text<'a>>,
    /// Its environment.
    #[serde(borrow)]
    pub environment: Option<Text<'a>>,
}

/// The policy that decided.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy<'a> {
    /// `NAMESPACE/NAME`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The index of its allow rule that matched.
    pub rule: Option<u64>,
    /// `enforce` or `observe`.
    #[serde(borrow)]
    pub mode: Option<Text<'a>>,
    /// The revision in effect.
    #[serde(borrow)]
    pub revision: Option<Text<'a>>,
    /// In mode `observe`: what an enforced policy would have refused it for.
    #[serde(borrow)]
    pub would_refuse: Option<Text<'a>>,
}

/// Where the request was to go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Target<'a> {
    /// The `TargetService`, if one has this host.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// Host and port.
    #[serde(borrow)]
    pub authority: Text<'a>,
    /// `None` for a tunnel.
    #[serde(borrow)]
    pub method: Option<Text<'a>>,
    /// The caller's path, without its query.
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
    /// What the client spoke.
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
}

/// The credential that a request carried; never its value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Credential<'a> {
    /// `NAMESPACE/NAME`.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The target's slot that it filled.
    #[serde(borrow)]
    pub slot: Option<Text<'a>>,
    /// Counts the values since the gateway started.
    pub generation: Option<u64>,
    /// Seconds since this value was obtained.
    pub age_s: Option<u64>,
    /// Seconds until it expires.
    pub expires_in_s: Option<u64>,
    /// Whether its source failed when last asked.
    pub stale: bool,
    /// The value that the API rejected.
    #[serde(borrow)]
    pub rejected: Option<Rejected<'a>>,
}

/// A value that the API rejected.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejected<'a> {
    /// Its generation.
    pub generation: Option<u64>,
    /// The API's error code.
    #[serde(borrow)]
    pub api_error: Option<Text<'a>>,
}

/// The API's side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream<'a> {
    /// The address that was connected to.
    #[serde(borrow)]
    pub address: Option<Text<'a>>,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// The response's status.
    pub status: Option<u16>,
    /// The API's own error code.
    #[serde(borrow)]
    pub api_error: Option<Text<'a>>,
    /// Whether it was sent a second time with a new credential.
    pub replayed: bool,
    /// Whether the response contained the credential.
    pub echoed: bool,
}

/// Body bytes; for a tunnel all bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bytes {
    /// From the client.
    pub request: u64,
    /// To the client.
    pub response: u64,
}

/// Microseconds of each step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// To prove the caller.
    pub identify: u64,
    /// To decide.
    pub authorize: u64,
    /// To obtain the credential.
    pub credential: u64,
    /// To connect.
    pub connect: u64,
    /// To the response's head.
    pub first_byte: Option<u64>,
    /// To the response's end.
    pub total: u64,
}

/// The rule that came closest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Nearest<'a> {
    /// Its policy.
    #[serde(borrow)]
    pub policy: Text<'a>,
    /// Its index; `None` if the policy as a whole did not apply.
    pub rule: Option<u64>,
    /// What did not match.
    #[serde(borrow)]
    pub mismatches: Vec<Mismatch<'a>>,
}

/// One thing that did not match.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mismatch<'a> {
    /// The key of the resource.
    #[serde(borrow)]
    pub what: Text<'a>,
    /// What the policy expects.
    #[serde(borrow)]
    pub expected: Text<'a>,
    /// What the request has.
    #[serde(borrow)]
    pub actual: Text<'a>,
}
