//! Providers: how a credential is obtained. One `match` knows them all.

mod basic;
mod client_credentials;
mod jwt;
mod signing;
mod slack_rotation;
mod static_;
mod token_endpoint;
mod token_exchange;

pub(super) use slack_rotation::Memory as Rotations;
pub use slack_rotation::RotationError;
pub(super) use slack_rotation::revoke as revoke_slack;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::model::{Credential, JwtExchange, OauthClient, Provider, TokenEndpoint};
use countersign_core::{bearer::Bearer, redact::redact, secret::Secret};
use http::{HeaderValue, Request, Response, Uri};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    CredentialError, Issued, IssuerFault, Tools,
    revoke::Revocation,
    source::{Form, Made, Material, Recheck, Wanted},
};
use token_endpoint::Asked;

/// What issuers know us by; some refuse who does not say.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// What a provider brought.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) secret: Secret,
    /// From when on its issuer no longer takes it.
    pub(super) expires_at: Option<Timestamp>,
    /// How its issuer is told that it is no longer needed, where it can be told.
    pub(super) revocation: Option<Revocation>,
    /// When to see about the next one, where the provider knows better than the slot.
    pub(super) renew_at: Option<Timestamp>,
    /// How it is noticed that its source holds another, where that has no known end.
    pub(super) recheck: Option<Recheck>,
    /// What it is of, where a source made it for us.
    pub(super) made: Option<Arc<Made>>,
}

impl Fetched {
    /// As a source holds it; `secret` is what becomes of the material.
    fn of_source(material: Material, secret: Secret) -> Self {
        let lease = material.made.as_ref().map(|made| Arc::clone(&made.lease));
        Self {
            secret,
            expires_at: material.expires_at,
            revocation: lease.map(Revocation::Lease),
            renew_at: None,
            recheck: material.recheck,
            made: material.made,
        }
    }

    /// As somebody issued it.
    pub(super) fn issued(
        secret: Secret,
        expires_at: Option<Timestamp>,
        revocation: Option<Revocation>,
    ) -> Self {
        Self {
            secret,
            expires_at,
            revocation,
            renew_at: None,
            recheck: None,
            made: None,
        }
    }
}

/// What a provider is asked.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    /// The credential that a value is wanted for.
    pub(super) credential: &'a Credential,
    /// For whom, where each caller has a value of its own.
    pub(super) caller: Option<&'a dyn Bearer>,
    /// The value that is held and was not rejected.
    pub(super) held: Option<&'a Issued>,
    /// A value that the API has rejected, so that it is not brought again.
    pub(super) rejected: Option<&'a Secret>,
    /// The time.
    pub(super) now: Timestamp,
}

impl<'a> Asking<'a> {
    /// What a source is asked for the value itself.
    fn wanted(&self, form: Form) -> Wanted<'a> {
        Wanted {
            credential: self.credential,
            form,
            held: self.held,
            rejected: self.rejected.is_some(),
        }
    }

    /// A token endpoint, asked on behalf of the credential.
    fn at(
        &self,
        endpoint: &'a TokenEndpoint,
        client: Option<&'a OauthClient>,
        tools: &'a Tools,
    ) -> Asked<'a> {
        Asked {
            credential: self.credential,
            endpoint,
            client,
            tools,
            now: self.now,
        }
    }
}

/// Whom a slot asks for values.
#[derive(Debug, Clone)]
pub(super) enum Fetcher {
    /// The credential's provider.
    Provider(Arc<Tools>),
    /// A test's.
    #[cfg(test)]
    Fake(Arc<super::tests::Fake>),
}

impl Fetcher {
    pub(super) async fn fetch(&self, asking: Asking<'_>) -> Result<Fetched, CredentialError> {
        let tools = match self {
            Self::Provider(tools) => tools,
            #[cfg(test)]
            Self::Fake(fake) => return fake.fetch().await,
        };
        match &asking.credential.provider {
            Provider::Static { token } => static_::fetch(&asking, token, tools).await,
            Provider::Basic { username, password } => {
                basic::fetch(&asking, username, password, tools).await
            }
            Provider::SlackRotation {
                host,
                client_id,
                client_secret,
                seed,
            } => {
                let app = slack_rotation::App {
                    host,
                    client_id,
                    client_secret,
                    seed,
                };
                // Boxed: of all providers it has the most to keep.
                let fetched = Box::pin(slack_rotation::fetch(&asking, app, tools)).await;
                slack_rotation::keep_soon(tools, &asking.credential.name);
                fetched
            }
            Provider::ClientCredentials {
                endpoint,
                client,
                scopes,
                audience,
            } => {
                let asked = asking.at(endpoint, Some(client), tools);
                client_credentials::fetch(asked, scopes, audience.as_deref()).await
            }
            Provider::TokenExchange {
                endpoint,
                client,
                scopes,
                audience,
                resource,
            } => {
                let asked = asking.at(endpoint, client.as_ref(), tools);
                let wanted = token_exchange::Wanted {
                    scopes,
                    audience: audience.as_deref(),
                    resource: resource.as_deref(),
                };
                token_exchange::fetch(&asking, asked, wanted).await
            }
            Provider::Jwt {
                claims,
                key,
                exchange,
            } => jwt::fetch(&asking, claims, key, exchange.as_ref(), tools).await,
        }
    }

