//! `Gateway`: configures one gateway. Everything but `resources` has a default.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    CLUSTER, IN_CLUSTER, OneOrMany,
    console::ConsoleSpec,
    governance::GovernanceSpec,
    or_default,
    plaintext::Plaintext,
    source::ResourceSourceSpec,
    store::{StateSpec, VaultSpec},
    traces::TracesSpec,
    unidentified::UnidentifiedSpec,
};

/// Everything one gateway needs to start.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewaySpec {
    /// Where it listens. Default: an explicit proxy at 127.0.0.1:3128.
    pub listeners: Option<Vec<ListenerSpec>>,
    /// The issuers and trust domains of callers. Default: the cluster in which the gateway runs.
    pub identity: Option<IdentitySpec>,
    /// Where resources come from.
    pub resources: Vec<ResourceSourceSpec>,
    /// How connections are decrypted.
    pub interception: Option<InterceptionSpec>,
    /// Where rotated secret material is kept. Default: `/var/lib/countersign/state`.
    pub state: Option<StateSpec>,
    /// The API server for Kubernetes Secrets. Default: that of the cluster in which the gateway runs.
    pub kubernetes: Option<ClusterSpec>,
    /// The Service of this gateway and its replicas, by whose `EndpointSlices` they are counted: each permits
    /// its share of a policy's `rate`. Default: this gateway is alone.
    pub service: Option<ServiceSpec>,
    /// The Vault or `OpenBao` for secrets.
    pub vault: Option<VaultSpec>,
    /// What happens to traffic that no target matches. Default: it is refused.
    pub unmatched: Option<UnmatchedSpec>,
    /// How upstreams are reached.
    pub upstream: Option<UpstreamSpec>,
    /// Where records, metrics and spans go.
    pub observe: Option<ObserveSpec>,
    /// The bounds of caches, queues, headers and waits.
    pub limits: Option<LimitsSpec>,
    /// What every resource must say, such as an owner of one's own organisation. Default: nothing more than a
    /// gateway needs to work.
    pub governance: Option<GovernanceSpec>,
}

/// A Service in the cluster of `kubernetes`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One listening address.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerSpec {
    /// Unique among the listeners.
    pub name: String,
    /// Address and port: `127.0.0.1:3128`.
    pub address: String,
    /// How clients address it. Default: `explicit`.
    pub mode: Option<ListenerModeSpec>,
    /// How connections are redirected to a transparent listener. Default: `redirect`.
    pub transparency: Option<TransparencySpec>,
    /// TLS towards the client.
    pub tls: Option<ListenerTlsSpec>,
    /// Allows a listener without TLS beyond loopback.
    pub plaintext: Option<Plaintext>,
    /// For a sidecar gateway: the identity of all connections to this listener.
    pub identity: Option<ListenerIdentitySpec>,
}

/// How clients address a listener.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ListenerModeSpec {
    /// An HTTP proxy: CONNECT and absolute-form requests.
    Explicit,
    /// Redirected connections, by their original destination.
    Transparent,
}

/// How connections are redirected to a transparent listener.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TransparencySpec {
    /// By netfilter's `REDIRECT`.
    Redirect,
    /// By netfilter's `TPROXY`; the gateway needs `CAP_NET_ADMIN`.
    Tproxy,
}

/// A listener's TLS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTlsSpec {
    /// A PEM file: the certificate chain, leaf first.
    pub certificate: Option<String>,
    /// A PEM file: the private key.
    pub key: Option<String>,
    /// Instead of both files: who signs the certificate. The gateway makes its key itself.
    pub issuer: Option<ListenerIssuerSpec>,
    /// Whether client certificates are asked for. Default: they are not.
    pub client_trust: Option<ClientTrustSpec>,
}

/// Who signs a listener's certificate: a signer of the cluster of `kubernetes`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerIssuerSpec {
    /// The signer's name, `countersign.dev/gateway`.
    pub signer: String,
    /// The names by which clients reach this listener.
    pub names: Vec<String>,
}

/// Whether a listener asks for client certificates.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClientTrustSpec {
    /// It does not.
    None,
    /// X.509-SVIDs of the configured trust domains.
    Spiffe,
}

/// The identity of all connections to a listener.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerIdentitySpec {
    /// The pod's own projected token file.
    pub token_file: String,
}

/// The issuers and trust domains of callers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentitySpec {
    /// Issuers of service-account tokens.
    #[serde(default, deserialize_with = "or_default")]
    pub issuers: Vec<IssuerSpec>,
    /// SPIFFE trust domains.
    #[serde(default, deserialize_with = "or_default")]
    pub trust_domains: Vec<TrustDomainSpec>,
}

