//! A user name and password for HTTP Basic (RFC 7617).

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_config::model::SecretSource;
use countersign_core::secret::Secret;
use zeroize::Zeroizing;

use super::{FetchRequest, Fetched};
use crate::{CredentialError, ProviderContext, source::Form};

pub(super) async fn fetch(
    request: &FetchRequest<'_>,
    username: &str,
    password: &SecretSource,
    context: &ProviderContext,
) -> Result<Fetched, CredentialError> {
    let source_request = request.source_request(Form::Text);
    let material = context.sources.read(password, source_request).await?;
    let secret = encode(username, &material.secret)?;
    Ok(Fetched::of_source(material, secret))
}

fn encode(username: &str, password: &Secret) -> Result<Secret, CredentialError> {
    if password.expose().chars().any(char::is_control) {
        return Err(CredentialError::Unusable {
            what: "the password has control characters, which HTTP Basic does not allow",
        });
    }
    let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
    Ok(Secret::new(STANDARD.encode(pair.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7617, sections 2 and 2.1.
    #[test]
    fn is_encoded_as_the_rfc_shows() {
        let encoded = |name, word: &str| encode(name, &Secret::new(word.into())).unwrap();
        assert_eq!(
            encoded("Aladdin", "open sesame").expose(),
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(encoded("test", "123\u{a3}").expose(), "dGVzdDoxMjPCow==");
        assert_eq!(encoded("a", "with:colon").expose(), "YTp3aXRoOmNvbG9u");
    }

    #[test]
    fn control_characters_are_refused() {
        let refused = encode("a", &Secret::new("two\nlines".into())).unwrap_err();
        assert!(matches!(refused, CredentialError::Unusable { .. }));
        assert!(!refused.to_string().contains("two"));
    }
}
