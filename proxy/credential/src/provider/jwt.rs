//! A token that the gateway mints and signs: used directly, or exchanged for another (RFC 7523, section
//! 2.1) or for the token of a GitHub App's installation.

use std::path::Path;

use bytes::Bytes;
use countersign_config::model::{JwtClaims, JwtExchange, SigningKey};
use countersign_core::secret::Secret;
use http::{Request, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    FetchRequest, Fetched, signing,
    token_endpoint::{Form, Kind, is_token},
};
use crate::{CredentialError, IssuerFault, ProviderContext};

/// How far `iat` is in the past, for issuers with a slow clock: GitHub's advice.
const BACKDATED: SignedDuration = SignedDuration::from_secs(60);

pub(super) async fn fetch(
    request: &FetchRequest<'_>,
    claims: &JwtClaims,
    key: &SigningKey,
    exchange: Option<&JwtExchange>,
    context: &ProviderContext,
) -> Result<Fetched, CredentialError> {
    // RFC 7523, section 3: the default audience of an assertion is its token endpoint.
    let audience = match exchange {
        Some(JwtExchange::Grant { endpoint, .. }) => Some(endpoint.url.as_str()),
        Some(JwtExchange::Installation { .. }) | None => None,
    };
    let (claims, expires_at) = mint(claims, audience, request.now)?;
    let token = signing::sign(&claims, key, request.credential, context).await?;
    match exchange {
        None => Ok(Fetched::issued(token, Some(expires_at), None)),
        Some(JwtExchange::Grant { endpoint, scopes }) => {
            let token_request = request.at(endpoint, None, context);
            let form = Form::default()
                .with("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
                .with("assertion", token.expose())
                .with_scopes(scopes);
            token_request.token(form, Kind::Grant).await
        }
        Some(JwtExchange::Installation { url, ca_file }) => {
            install(request, &token, url, ca_file.as_deref(), context).await
        }
    }
}

/// The claims, and their expiry.
fn mint(
    claims: &JwtClaims,
    audience: Option<&str>,
    now: Timestamp,
) -> Result<(Value, Timestamp), CredentialError> {
    const NO_TIME: CredentialError = CredentialError::Unusable {
        what: "the clock is at the end of time",
    };
    let issued_at = now.checked_sub(BACKDATED).map_err(|_| NO_TIME)?;
    let issued_at = Timestamp::from_second(issued_at.as_second()).map_err(|_| NO_TIME)?;
    let expires_at = issued_at
        .checked_add(claims.lifetime)
        .map_err(|_| NO_TIME)?;
    let mut all: Map<String, Value> = claims.further.clone().into_iter().collect();
    let mut set = |name: &str, value: Value| all.insert(name.to_owned(), value);
    set("iss", claims.issuer.as_str().into());
    if let Some(subject) = &claims.subject {
        set("sub", subject.as_str().into());
    }
    if let Some(audience) = claims.audience.as_deref().or(audience) {
        set("aud", audience.into());
    }
    set("iat", issued_at.as_second().into());
    set("exp", expires_at.as_second().into());
    set("jti", signing::unique()?.into());
    Ok((all.into(), expires_at))
}

/// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
async fn install(
    request: &FetchRequest<'_>,
    token: &Secret,
    url: &str,
    roots: Option<&Path>,
    context: &ProviderContext,
) -> Result<Fetched, CredentialError> {
    let post = Request::post(url)
        .header(header::ACCEPT, "application/vnd.github+json")
        .header(header::USER_AGENT, super::USER_AGENT)
        .header("x-github-api-version", "2022-11-28")
        .header(
            header::AUTHORIZATION,
            super::authorization("Bearer ", token.expose())?,
        )
        .body(Bytes::new());
    let answer = super::send(request.credential, url, post, context, roots).await?;
    let installed = match answer.status() {
        StatusCode::CREATED => installed(answer.body()),
        _ => Err(refusal(&answer)),
    };
    let (secret, expires_at) = installed.map_err(|fault| CredentialError::Issuer {
        host: super::host(url),
        fault,
    })?;
    Ok(Fetched::issued(secret, Some(expires_at), None))
}

#[derive(Deserialize)]
struct Installed {
    token: String,
    expires_at: String,
}

fn installed(body: &[u8]) -> Result<(Secret, Timestamp), IssuerFault> {
    const SHAPE: IssuerFault = IssuerFault::BadResponse(
        "it is not a JSON object with `token`, one word of visible ASCII, and `expires_at`, a time as in RFC 3339",
    );
    let answer: Installed = super::json_object(body).ok_or(SHAPE)?;
    let secret = Secret::new(answer.token);
    let expires_at: Timestamp = answer.expires_at.parse().map_err(|_| SHAPE)?;
    is_token(secret.expose()).then_some(()).ok_or(SHAPE)?;
    Ok((secret, expires_at))
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// GitHub uses 403 and 429 for rate limits, with `Retry-After` or `X-RateLimit-Remaining: 0`.
fn refusal(answer: &Response<Bytes>) -> IssuerFault {
    let status = answer.status();
    let headers = answer.headers();
    let spent = headers
        .get("x-ratelimit-remaining")
        .is_some_and(|left| left.as_bytes() == b"0");
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::FORBIDDEN
            && (headers.contains_key(header::RETRY_AFTER) || spent));
    if limited || status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return IssuerFault::Unavailable(format!("the response status was {status}").into());
    }
    let message: Option<Message> = super::json_object(answer.body());
    IssuerFault::Refused {
        code: format!("status {}", status.as_u16()).into(),
        words: message.map(|said| super::words(&said.message, 300)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn claims() -> JwtClaims {
        JwtClaims {
            issuer: "12345".into(),
            subject: Some("app".into()),
            audience: None,
            lifetime: Duration::from_mins(10),
            further: BTreeMap::from([("tenant".to_owned(), json!({"id": 7}))]),
        }
    }

    #[test]
    fn claims_are_backdated_and_end_within_the_lifetime() {
        let now: Timestamp = "2026-11-23T05:10:00.9Z".parse().unwrap();
        let (minted, end) = mint(&claims(), Some("https://issuer.test/token"), now).unwrap();
        let issued_at = now.as_second() - 60;
        assert_eq!(end.as_second(), issued_at + 600);
        let jti = minted["jti"].as_str().unwrap();
        assert_eq!(jti.len(), 22);
        let expected = json!({
            "iss": "12345", "sub": "app", "aud": "https://issuer.test/token",
            "iat": issued_at, "exp": issued_at + 600, "jti": jti, "tenant": {"id": 7},
        });
        assert_eq!(minted, expected);
        let (again, _) = mint(&claims(), None, now).unwrap();
        assert_ne!(again["jti"], minted["jti"]);
        assert_eq!(again.get("aud"), None);
    }

    #[rstest]
    #[case::no_end(r#"{"token": "ghs_a1"}"#)]
    #[case::no_moment(r#"{"token": "ghs_a1", "expires_at": "soon"}"#)]
    #[case::number(r#"{"token": "ghs_a1", "expires_at": 5}"#)]
    #[case::two_words(r#"{"token": "ghs_a1 b", "expires_at": "2026-11-23T06:10:00Z"}"#)]
    #[case::array(r#"["ghs_a1", "2026-11-23T06:10:00Z"]"#)]
    fn an_answer_of_another_shape_is_refused(#[case] body: &str) {
        let fault = installed(body.as_bytes()).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("ghs_a1"));
    }

    #[rstest]
    #[case::bad_jwt(401, &[], false)]
    #[case::gone(404, &[], false)]
    #[case::forbidden(403, &[], false)]
    #[case::limited(403, &[("retry-after", "60")], true)]
    #[case::spent(403, &[("x-ratelimit-remaining", "0")], true)]
    #[case::not_spent(403, &[("x-ratelimit-remaining", "5")], false)]
    #[case::too_many(429, &[], true)]
    #[case::down(502, &[], true)]
    fn refusals_are_told_apart(
        #[case] status: u16,
        #[case] headers: &[(&str, &str)],
        #[case] passes: bool,
    ) {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let answer = answer.body(r#"{"message": "why"}"#.into()).unwrap();
        let error = CredentialError::Issuer {
            host: "api.github.com".into(),
            fault: refusal(&answer),
        };
        assert_eq!(error.may_pass(), passes, "{error}");
        assert_eq!(error.to_string().contains("why"), !passes, "{error}");
    }
}
