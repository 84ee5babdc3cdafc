//! An access token for the gateway itself (RFC 6749, section 4.4).

use super::{
    Fetched,
    token_endpoint::{Asked, Form, Kind},
};
use crate::CredentialError;

pub(super) async fn fetch(
    asked: Asked<'_>,
    scopes: &[String],
    audience: Option<&str>,
) -> Result<Fetched, CredentialError> {
    let form = Form::default()
        .with("grant_type", "client_credentials")
        .with_scopes(scopes)
        .with_some("audience", audience);
    asked.token(form, Kind::Grant).await
}