/// An issuer of service-account tokens, usually one cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerSpec {
    /// The cluster's name in selectors and records.
    pub name: String,
    /// The exact `iss` claim; or `in-cluster`: the issuer of the gateway's own token, found at start.
    pub issuer: String,
    /// What `aud` must contain. Default: `countersign`.
    pub audience: Option<String>,
    /// The longest accepted lifetime of a token, from `iat` to `exp`: 10 minutes to 30 days. Default:
    /// `24h`.
    pub max_token_life: Option<String>,
    /// Where its public keys come from. With `issuer: in-cluster` the default is the gateway's own cluster.
    pub jwks: Option<JwksSpec>,
    /// Whether the API server also reviews tokens. With `issuer: in-cluster` the default is that it does.
    pub token_review: Option<TokenReviewSpec>,
    /// Whether the API server of `tokenReview` is also asked about pods, for selectors with `cronJob`,
    /// `podLabels` or `images`. Default: `false`; `true` for the gateway's own cluster where `identity` is
    /// not given.
    pub pod_facts: Option<bool>,
}

/// Where public keys come from: `url`, perhaps with `caFile`, or `file`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwksSpec {
    /// An `https` URL, or `http` on loopback.
    pub url: Option<String>,
    /// PEM roots for its certificates instead of the system's.
    pub ca_file: Option<String>,
    /// A file.
    pub file: Option<String>,
}

/// Token reviews by the API server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenReviewSpec {
    /// Which API server.
    pub cluster: ClusterSpec,
    /// How long a positive review is cached, at most 5 minutes. Default: `10s`. A deleted pod keeps
    /// access for this time, plus the ten seconds for which the API server itself caches a review.
    pub cache_for: Option<String>,
}

/// Which API server: `in-cluster`, or a mapping.
#[derive(Debug, Clone)]
pub enum ClusterSpec {
    /// That of the cluster in which the gateway runs, with its own service account.
    InCluster,
    /// Another.
    Api(ClusterApiSpec),
}

/// An API server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterApiSpec {
    /// Its base URL.
    pub url: String,
    /// PEM roots to trust for it.
    pub ca_file: Option<String>,
    /// The token file with which the gateway authenticates.
    pub token_file: String,
}

impl<'de> Deserialize<'de> for ClusterSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FIELDS: &[&str] = &["url", "caFile", "tokenFile"];
        deserializer.deserialize_struct(CLUSTER, FIELDS, ClusterVisitor)
    }
}

struct ClusterVisitor;

impl<'de> Visitor<'de> for ClusterVisitor {
    type Value = ClusterSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`in-cluster` or a mapping with `url`, `caFile`, `tokenFile`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ClusterSpec, E> {
        match text {
            IN_CLUSTER => Ok(ClusterSpec::InCluster),
            other => Err(E::unknown_variant(other, &[IN_CLUSTER])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClusterSpec, A::Error> {
        ClusterApiSpec::deserialize(MapAccessDeserializer::new(map)).map(ClusterSpec::Api)
    }

    fn visit_unit<E>(self) -> Result<ClusterSpec, E> {
        Ok(ClusterSpec::InCluster)
    }
}

impl JsonSchema for ClusterSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClusterSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let api = generator.subschema_for::<ClusterApiSpec>();
        json_schema!({ "anyOf": [{ "const": "in-cluster" }, api] })
    }
}

/// A SPIFFE trust domain.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustDomainSpec {
    /// Its name.
    pub name: String,
    /// The roots for its certificates.
    pub bundle: BundleSpec,
}

/// A trust bundle: `file` or `workloadApi`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleSpec {
    /// PEM or SPIFFE bundle JSON.
    pub file: Option<String>,
    /// The Unix socket of an agent that serves the SPIFFE Workload API, as
    /// `unix:///run/spire/agent.sock`.
    pub workload_api: Option<String>,
}

/// How connections are decrypted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterceptionSpec {
    /// The CA that signs the gateway's certificates.
    pub ca: Option<CaSpec>,
    /// Instead: who signs this gateway's intermediate.
    pub issuer: Option<InterceptionIssuerSpec>,
}

/// Who signs a gateway's intermediate: a signer of the cluster of `kubernetes`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterceptionIssuerSpec {
    /// The signer's name, `countersign.dev/interception`.
    pub signer: String,
    /// The `ConfigMap` in the gateway's namespace that says which root signs. Default: `countersign-trust`.
    pub state: Option<String>,
}

/// Where the interception CA is stored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum CaSpec {
    /// A directory; the CA is made there at first start.
    Directory(String),
}

/// What happens to traffic that no target matches.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnmatchedSpec {
    /// Refused.
    Deny,
    /// Tunnelled without being decrypted and without a credential.
    Tunnel,
}

