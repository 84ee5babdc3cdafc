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
    validate::fields::{duration, https_url, non_blank},
    yaml::{Findings, Location},
};

const LIFETIME: Duration = Duration::from_mins(10);
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);

/// `iat` is one minute in the past, so a token with a shorter lifetime would already be expired.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(2);

/// The claims of a minted token that are set elsewhere (RFC 7519, section 4.1).
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
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let given = given(spec);
    match given[..] {
        [] => {
            findings.error(
                location,
                "missing-key",
                "the credential does not say how it is obtained",
                format!("add {KINDS}"),
            );
            return None;
        }
        [_] => {}
        [_, second, ..] => {
            findings.error(
                &location.key_name(second),
                "conflicting-keys",
                "a credential can be obtained in only one way",
                format!("keep one of {KINDS}"),
            );
            return None;
        }
    }
    if let Some(fixed) = &spec.static_token {
        let location = location.key("static").key("token");
        let token = source(&fixed.token, &location, findings)?;
        return Some(Provider::Static { token });
    }
    if let Some(spec) = &spec.basic {
        return basic(spec, &location.key("basic"), findings);
    }
    if let Some(spec) = &spec.slack_rotation {
        return slack_rotation(spec, target, &location.key("slackRotation"), findings);
    }
    if let Some(spec) = &spec.client_credentials {
        return client_credentials(spec, &location.key("oauth2ClientCredentials"), findings);
    }
    if let Some(spec) = &spec.token_exchange {
        return token_exchange(spec, &location.key("tokenExchange"), findings);
    }
    spec.jwt
        .as_ref()
        .and_then(|spec| jwt(spec, &location.key("jwt"), findings))
}

/// The keys of the providers that are given.
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

