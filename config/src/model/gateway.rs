//! The Gateway file.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_types::{Limits, Transparency, host::Host};
use ipnet::IpNet;

use super::{Collector, Console, ResourceSource, Traces};
use crate::spiffe::TrustDomainName;

/// Everything one gateway needs to start. Paths are as written: relative ones are relative to
/// the working directory.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The resource's name.
    pub name: String,
    /// Where it listens; never empty.
    pub listeners: Vec<Listener>,
    /// The issuers of service-account tokens.
    pub issuers: Vec<Issuer>,
    /// The trust domains of X.509-SVIDs.
    pub trust_domains: Vec<TrustDomain>,
    /// Where the resources come from; never empty.
    pub resources: Vec<ResourceSource>,
    /// Where the interception CA is stored.
    pub ca: CaSource,
    /// Where rotated secret material is kept.
    pub state: StateStore,
    /// The API server for reading Kubernetes Secrets and keeping state.
    pub kubernetes: Cluster,
    /// The Service by whose `EndpointSlices` the gateway's replicas are counted.
    pub service: Option<ServiceName>,
    /// The Vault or `OpenBao` for reading secrets and keeping state.
    pub vault: Option<VaultServer>,
    /// What happens to traffic that no target matches.
    pub unmatched: Unmatched,
    /// How upstreams are reached.
    pub upstream: Upstream,
    /// Where records, metrics and spans go.
    pub observe: Observe,
    /// The bounds of caches, queues, headers and waits.
    pub limits: Limits,
    /// Whether a start goes on from what earlier ones left in the state directory: the last revision that could be
    /// used, and which root they had.
    pub continues_earlier_runs: bool,
    /// What resources must say; `None`: nothing more.
    pub governance: Option<super::Governance>,
}

/// The namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One listening address.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique among the listeners.
    pub name: String,
    /// Port 0 picks a free one.
    pub address: SocketAddr,
    /// How clients address it.
    pub mode: ListenerMode,
    /// TLS towards the client; `None` is plain TCP, which needs explicit consent beyond loopback.
    pub tls: Option<ListenerTls>,
    /// For a sidecar gateway: the pod's own token file, which identifies all connections to this
    /// listener.
    pub own_token_file: Option<PathBuf>,
}

/// How clients address a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerMode {
    /// An HTTP proxy: CONNECT and absolute-form requests.
    Explicit,
    /// Redirected connections, by their original destination; such a listener has a token file.
    Transparent(Transparency),
}

/// A listener's TLS.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Where its certificate comes from.
    pub source: CertificateSource,
    /// Whether client certificates are asked for.
    pub client_trust: ClientTrust,
}

impl ListenerTls {
    /// With a certificate and a key in files.
    pub fn of_files(certificate: PathBuf, key: PathBuf, client_trust: ClientTrust) -> Self {
        Self {
            source: CertificateSource::Files { certificate, key },
            client_trust,
        }
    }

    /// The files of certificate and key, if it is in files.
    pub fn files(&self) -> Option<[&Path; 2]> {
        match &self.source {
            CertificateSource::Files { certificate, key } => Some([certificate, key]),
            CertificateSource::Signer { .. } => None,
        }
    }
}

/// Where a listener's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Files, which are read again when they change.
    Files {
        /// PEM certificate chain, leaf first.
        certificate: PathBuf,
        /// PEM private key.
        key: PathBuf,
    },
    /// A signer of the cluster; the key is made here.
    Signer {
        /// Its name.
        signer: String,
        /// The names by which clients reach the listener; at least one.
        names: Vec<Host>,
    },
}

/// Whether a listener asks for client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTrust {
    /// It does not.
    None,
    /// X.509-SVIDs of the configured trust domains.
    Spiffe,
}

/// The `issuer` of the cluster in which the gateway runs, whatever it is called.
pub const IN_CLUSTER: &str = "in-cluster";

/// An issuer of service-account tokens, usually one cluster.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The cluster's name in selectors and records.
    pub name: String,
    /// The exact `iss` claim; or [`IN_CLUSTER`]: that of the gateway's own token, which only a start can find.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// The longest accepted lifetime of a token.
    pub max_token_life: Duration,
    /// Where its public keys come from.
    pub jwks: JwksSource,
    /// Whether the API server also reviews tokens.
    pub token_review: Option<TokenReview>,
    /// The API server that is asked about pods, if it is.
    pub pod_facts: Option<Cluster>,
}

/// Where an issuer's public keys come from. Never taken from a token.
#[derive(Debug, Clone)]
pub enum JwksSource {
    /// An `https` URL, or `http` on loopback.
    Url {
        /// The URL.
        url: String,
        /// PEM roots for its certificates instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// A file, read again when it changes.
    File(PathBuf),
}

/// Token reviews by the API server.
#[derive(Debug, Clone)]
pub struct TokenReview {
    /// Which API server.
    pub cluster: Cluster,
    /// How long a positive review is cached. A deleted pod keeps access for this time, plus the ten
    /// seconds for which the API server itself caches a valid token.
    pub cache_for: Duration,
}

/// A SPIFFE trust domain.
#[derive(Debug, Clone)]
pub struct TrustDomain {
    /// Its name, for example `prod.example.com`.
    pub name: TrustDomainName,
    /// Where its roots come from.
    pub bundle: BundleSource,
}

/// Where a trust domain's roots come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// PEM or SPIFFE bundle JSON, read again when it changes.
    File(PathBuf),
    /// The Unix socket of an agent that serves the SPIFFE Workload API.
    WorkloadApi(PathBuf),
}

