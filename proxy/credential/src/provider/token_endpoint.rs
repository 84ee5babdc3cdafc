//! What the OAuth 2.0 providers share: authenticating to a token endpoint, parsing its response, and
//! revoking a token there.
//!
//! RFC 6749 (sections 2.3, 3.2 and 5), RFC 7009, RFC 7523 (section 2.2), RFC 8693 (section 2.2).

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use countersign_config::model::{
    ClientAuth, Credential, OauthClient, SecretSource, SigningKey, TokenEndpoint,
};
use countersign_core::secret::Secret;
use http::{HeaderValue, Request, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Fetched, host, signing};
use crate::{
    CredentialError, IssuerFault, ProviderContext, revocation::Revocation,
    source::Form as SecretForm,
};

/// The lifetime of a token whose issuer does not state it. RFC 6749 (section 5.1) allows it to be agreed
/// elsewhere, such as in `maxAge`.
const UNSTATED_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// The longest lifetime that is accepted, so that no sum overflows.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(24 * 366);

/// The lifetime of a client assertion: it is used at once.
const ASSERTION_LIFE: SignedDuration = SignedDuration::from_secs(60);

/// The longest token, in bytes: the limit of a header.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The longest part of an issuer's own text that is shown.
const LONGEST_WORDS: usize = 300;

/// The kind of request, which determines the expected response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 6749 and its extensions.
    Grant,
    /// RFC 8693: the response says what was issued.
    Exchange,
}

/// A token endpoint and its client.
pub(super) struct TokenRequest<'a> {
    pub(super) credential: &'a Credential,
    pub(super) endpoint: &'a TokenEndpoint,
    pub(super) client: Option<&'a OauthClient>,
    pub(super) context: &'a ProviderContext,
    pub(super) now: Timestamp,
}

/// A form, and the secrets in it, which must not appear in an error.
#[derive(Default)]
pub(super) struct Form {
    pairs: Vec<(&'static str, Zeroizing<String>)>,
}

impl Form {
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.pairs.push((name, Zeroizing::new(value.to_owned())));
        self
    }

    pub(super) fn with_some(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The scopes, as one parameter; none if there are none (RFC 6749, section 3.3).
    pub(super) fn with_scopes(self, scopes: &[String]) -> Self {
        let joined = (!scopes.is_empty()).then(|| scopes.join(" "));
        self.with_some("scope", joined.as_deref())
    }

    fn encoded(&self) -> Zeroizing<String> {
        // Allocated at once for the worst case: a growing buffer leaves copies behind.
        let length = |text: &str| 3 * text.len() + 1;
        let pairs = self.pairs.iter();
        let room = pairs
            .map(|(name, value)| length(name) + length(value))
            .sum();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
        for (name, value) in &self.pairs {
            form.append_pair(name, value);
        }
        Zeroizing::new(form.finish())
    }
}

impl TokenRequest<'_> {
    /// Requests a token.
    pub(super) async fn token(&self, form: Form, kind: Kind) -> Result<Fetched, CredentialError> {
        let (answer, form) = self.post(&self.endpoint.url, form).await?;
        let host = host(&self.endpoint.url);
        let issued = match answer.status() {
            StatusCode::OK => issued(answer.body(), kind),
            _ => Err(refusal(&answer, &form)),
        };
        let (secret, life) = issued.map_err(|fault| CredentialError::Issuer { host, fault })?;
        let life = life.map_or(UNSTATED_LIFE, |life| {
            SignedDuration::try_from(life).unwrap_or(LONGEST_LIFE)
        });
        // Counted from before the request: its lifetime began after that.
        let expires_at = self.now.checked_add(life.min(LONGEST_LIFE)).ok();
        let revocation = self.endpoint.revoke_url.as_ref().map(|_| Revocation::Oauth);
        Ok(Fetched::issued(secret, expires_at, revocation))
    }

