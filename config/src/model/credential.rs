//! With what: where secret material is stored and how it becomes a credential.

use std::{path::PathBuf, time::Duration};

use jiff::civil::Date;

use super::ResourceName;
use crate::host::Host;

/// Where secret material is stored, and how it becomes the value on a request. Holds no secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `namespace/name`.
    pub name: ResourceName,
    /// The target it is for; it is never sent anywhere else.
    pub target: ResourceName,
    /// How it is obtained.
    pub provider: Provider,
    /// The namespaces whose policies may use it; never empty.
    pub allowed_namespaces: Vec<String>,
    /// The day by which a person must replace it.
    pub rotate_by: Option<Date>,
    /// The longest time for which one value may be used, whatever its issuer says.
    pub max_age: Option<Duration>,
    /// After this time without use the value is released. Default 10 minutes.
    pub idle_after: Duration,
    /// Whether a released value is also revoked at its issuer.
    pub revoke_when_idle: bool,
}

/// How a credential is obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// Used as it is stored.
    Static {
        /// Where the token is stored.
        token: SecretSource,
    },
    /// A user name and password for HTTP Basic (RFC 7617); their base64 is put on the request.
    Basic {
        /// The user's name; without a colon.
        username: String,
        /// Where the password is stored.
        password: SecretSource,
    },
    /// Slack's token rotation (`oauth.v2.access`).
    SlackRotation {
        /// Slack's own host: `slack.com`, or that of `GovSlack`.
        host: Host,
        /// The app's client id; public.
        client_id: String,
        /// Where the app's client secret is stored.
        client_secret: SecretSource,
        /// The token for the first refresh; later ones are kept in the state store.
        seed: SlackSeed,
    },
    /// An access token for the gateway itself (RFC 6749, section 4.4).
    ClientCredentials {
        /// Who issues it.
        endpoint: TokenEndpoint,
        /// The OAuth client that requests it.
        client: OauthClient,
        /// The scopes to ask for.
        scopes: Vec<String>,
        /// The `audience` to ask for, if the issuer needs one.
        audience: Option<String>,
    },
    /// The pod's own token, exchanged for one of the upstream (RFC 8693). Each caller gets its own.
    TokenExchange {
        /// Who exchanges it.
        endpoint: TokenEndpoint,
        /// The OAuth client that requests it; `None` if the pod's token is sufficient.
        client: Option<OauthClient>,
        /// The scopes to ask for.
        scopes: Vec<String>,
        /// The logical name of the service it is for.
        audience: Option<String>,
        /// The URI of the service it is for.
        resource: Option<String>,
    },
    /// A token that the gateway mints and signs (RFC 7519), used directly or exchanged for another.
    Jwt {
        /// Its claims.
        claims: JwtClaims,
        /// Its signing key.
        key: SigningKey,
        /// The exchange; `None` puts the minted token itself on requests.
        exchange: Option<JwtExchange>,
    },
}

impl Provider {
    /// The provider's key in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static { .. } => "static",
            Self::Basic { .. } => "basic",
            Self::SlackRotation { .. } => "slackRotation",
            Self::ClientCredentials { .. } => "oauth2ClientCredentials",
            Self::TokenExchange { .. } => "tokenExchange",
            Self::Jwt { .. } => "jwt",
        }
    }

    /// Whether each caller has a value of its own.
    pub fn is_per_caller(&self) -> bool {
        match self {
            Self::TokenExchange { .. } => true,
            Self::Static { .. }
            | Self::Basic { .. }
            | Self::SlackRotation { .. }
            | Self::ClientCredentials { .. }
            | Self::Jwt { .. } => false,
        }
    }
}

/// What Slack's rotation starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlackSeed {
    /// Where the first refresh token is stored.
    RefreshToken(SecretSource),
    /// Where a long-lived token is stored, which `oauth.v2.exchange` exchanges once for a rotating pair.
    LongLivedToken(SecretSource),
}

/// An OAuth 2.0 token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// Its `https` URL.
    pub url: String,
    /// Where a token is revoked when it is no longer used (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots for both instead of those of `upstream.roots`.
    pub ca_file: Option<PathBuf>,
}

/// The client at a token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthClient {
    /// The client id; public.
    pub id: String,
    /// How it authenticates.
    pub auth: ClientAuth,
}

/// How an OAuth 2.0 client authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
    /// `private_key_jwt` (RFC 7523, section 2.2).
    PrivateKeyJwt(SigningKey),
}

/// The key that signs a JWT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Where the PEM private key is stored.
    pub key: SecretSource,
    /// The `kid` header.
    pub key_id: Option<String>,
    /// The `alg` header.
    pub algorithm: SigningAlgorithm,
}

/// The algorithms a JWT can be signed with (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// The claims of a minted JWT, in addition to `iat`, `exp` and `jti`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// From `iat`, which is one minute in the past, to `exp`; between two minutes and one hour.
    pub lifetime: Duration,
    /// Further claims; none of the registered ones above.
    pub further: std::collections::BTreeMap<String, serde_json::Value>,
}

/// What a minted JWT is exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtExchange {
    /// An access token (RFC 7523, section 2.1).
    Grant {
        /// Who issues it.
        endpoint: TokenEndpoint,
        /// The scopes to ask for.
        scopes: Vec<String>,
    },
    /// A GitHub App's installation token: a POST with the JWT as `Authorization: Bearer`; the response
    /// has `token` and `expires_at`.
    Installation {
        /// The URL, such as `https://api.github.com/app/installations/1/access_tokens`.
        url: String,
        /// PEM roots for its certificates instead of those of `upstream.roots`.
        ca_file: Option<PathBuf>,
    },
}

/// Where a secret is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// A key of a Kubernetes Secret in the credential's namespace.
    KubernetesSecret {
        /// The Secret's name.
        name: String,
        /// The key within it.
        key: String,
    },
    /// A field of a secret in Vault or `OpenBao`.
    Vault {
        /// The secrets engine's mount. Default: `secret`.
        mount: String,
        /// The secret's path beneath the mount.
        path: String,
        /// The field within it.
        key: String,
        /// What kind of engine it is.
        engine: VaultEngine,
    },
    /// The output of an operator's helper.
    Exec {
        /// The program, by its absolute path, and its arguments.
        command: Vec<String>,
        /// The time it may take.
        timeout: Duration,
    },
}

/// A secrets engine of Vault or `OpenBao`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultEngine {
    /// Key and value, version 2.
    Kv2,
    /// One that makes a secret for the gateway, with a lease, such as `database`.
    Dynamic,
}
