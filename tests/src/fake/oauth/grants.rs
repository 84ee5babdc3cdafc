//! What tokens are issued for, and how they end.

use http::{Response, StatusCode};
use serde_json::Value;

use super::{AccessToken, Body, OauthApi, OauthClient, Parameters, Received, Refused, body};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ASSERTION: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

impl OauthApi {
    pub(super) fn token(&self, received: &Received) -> Result<Response<Body>, Refused> {
        let parameters = Parameters::of(received)?;
        let grant = parameters.need("grant_type")?;
        let client = self.client(received, &parameters)?;
        match grant {
            "client_credentials" => {
                let client = client.ok_or(Refused("invalid_client", "who asks?"))?;
                let token = wanted(client.id.clone(), Some(&client), &parameters)?;
                Ok(self.issue(token, &[]))
            }
            ASSERTION => {
                let subject = self.assertion(parameters.need("assertion")?)?;
                let token = wanted(subject, client.as_ref(), &parameters)?;
                Ok(self.issue(token, &[]))
            }
            EXCHANGE => {
                let subject = self.subject(&parameters)?;
                let token = wanted(subject, client.as_ref(), &parameters)?;
                Ok(self.issue(token, &[("issued_token_type", ACCESS_TOKEN)]))
            }
            _ => Err(Refused("unsupported_grant_type", "not here")),
        }
    }

    /// RFC 7009: only for whom it was issued to; what is not known need not be ended.
    pub(super) fn revoke(&self, received: &Received) -> Result<Response<Body>, Refused> {
        let parameters = Parameters::of(received)?;
        let value = parameters.need("token")?;
        let client = self.client(received, &parameters)?.map(|client| client.id);
        let good = self.introspect(value).is_some();
        let mut book = self.book();
        if let Some(token) = book.tokens.get_mut(value) {
            if token.client.is_some() && token.client != client {
                return Err(Refused("invalid_client", "another client's token"));
            }
            token.revoked = true;
            book.revocations += usize::from(good);
        }
        Ok(body::text(StatusCode::OK, ""))
    }

    /// RFC 7523, section 2.1: whom an assertion speaks for.
    fn assertion(&self, assertion: &str) -> Result<String, Refused> {
        const BAD: &str = "invalid_grant";
        let trusted: Vec<_> = self.book().trusted.clone().into_iter().collect();
        let found = trusted.iter().find_map(|(iss, signer)| {
            let (_, claims) = signer.verify(assertion)?;
            (claims["iss"] == **iss).then_some(claims)
        });
        let claims = found.ok_or(Refused(BAD, "nobody we trust has signed it"))?;
        self.check_times(&claims, 3_600)
            .map_err(|why| Refused(BAD, why))?;
        let subject = claims["sub"].as_str().or(claims["iss"].as_str());
        Ok(subject.unwrap_or_default().to_owned())
    }

    /// RFC 8693, section 2.1: the pod that a token was issued to.
    fn subject(&self, parameters: &Parameters) -> Result<String, Refused> {
        const BAD: &str = "invalid_request";
        let token = parameters.need("subject_token")?;
        if parameters.need("subject_token_type")? != JWT {
            return Err(Refused(BAD, "subject_token_type is not a JWT's"));
        }
        let kind = parameters.find("requested_token_type");
        if kind.is_some_and(|kind| kind != ACCESS_TOKEN) {
            return Err(Refused(BAD, "only access tokens are issued"));
        }
        if parameters.find("actor_token").is_some() {
            return Err(Refused(BAD, "nobody acts for another here"));
        }
        let (issuer, keys) = &self.cluster;
        let claims = keys
            .verify(token)
            .ok_or(Refused(BAD, "the cluster has not signed it"))?;
        let ours = |audience: &Value| audience == "countersign";
        let for_us = claims["aud"]
            .as_array()
            .is_some_and(|all| all.iter().any(ours));
        if claims["iss"] != **issuer || !for_us {
            return Err(Refused(BAD, "another issuer or audience"));
        }
        let now = self.now().as_second();
        if claims["exp"].as_i64().is_none_or(|end| end <= now) {
            return Err(Refused(BAD, "it has expired"));
        }
        let pod = claims["kubernetes.io"]["pod"]["name"].as_str();
        pod.map(str::to_owned).ok_or(Refused(BAD, "no pod's token"))
    }
}

/// What the token is to be, if the client may have it. Who proves nothing may ask for all.
fn wanted(
    subject: String,
    client: Option<&OauthClient>,
    parameters: &Parameters,
) -> Result<AccessToken, Refused> {
    let scopes = parameters.scopes();
    let allowed = |scope: &String| client.is_none_or(|client| client.scopes.contains(scope));
    if !scopes.iter().all(allowed) {
        return Err(Refused("invalid_scope", "not for this client"));
    }
    let audience = parameters.find("audience").or(parameters.find("resource"));
    let audience = audience.map(str::to_owned);
    let known = |name: &String| client.is_none_or(|client| client.audiences.contains(name));
    if !audience.iter().all(known) {
        return Err(Refused("invalid_target", "not for this client"));
    }
    Ok(AccessToken {
        subject,
        scopes,
        audience,
        client: client.map(|client| client.id.clone()),
        expires_at: jiff::Timestamp::UNIX_EPOCH,
        revoked: false,
    })
}