    /// Revokes a token. It is a success if the issuer does not know the token (RFC 7009, section 2.2).
    pub(super) async fn revoke(&self, token: &Secret) -> Result<(), CredentialError> {
        let Some(url) = &self.endpoint.revoke_url else {
            return Ok(());
        };
        let form = Form::default()
            .with("token", token.expose())
            .with("token_type_hint", "access_token");
        let (answer, form) = self.post(url, form).await?;
        if answer.status() == StatusCode::OK {
            return Ok(());
        }
        Err(CredentialError::Issuer {
            host: host(url),
            fault: refusal(&answer, &form),
        })
    }

    /// Sends a form as the client; returns it with what the client added.
    async fn post(
        &self,
        url: &str,
        form: Form,
    ) -> Result<(Response<Bytes>, Form), CredentialError> {
        let (form, authorization) = self.prove(form).await?;
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, super::USER_AGENT);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = Bytes::copy_from_slice(form.encoded().as_bytes());
        let roots = self.endpoint.ca_file.as_deref();
        let request = request.body(body);
        let answer = super::send(self.credential, url, request, self.context, roots).await?;
        Ok((answer, form))
    }

    /// Adds the client's authentication to the form or the head.
    async fn prove(&self, form: Form) -> Result<(Form, Option<HeaderValue>), CredentialError> {
        let Some(client) = self.client else {
            return Ok((form, None));
        };
        match &client.auth {
            ClientAuth::Basic(secret) => {
                let secret = self.client_secret(secret).await?;
                Ok((form, Some(basic(&client.id, &secret)?)))
            }
            ClientAuth::Post(secret) => {
                let secret = self.client_secret(secret).await?;
                let form = form.with("client_id", &client.id);
                Ok((form.with("client_secret", secret.expose()), None))
            }
            ClientAuth::PrivateKeyJwt(key) => {
                let assertion = self.assertion(&client.id, key).await?;
                let form = form.with("client_id", &client.id).with(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                );
                Ok((form.with("client_assertion", assertion.expose()), None))
            }
        }
    }

    async fn client_secret(&self, source: &SecretSource) -> Result<Secret, CredentialError> {
        let sources = &self.context.sources;
        let read = sources.read_for(self.credential, source, SecretForm::Text);
        Ok(read.await?.secret)
    }

    /// RFC 7523, section 3: issuer and subject are the client, the audience is the token endpoint.
    async fn assertion(&self, id: &str, key: &SigningKey) -> Result<Secret, CredentialError> {
        let issued_at = self.now.as_second();
        let claims = json!({
            "iss": id,
            "sub": id,
            "aud": self.endpoint.url,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_LIFE.as_secs(),
            "jti": signing::unique()?,
        });
        signing::sign(&claims, key, self.credential, self.context).await
    }
}

/// Basic authentication of a client, whose id and secret are form-encoded first (RFC 6749, section
/// 2.3.1).
fn basic(id: &str, secret: &Secret) -> Result<HeaderValue, CredentialError> {
    let encode = |text: &str| {
        let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
        encoded.extend(form_urlencoded::byte_serialize(text.as_bytes()));
        encoded
    };
    let pair = Zeroizing::new(format!("{}:{}", *encode(id), *encode(secret.expose())));
    super::authorization("Basic ", &Zeroizing::new(STANDARD.encode(pair.as_bytes())))
}

/// RFC 6749, section 5.1, and RFC 8693, section 2.2.1. Other members are allowed.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    issued_token_type: Option<String>,
}

