//! `TargetService`: where.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{TraceparentSpec, or_default};

/// An API: its hosts, how a credential is attached, and how it reports failures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetServiceSpec {
    /// A target of the catalog to start from: what is given here comes first or replaces it.
    pub extends: Option<String>,
    /// With `extends`: domains of the extended target and their replacements here, such as `slack.com:
    /// slack-gov.com`. Its hosts, and those of its routes and probe, are moved to these domains.
    #[serde(default, deserialize_with = "or_default")]
    pub domains: BTreeMap<String, String>,
    /// Its hosts, exact or with one `*` within the leftmost label.
    #[serde(default, deserialize_with = "or_default")]
    pub hosts: Vec<String>,
    /// The ports it may be reached at. Default: 443.
    pub ports: Option<Vec<u16>>,
    /// `false` for hosts that must not be decrypted, such as those whose certificates are pinned:
    /// policies then decide about tunnels, by workload, host, port and time. Default: `true`.
    pub intercept: Option<bool>,
    /// The kinds of credential that it knows. Default: one called `default`.
    pub slots: Option<SlotsSpec>,
    /// What to do by host and path; the first match counts.
    #[serde(default, deserialize_with = "or_default")]
    pub routes: Vec<RouteSpec>,
    /// How it reports that a credential failed; the first match counts.
    #[serde(default, deserialize_with = "or_default")]
    pub auth_failure: Vec<AuthFailureSpec>,
    /// How to refuse in the API's own format. Default: `application/problem+json`.
    pub refusal: Option<RefusalSpec>,
    /// How a caller is told that the API could not be reached or broke off before its response. Default:
    /// `status`.
    pub transport_faults: Option<TransportFaultsSpec>,
    /// A cheap request that shows whether a credential works.
    pub probe: Option<ProbeSpec>,
    /// Which requests its 429 applies to. Default: `per: credential`.
    pub rate_limit: Option<RateLimitSpec>,
    /// What happens to a path with an encoded slash (`%2F`). Default: `refuse`.
    pub encoded_slash: Option<EncodedSlashSpec>,
    /// What the API gets to know of the trace that a request belongs to. Default: `forward`.
    pub traceparent: Option<TraceparentSpec>,
}

/// What happens to a path with an encoded slash (`%2F`).
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EncodedSlashSpec {
    /// It is refused, since a server might take it for a separator.
    Refuse,
    /// It is sent as it is, for an API that takes it as part of an id and never as a separator. Patterns
    /// do the same: `*` matches a segment with encoded slashes.
    Keep,
}

/// The credential slots of a target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotsSpec {
    /// The slot that a policy's plain `credential` fills.
    pub default: String,
    /// All slots.
    pub names: Vec<String>,
}

/// What happens to a request for this host and path.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteSpec {
    /// A host of the target. Default: any of them.
    pub host: Option<String>,
    /// Path patterns. Default: any path.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// Always refuse; the text becomes the reason's detail.
    pub deny: Option<String>,
    /// The credential to put on the request.
    pub attach: Option<AttachSpec>,
    /// What is removed from the caller's request, in addition to what `attach` sets.
    pub strip: Option<StripSpec>,
    /// `false` where bodies are files, which are never inspected. Default: `true`.
    pub inspect_body: Option<bool>,
}

/// A credential's place on a request: `header` and `value`, `query` and `value`, or `path`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSpec {
    /// The slot whose credential is used. Default: the target's default.
    pub slot: Option<String>,
    /// The header to set.
    pub header: Option<String>,
    /// The query field to set.
    pub query: Option<String>,
    /// The whole path to set, with one `{token}`.
    pub path: Option<String>,
    /// The header's or field's value, with one `{token}`. Default: `{token}` alone.
    pub value: Option<String>,
}

/// What is removed from the caller's request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StripSpec {
    /// Header names.
    #[serde(default, deserialize_with = "or_default")]
    pub headers: Vec<String>,
    /// Names of `application/x-www-form-urlencoded` body fields.
    #[serde(default, deserialize_with = "or_default")]
    pub form_fields: Vec<String>,
    /// Names of query fields.
    #[serde(default, deserialize_with = "or_default")]
    pub query: Vec<String>,
}

/// One way in which the API says that a credential failed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthFailureSpec {
    /// HTTP statuses that mean it. Default: any.
    #[serde(default, deserialize_with = "or_default")]
    pub status: Vec<u16>,
    /// Top-level members that a JSON body must have, each with this value or one of these values.
    #[serde(default, deserialize_with = "or_default")]
    pub json: BTreeMap<String, serde_json::Value>,
    /// The whole body of a text response is one of these. Not together with `json`.
    #[serde(default, deserialize_with = "or_default")]
    pub text: Vec<String>,
    /// What to do then.
    pub then: AuthFailureThen,
    /// Who is at fault. Default: the operator.
    pub blame: Option<AuthFailureBlameSpec>,
}

/// Who is at fault for a failed credential.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthFailureBlameSpec {
    /// The person responsible for the credential.
    Operator,
    /// The gateway: the API saw no credential.
    Gateway,
}

/// What to do when a credential failed.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthFailureThen {
    /// Obtain a new credential and send the request once more.
    RefreshAndReplay,
    /// Read the secret's source again; send once more only if it changed.
    RereadSource,
    /// Pass the response on and record what it says.
    Report,
}

/// A refusal in the API's own format.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusalSpec {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`. Default: `application/json`.
    pub content_type: Option<String>,
    /// The body. Inside its texts are filled in: `{reason}`, the reason's code; `{message}`, a sentence;
    /// `{owner}`, who is responsible for the workload (empty if it is not known); `{id}`, the record's id; and
    /// `{explanation}`, all of these in one line. With a content type that is not JSON, write a text.
    pub body: serde_json::Value,
    /// Other formats for some hosts and paths; the first match counts.
    #[serde(default, deserialize_with = "or_default")]
    pub at: Vec<RefusalAtSpec>,
}

/// A refusal in the format of one host, or of some paths.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusalAtSpec {
    /// A host of the target. Default: any of them.
    pub host: Option<String>,
    /// Path patterns. Default: any path.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`. Default: `application/json`.
    pub content_type: Option<String>,
    /// The body, as that of `refusal`.
    pub body: serde_json::Value,
}

/// How a caller is told that the API could not be reached or broke off before its response.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TransportFaultsSpec {
    /// By a status: 502 or 503.
    Status,
    /// By closing the connection (HTTP/2: resetting the stream) without a response, as the API itself would.
    Close,
}

/// A cheap request that shows whether a credential works.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Its method.
    pub method: String,
    /// Its `https` URL, at a host of the target. It is made where a policy with the credential permits
    /// this request, or a request to the same host waits for it.
    pub url: Option<String>,
    /// Instead of `url`: its path and query, at the host of the request that waits for it.
    pub path: Option<String>,
    /// How long its result is valid while the credential is used. Default: `10m`.
    pub every: Option<String>,
    /// Top-level members of its JSON response that say whose credential it is, such as `team`.
    #[serde(default, deserialize_with = "or_default")]
    pub shows: Vec<String>,
}

/// Which requests a 429 applies to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSpec {
    /// Which further requests a 429 applies to.
    pub per: RateLimitPer,
}

/// Which further requests a 429 applies to.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitPer {
    /// All that carry the credential.
    Credential,
    /// Those that carry the credential to the same host and path.
    Path,
}