/// How upstreams are reached.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamSpec {
    /// `system`, or a PEM file of roots to add to the system's.
    pub roots: Option<String>,
    /// Private address ranges that are allowed, as CIDRs.
    #[serde(default, deserialize_with = "or_default")]
    pub allow_addresses: Vec<String>,
    /// `host:port` to be dialled at another `address:port`.
    #[serde(default, deserialize_with = "or_default")]
    pub resolve: BTreeMap<String, String>,
    /// A corporate proxy to go through: `http://host:port`, or `https://host:port` if it speaks TLS.
    pub proxy: Option<String>,
    /// Who the gateway is to the corporate proxy, by Basic authentication.
    pub proxy_authentication: Option<ProxyAuthenticationSpec>,
    /// `system`, or a PEM file of roots to add to the system's, for the certificate of an `https://` proxy.
    pub proxy_roots: Option<String>,
}

/// A user name and password for a corporate proxy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyAuthenticationSpec {
    /// The user name.
    pub username: String,
    /// A file with the password, read again for each connection.
    pub password_file: String,
}

/// Where records, metrics and spans go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObserveSpec {
    /// Where decision records go: one sink, or a list of up to four. Default: standard output.
    pub decisions: Option<OneOrMany<DecisionSinkSpec>>,
    /// Makes decision records tamper-evident: each is sealed as part of a chain, and the chains are signed.
    pub audit: Option<AuditSpec>,
    /// The admin endpoint, or `none`. Default: `127.0.0.1:9901`.
    pub admin: Option<String>,
    /// The console at the admin endpoint. Default: for this machine alone, without a token.
    pub console: Option<ConsoleSpec>,
    /// A collector that gets the decision records too, as a sink that is dropped from when it is full. Default: none.
    pub otlp: Option<OtlpSpec>,
    /// A collector that gets spans of requests. Default: none.
    pub traces: Option<TracesSpec>,
}

/// The key and the signed checkpoints of the decision log.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditSpec {
    /// Where the signing key is made and kept, and where checkpoints are written. Each gateway needs its own.
    pub directory: String,
    /// How often what was written is signed: `1s` to `24h`. Default: `1m`.
    pub checkpoint_every: Option<String>,
}

/// Where decision records go: exactly one of `stdout`, `file` and `otlp`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionSinkSpec {
    /// Standard output, in this format.
    pub stdout: Option<RecordFormatSpec>,
    /// A file, rotated by size.
    pub file: Option<String>,
    /// The format of the file. Default: `json`.
    pub format: Option<RecordFormatSpec>,
    /// A collector of OpenTelemetry.
    pub otlp: Option<OtlpSpec>,
    /// What happens while the sink takes nothing more. Default: `drop`.
    pub when_full: Option<WhenFullSpec>,
}

/// How records are written.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordFormatSpec {
    /// One JSON object per line.
    Json,
    /// One event of the Open Cybersecurity Schema Framework per line, as JSON.
    Ocsf,
}

/// What happens to requests while a sink takes nothing more.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFullSpec {
    /// Nothing; records are lost and counted.
    Drop,
    /// They wait, for five seconds at most.
    Wait,
    /// They are refused.
    Refuse,
}

/// A collector that takes logs by OTLP over gRPC.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtlpSpec {
    /// The collector's URL, such as `http://otel-collector:4317`.
    pub endpoint: String,
    /// PEM roots for its certificate instead of the system's.
    pub ca_file: Option<String>,
}

/// The bounds of caches, queues, headers and waits; see [`crate::model::Limits`] for each.
/// Times are texts such as `10s`, sizes are bytes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// The most memory in bytes that all peers together can make the gateway hold.
    pub memory: Option<u64>,
    /// Open client connections of identified callers.
    pub connections: Option<u64>,
    /// Unidentified client connections.
    pub unidentified: Option<UnidentifiedSpec>,
    /// The bytes of a request head.
    pub head_bytes: Option<u64>,
    /// The time for a request's head to arrive.
    pub head_timeout: Option<String>,
    /// The time for a client's TLS handshake.
    pub handshake_timeout: Option<String>,
    /// The time to resolve and connect to an upstream, handshake included.
    pub connect_timeout: Option<String>,
    /// The time for an upstream's response head.
    pub response_timeout: Option<String>,
    /// The longest time without progress in either body.
    pub body_idle_timeout: Option<String>,
    /// The longest idle time of a client connection.
    pub client_idle_timeout: Option<String>,
    /// The longest idle time of an upstream connection.
    pub upstream_idle_timeout: Option<String>,
    /// Open upstream connections to one authority with one credential.
    pub upstream_connections: Option<u64>,
    /// The largest form body that is rewritten.
    pub form_bytes: Option<u64>,
    /// The largest request body kept for a replay.
    pub replay_bytes: Option<u64>,
    /// The prefix of a response read to detect a failed credential.
    pub inspect_bytes: Option<u64>,
    /// Leaf certificates kept.
    pub leaves: Option<u64>,
    /// The time open requests have to finish after SIGTERM.
    pub drain: Option<String>,
}
