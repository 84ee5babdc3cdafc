//! How a credential is obtained.

use std::{path::PathBuf, time::Duration};

use super::source::source;
use crate::{
    host::Host,
    model::{
        ClientAuth, JwtClaims, JwtExchange, OauthClient, Provider, SigningAlgorithm, SigningKey,
        SlackSeed, Target, TokenEndpoint,
    },
    resource::{
        BasicSpec, ClientCredentialsSpec, CredentialSpec, JwtSpec, OauthClientSpec, SecretBySpec,
        SigningAlgorithmSpec, SigningKeySpec, SlackRotationSpec, TokenExchangeSpec,
    },
    validate::fields::{duration, https_url, said},
    yaml::{Findings, Spot},
};

const LIFETIME: Duration = Duration::from_mins(10);
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);

/// `iat` lies a minute back, so that less would be over at once.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(2);

/// The claims that a minted token gets from elsewhere (RFC 7519, section 4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

const KINDS: &str =
    "`static`, `basic`, `slackRotation`, `oauth2ClientCredentials`, `tokenExchange` or `jwt`";

/// Where Slack rotates tokens.
const SLACK: &str = "slack.com";

/// Where `GovSlack` does.
const GOV_SLACK: &str = "slack-gov.com";

pub(super) fn provider(
    spec: &CredentialSpec,
    target: Option<&Target>,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let given = given(spec);
    match given[..] {
        [] => {
            findings.error(
                spot,
                "missing-key",
                "the credential does not say how it is obtained",
                format!("add {KINDS}"),
            );
            return None;
        }
        [_] => {}
        [_, second, ..] => {
            findings.error(
                &spot.key_name(second),
                "conflicting-keys",
                "a credential is obtained in one way only",
                format!("keep one of {KINDS}"),
            );
            return None;
        }
    }
    if let Some(fixed) = &spec.static_token {
        let spot = spot.key("static").key("token");
        let token = source(&fixed.token, &spot, findings)?;
        return Some(Provider::Static { token });
    }
    if let Some(spec) = &spec.basic {
        return basic(spec, &spot.key("basic"), findings);
    }
    if let Some(spec) = &spec.slack_rotation {
        return slack_rotation(spec, target, &spot.key("slackRotation"), findings);
    }
    if let Some(spec) = &spec.client_credentials {
        return client_credentials(spec, &spot.key("oauth2ClientCredentials"), findings);
    }
    if let Some(spec) = &spec.token_exchange {
        return token_exchange(spec, &spot.key("tokenExchange"), findings);
    }
    spec.jwt
        .as_ref()
        .and_then(|spec| jwt(spec, &spot.key("jwt"), findings))
}

/// The keys of the providers that are there.
fn given(spec: &CredentialSpec) -> Vec<&'static str> {
    let kinds = [
        ("static", spec.static_token.is_some()),
        ("basic", spec.basic.is_some()),
        ("slackRotation", spec.slack_rotation.is_some()),
        ("oauth2ClientCredentials", spec.client_credentials.is_some()),
        ("tokenExchange", spec.token_exchange.is_some()),
        ("jwt", spec.jwt.is_some()),
    ];
    let given = kinds.into_iter().filter(|(_, given)| *given);
    given.map(|(kind, _)| kind).collect()
}

fn basic(spec: &BasicSpec, spot: &Spot<'_>, findings: &Findings) -> Option<Provider> {
    let username = said(&spec.username, &spot.key("username"), findings);
    let password = source(&spec.password, &spot.key("password"), findings);
    let username = username?;
    if username.contains(':') || username.chars().any(char::is_control) {
        findings.error(
            &spot.key("username"),
            "bad-name",
            "HTTP Basic cannot carry this name",
            "write a name without a colon and without control characters",
        );
        return None;
    }
    Some(Provider::Basic {
        username,
        password: password?,
    })
}

