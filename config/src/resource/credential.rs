//! `Credential`: with what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_default;

/// Where secret material is stored and how it becomes a credential. Exactly one of the providers
/// (`static`, `basic`, `slackRotation`, `oauth2ClientCredentials`, `tokenExchange`, `jwt`) is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSpec {
    /// The `TargetService` it is for.
    pub target: String,
    /// A token that is used as it is stored.
    #[serde(rename = "static")]
    pub static_token: Option<StaticSpec>,
    /// A user name and password.
    pub basic: Option<BasicSpec>,
    /// Slack's token rotation.
    pub slack_rotation: Option<SlackRotationSpec>,
    /// An access token for the gateway itself (RFC 6749, section 4.4).
    #[serde(rename = "oauth2ClientCredentials")]
    pub client_credentials: Option<ClientCredentialsSpec>,
    /// The pod's own token, exchanged (RFC 8693).
    pub token_exchange: Option<TokenExchangeSpec>,
    /// A token that the gateway mints and signs.
    pub jwt: Option<JwtSpec>,
    /// The namespaces whose policies may use it. Default: its own only.
    pub allowed_namespaces: Option<Vec<String>>,
    /// The day by which a person must replace it: `2027-03-31`.
    pub rotate_by: Option<String>,
    /// The longest time for which one value may be used, whatever its issuer says: `12h`.
    pub max_age: Option<String>,
    /// After this time without use the value is released. Default: `10m`.
    pub idle_after: Option<String>,
    /// Whether a released value is also revoked at its issuer.
    #[serde(default, deserialize_with = "or_default")]
    pub revoke_when_idle: bool,
}

/// A token that is used as it is stored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticSpec {
    /// Where the token is stored.
    pub token: SecretReference,
}

/// A user name and password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicSpec {
    /// The user name.
    pub username: String,
    /// Where the password is stored.
    pub password: SecretReference,
}

/// Slack's token rotation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlackRotationSpec {
    /// The app's client id; public.
    pub client_id: String,
    /// Where the app's client secret is stored.
    pub client_secret: SecretReference,
    /// Where the first refresh token is stored; later ones are kept in the state store.
    pub refresh_token: Option<SecretReference>,
    /// Instead of `refreshToken`: where a long-lived token is stored, which is exchanged once for a
    /// rotating pair.
    pub long_lived_token: Option<SecretReference>,
}

/// An access token for the gateway itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCredentialsSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// The OAuth client that requests the token.
    pub client: OauthClientSpec,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
    /// The `audience` to ask for.
    pub audience: Option<String>,
}

/// The pod's own token, exchanged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchangeSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// The OAuth client that requests the token. Default: none; the pod's token is sufficient.
    pub client: Option<OauthClientSpec>,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
    /// The logical name of the service it is for.
    pub audience: Option<String>,
    /// The URI of the service it is for.
    pub resource: Option<String>,
}

/// The client at a token endpoint: `id`, and `secret` or `key`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OauthClientSpec {
    /// The client id; public.
    pub id: String,
    /// Where the client secret is stored.
    pub secret: Option<SecretReference>,
    /// How the secret is sent. Default: `basic`.
    pub secret_by: Option<SecretBySpec>,
    /// The key of `private_key_jwt`.
    pub key: Option<SigningKeySpec>,
}

/// How a client secret is sent.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecretBySpec {
    /// As HTTP Basic (`client_secret_basic`).
    Basic,
    /// In the form (`client_secret_post`).
    Post,
}

/// The key that signs a JWT.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKeySpec {
    /// Where the PEM private key is stored.
    pub private_key: SecretReference,
    /// The `kid` header.
    pub key_id: Option<String>,
    /// The `alg` header. Default: `RS256`.
    pub algorithm: Option<SigningAlgorithmSpec>,
}

/// The algorithms a JWT can be signed with.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum SigningAlgorithmSpec {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A token that the gateway mints and signs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSpec {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// From `iat` to `exp`, at most 1 hour. Default: `10m`.
    pub lifetime: Option<String>,
    /// Further claims.
    #[serde(default, deserialize_with = "or_default")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// The signing key.
    pub key: SigningKeySpec,
    /// Exchanges the token for an access token (RFC 7523, section 2.1).
    pub grant: Option<JwtGrantSpec>,
    /// Exchanges the token for a GitHub App's installation token.
    pub installation: Option<InstallationSpec>,
}

/// Where a minted JWT is exchanged for an access token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtGrantSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
}

/// Where a minted JWT is exchanged for a GitHub App's installation token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallationSpec {
    /// Such as `https://api.github.com/app/installations/1/access_tokens`.
    pub url: String,
    /// PEM roots for its certificates instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
}

/// Where a secret is stored; never the secret itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SecretReference {
    /// A file, read again when it changes.
    File(String),
    /// A key of a Kubernetes Secret in the resource's namespace.
    KubernetesSecret(KubernetesSecretKey),
    /// A field of a secret in Vault or `OpenBao`.
    Vault(VaultKey),
    /// The output of an operator's helper.
    Exec(ExecSpec),
}

/// A key of a Kubernetes Secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key within it.
    pub key: String,
}

/// A field of a secret in Vault or `OpenBao`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKey {
    /// The secrets engine's mount. Default: `secret`.
    pub mount: Option<String>,
    /// The secret's path beneath the mount.
    pub path: String,
    /// The field within it.
    pub key: String,
    /// What kind of engine it is. Default: `kv2`.
    pub engine: Option<VaultEngineSpec>,
}

/// A secrets engine.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum VaultEngineSpec {
    /// Key and value, version 2.
    Kv2,
    /// One that makes a secret for the gateway, with a lease, such as `database`.
    Dynamic,
}

/// The output of an operator's helper.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// The time it may take. Default: `10s`.
    pub timeout: Option<String>,
}
