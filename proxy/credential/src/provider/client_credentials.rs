//! An access token for the gateway itself (RFC 6749, section 4.4).

use super::{
    Fetched,
    token_endpoint::{Form, Kind, TokenRequest},
};
use crate::CredentialError;

pub(super) async fn fetch(
    token_request: TokenRequest<'_>,
    scopes: &[String],
    audience: Option<&str>,
) -> Result<Fetched, CredentialError> {
    let form = Form::default()
        .with("grant_type", "client_credentials")
        .with_scopes(scopes)
        .with_some("audience", audience);
    token_request.token(form, Kind::Grant).await
}