fn issued(body: &[u8], kind: Kind) -> Result<(Secret, Option<Duration>), IssuerFault> {
    let answer: TokenResponse = super::json_object(body).ok_or(IssuerFault::BadResponse(
        "it is not a JSON object with `access_token` and `token_type`, each a text, and optionally `expires_in`, a number of seconds",
    ))?;
    let secret = Secret::new(answer.access_token);
    if !is_token(secret.expose()) {
        return Err(IssuerFault::BadResponse(
            "`access_token` is not one word of visible ASCII of at most 16 KiB",
        ));
    }
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(IssuerFault::BadResponse(
            "`token_type` is not `Bearer`; other types are not supported",
        ));
    }
    if kind == Kind::Exchange {
        let usable = [
            "urn:ietf:params:oauth:token-type:access_token",
            "urn:ietf:params:oauth:token-type:jwt",
        ];
        match answer.issued_token_type.as_deref() {
            Some(issued) if usable.contains(&issued) => {}
            Some(_) | None => {
                return Err(IssuerFault::BadResponse(
                    "`issued_token_type` is neither an access token's nor a JWT's (RFC 8693)",
                ));
            }
        }
    }
    Ok((secret, answer.expires_in.map(Duration::from_secs)))
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// The fault in a response other than 200.
fn refusal(answer: &Response<Bytes>, form: &Form) -> IssuerFault {
    let status = answer.status();
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        return IssuerFault::Unavailable(format!("the response status was {status}").into());
    }
    let said: Option<ErrorResponse> = super::json_object(answer.body());
    let Some(said) = said.filter(|said| is_code(&said.error)) else {
        return IssuerFault::Refused {
            code: format!("status {}", status.as_u16()).into(),
            words: None,
        };
    };
    match said.error.as_str() {
        "temporarily_unavailable" | "server_error" => {
            IssuerFault::Unavailable(format!("it says {}", said.error).into())
        }
        code => IssuerFault::Refused {
            code: code.into(),
            words: said
                .error_description
                .and_then(|words| tellable(&words, form)),
        },
    }
}

/// An error code: a few letters, too short for a secret.
fn is_code(code: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=64).contains(&code.len()) && code.bytes().all(letters)
}

/// An issuer's own text, unless it repeats what we have sent.
fn tellable(words: &str, form: &Form) -> Option<Arc<str>> {
    let shows = |(name, value): &(&str, Zeroizing<String>)| {
        let secret = matches!(
            *name,
            "client_secret" | "client_assertion" | "subject_token" | "assertion" | "token"
        );
        secret && words.contains(value.as_str())
    };
    (!form.pairs.iter().any(shows)).then(|| super::words(words, LONGEST_WORDS))
}

