//! Tokens of service accounts: reviewed, and made.

use serde_json::{Value, json};

use super::{
    KubernetesApi, LEEWAY,
    failure::{Cause, Failure},
    kinds::Kind,
    request::Target,
    storage::Key,
    text,
};
use crate::{fake::Received, fake::issuer::ISSUER, random};

/// The shortest and the usual life of a token that is asked for, in seconds.
const SHORTEST: u64 = 600;
const USUAL: u64 = 3_600;

impl KubernetesApi {
    pub(super) fn review_token(&self, received: &Received) -> Result<Value, Failure> {
        let bad = |why: &str| Failure::bad_request(why);
        let mut review = received.json().ok_or_else(|| bad("the body is no JSON"))?;
        if review["kind"] != "TokenReview" || review["apiVersion"] != "authentication.k8s.io/v1" {
            return Err(bad("the body is no TokenReview"));
        }
        let token = review["spec"]["token"].as_str();
        let token = token.ok_or_else(|| bad("the token is missing"))?;
        let wanted: Vec<Value> = review["spec"]["audiences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        review["status"] = match self.check_token(token, &wanted) {
            Ok(status) => status,
            // The authenticators' errors come as a list.
            Err("") => json!({"authenticated": false}),
            Err(error) => json!({"authenticated": false, "error": format!("[{error}]")}),
        };
        Ok(review)
    }

    /// The status of a good token.
    fn check_token(&self, token: &str, wanted: &[Value]) -> Result<Value, &'static str> {
        // Of a token that another issuer issued it says nothing.
        if !self.keys.is_named_in(token) {
            return Err("");
        }
        let claims = self
            .keys
            .verify(token)
            .ok_or("invalid bearer token, go-jose/go-jose: error in cryptographic primitive")?;
        let now = self.clock.now().as_second();
        let moment = |name: &str| claims[name].as_i64().ok_or("invalid bearer token");
        // go-jose's default leeway, in both directions.
        if moment("exp")? < now - LEEWAY {
            return Err("invalid bearer token, service account token has expired");
        }
        if moment("nbf")? > now + LEEWAY || moment("iat")? > now + LEEWAY {
            return Err(
                "invalid bearer token, service account token claims could not be validated due to unexpected validation error",
            );
        }
        let audiences: Vec<&Value> = claims["aud"]
            .as_array()
            .ok_or("invalid bearer token")?
            .iter()
            .filter(|audience| wanted.contains(audience))
            .collect();
        if audiences.is_empty() {
            return Err(
                "invalid bearer token, token audiences is invalid for the target audiences",
            );
        }
        let bound = &claims["kubernetes.io"];
        self.check_pod(bound)?;
        Ok(json!({
            "authenticated": true,
            "audiences": audiences,
            "user": {
                "username": claims["sub"],
                "uid": bound["serviceaccount"]["uid"],
                "groups": [
                    "system:serviceaccounts",
                    format!("system:serviceaccounts:{}", text(&bound["namespace"])),
                    "system:authenticated",
                ],
                "extra": extra(bound, &claims["jti"]),
            },
        }))
    }

    /// A pod's token is good while its pod is there, and a minute after the end of its grace period.
    fn check_pod(&self, bound: &Value) -> Result<(), &'static str> {
        if bound["pod"].is_null() {
            return Ok(());
        }
        let invalidated = "invalid bearer token, service account token has been invalidated";
        let state = self.state();
        let kind = state.built_in("", "pods");
        let key = Key::new(
            &kind,
            &text(&bound["namespace"]),
            &text(&bound["pod"]["name"]),
        );
        let pod = state.storage.get(&key).ok_or(invalidated)?;
        let ends = pod["metadata"]["deletionTimestamp"].as_str();
        let ends = ends.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let over = ends.is_some_and(|end| end.as_second() + 60 < self.clock.now().as_second());
        if over || pod["metadata"]["uid"] != bound["pod"]["uid"] {
            return Err(invalidated);
        }
        Ok(())
    }

    /// `TokenRequest`: a token for an account, perhaps bound to a pod.
    pub(super) fn make_token(
        &self,
        target: &Target,
        received: &Received,
    ) -> Result<Value, Failure> {
        let mut request = received
            .json()
            .filter(|body| {
                body["kind"] == "TokenRequest" && body["apiVersion"] == "authentication.k8s.io/v1"
            })
            .ok_or_else(|| Failure::bad_request("the body is no TokenRequest"))?;
        let (namespace, account) = (
            &target.namespace,
            target.name.as_deref().unwrap_or_default(),
        );
        let state = self.state();
        let find = |kind: &Kind, name: &str| {
            let key = Key::new(kind, namespace, name);
            state.storage.get(&key).cloned()
        };
        let kind = state.built_in("", "serviceaccounts");
        let known = find(&kind, account).ok_or_else(|| Failure::not_found(target, account))?;
        let spec = &request["spec"];
        let life = spec["expirationSeconds"].as_u64().unwrap_or(USUAL);
        if life < SHORTEST {
            let message = "Invalid value: may not specify a duration less than 10 minutes";
            let cause = Cause::invalid("spec.expirationSeconds", message);
            let kind = "TokenRequest.authentication.k8s.io";
            return Err(Failure::invalid(kind, "", &[cause]));
        }
        let mut bound = json!({
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": known["metadata"]["uid"]},
        });
        let object = &spec["boundObjectRef"];
        if object["kind"] == "Pod" {
            let kind = state.built_in("", "pods");
            let name = text(&object["name"]);
            let of = Target {
                resource: "pods".to_owned(),
                ..target.clone()
            };
            let of = Target {
                group: String::new(),
                ..of
            };
            let pod = find(&kind, &name).ok_or_else(|| Failure::not_found(&of, &name))?;
            let uid = &pod["metadata"]["uid"];
            if !object["uid"].is_null() && object["uid"] != *uid {
                let why = "the UID in the bound object reference does not match the UID in record";
                return Err(Failure::conflict(&of, &name, why));
            }
            bound["pod"] = json!({"name": name, "uid": uid});
        }
        drop(state);
        let audiences = match spec["audiences"].as_array() {
            Some(audiences) if !audiences.is_empty() => audiences.clone(),
            _ => vec![ISSUER.into()],
        };
        let now = self.clock.now().as_second();
        let exp = now + life.cast_signed();
        let token = self
            .keys
            .sign(&claims(namespace, account, &audiences, (now, exp), &bound));
        let end = jiff::Timestamp::from_second(exp).map(|end| end.to_string());
        request["status"] = json!({
            "token": token,
            "expirationTimestamp": end.unwrap_or_default(),
        });
        Ok(request)
    }
}

fn claims(
    namespace: &str,
    account: &str,
    audiences: &[Value],
    (now, exp): (i64, i64),
    bound: &Value,
) -> Value {
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": audiences,
        "exp": exp,
        "iat": now,
        "nbf": now,
        "jti": random::uuid(),
        "kubernetes.io": bound,
    })
}

fn extra(bound: &Value, token_id: &Value) -> Value {
    let mut extra = json!({
        "authentication.kubernetes.io/credential-id": [format!("JTI={}", text(token_id))],
    });
    for (object, name) in [
        ("pod", "name"),
        ("pod", "uid"),
        ("node", "name"),
        ("node", "uid"),
    ] {
        let value = &bound[object][name];
        if !value.is_null() {
            extra[format!("authentication.kubernetes.io/{object}-{name}")] = json!([value]);
        }
    }
    extra
}
