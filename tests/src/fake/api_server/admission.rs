//! Admission webhooks, called over TLS as their configurations say.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    KubernetesApi,
    failure::Failure,
    selector::Selector,
    state::State,
    text,
    write::{Plan, Write},
};
use crate::{client::Client, random};

const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";

/// A webhook that is to be asked.
struct Hook {
    config: Value,
    mutates: bool,
}

impl State {
    /// The webhooks that want to see a plan, in the order of their configurations' names.
    fn hooks(&self, plan: &Plan, operation: &str, collection: &str) -> Vec<Hook> {
        let configurations = self.storage.all(collection, "");
        let hooks = configurations.flat_map(|(_, configuration)| {
            configuration["webhooks"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        });
        let hooks = hooks.filter(|hook| self.wants(hook, plan, operation));
        hooks
            .map(|config| Hook {
                config,
                mutates: collection == MUTATING,
            })
            .collect()
    }

    fn wants(&self, hook: &Value, plan: &Plan, operation: &str) -> bool {
        let lists = |list: &Value, wanted: &str| {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().any(|known| known == "*" || known == wanted)
        };
        let target = &plan.target;
        let rules = hook["rules"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let by_rule = rules.iter().any(|rule| {
            let scope = rule["scope"].as_str().unwrap_or("*");
            let in_scope = match scope {
                "Namespaced" => plan.kind.namespaced,
                "Cluster" => !plan.kind.namespaced,
                _ => true,
            };
            in_scope
                && lists(&rule["operations"], operation)
                && lists(&rule["apiGroups"], &target.group)
                && lists(&rule["apiVersions"], &target.version)
                && lists(&rule["resources"], &target.with_subresource())
        });
        let object = plan.after.as_ref().or(plan.before.as_deref());
        let by_labels = object.is_some_and(|object| {
            let selector = &hook["objectSelector"];
            let old = plan.before.as_deref();
            let selector = Selector::of_object(selector);
            selector.matches(object) || old.is_some_and(|old| selector.matches(old))
        });
        let namespace = self.namespace(&target.namespace);
        let by_namespace = namespace.is_none_or(|namespace| {
            Selector::of_object(&hook["namespaceSelector"]).matches(&namespace)
        });
        by_rule && by_labels && by_namespace
    }
}

impl KubernetesApi {
    /// Lets all webhooks that want to see it, see and change it.
    pub(super) async fn admit(&self, write: &Write<'_>, plan: &mut Plan) -> Result<(), Failure> {
        let operation = match (&plan.before, &plan.after, &write.received.method) {
            (_, _, &Method::DELETE) | (_, None, _) => "DELETE",
            (None, ..) => "CREATE",
            _ => "UPDATE",
        };
        for collection in [MUTATING, VALIDATING] {
            let hooks = self.state().hooks(plan, operation, collection);
            for hook in hooks {
                self.ask(&hook, operation, write, plan).await?;
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        hook: &Hook,
        operation: &str,
        write: &Write<'_>,
        plan: &mut Plan,
    ) -> Result<(), Failure> {
        let name = text(&hook.config["name"]);
        let uid = random::uuid();
        let review = review(&uid, operation, write, plan);
        let answer = match self.call(&hook.config, &review).await {
            Ok(answer) => answer,
            Err(_) if hook.config["failurePolicy"] == "Ignore" => return Ok(()),
            Err(why) => {
                let message = format!(
                    "Internal error occurred: failed calling webhook \"{name}\": failed to call webhook: {why}"
                );
                return Err(Failure::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    &message,
                ));
            }
        };
        let response = &answer["response"];
        if answer["kind"] != "AdmissionReview" || response["uid"] != *uid {
            let message = format!(
                "Internal error occurred: failed calling webhook \"{name}\": expected response.uid={uid:?}, got {}",
                response["uid"]
            );
            return Err(Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                &message,
            ));
        }
        if response["allowed"] != true {
            return Err(denied(&name, &response["status"]));
        }
        let Some(patch) = response["patch"].as_str().filter(|_| hook.mutates) else {
            return Ok(());
        };
        let broken = |why: String| {
            let message = format!("Internal error occurred: {why}");
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &message)
        };
        let patch = BASE64_STANDARD
            .decode(patch)
            .map_err(|error| broken(error.to_string()))?;
        let patch: json_patch::Patch =
            serde_json::from_slice(&patch).map_err(|error| broken(error.to_string()))?;
        if let Some(object) = &mut plan.after {
            json_patch::patch(object, &patch).map_err(|error| broken(error.to_string()))?;
            *object = write.normal(object)?;
            super::rules::check(&write.kind, object)?;
        }
        Ok(())
    }

    async fn call(&self, hook: &Value, review: &Value) -> Result<Value, String> {
        let config = &hook["clientConfig"];
        let (url, address) = self.place(config)?;
        let bundle = BASE64_STANDARD
            .decode(text(&config["caBundle"]))
            .unwrap_or_default();
        let roots = String::from_utf8_lossy(&bundle).into_owned();
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(10);
        let request = Request::post(format!("{url}?timeout={seconds}s"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(|error| error.to_string())?;
        if !roots.contains("BEGIN CERTIFICATE") {
            return Err(format!(
                "Post \"{url}\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ));
        }
        let client = Client::direct(address, &roots);
        let limit = std::time::Duration::from_secs(seconds);
        let sent = tokio::time::timeout(limit, client.send(request)).await;
        let answer = sent
            .map_err(|_| format!("Post \"{url}\": context deadline exceeded"))?
            .map_err(|error| format!("Post \"{url}\": {error}"))?;
        if answer.status != StatusCode::OK {
            return Err(format!("the server responded with {}", answer.status));
        }
        Ok(answer.json())
    }

    /// Where a webhook is.
    fn place(&self, config: &Value) -> Result<(String, SocketAddr), String> {
        if let Some(url) = config["url"].as_str() {
            let uri: http::Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
            let host = uri.host().unwrap_or_default();
            let host = if host == "localhost" {
                "127.0.0.1"
            } else {
                host
            };
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(443));
            let address = address
                .parse()
                .map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
            return Ok((url.to_owned(), address));
        }
        let service = &config["service"];
        let (name, namespace) = (text(&service["name"]), text(&service["namespace"]));
        let port = service["port"].as_u64().unwrap_or(443);
        let path = service["path"].as_str().unwrap_or("/");
        let url = format!("https://{name}.{namespace}.svc:{port}{path}");
        let services = super::lock(&self.services);
        let address = services.get(&(namespace, name.clone())).copied();
        let address =
            address.ok_or_else(|| format!("Post \"{url}\": service \"{name}\" not found"))?;
        Ok((url, address))
    }
}

fn review(uid: &str, operation: &str, write: &Write<'_>, plan: &Plan) -> Value {
    let target = &plan.target;
    let kind = json!({
        "group": target.group, "version": target.version, "kind": plan.kind.kind,
    });
    let resource = json!({
        "group": target.group, "version": target.version, "resource": target.resource,
    });
    let object = plan.after.as_ref().filter(|_| operation != "DELETE");
    let name = object
        .or(plan.before.as_deref())
        .map(|object| object["metadata"]["name"].clone());
    let mut request = json!({
        "uid": uid,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": name,
        "operation": operation,
        "userInfo": {"username": write.user.name, "groups": write.user.groups},
        "object": object,
        "oldObject": plan.before.as_deref(),
        "dryRun": plan.dry_run,
        "options": Value::Null,
    });
    if plan.kind.namespaced {
        request["namespace"] = target.namespace.clone().into();
    }
    if let Some(subresource) = &target.subresource {
        request["subResource"] = subresource.clone().into();
        request["requestSubResource"] = subresource.clone().into();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn denied(name: &str, status: &Value) -> Failure {
    let said = match status["message"].as_str() {
        Some(said) => format!(": {said}"),
        None => " without explanation".to_owned(),
    };
    let code = status["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let code = code
        .filter(|code| !code.is_success())
        .unwrap_or(StatusCode::FORBIDDEN);
    let message = format!("admission webhook \"{name}\" denied the request{said}");
    let reason = status["reason"].as_str().unwrap_or("Forbidden");
    Failure::new(code, reason, &message)
}