pub(super) fn is_token(text: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const EXCHANGED: &str = "urn:ietf:params:oauth:token-type:access_token";

    #[rstest]
    #[case::whole(json!({"access_token": "a1", "token_type": "Bearer", "expires_in": 60}), Some(60))]
    #[case::without_end(json!({"access_token": "a1", "token_type": "bearer"}), None)]
    #[case::more(json!({"access_token": "a1", "token_type": "BEARER", "scope": "x", "refresh_token": "r"}), None)]
    #[case::exchanged(
        json!({"access_token": "a1", "token_type": "Bearer", "issued_token_type": EXCHANGED}),
        None
    )]
    fn an_answer_is_taken(#[case] answer: serde_json::Value, #[case] life: Option<u64>) {
        let (secret, found) = issued(answer.to_string().as_bytes(), Kind::Grant).unwrap();
        assert_eq!(secret.expose(), "a1");
        assert_eq!(found.map(|life| life.as_secs()), life);
    }

    #[rstest]
    #[case::array(r#"["a1", "Bearer", 60, null]"#, "not a JSON object")]
    #[case::no_token(r#"{"token_type": "Bearer"}"#, "not a JSON object")]
    #[case::no_type(r#"{"access_token": "a1"}"#, "not a JSON object")]
    #[case::twice(
        r#"{"access_token": "a1", "access_token": "a2", "token_type": "Bearer"}"#,
        "not a JSON object"
    )]
    #[case::text_for_number(
        r#"{"access_token": "a1", "token_type": "Bearer", "expires_in": "60"}"#,
        "expires_in"
    )]
    #[case::negative(
        r#"{"access_token": "a1", "token_type": "Bearer", "expires_in": -1}"#,
        "expires_in"
    )]
    #[case::trailing(
        r#"{"access_token": "a1", "token_type": "Bearer"} x"#,
        "not a JSON object"
    )]
    #[case::empty_token(r#"{"access_token": "", "token_type": "Bearer"}"#, "visible ASCII")]
    #[case::two_lines(
        r#"{"access_token": "a1\r\nX: y", "token_type": "Bearer"}"#,
        "visible ASCII"
    )]
    #[case::mac(r#"{"access_token": "a1", "token_type": "mac"}"#, "token_type")]
    #[case::dpop(r#"{"access_token": "a1", "token_type": "DPoP"}"#, "token_type")]
    #[case::html("<html>a1</html>", "not a JSON object")]
    fn an_answer_is_refused(#[case] answer: &str, #[case] why: &str) {
        let fault = issued(answer.as_bytes(), Kind::Grant).unwrap_err();
        assert!(fault.to_string().contains(why), "{fault}");
        assert!(!format!("{fault} {fault:?}").contains("a1"));
    }

    #[rstest]
    #[case::not_said(None)]
    #[case::saml(Some("urn:ietf:params:oauth:token-type:saml2"))]
    #[case::refresh(Some("urn:ietf:params:oauth:token-type:refresh_token"))]
    fn an_exchange_must_say_what_it_issued(#[case] issued_type: Option<&str>) {
        let answer = json!({
            "access_token": "a1", "token_type": "Bearer", "issued_token_type": issued_type,
        });
        let fault = issued(answer.to_string().as_bytes(), Kind::Exchange).unwrap_err();
        assert!(fault.to_string().contains("issued_token_type"), "{fault}");
    }

    #[rstest]
    #[case::client(401, r#"{"error": "invalid_client"}"#, false, "invalid_client")]
    #[case::scope(
        400,
        r#"{"error": "invalid_scope", "error_description": "no x"}"#,
        false,
        "no x"
    )]
    #[case::later(
        400,
        r#"{"error": "temporarily_unavailable"}"#,
        true,
        "temporarily_unavailable"
    )]
    #[case::down(503, r#"{"error": "invalid_client"}"#, true, "503")]
    #[case::too_many(429, "", true, "429")]
    #[case::page(403, "<html>", false, "status 403")]
    #[case::redirect(302, "", false, "status 302")]
    #[case::no_code(400, r#"{"error": "s3cret value"}"#, false, "status 400")]
    fn refusals_are_told_apart(
        #[case] status: u16,
        #[case] body: &'static str,
        #[case] passes: bool,
        #[case] says: &str,
    ) {
        let answer = Response::builder()
            .status(status)
            .body(body.into())
            .unwrap();
        let fault = refusal(&answer, &Form::default());
        let error = CredentialError::Issuer {
            host: "issuer.test".into(),
            fault,
        };
        assert_eq!(error.may_pass(), passes, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.withdraws());
    }

    #[test]
    fn an_issuer_that_repeats_what_it_was_sent_is_not_quoted() {
        let body = r#"{"error": "invalid_client", "error_description": "bad secret hunter2"}"#;
        let answer = Response::builder().status(401).body(body.into()).unwrap();
        let form = Form::default().with("client_secret", "hunter2");
        let fault = refusal(&answer, &form);
        assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        assert!(fault.to_string().contains("invalid_client"));
    }

    #[test]
    fn a_form_says_what_the_rfc_says() {
        let form = Form::default()
            .with("grant_type", "client_credentials")
            .with_scopes(&["a:read".into(), "b".into()])
            .with_some("audience", None);
        let encoded = "grant_type=client_credentials&scope=a%3Aread+b";
        assert_eq!(*form.encoded(), encoded);
        assert_eq!(*Form::default().with_scopes(&[]).encoded(), "");
    }

    /// RFC 6749, section 2.3.1: without the encoding, a colon in the id would be read as the separator.
    #[test]
    fn basic_encodes_id_and_secret_first() {
        let value = basic("id:1", &Secret::new("p%ss w:rd".into())).unwrap();
        assert!(value.is_sensitive());
        let pair = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(pair).unwrap(), b"id%3A1:p%25ss+w%3Ard");
    }
}
