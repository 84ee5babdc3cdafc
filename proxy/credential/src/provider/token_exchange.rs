//! The pod's own token, exchanged for one of the upstream (RFC 8693): each caller gets its own.

use super::{
    FetchRequest, Fetched,
    token_endpoint::{Form, Kind, TokenRequest},
};
use crate::CredentialError;

/// Optional parameters.
pub(super) struct ExchangeParameters<'a> {
    pub(super) scopes: &'a [String],
    pub(super) audience: Option<&'a str>,
    pub(super) resource: Option<&'a str>,
}

pub(super) async fn fetch(
    request: &FetchRequest<'_>,
    token_request: TokenRequest<'_>,
    parameters: ExchangeParameters<'_>,
) -> Result<Fetched, CredentialError> {
    let token = request
        .caller
        .and_then(countersign_core::bearer::Bearer::token);
    let token = token.ok_or(CredentialError::NoToken)?;
    let form = Form::default()
        .with(
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        )
        .with("subject_token", token.expose())
        .with("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .with(
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        )
        .with_scopes(parameters.scopes)
        .with_some("audience", parameters.audience)
        .with_some("resource", parameters.resource);
    token_request.token(form, Kind::Exchange).await
}
