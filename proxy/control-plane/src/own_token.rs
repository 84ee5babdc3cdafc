//! The token that the gateway proves itself with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_core::{clock::Clock, redact, secret::Secret, secret_file};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The file of the gateway's own token, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's own token file {} {detail}", file.display())]
pub struct OwnTokenError {
    file: PathBuf,
    detail: Arc<str>,
}

/// Reads a token with which the gateway authenticates. It is replaced before it expires, so it is read
/// for every use.
pub async fn own_token(file: &Path) -> Result<Secret, OwnTokenError> {
    let read = secret_file::read(file).await;
    read.map_err(|error| OwnTokenError {
        file: file.to_owned(),
        detail: error.to_string().into(),
    })
}

/// The claims of a token that tell why a server may refuse it.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// Whose token a file holds, for whom and until when, and what may be wrong with it. A server that refuses a token
/// does not say why.
pub async fn describe_own_token(file: &Path) -> String {
    let name = file.display();
    let token = match own_token(file).await {
        Ok(token) => token,
        Err(error) => return error.to_string(),
    };
    let Some(claims) = claims(&token) else {
        return format!("{name} holds no service-account token; check that the server knows it");
    };
    let expiry = claims.exp.and_then(|exp| Timestamp::from_second(exp).ok());
    if let Some(expiry) = expiry.filter(|expiry| *expiry <= Clock::system().now()) {
        return format!("the token in {name} expired at {expiry}: it is not being renewed");
    }
    let audiences = match claims.aud {
        Audience::One(audience) => redact::quoted(&audience),
        Audience::Several(audiences) => {
            let audiences = audiences
                .iter()
                .take(4)
                .map(|audience| redact::quoted(audience));
            audiences.collect::<Vec<_>>().join(", ")
        }
    };
    format!(
        "the token in {name} is of {}, for the audience {audiences}; check that this service account still exists in \
         this cluster, and that the audience is the API server's own: a projected token for it names no audience",
        redact::quoted(&claims.sub)
    )
}

fn claims(token: &Secret) -> Option<Claims> {
    let payload = token.expose().split('.').nth(1)?;
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SUBJECT: &str = "system:serviceaccount:countersign:countersign";

    #[rstest]
    #[case::for_another(
        r#"{"sub":"system:serviceaccount:countersign:countersign","aud":["countersign"],"exp":4000000000}"#,
        "for the audience \"countersign\"; check that"
    )]
    #[case::one_audience(
        r#"{"aud":"vault","exp":4000000000}"#,
        "for the audience \"vault\"; check that"
    )]
    #[case::expired(
        r#"{"aud":["x"],"exp":1000}"#,
        "expired at 1970-01-01T00:16:40Z: it is not being renewed"
    )]
    #[case::no_jwt("x", "holds no service-account token")]
    #[tokio::test]
    async fn what_is_wrong_with_a_token_is_said(#[case] payload: &str, #[case] expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let encoded = URL_SAFE_NO_PAD.encode(payload);
        std::fs::write(&file, format!("e30.{encoded}.canary")).unwrap();
        let told = describe_own_token(&file).await;
        assert!(told.contains(expected), "{told}");
        assert_eq!(told.contains(SUBJECT), payload.contains(SUBJECT), "{told}");
        assert!(told.contains(&*file.to_string_lossy()), "{told}");
        assert!(
            !told.contains("canary") && !told.contains(&encoded),
            "{told}"
        );
        std::fs::remove_file(&file).unwrap();
        let told = describe_own_token(&file).await;
        assert!(told.ends_with("does not exist"), "{told}");
    }
}
