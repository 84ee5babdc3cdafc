//! The calls to Slack.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use countersign_config::{host::Host, model::ResourceName};
use countersign_core::secret::Secret;
use countersign_upstream::forward::ForwardError;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::RotationError;
use crate::{
    http::{ExchangeError, Http},
    state::{Access, Fingerprint, Pair},
};

/// `grant_type=refresh_token` (<https://docs.slack.dev/reference/methods/oauth.v2.access>).
const ACCESS: &str = "oauth.v2.access";

/// Exchanges a long-lived token for a pair, once
/// (<https://docs.slack.dev/reference/methods/oauth.v2.exchange>).
const EXCHANGE: &str = "oauth.v2.exchange";

/// Revokes the token that it is called with (<https://docs.slack.dev/reference/methods/auth.revoke>).
const REVOKE: &str = "auth.revoke";

/// Slack, for one credential.
#[derive(Clone, Copy)]
pub(super) struct Slack<'a> {
    pub(super) http: &'a Http,
    pub(super) host: &'a Host,
    pub(super) credential: &'a ResourceName,
}

/// The app, as Slack knows it.
pub(super) struct Client<'a> {
    pub(super) id: &'a str,
    pub(super) secret: Secret,
}

impl Client<'_> {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&format!("client secret of {}", self.id), &self.secret)
    }
}

/// What a pair is bought with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grant<'a> {
    Refresh(&'a Secret),
    LongLived(&'a Secret),
}

/// Slack's response to all calls here; unknown members are ignored.
#[derive(Deserialize)]
struct SlackResponse {
    ok: bool,
    error: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<i64>,
}

/// Buys a pair.
pub(super) async fn mint(
    slack: Slack<'_>,
    client: &Client<'_>,
    grant: Grant<'_>,
    now: impl Fn() -> Timestamp,
) -> Result<Pair, RotationError> {
    let encode = |token: &Secret| {
        Zeroizing::new(utf8_percent_encode(token.expose(), NON_ALPHANUMERIC).to_string())
    };
    let (method, form) = match grant {
        Grant::Refresh(token) => (
            ACCESS,
            format!("grant_type=refresh_token&refresh_token={}", &*encode(token)),
        ),
        Grant::LongLived(token) => (EXCHANGE, format!("token={}", &*encode(token))),
    };
    let proof = Zeroizing::new(format!("{}:{}", client.id, client.secret.expose()));
    let proof = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*proof)));
    // Lifetimes are counted from before the request.
    let asked = now();
    let answer = post(slack, method, &proof, form).await?;
    let unanswered = |reason: &str| RotationError::Unanswered {
        reason: reason.to_owned(),
    };
    let (Some(access), Some(refresh), Some(seconds)) =
        (answer.access_token, answer.refresh_token, answer.expires_in)
    else {
        return Err(unanswered("its response has no tokens or no expiry"));
    };
    let expires_at = asked
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_| unanswered("its response has an impossible expiry"))?;
    Ok(Pair {
        access: Some(Access {
            token: Secret::new(access),
            obtained_at: asked,
            expires_at,
        }),
        refresh_token: Secret::new(refresh),
    })
}

/// Revokes an access token.
pub(super) async fn revoke(slack: Slack<'_>, token: &Secret) -> Result<(), RotationError> {
    let proof = Zeroizing::new(format!("Bearer {}", token.expose()));
    match post(slack, REVOKE, &proof, String::new()).await {
        // A dead token is already revoked.
        Ok(_) | Err(RotationError::Dead { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn post(
    slack: Slack<'_>,
    method: &str,
    proof: &str,
    form: String,
) -> Result<SlackResponse, RotationError> {
    let unreachable = |reason: &str| RotationError::Unreachable {
        reason: reason.to_owned(),
    };
    let mut proof = HeaderValue::from_str(proof).map_err(|_| {
        unreachable("the client id or token has characters that are not allowed in a header")
    })?;
    proof.set_sensitive(true);
    let request = Request::post(format!("https://{}/api/{method}", slack.host))
        .header(AUTHORIZATION, proof)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from(form))
        .map_err(|_| unreachable("its URL is malformed"))?;
    match slack.http.send(slack.credential, request, None).await {
        Ok(response) => read(&response),
        Err(error) if was_not_sent(&error) => Err(unreachable(&error.to_string())),
        Err(error) => Err(RotationError::Unanswered {
            reason: error.to_string(),
        }),
    }
}

fn read(response: &Response<Bytes>) -> Result<SlackResponse, RotationError> {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = response.headers().get(RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        return Err(RotationError::Limited {
            seconds: seconds.unwrap_or(30),
        });
    }
    let unanswered = || RotationError::Unanswered {
        reason: format!("it answered HTTP {}", status.as_u16()),
    };
    if !status.is_success() {
        return Err(unanswered());
    }
    let answer: SlackResponse =
        serde_json::from_slice(response.body()).map_err(|_| unanswered())?;
    match (answer.ok, &answer.error) {
        (true, _) => Ok(answer),
        (false, Some(code)) => Err(RotationError::named(code)),
        (false, None) => Err(unanswered()),
    }
}

/// Whether an exchange failed before anything was sent, or certainly had no effect.
fn was_not_sent(error: &ExchangeError) -> bool {
    match error {
        ExchangeError::Url(_) | ExchangeError::Setup(_) => true,
        ExchangeError::Timeout | ExchangeError::TooLarge => false,
        ExchangeError::Forward(error) => match error {
            ForwardError::Resolve { .. }
            | ForwardError::ResolverDown { .. }
            | ForwardError::Unreachable { .. }
            | ForwardError::NoSocket { .. }
            | ForwardError::NoAddress { .. }
            | ForwardError::AddressForbidden { .. }
            | ForwardError::OwnAddress { .. }
            | ForwardError::Connect { .. }
            | ForwardError::ConnectTimeout { .. }
            | ForwardError::Overloaded { .. }
            | ForwardError::PartTaken { .. }
            | ForwardError::Memory(_)
            | ForwardError::Proxy(_)
            | ForwardError::TlsBadCertificate { .. }
            | ForwardError::TlsChain(_)
            | ForwardError::TlsHandshake { .. }
            | ForwardError::NotTaken { .. }
            | ForwardError::Unsendable { .. } => true,
            ForwardError::ResponseTimeout { .. }
            | ForwardError::Reset { .. }
            | ForwardError::MalformedResponse { .. }
            | ForwardError::OverBound { .. }
            | ForwardError::BodyIdle { .. }
            | ForwardError::Form(_)
            | ForwardError::ClientBody
            | ForwardError::ClientBodyMalformed
            | ForwardError::ClientBodyIdle { .. } => false,
        },
    }
}
