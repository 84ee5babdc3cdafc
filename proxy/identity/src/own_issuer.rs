//! The issuer of the gateway's own cluster: whoever issued the gateway's own token. It is not checked here; the keys and
//! the reviews of that cluster decide about every other token.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_config::model::{Cluster, IN_CLUSTER, Issuer};
use countersign_core::{files, secret_file};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::SetupError;

#[derive(Deserialize)]
struct Claims {
    iss: String,
}

/// The issuers with their names, `in-cluster` too.
pub(super) fn found(issuers: &[Issuer]) -> Result<Vec<Issuer>, SetupError> {
    found_by(issuers, &Cluster::in_cluster().token_file)
}

fn found_by(issuers: &[Issuer], file: &Path) -> Result<Vec<Issuer>, SetupError> {
    let named = issuers.iter().map(|issuer| {
        let mut issuer = issuer.clone();
        if issuer.issuer == IN_CLUSTER {
            issuer.issuer = of_token(file).map_err(|reason| SetupError::OwnIssuer {
                issuer: issuer.name.clone(),
                file: file.to_owned(),
                reason,
            })?;
        }
        Ok(issuer)
    });
    named.collect()
}

/// The `iss` of the token in a file.
fn of_token(file: &Path) -> Result<String, String> {
    let content = files::read_now(file)
        .map_err(|error| format!("cannot be read: {}", files::reason(&error)))?;
    let content = Zeroizing::new(content);
    let token = secret_file::token(&content).map_err(|error| error.to_string())?;
    let claims = token.expose().split('.').nth(1);
    let claims = claims.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|part| {
        let part = Zeroizing::new(part);
        serde_json::from_slice::<Claims>(&part).ok()
    });
    let issuer = claims
        .map(|claims| claims.iss)
        .filter(|iss| !iss.is_empty());
    issuer.ok_or_else(|| "holds no service-account token".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_config::model::JwksSource;

    use super::*;

    fn issuer(issuer: &str) -> Issuer {
        Issuer {
            name: "prod".to_owned(),
            issuer: issuer.to_owned(),
            audience: "countersign".to_owned(),
            max_token_life: Duration::from_hours(1),
            jwks: JwksSource::File("keys".into()),
            token_review: None,
            pod_facts: None,
        }
    }

    #[test]
    fn the_issuer_of_its_own_token_is_that_of_its_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://oidc.example.com/prod","sub":"x"}"#);
        std::fs::write(&file, format!("e30.{claims}.canary\n")).unwrap();
        let issuers = [issuer(IN_CLUSTER), issuer("https://other.example.com")];
        let found = found_by(&issuers, &file).unwrap();
        let names: Vec<_> = found.iter().map(|it| it.issuer.as_str()).collect();
        assert_eq!(
            names,
            ["https://oidc.example.com/prod", "https://other.example.com"]
        );
    }

    #[test]
    fn without_a_token_it_is_told_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let issuers = [issuer(IN_CLUSTER)];
        let told = found_by(&issuers, &file).unwrap_err().to_string();
        assert!(
            told.contains("cannot be read") && told.contains("or name the issuer"),
            "{told}"
        );
        for content in ["", "canary", "e30.canary.x", "e30.e30.canary"] {
            std::fs::write(&file, content).unwrap();
            let told = found_by(&issuers, &file).unwrap_err().to_string();
            assert!(!told.contains("canary"), "{told}");
        }
        // Whoever names no such issuer needs no token.
        assert!(found_by(&[issuer("https://other.example.com")], Path::new("/none")).is_ok());
    }
}
