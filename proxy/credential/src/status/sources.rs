//! Where a credential comes from, in words: places and names, never values.

use countersign_config::model::{
    ClientAuth, Credential, JwtExchange, OauthClient, Provider, SecretSource, SlackSeed,
    TokenEndpoint,
};
use countersign_core::redact::redact;

/// The places, in the order in which they are needed.
pub(super) fn of(credential: &Credential) -> Vec<String> {
    let namespace = credential.name.namespace();
    let kept =
        |what: &str, source: &SecretSource| format!("{what} in {}", place(source, namespace));
    let places = match &credential.provider {
        Provider::Static { token } => vec![kept("token", token)],
        Provider::Basic { password, .. } => vec![kept("password", password)],
        Provider::SlackRotation {
            host,
            client_secret,
            seed,
            ..
        } => {
            let seed = match seed {
                SlackSeed::RefreshToken(source) => kept("first refresh token", source),
                SlackSeed::LongLivedToken(source) => kept("long-lived token", source),
            };
            vec![
                seed,
                kept("client secret", client_secret),
                format!("issued by {host}"),
            ]
        }
        Provider::ClientCredentials {
            endpoint, client, ..
        } => vec![of_client(client, namespace), issuer(endpoint)],
        Provider::TokenExchange {
            endpoint, client, ..
        } => client
            .iter()
            .map(|client| of_client(client, namespace))
            .chain(["the pod's own token".to_owned(), issuer(endpoint)])
            .collect(),
        Provider::Jwt { key, exchange, .. } => {
            let key = kept("signing key", &key.key);
            let issued = exchange.as_ref().map(|exchange| match exchange {
                JwtExchange::Grant { endpoint, .. } => issuer(endpoint),
                JwtExchange::Installation { url, .. } => format!("issued by {url}"),
            });
            [key].into_iter().chain(issued).collect()
        }
    };
    places
        .iter()
        .map(|place| redact(place).into_owned())
        .collect()
}

fn of_client(client: &OauthClient, namespace: Option<&str>) -> String {
    let (what, source) = match &client.auth {
        ClientAuth::Basic(source) | ClientAuth::Post(source) => ("client secret", source),
        ClientAuth::PrivateKeyJwt(key) => ("client's signing key", &key.key),
    };
    format!("{what} in {}", place(source, namespace))
}

fn issuer(endpoint: &TokenEndpoint) -> String {
    format!("issued by {}", endpoint.url)
}

fn place(source: &SecretSource, namespace: Option<&str>) -> String {
    match source {
        SecretSource::File(path) => format!("the file {}", path.display()),
        SecretSource::KubernetesSecret { name, key } => match namespace {
            Some(namespace) => format!("the Secret {namespace}/{name}, key `{key}`"),
            None => format!("the Secret {name}, key `{key}`"),
        },
        SecretSource::Vault {
            mount, path, key, ..
        } => format!("Vault at {mount}/{path}, field `{key}`"),
        // Its arguments may be secret.
        SecretSource::Exec { command, .. } => format!(
            "the output of {}",
            command.first().map_or("a helper", String::as_str)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_config::model::VaultEngine;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(SecretSource::File("/secrets/token".into()), "the file /secrets/token")]
    #[case(
        SecretSource::KubernetesSecret { name: "slack".into(), key: "token".into() },
        "the Secret qa/slack, key `token`"
    )]
    #[case(
        SecretSource::Vault {
            mount: "secret".into(),
            path: "slack/bot".into(),
            key: "token".into(),
            engine: VaultEngine::Kv2,
        },
        "Vault at secret/slack/bot, field `token`"
    )]
    #[case(
        SecretSource::Exec {
            command: vec!["/bin/helper".into(), "--pin=1234".into()],
            timeout: Duration::from_secs(1),
        },
        "the output of /bin/helper"
    )]
    fn a_place_is_named_and_nothing_that_is_kept_there(
        #[case] source: SecretSource,
        #[case] named: &str,
    ) {
        assert_eq!(place(&source, Some("qa")), named);
    }
}