fn slack_rotation(
    rotation: &SlackRotationSpec,
    target: Option<&Target>,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let client_id = said(&rotation.client_id, &spot.key("clientId"), findings);
    let client_secret = source(&rotation.client_secret, &spot.key("clientSecret"), findings);
    let seed = match (&rotation.refresh_token, &rotation.long_lived_token) {
        (Some(token), None) => {
            source(token, &spot.key("refreshToken"), findings).map(SlackSeed::RefreshToken)
        }
        (None, Some(token)) => {
            source(token, &spot.key("longLivedToken"), findings).map(SlackSeed::LongLivedToken)
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.error(
                spot,
                "conflicting-keys",
                "rotation starts from exactly one token",
                "write `refreshToken`, or `longLivedToken` for a token that does not rotate yet",
            );
            None
        }
    };
    // A token of GovSlack is no business of Slack's, and the other way round.
    let gov = Host::parse(GOV_SLACK).ok().filter(|gov| {
        target.is_some_and(|target| target.hosts.iter().any(|host| host.exact() == Some(gov)))
    });
    let host = gov.or_else(|| Host::parse(SLACK).ok());
    Some(Provider::SlackRotation {
        host: host?,
        client_id: client_id?,
        client_secret: client_secret?,
        seed: seed?,
    })
}

fn client_credentials(
    spec: &ClientCredentialsSpec,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let endpoint = endpoint(
        (
            &spec.token_url,
            spec.revoke_url.as_ref(),
            spec.ca_file.as_ref(),
        ),
        spot,
        findings,
    );
    let client = client(&spec.client, &spot.key("client"), findings);
    let scopes = scopes(&spec.scopes, &spot.key("scopes"), findings);
    Some(Provider::ClientCredentials {
        endpoint: endpoint?,
        client: client?,
        scopes: scopes?,
        audience: spec.audience.clone(),
    })
}

fn token_exchange(
    spec: &TokenExchangeSpec,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let endpoint = endpoint(
        (
            &spec.token_url,
            spec.revoke_url.as_ref(),
            spec.ca_file.as_ref(),
        ),
        spot,
        findings,
    );
    let client = match &spec.client {
        Some(spec) => client(spec, &spot.key("client"), findings).map(Some),
        None => Some(None),
    };
    let scopes = scopes(&spec.scopes, &spot.key("scopes"), findings);
    Some(Provider::TokenExchange {
        endpoint: endpoint?,
        client: client?,
        scopes: scopes?,
        audience: spec.audience.clone(),
        resource: spec.resource.clone(),
    })
}

