//! A credential that is used as it is stored.

use countersign_config::model::SecretSource;

use super::{Asking, Fetched};
use crate::{CredentialError, Tools, source::Form};

pub(super) async fn fetch(
    asking: &Asking<'_>,
    token: &SecretSource,
    tools: &Tools,
) -> Result<Fetched, CredentialError> {
    let wanted = asking.wanted(Form::Token);
    let material = tools.sources.bring(token, wanted).await?;
    let secret = material.secret.clone();
    Ok(Fetched::of_source(material, secret))
}
