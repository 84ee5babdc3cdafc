//! The resources as they are written: one file per kind, unknown keys refused.
//!
//! These types mirror the YAML and check nothing else: texts are still texts here. Only `validate` makes
//! usable values from them. Every secret is a reference, never a value.

mod access_policy;
mod console;
mod credential;
mod gateway;
mod governance;
mod one_or_many;
mod plaintext;
mod source;
mod store;
mod target_service;
mod traces;
mod unidentified;
mod workload;

pub use access_policy::{AccessPolicySpec, AllowRule, ConditionsSpec, PolicyMode, ScheduleSpec};
pub use console::ConsoleSpec;
pub use credential::{
    BasicSpec, ClientCredentialsSpec, CredentialSpec, ExecSpec, InstallationSpec, JwtGrantSpec,
    JwtSpec, KubernetesSecretKey, OauthClientSpec, SecretBySpec, SecretReference,
    SigningAlgorithmSpec, SigningKeySpec, SlackRotationSpec, StaticSpec, TokenExchangeSpec,
    VaultEngineSpec, VaultKey,
};
pub use gateway::{
    AuditSpec, BundleSpec, CaSpec, ClientTrustSpec, ClusterApiSpec, ClusterSpec, DecisionSinkSpec,
    GatewaySpec, IdentitySpec, InterceptionIssuerSpec, InterceptionSpec, IssuerSpec, JwksSpec,
    LimitsSpec, ListenerIdentitySpec, ListenerIssuerSpec, ListenerModeSpec, ListenerSpec,
    ListenerTlsSpec, ObserveSpec, OtlpSpec, ProxyAuthenticationSpec, RecordFormatSpec, ServiceSpec,
    TokenReviewSpec, TransparencySpec, TrustDomainSpec, UnmatchedSpec, UpstreamSpec, WhenFullSpec,
};
pub use governance::{GovernanceExceptionSpec, GovernanceRuleSpec, GovernanceSpec};
pub(crate) use one_or_many::ONE_OR_MANY;
pub use one_or_many::OneOrMany;
pub use plaintext::Plaintext;
pub use source::{KubernetesSourceSpec, ObjectSelectorSpec, ResourceSourceSpec};
pub use store::{
    KubernetesStateSpec, StateSpec, VaultAuthSpec, VaultKubernetesSpec, VaultSpec, VaultStateSpec,
};
pub use target_service::{
    AttachSpec, AuthFailureBlameSpec, AuthFailureSpec, AuthFailureThen, EncodedSlashSpec,
    ProbeSpec, RateLimitPer, RateLimitSpec, RefusalAtSpec, RefusalSpec, RouteSpec, SlotsSpec,
    StripSpec, TargetServiceSpec, TransportFaultsSpec,
};
pub use traces::{OtlpProtocolSpec, SamplingSpec, TraceparentSpec, TracesSpec};
pub use unidentified::UnidentifiedSpec;
pub use workload::{SelectorSpec, WorkloadSpec};

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, Visitor},
};

/// The only `apiVersion`.
pub const API_VERSION: &str = "countersign.dev/v1alpha1";

/// The serde name of [`SecretReference`]; a text in its place is a pasted secret.
pub(crate) const SECRET_REFERENCE: &str = "SecretReference";

/// The serde name of [`ClusterSpec`], which is a mapping or the word [`IN_CLUSTER`].
pub(crate) const CLUSTER: &str = "ClusterSpec";
pub(crate) const IN_CLUSTER: &str = "in-cluster";

/// The serde name that marks a key as optional.
pub(crate) const OR_DEFAULT: &str = "OrDefault";

/// Reads a key with a default, so that it can be distinguished from a required key before it is read.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    struct OrDefault<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for OrDefault<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<T, D::Error> {
            T::deserialize(deserializer)
        }
    }

    deserializer.deserialize_newtype_struct(OR_DEFAULT, OrDefault(PhantomData))
}

/// The kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Who.
    Workload,
    /// Where.
    TargetService,
    /// With what.
    Credential,
    /// Under which rule.
    AccessPolicy,
    /// The Gateway file.
    Gateway,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Workload,
        Self::TargetService,
        Self::Credential,
        Self::AccessPolicy,
        Self::Gateway,
    ];

    /// As written under `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "Workload",
            Self::TargetService => "TargetService",
            Self::Credential => "Credential",
            Self::AccessPolicy => "AccessPolicy",
            Self::Gateway => "Gateway",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its resources have a namespace.
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Workload | Self::Credential | Self::AccessPolicy => true,
            Self::TargetService | Self::Gateway => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a resource, with labels and annotations.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits, `-` and `.`; unique among its kind and namespace.
    pub name: String,
    /// The namespace, for the kinds that have one.
    pub namespace: Option<String>,
    /// As in Kubernetes; not used here.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// As in Kubernetes; not used here.
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub creation_timestamp: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub deletion_grace_period_seconds: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub deletion_timestamp: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub finalizers: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub generate_name: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub generation: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub managed_fields: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub owner_references: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub resource_version: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub self_link: Option<IgnoredAny>,
    /// Of the API server; not used here.
    #[schemars(with = "Option<serde_json::Value>")]
    pub uid: Option<IgnoredAny>,
}