fn endpoint(
    (url, revoke_url, ca_file): (&str, Option<&String>, Option<&String>),
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<TokenEndpoint> {
    let sound = https_url(url, &spot.key("tokenUrl"), findings);
    let revocation_sound =
        revoke_url.is_none_or(|url| https_url(url, &spot.key("revokeUrl"), findings));
    (sound && revocation_sound).then(|| TokenEndpoint {
        url: url.to_owned(),
        revoke_url: revoke_url.cloned(),
        ca_file: ca_file.map(PathBuf::from),
    })
}

fn client(spec: &OauthClientSpec, spot: &Spot<'_>, findings: &Findings) -> Option<OauthClient> {
    let id = said(&spec.id, &spot.key("id"), findings);
    let auth = match (&spec.secret, &spec.key) {
        (Some(secret), None) => {
            let secret = source(secret, &spot.key("secret"), findings);
            secret.map(|secret| match spec.secret_by {
                None | Some(SecretBySpec::Basic) => ClientAuth::Basic(secret),
                Some(SecretBySpec::Post) => ClientAuth::Post(secret),
            })
        }
        (None, Some(key)) => {
            signing_key(key, &spot.key("key"), findings).map(ClientAuth::PrivateKeyJwt)
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.error(
                spot,
                "conflicting-keys",
                "a client proves itself in exactly one way",
                "write `secret` or `key`",
            );
            None
        }
    };
    Some(OauthClient {
        id: id?,
        auth: auth?,
    })
}

fn signing_key(spec: &SigningKeySpec, spot: &Spot<'_>, findings: &Findings) -> Option<SigningKey> {
    Some(SigningKey {
        key: source(&spec.private_key, &spot.key("privateKey"), findings)?,
        key_id: spec.key_id.clone(),
        algorithm: match spec.algorithm {
            None | Some(SigningAlgorithmSpec::Rs256) => SigningAlgorithm::Rs256,
            Some(SigningAlgorithmSpec::Ps256) => SigningAlgorithm::Ps256,
            Some(SigningAlgorithmSpec::Es256) => SigningAlgorithm::Es256,
            Some(SigningAlgorithmSpec::EdDsa) => SigningAlgorithm::EdDsa,
        },
    })
}

fn jwt(spec: &JwtSpec, spot: &Spot<'_>, findings: &Findings) -> Option<Provider> {
    let claims = claims(spec, spot, findings);
    let key = signing_key(&spec.key, &spot.key("key"), findings);
    let exchange = exchange(spec, spot, findings);
    Some(Provider::Jwt {
        claims: claims?,
        key: key?,
        exchange: exchange?,
    })
}

fn claims(spec: &JwtSpec, spot: &Spot<'_>, findings: &Findings) -> Option<JwtClaims> {
    let issuer = said(&spec.issuer, &spot.key("issuer"), findings);
    let lifetime = match &spec.lifetime {
        Some(text) => duration(text, &spot.key("lifetime"), findings),
        None => Some(LIFETIME),
    };
    let mut sound = true;
    if lifetime.is_some_and(|lifetime| lifetime > LONGEST_LIFETIME) {
        sound = false;
        findings.error(
            &spot.key("lifetime"),
            "bad-duration",
            "a minted token lives one hour at most",
            "write `1h` or less; a new one is minted in time",
        );
    }
    if lifetime.is_some_and(|lifetime| lifetime < SHORTEST_LIFETIME) {
        sound = false;
        findings.error(
            &spot.key("lifetime"),
            "bad-duration",
            "a minted token's life begins a minute ago, and nearly nothing would be left of it",
            "write `2m` or more",
        );
    }
    for claim in spec.claims.keys() {
        if REGISTERED.contains(&claim.as_str()) {
            sound = false;
            findings.error(
                &spot.key("claims").key_name(claim),
                "bad-claim",
                "this claim is not set here",
                "use `issuer`, `subject`, `audience` and `lifetime`; the others are set by us",
            );
        }
    }
    sound.then_some(())?;
    Some(JwtClaims {
        issuer: issuer?,
        subject: spec.subject.clone(),
        audience: spec.audience.clone(),
        lifetime: lifetime?,
        further: spec.claims.clone(),
    })
}

/// `Some(None)` if the minted token is used as it is.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether it is usable"
)]
fn exchange(spec: &JwtSpec, spot: &Spot<'_>, findings: &Findings) -> Option<Option<JwtExchange>> {
    match (&spec.grant, &spec.installation) {
        (None, None) => Some(None),
        (Some(grant), None) => {
            let spot = spot.key("grant");
            let written = (
                grant.token_url.as_str(),
                grant.revoke_url.as_ref(),
                grant.ca_file.as_ref(),
            );
            let endpoint = endpoint(written, &spot, findings);
            let scopes = scopes(&grant.scopes, &spot.key("scopes"), findings);
            Some(Some(JwtExchange::Grant {
                endpoint: endpoint?,
                scopes: scopes?,
            }))
        }
        (None, Some(installation)) => {
            let spot = spot.key("installation");
            https_url(&installation.url, &spot.key("url"), findings).then(|| {
                Some(JwtExchange::Installation {
                    url: installation.url.clone(),
                    ca_file: installation.ca_file.as_ref().map(PathBuf::from),
                })
            })
        }
        (Some(_), Some(_)) => {
            findings.error(
                &spot.key_name("installation"),
                "conflicting-keys",
                "a minted token is handed in at one place only",
                "keep one of `grant` and `installation`",
            );
            None
        }
    }
}

/// Scopes as RFC 6749 (section 3.3) writes them: visible ASCII without quotes and backslashes.
fn scopes(scopes: &[String], spot: &Spot<'_>, findings: &Findings) -> Option<Vec<String>> {
    let mut sound = true;
    for (index, scope) in scopes.iter().enumerate() {
        let is_scope = !scope.is_empty()
            && scope
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !is_scope {
            sound = false;
            findings.error(
                &spot.index(index),
                "bad-scope",
                "this is not one scope",
                "write each scope as an entry of its own",
            );
        }
    }
    sound.then(|| scopes.to_vec())
}