/// Where the interception CA is stored.
#[derive(Debug, Clone)]
pub enum CaSource {
    /// A directory; the CA is made there at first start, mode 0600.
    Directory(PathBuf),
    /// A signer of the cluster signs the intermediate, whose key is made here.
    Signer {
        /// Its name.
        signer: String,
        /// The `ConfigMap` in the gateway's namespace that says which root signs.
        state: String,
    },
}

/// Where rotated secret material is kept.
#[derive(Debug, Clone)]
pub enum StateStore {
    /// Files in a directory, mode 0600.
    Directory {
        /// The directory.
        path: PathBuf,
        /// The file with the key that encrypts them.
        key_file: Option<PathBuf>,
    },
    /// Secrets in a namespace.
    Kubernetes {
        /// The namespace.
        namespace: String,
    },
    /// KV v2 in Vault or `OpenBao`.
    Vault {
        /// The secrets engine's mount.
        mount: String,
        /// The path beneath it.
        path: String,
    },
}

/// A Kubernetes API server, as the gateway reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its base URL, without a trailing slash.
    pub url: String,
    /// PEM roots to trust for it.
    pub ca_file: Option<PathBuf>,
    /// The token file with which the gateway authenticates, read again each time.
    pub token_file: PathBuf,
}

impl Cluster {
    /// The API server of the cluster in which the gateway runs, from the pod's environment.
    pub fn in_cluster() -> Self {
        let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            url: "https://kubernetes.default.svc".to_owned(),
            ca_file: Some(account.join("ca.crt")),
            token_file: account.join("token"),
        }
    }
}

/// A Vault or `OpenBao` server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultServer {
    /// Its base URL, without a trailing slash.
    pub address: String,
    /// PEM roots for its certificates instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The value of `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// How the gateway authenticates.
    pub auth: VaultAuth,
}

/// How a gateway authenticates to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// By its own service-account token (`auth/MOUNT/login`).
    Kubernetes {
        /// The role to ask for.
        role: String,
        /// Where the method is mounted.
        mount: String,
        /// The token's file, read again each time.
        token_file: PathBuf,
    },
    /// By a Vault token in a file, read again when it changes.
    TokenFile(PathBuf),
}

/// What happens to traffic that no target matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// Refused.
    Deny,
    /// Tunnelled without being decrypted and without a credential.
    Tunnel,
}

/// A range of addresses.
pub type AddressRange = IpNet;

/// How upstreams are reached.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The roots for their certificates.
    pub roots: TrustRoots,
    /// Private address ranges that are allowed.
    pub allow_addresses: Vec<AddressRange>,
    /// `host:port` to be dialled at another address, as with curl's `--connect-to`. These addresses are
    /// not checked: the operator chose them.
    pub resolve: BTreeMap<(Host, u16), SocketAddr>,
    /// A corporate proxy to go through.
    pub proxy: Option<UpstreamProxy>,
}

/// The roots for upstream certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustRoots {
    /// The system's roots.
    System,
    /// The system's roots and those in a PEM file.
    SystemAnd(PathBuf),
    /// Only those in a PEM file.
    Only(PathBuf),
}

/// A corporate HTTP proxy, used by CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The roots for its certificate, if it speaks TLS.
    pub tls: Option<TrustRoots>,
    /// Who the gateway is to it.
    pub authentication: Option<ProxyAuthentication>,
}

/// A user name and password for a corporate proxy (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAuthentication {
    /// The user name, which has no colon.
    pub username: String,
    /// A file with the password, read again for each connection.
    pub password_file: PathBuf,
}

/// Where records, metrics and spans go.
#[derive(Debug, Clone)]
pub struct Observe {
    /// Where decision records go; never empty.
    pub decisions: Vec<DecisionSink>,
    /// How decision records are made tamper-evident; `None` if they are not.
    pub audit: Option<Audit>,
    /// The admin endpoint; `None` is no endpoint.
    pub admin: Option<Admin>,
    /// Where spans of requests go; `None` if none are made.
    pub traces: Option<Traces>,
    /// The console at the admin endpoint; `None` is no console.
    pub console: Option<Console>,
}

/// Signed checkpoints of the decision log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where the key and the checkpoints are.
    pub directory: PathBuf,
    /// How often what was written is signed.
    pub checkpoint_every: Duration,
}

/// The admin endpoint's address.
pub type Admin = SocketAddr;

/// Where decision records go, and what happens while that takes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionSink {
    /// Where they go.
    pub place: SinkPlace,
    /// What happens while it takes nothing more.
    pub when_full: WhenFull,
}

/// Where decision records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkPlace {
    /// Standard output.
    Stdout(RecordFormat),
    /// A file, rotated by size.
    File {
        /// Its path.
        path: PathBuf,
        /// What is in it.
        format: RecordFormat,
    },
    /// A collector of OpenTelemetry.
    Otlp(Collector),
}

/// How records are written, one JSON object per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// As decision records.
    Json,
    /// As events of the Open Cybersecurity Schema Framework.
    Ocsf,
}

/// What happens to requests while a sink takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Nothing; records are lost and counted.
    Drop,
    /// They wait for a bounded time.
    Wait,
    /// They are refused.
    Refuse,
}

impl WhenFull {
    /// The word in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
        }
    }
}

impl DecisionSink {
    /// Records to standard output, as they are.
    pub fn stdout() -> Self {
        Self {
            place: SinkPlace::Stdout(RecordFormat::Json),
            when_full: WhenFull::Drop,
        }
    }

    /// Records to a file, as they are.
    pub fn file(path: PathBuf) -> Self {
        Self {
            place: SinkPlace::File {
                path,
                format: RecordFormat::Json,
            },
            when_full: WhenFull::Drop,
        }
    }
}
