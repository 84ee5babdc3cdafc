//! Providers: how a credential is obtained. One `match` lists them all.

mod basic;
mod client_credentials;
mod jwt;
mod signing;
mod slack_rotation;
mod static_;
mod token_endpoint;
mod token_exchange;

pub(super) use slack_rotation::Memory as Rotations;
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
    CredentialError, Issued, IssuerFault, ProviderContext,
    revocation::Revocation,
    source::{DynamicSecret, Form, Material, Recheck, SourceRequest},
};
use token_endpoint::TokenRequest;

/// The user agent towards issuers; some refuse requests without one.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// What a provider fetched.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) secret: Secret,
    /// When its issuer stops accepting it.
    pub(super) expires_at: Option<Timestamp>,
    /// How to revoke it at its issuer, if that is possible.
    pub(super) revocation: Option<Revocation>,
    /// When to renew it, if the provider knows better than the slot.
    pub(super) renew_at: Option<Timestamp>,
    /// How to detect a changed source when the value has no expiry.
    pub(super) recheck: Option<Recheck>,
    /// The dynamic secret that it came from, if a source made one.
    pub(super) dynamic_secret: Option<Arc<DynamicSecret>>,
}

impl Fetched {
    /// A value from a source; `secret` is made from the material.
    fn of_source(material: Material, secret: Secret) -> Self {
        let lease = material
            .dynamic_secret
            .as_ref()
            .map(|dynamic_secret| Arc::clone(&dynamic_secret.lease));
        Self {
            secret,
            expires_at: material.expires_at,
            revocation: lease.map(Revocation::Lease),
            renew_at: None,
            recheck: material.recheck,
            dynamic_secret: material.dynamic_secret,
        }
    }

    /// A value from an issuer.
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
            dynamic_secret: None,
        }
    }
}

/// A request for a credential's value.
#[derive(Debug)]
pub(super) struct FetchRequest<'a> {
    /// The credential.
    pub(super) credential: &'a Credential,
    /// The caller, if each caller has its own value.
    pub(super) caller: Option<&'a dyn Bearer>,
    /// The current value, if it was not rejected.
    pub(super) held: Option<&'a Issued>,
    /// A value that the API has rejected, so that it is not returned again.
    pub(super) rejected: Option<&'a Secret>,
    /// The time.
    pub(super) now: Timestamp,
}

impl<'a> FetchRequest<'a> {
    /// The request for the source of the value itself.
    fn source_request(&self, form: Form) -> SourceRequest<'a> {
        SourceRequest {
            credential: self.credential,
            form,
            held: self.held,
            rejected: self.rejected.is_some(),
        }
    }

    /// A request to a token endpoint for the credential.
    fn at(
        &self,
        endpoint: &'a TokenEndpoint,
        client: Option<&'a OauthClient>,
        context: &'a ProviderContext,
    ) -> TokenRequest<'a> {
        TokenRequest {
            credential: self.credential,
            endpoint,
            client,
            context,
            now: self.now,
        }
    }
}

/// Where a slot fetches its values.
#[derive(Debug, Clone)]
pub(super) enum Fetcher {
    /// The credential's provider.
    Provider(Arc<ProviderContext>),
    /// A test's.
    #[cfg(test)]
    Fake(Arc<super::tests::Fake>),
}

impl Fetcher {
    pub(super) async fn fetch(
        &self,
        request: FetchRequest<'_>,
    ) -> Result<Fetched, CredentialError> {
        let context = match self {
            Self::Provider(context) => context,
            #[cfg(test)]
            Self::Fake(fake) => return fake.fetch().await,
        };
        match &request.credential.provider {
            Provider::Static { token } => static_::fetch(&request, token, context).await,
            Provider::Basic { username, password } => {
                basic::fetch(&request, username, password, context).await
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
                // Boxed: its future is the largest of all providers.
                let fetched = Box::pin(slack_rotation::fetch(&request, app, context)).await;
                slack_rotation::keep_soon(context, &request.credential.name);
                fetched
            }
            Provider::ClientCredentials {
                endpoint,
                client,
                scopes,
                audience,
            } => {
                let token_request = request.at(endpoint, Some(client), context);
                client_credentials::fetch(token_request, scopes, audience.as_deref()).await
            }
            Provider::TokenExchange {
                endpoint,
                client,
                scopes,
                audience,
                resource,
            } => {
                let token_request = request.at(endpoint, client.as_ref(), context);
                let parameters = token_exchange::ExchangeParameters {
                    scopes,
                    audience: audience.as_deref(),
                    resource: resource.as_deref(),
                };
                token_exchange::fetch(&request, token_request, parameters).await
            }
            Provider::Jwt {
                claims,
                key,
                exchange,
            } => jwt::fetch(&request, claims, key, exchange.as_ref(), context).await,
        }
    }

