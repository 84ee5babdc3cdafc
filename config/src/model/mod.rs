//! The usable form of the resources: parsed, cross-checked, immutable.
//!
//! Only `validate` makes these, so every field can be relied on.

mod console;
mod credential;
mod gateway;
mod governance;
mod policy;
mod source;
mod target;
mod traces;
mod workload;

pub use console::Console;
pub use countersign_types::{Limits, ResourceName, Transparency, Unidentified};
pub use credential::{
    ClientAuth, Credential, JwtClaims, JwtExchange, OauthClient, Provider, SecretSource,
    SigningAlgorithm, SigningKey, SlackSeed, TokenEndpoint, VaultEngine,
};
pub use gateway::{
    AddressRange, Admin, Audit, BundleSource, CaSource, CertificateSource, ClientTrust, Cluster,
    DecisionSink, Gateway, IN_CLUSTER, Issuer, JwksSource, Listener, ListenerMode, ListenerTls,
    Observe, ProxyAuthentication, RecordFormat, ServiceName, SinkPlace, StateStore, TokenReview,
    TrustDomain, TrustRoots, Unmatched, Upstream, UpstreamProxy, VaultAuth, VaultServer, WhenFull,
};
pub use governance::{Governance, GovernanceException, GovernanceRule};
pub use policy::{Approval, Conditions, Mode, Policy, Rate, Rule};
pub use source::{KubernetesSource, ResourceSource};
pub use target::{
    Attach, AuthFailure, AuthFailureAction, AuthFailureBlame, Place, Probe, RateLimitScope,
    RefusalAt, RefusalShape, RefusalShapes, Route, SlotName, Slots, Strip, Target, Template,
    TransportFaults,
};
pub use traces::{Collector, OtlpProtocol, TRACEPARENT, TRACESTATE, Traces};
pub use workload::{Selector, Workload};