    /// Whether another replica may renew the very value that this one holds.
    pub(super) fn is_renewed_elsewhere(credential: &Credential) -> bool {
        matches!(credential.provider, Provider::SlackRotation { .. })
    }

    /// What another replica has renewed already, if it has. Nothing is spent for it.
    pub(super) async fn renewed_elsewhere(&self, asking: &Asking<'_>) -> Option<Fetched> {
        match self {
            Self::Provider(tools) if Self::is_renewed_elsewhere(asking.credential) => {
                slack_rotation::renewed_elsewhere(asking, tools).await
            }
            Self::Provider(_) => None,
            #[cfg(test)]
            Self::Fake(_) => None,
        }
    }

    /// Tells a value's issuer that it is no longer needed.
    pub(super) async fn revoke(
        &self,
        revocation: &Revocation,
        credential: &Credential,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<(), CredentialError> {
        match self {
            Self::Provider(tools) => {
                let asking = Asking {
                    credential,
                    caller: None,
                    held: None,
                    rejected: None,
                    now,
                };
                revocation.carry_out(&asking, secret, tools).await
            }
            #[cfg(test)]
            Self::Fake(fake) => fake.revoke(secret),
        }
    }

    /// Whether a refresh of this credential was begun and nobody knows how it ended.
    pub(super) async fn was_cut_off(&self, credential: &Credential) -> bool {
        match self {
            Self::Provider(tools) => match &credential.provider {
                Provider::SlackRotation { .. } => {
                    slack_rotation::was_cut_off(&credential.name, tools).await
                }
                Provider::Static { .. }
                | Provider::Basic { .. }
                | Provider::ClientCredentials { .. }
                | Provider::TokenExchange { .. }
                | Provider::Jwt { .. } => false,
            },
            #[cfg(test)]
            Self::Fake(_) => false,
        }
    }

    /// Whether what a refresh of this credential would bring could be kept.
    pub(super) async fn prove(&self, credential: &Credential) -> Result<(), CredentialError> {
        match self {
            Self::Provider(tools) => match &credential.provider {
                Provider::SlackRotation { .. } => Ok(tools.state.prove(&credential.name).await?),
                Provider::Static { .. }
                | Provider::Basic { .. }
                | Provider::ClientCredentials { .. }
                | Provider::TokenExchange { .. }
                | Provider::Jwt { .. } => Ok(()),
            },
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Waits, for `limit` at most, until nothing is under way that would be lost; whether that was so.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        match self {
            Self::Provider(tools) => {
                let end = Instant::now() + limit;
                let finished = tools.rotations.finish(limit).await;
                slack_rotation::keep_before_end(tools, end).await;
                finished
            }
            #[cfg(test)]
            Self::Fake(_) => true,
        }
    }
}

/// Ends an access token where the credential says that it can be ended (RFC 7009).
pub(super) async fn revoke_access_token(
    asking: &Asking<'_>,
    token: &Secret,
    tools: &Tools,
) -> Result<(), CredentialError> {
    let (endpoint, client) = match &asking.credential.provider {
        Provider::ClientCredentials {
            endpoint, client, ..
        } => (endpoint, Some(client)),
        Provider::TokenExchange {
            endpoint, client, ..
        } => (endpoint, client.as_ref()),
        Provider::Jwt {
            exchange: Some(JwtExchange::Grant { endpoint, .. }),
            ..
        } => (endpoint, None),
        Provider::Static { .. }
        | Provider::Basic { .. }
        | Provider::SlackRotation { .. }
        | Provider::Jwt { .. } => return Ok(()),
    };
    asking.at(endpoint, client, tools).revoke(token).await
}

/// One exchange with an issuer; a failure tells its host.
async fn send(
    credential: &Credential,
    url: &str,
    request: Result<Request<Bytes>, http::Error>,
    tools: &Tools,
    roots: Option<&Path>,
) -> Result<Response<Bytes>, CredentialError> {
    let unavailable = |why: String| CredentialError::Issuer {
        host: host(url),
        fault: IssuerFault::Unavailable(why.into()),
    };
    let request = request.map_err(|error| unavailable(error.to_string()))?;
    let answer = tools.http.send(&credential.name, request, roots).await;
    answer.map_err(|error| unavailable(error.to_string()))
}

/// The value of `Authorization`.
fn authorization(scheme: &str, value: &str) -> Result<HeaderValue, CredentialError> {
    let text = Zeroizing::new(format!("{scheme}{value}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| CredentialError::Unusable {
        what: "the client's proof of itself has bytes that no header may have",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A JSON object. Left to itself serde would also take an array for a struct. Why it is none is not
/// told: the parser's error shows parts of it.
fn json_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    is_object
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

/// An issuer's own words, fit to be told: printable, short, without what looks like a credential.
fn words(text: &str, longest: usize) -> Arc<str> {
    let printable = |character: char| {
        let shown = character.is_ascii_graphic() || character == ' ';
        if shown { character } else { '?' }
    };
    let text: String = text.chars().take(4 * longest).map(printable).collect();
    redact(&text)
        .chars()
        .take(longest)
        .collect::<String>()
        .into()
}

fn host(url: &str) -> Arc<str> {
    let uri = url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host);
    host.unwrap_or("the issuer").into()
}