    /// Whether another replica may renew the value that this one holds.
    pub(super) fn is_renewed_elsewhere(credential: &Credential) -> bool {
        matches!(credential.provider, Provider::SlackRotation { .. })
    }

    /// The value that another replica has already stored, if any. Spends nothing.
    pub(super) async fn renewed_elsewhere(&self, request: &FetchRequest<'_>) -> Option<Fetched> {
        match self {
            Self::Provider(context) if Self::is_renewed_elsewhere(request.credential) => {
                slack_rotation::renewed_elsewhere(request, context).await
            }
            Self::Provider(_) => None,
            #[cfg(test)]
            Self::Fake(_) => None,
        }
    }

    /// Revokes a value at its issuer.
    pub(super) async fn revoke(
        &self,
        revocation: &Revocation,
        credential: &Credential,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<(), CredentialError> {
        match self {
            Self::Provider(context) => {
                let request = FetchRequest {
                    credential,
                    caller: None,
                    held: None,
                    rejected: None,
                    now,
                };
                carry_out(revocation, &request, secret, context).await
            }
            #[cfg(test)]
            Self::Fake(fake) => fake.revoke(secret),
        }
    }

    /// Whether a refresh of this credential began and its result is unknown.
    pub(super) async fn was_cut_off(&self, credential: &Credential) -> bool {
        match self {
            Self::Provider(context) => match &credential.provider {
                Provider::SlackRotation { .. } => {
                    slack_rotation::was_cut_off(&credential.name, context).await
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

    /// Whether the result of a refresh of this credential could be stored.
    pub(super) async fn prove(&self, credential: &Credential) -> Result<(), CredentialError> {
        match self {
            Self::Provider(context) => match &credential.provider {
                Provider::SlackRotation { .. } => Ok(context.state.prove(&credential.name).await?),
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

    /// Waits, at most for `limit`, until no work is in progress that must not be lost; returns whether
    /// that succeeded.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        match self {
            Self::Provider(context) => {
                let end = Instant::now() + limit;
                let finished = context.rotations.finish(limit).await;
                slack_rotation::keep_before_end(context, end).await;
                finished
            }
            #[cfg(test)]
            Self::Fake(_) => true,
        }
    }
}

async fn carry_out(
    revocation: &Revocation,
    request: &FetchRequest<'_>,
    secret: &Secret,
    context: &ProviderContext,
) -> Result<(), CredentialError> {
    match revocation {
        Revocation::Oauth => revoke_access_token(request, secret, context).await,
        Revocation::Slack => revoke_slack(request.credential, secret, context).await,
        Revocation::Lease(lease) => context.sources.end(lease).await,
    }
}

/// Revokes an access token if the credential allows it (RFC 7009).
pub(super) async fn revoke_access_token(
    request: &FetchRequest<'_>,
    token: &Secret,
    context: &ProviderContext,
) -> Result<(), CredentialError> {
    let (endpoint, client) = match &request.credential.provider {
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
    request.at(endpoint, client, context).revoke(token).await
}

/// One exchange with an issuer; an error names its host.
async fn send(
    credential: &Credential,
    url: &str,
    request: Result<Request<Bytes>, http::Error>,
    context: &ProviderContext,
    roots: Option<&Path>,
) -> Result<Response<Bytes>, CredentialError> {
    let unavailable = |why: String| CredentialError::Issuer {
        host: host(url),
        fault: IssuerFault::Unavailable(why.into()),
    };
    let request = request.map_err(|error| unavailable(error.to_string()))?;
    let answer = context.http.send(&credential.name, request, roots).await;
    answer.map_err(|error| unavailable(error.to_string()))
}

/// The value of `Authorization`.
fn authorization(scheme: &str, value: &str) -> Result<HeaderValue, CredentialError> {
    let text = Zeroizing::new(format!("{scheme}{value}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| CredentialError::Unusable {
        what: "the client's authentication has bytes that are not allowed in a header",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Parses a JSON object. serde alone would also accept an array for a struct. The cause of an error is
/// not shown: the parser's error contains parts of the text.
fn json_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    is_object
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

/// An issuer's own text, made fit to be shown: printable, short, without anything that looks like a
/// credential.
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
