//! The pod's own token becomes the upstream's (RFC 8693): each caller gets its own.

use super::{
    Asking, Fetched,
    token_endpoint::{Asked, Form, Kind},
};
use crate::CredentialError;

/// What is asked for besides.
pub(super) struct Wanted<'a> {
    pub(super) scopes: &'a [String],
    pub(super) audience: Option<&'a str>,
    pub(super) resource: Option<&'a str>,
}

pub(super) async fn fetch(
    asking: &Asking<'_>,
    asked: Asked<'_>,
    wanted: Wanted<'_>,
) -> Result<Fetched, CredentialError> {
    let token = asking
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
        .with_scopes(wanted.scopes)
        .with_some("audience", wanted.audience)
        .with_some("resource", wanted.resource);
    asked.token(form, Kind::Exchange).await
}
