//! A credential that is used as it is stored.

use countersign_config::model::SecretSource;

use super::{FetchRequest, Fetched};
use crate::{CredentialError, ProviderContext, source::Form};

pub(super) async fn fetch(
    request: &FetchRequest<'_>,
    token: &SecretSource,
    context: &ProviderContext,
) -> Result<Fetched, CredentialError> {
    let source_request = request.source_request(Form::Token);
    let material = context.sources.read(token, source_request).await?;
    let secret = material.secret.clone();
    Ok(Fetched::of_source(material, secret))
}
