//! Clients, and how they prove themselves (RFC 6749, section 2.3; RFC 7523, section 2.2).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{Oauth, OauthApi, Parameters, Received, Refused, Signer};

const NO_CLIENT: &str = "invalid_client";

/// A registered client.
#[derive(Clone)]
pub struct OauthClient {
    /// Its id.
    pub id: String,
    /// How it proves itself; in no other way.
    pub proves: Proves,
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// The audiences or resources it may ask for.
    pub audiences: Vec<String>,
}

/// How a client proves itself.
#[derive(Clone)]
pub enum Proves {
    /// `client_secret_basic`.
    Basic(String),
    /// `client_secret_post`.
    Post(String),
    /// `private_key_jwt`, with this `kid` if there is one.
    PrivateKeyJwt(Signer, Option<String>),
}

impl OauthClient {
    pub(super) fn secret(&self) -> Option<String> {
        match &self.proves {
            Proves::Basic(secret) | Proves::Post(secret) => Some(secret.clone()),
            Proves::PrivateKeyJwt(..) => None,
        }
    }
}

impl OauthApi {
    /// The client that a request proves to come from; `None` if it does not try to.
    pub(super) fn client(
        &self,
        received: &Received,
        parameters: &Parameters,
    ) -> Result<Option<OauthClient>, Refused> {
        let basic = match received.header_values("authorization").as_slice() {
            [] => None,
            [value] => Some(basic(value)?),
            _ => return Err(Refused("invalid_request", "Authorization is there twice")),
        };
        let secret = parameters.find("client_secret");
        let assertion = parameters.find("client_assertion");
        let ways = [basic.is_some(), secret.is_some(), assertion.is_some()];
        match ways.into_iter().filter(|way| *way).count() {
            0 => return Ok(None),
            1 => {}
            _ => return Err(Refused("invalid_request", "a client proves itself once")),
        }
        if let Some((id, secret)) = basic {
            let client = self.registered(&id)?;
            return match &client.proves {
                Proves::Basic(expected) if *expected == secret => Ok(Some(client)),
                _ => Err(Refused(NO_CLIENT, "not by Basic, or another secret")),
            };
        }
        if let Some(secret) = secret {
            let client = self.registered(parameters.need("client_id")?)?;
            return match &client.proves {
                Proves::Post(expected) if expected == secret => Ok(Some(client)),
                _ => Err(Refused(NO_CLIENT, "not by POST, or another secret")),
            };
        }
        let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        if parameters.need("client_assertion_type")? != bearer {
            return Err(Refused("invalid_request", "client_assertion_type"));
        }
        self.asserted(assertion.unwrap_or_default(), parameters)
            .map(Some)
    }

    fn asserted(&self, assertion: &str, parameters: &Parameters) -> Result<OauthClient, Refused> {
        let id = parameters.need("client_id")?;
        let client = self.registered(id)?;
        let Proves::PrivateKeyJwt(signer, key_id) = &client.proves else {
            return Err(Refused(NO_CLIENT, "not by an assertion"));
        };
        let (header, claims) = signer
            .verify(assertion)
            .ok_or(Refused(NO_CLIENT, "the signature is not the client's"))?;
        if header.get("kid").and_then(Value::as_str) != key_id.as_deref() {
            return Err(Refused(NO_CLIENT, "another kid"));
        }
        if claims["iss"] != id || claims["sub"] != id {
            return Err(Refused(NO_CLIENT, "iss and sub must be the client"));
        }
        self.check_times(&claims, 300)
            .map_err(|why| Refused(NO_CLIENT, why))?;
        Ok(client)
    }

    fn registered(&self, id: &str) -> Result<OauthClient, Refused> {
        let client = self.book().clients.get(id).cloned();
        client.ok_or(Refused(NO_CLIENT, "not registered"))
    }

    /// RFC 7523, section 3: for us, now, at most `longest` seconds, and never before.
    pub(super) fn check_times(&self, claims: &Value, longest: i64) -> Result<(), &'static str> {
        if claims["aud"] != Oauth::token_url() {
            return Err("aud must be the token endpoint");
        }
        let now = self.now().as_second();
        let (Some(issued_at), Some(expires_at)) = (claims["iat"].as_i64(), claims["exp"].as_i64())
        else {
            return Err("iat and exp must be numbers");
        };
        if issued_at > now || expires_at <= now || expires_at - issued_at > longest {
            return Err("iat and exp are not of now");
        }
        let jti = claims["jti"].as_str().filter(|jti| jti.len() >= 16);
        let jti = jti.ok_or("jti must be long enough to be unique")?;
        if !self.book().used.insert(jti.to_owned()) {
            return Err("jti was used before");
        }
        Ok(())
    }
}

/// RFC 6749, section 2.3.1: id and secret are encoded as in forms, each by itself.
fn basic(value: &str) -> Result<(String, String), Refused> {
    const UNREADABLE: Refused = Refused(NO_CLIENT, "Authorization is not Basic");
    let encoded = value.strip_prefix("Basic ").ok_or(UNREADABLE)?;
    let pair = BASE64_STANDARD.decode(encoded).map_err(|_| UNREADABLE)?;
    let pair = String::from_utf8(pair).map_err(|_| UNREADABLE)?;
    let (id, secret) = pair.split_once(':').ok_or(UNREADABLE)?;
    if secret.contains(':') {
        return Err(Refused(NO_CLIENT, "a colon that was not encoded"));
    }
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| UNREADABLE)
    };
    Ok((decode(id)?, decode(secret)?))
}