fn basic(spec: &BasicSpec, location: &Location<'_>, findings: &Findings) -> Option<Provider> {
    let username = non_blank(&spec.username, &location.key("username"), findings);
    let password = source(&spec.password, &location.key("password"), findings);
    let username = username?;
    if username.contains(':') || username.chars().any(char::is_control) {
        findings.error(
            &location.key("username"),
            "bad-name",
            "HTTP Basic does not allow this name",
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
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let client_id = non_blank(&rotation.client_id, &location.key("clientId"), findings);
    let client_secret = source(
        &rotation.client_secret,
        &location.key("clientSecret"),
        findings,
    );
    let seed = match (&rotation.refresh_token, &rotation.long_lived_token) {
        (Some(token), None) => {
            source(token, &location.key("refreshToken"), findings).map(SlackSeed::RefreshToken)
        }
        (None, Some(token)) => {
            source(token, &location.key("longLivedToken"), findings).map(SlackSeed::LongLivedToken)
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.error(
                location,
                "conflicting-keys",
                "rotation starts with exactly one token",
                "write `refreshToken`, or `longLivedToken` for a token that does not rotate yet",
            );
            None
        }
    };
    // Slack must not receive a token of GovSlack, nor GovSlack one of Slack.
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
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let endpoint = endpoint(
        (
            &spec.token_url,
            spec.revoke_url.as_ref(),
            spec.ca_file.as_ref(),
        ),
        location,
        findings,
    );
    let client = client(&spec.client, &location.key("client"), findings);
    let scopes = scopes(&spec.scopes, &location.key("scopes"), findings);
    Some(Provider::ClientCredentials {
        endpoint: endpoint?,
        client: client?,
        scopes: scopes?,
        audience: spec.audience.clone(),
    })
}

fn token_exchange(
    spec: &TokenExchangeSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Provider> {
    let endpoint = endpoint(
        (
            &spec.token_url,
            spec.revoke_url.as_ref(),
            spec.ca_file.as_ref(),
        ),
        location,
        findings,
    );
    let client = match &spec.client {
        Some(spec) => client(spec, &location.key("client"), findings).map(Some),
        None => Some(None),
    };
    let scopes = scopes(&spec.scopes, &location.key("scopes"), findings);
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
    location: &Location<'_>,
    findings: &Findings,
) -> Option<TokenEndpoint> {
    let sound = https_url(url, &location.key("tokenUrl"), findings);
    let revocation_sound =
        revoke_url.is_none_or(|url| https_url(url, &location.key("revokeUrl"), findings));
    (sound && revocation_sound).then(|| TokenEndpoint {
        url: url.to_owned(),
        revoke_url: revoke_url.cloned(),
        ca_file: ca_file.map(PathBuf::from),
    })
}

fn client(
    spec: &OauthClientSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<OauthClient> {
    let id = non_blank(&spec.id, &location.key("id"), findings);
    let auth = match (&spec.secret, &spec.key) {
        (Some(secret), None) => {
            let secret = source(secret, &location.key("secret"), findings);
            secret.map(|secret| match spec.secret_by {
                None | Some(SecretBySpec::Basic) => ClientAuth::Basic(secret),
                Some(SecretBySpec::Post) => ClientAuth::Post(secret),
            })
        }
        (None, Some(key)) => {
            signing_key(key, &location.key("key"), findings).map(ClientAuth::PrivateKeyJwt)
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.error(
                location,
                "conflicting-keys",
                "a client authenticates in exactly one way",
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

fn signing_key(
    spec: &SigningKeySpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<SigningKey> {
    Some(SigningKey {
        key: source(&spec.private_key, &location.key("privateKey"), findings)?,
        key_id: spec.key_id.clone(),
        algorithm: match spec.algorithm {
            None | Some(SigningAlgorithmSpec::Rs256) => SigningAlgorithm::Rs256,
            Some(SigningAlgorithmSpec::Ps256) => SigningAlgorithm::Ps256,
            Some(SigningAlgorithmSpec::Es256) => SigningAlgorithm::Es256,
            Some(SigningAlgorithmSpec::EdDsa) => SigningAlgorithm::EdDsa,
        },
    })
}

fn jwt(spec: &JwtSpec, location: &Location<'_>, findings: &Findings) -> Option<Provider> {
    let claims = claims(spec, location, findings);
    let key = signing_key(&spec.key, &location.key("key"), findings);
    let exchange = exchange(spec, location, findings);
    Some(Provider::Jwt {
        claims: claims?,
        key: key?,
        exchange: exchange?,
    })
}

fn claims(spec: &JwtSpec, location: &Location<'_>, findings: &Findings) -> Option<JwtClaims> {
    let issuer = non_blank(&spec.issuer, &location.key("issuer"), findings);
    let lifetime = match &spec.lifetime {
        Some(text) => duration(text, &location.key("lifetime"), findings),
        None => Some(LIFETIME),
    };
    let mut sound = true;
    if lifetime.is_some_and(|lifetime| lifetime > LONGEST_LIFETIME) {
        sound = false;
        findings.error(
            &location.key("lifetime"),
            "bad-duration",
            "the longest lifetime of a minted token is one hour",
            "write `1h` or less; a new token is minted in time",
        );
    }
    if lifetime.is_some_and(|lifetime| lifetime < SHORTEST_LIFETIME) {
        sound = false;
        findings.error(
            &location.key("lifetime"),
            "bad-duration",
            "a minted token is issued one minute in the past, so almost none of this lifetime would be left",
            "write `2m` or more",
        );
    }
    for claim in spec.claims.keys() {
        if REGISTERED.contains(&claim.as_str()) {
            sound = false;
            findings.error(
                &location.key("claims").key_name(claim),
                "bad-claim",
                "this claim cannot be set here",
                "use `issuer`, `subject`, `audience` and `lifetime`; the gateway sets the others",
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

/// `Some(None)` if the minted token is used directly.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether it is usable"
)]
fn exchange(
    spec: &JwtSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Option<JwtExchange>> {
    match (&spec.grant, &spec.installation) {
        (None, None) => Some(None),
        (Some(grant), None) => {
            let location = location.key("grant");
            let written = (
                grant.token_url.as_str(),
                grant.revoke_url.as_ref(),
                grant.ca_file.as_ref(),
            );
            let endpoint = endpoint(written, &location, findings);
            let scopes = scopes(&grant.scopes, &location.key("scopes"), findings);
            Some(Some(JwtExchange::Grant {
                endpoint: endpoint?,
                scopes: scopes?,
            }))
        }
        (None, Some(installation)) => {
            let location = location.key("installation");
            https_url(&installation.url, &location.key("url"), findings).then(|| {
                Some(JwtExchange::Installation {
                    url: installation.url.clone(),
                    ca_file: installation.ca_file.as_ref().map(PathBuf::from),
                })
            })
        }
        (Some(_), Some(_)) => {
            findings.error(
                &location.key_name("installation"),
                "conflicting-keys",
                "a minted token can be exchanged at only one place",
                "keep one of `grant` and `installation`",
            );
            None
        }
    }
}

/// Scopes as RFC 6749 (section 3.3) writes them: visible ASCII without quotes and backslashes.
fn scopes(scopes: &[String], location: &Location<'_>, findings: &Findings) -> Option<Vec<String>> {
    let mut sound = true;
    for (index, scope) in scopes.iter().enumerate() {
        let is_scope = !scope.is_empty()
            && scope
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !is_scope {
            sound = false;
            findings.error(
                &location.index(index),
                "bad-scope",
                "this is not one scope",
                "write each scope as an entry of its own",
            );
        }
    }
    sound.then(|| scopes.to_vec())
}
