//! `TargetService`: where.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_default;

/// An API: its hosts, how a credential is attached, and how it answers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetServiceSpec {
    /// A target of the catalog to start from: what is given here comes first or replaces.
    pub extends: Option<String>,
    /// With `extends`: domains of it, and what stands in their place here, such as
    /// `slack.com: slack-gov.com`. Its hosts, and those of its routes and probe, are taken under these.
    #[serde(default, deserialize_with = "or_default")]
    pub domains: BTreeMap<String, String>,
    /// Its hosts, exact or with one `*` within the leftmost label.
    #[serde(default, deserialize_with = "or_default")]
    pub hosts: Vec<String>,
    /// The ports it may be reached at; 443 unless given.
    pub ports: Option<Vec<u16>>,
    /// `false` for hosts that must not be decrypted, such as those whose certificates are pinned:
    /// policies then decide about tunnels, by workload, host, port and time; `true` unless given.
    pub intercept: Option<bool>,
    /// The kinds of credential it knows; one called `default` unless given.
    pub slots: Option<SlotsSpec>,
    /// What to do by host and path; the first match counts.
    #[serde(default, deserialize_with = "or_default")]
    pub routes: Vec<RouteSpec>,
    /// How it reports that a credential failed; the first match counts.
    #[serde(default, deserialize_with = "or_default")]
    pub auth_failure: Vec<AuthFailureSpec>,
    /// How to refuse in its own language; `application/problem+json` unless given.
    pub refusal: Option<RefusalSpec>,
    /// A cheap request that shows whether a credential works.
    pub probe: Option<ProbeSpec>,
    /// What its 429 speaks of; `per: credential` unless given.
    pub rate_limit: Option<RateLimitSpec>,
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
    /// A host of the target; any of them unless given.
    pub host: Option<String>,
    /// Path patterns; any path unless given.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// Refuse always; the text becomes the reason's detail.
    pub deny: Option<String>,
    /// The credential to put on the request.
    pub attach: Option<AttachSpec>,
    /// What is removed from the caller's request, besides what `attach` sets.
    pub strip: Option<StripSpec>,
    /// `false` where bodies are files, which are never looked into; `true` unless given.
    pub inspect_body: Option<bool>,
}

/// A credential's place on a request: `header` and `value`, `query` and `value`, or `path`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSpec {
    /// The slot whose credential is used; the target's default unless given.
    pub slot: Option<String>,
    /// The header to set.
    pub header: Option<String>,
    /// The query field to set.
    pub query: Option<String>,
    /// The whole path to set, with one `{token}`.
    pub path: Option<String>,
    /// The header's or field's value, with one `{token}`; `{token}` alone unless given.
    pub value: Option<String>,
}

/// What the caller sent that must not go on.
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
    /// HTTP statuses that mean it; any unless given.
    #[serde(default, deserialize_with = "or_default")]
    pub status: Vec<u16>,
    /// Top-level members of a JSON body that all must be there, each with this value or one of
    /// these values.
    #[serde(default, deserialize_with = "or_default")]
    pub json: BTreeMap<String, serde_json::Value>,
    /// The whole body of a text answer is one of these. Not together with `json`.
    #[serde(default, deserialize_with = "or_default")]
    pub text: Vec<String>,
    /// What to do then.
    pub then: AuthFailureThen,
    /// Whose fault it is; the operator's unless given.
    pub blame: Option<AuthFailureBlameSpec>,
}

/// Whose fault it is that a credential failed.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthFailureBlameSpec {
    /// Whoever looks after the credential.
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
    /// Pass the answer on and record what it said.
    Report,
}

/// A refusal in the API's own language.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusalSpec {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`; `application/json` unless given.
    pub content_type: Option<String>,
    /// The JSON body; `{reason}`, `{message}` and `{id}` inside texts are filled in.
    pub body: serde_json::Value,
}

/// A cheap request that shows whether a credential works.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Its method.
    pub method: String,
    /// Its `https` URL, at a host of the target. It is made where a policy with the credential permits
    /// that very request, or a request to the same host waits for it.
    pub url: Option<String>,
    /// Instead of `url`: its path and query, at the host of the request that waits for it.
    pub path: Option<String>,
    /// How long its answer is good for while the credential is used; `10m` unless given.
    pub every: Option<String>,
    /// Top-level members of its JSON answer that say whose credential it is, such as `team`.
    #[serde(default, deserialize_with = "or_default")]
    pub shows: Vec<String>,
}

/// What a 429 speaks of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSpec {
    /// Which further requests would meet the same.
    pub per: RateLimitPer,
}

/// Which requests a 429 speaks of.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitPer {
    /// All that carry the credential.
    Credential,
    /// Those that carry the credential to the same host and path.
    Path,
}
