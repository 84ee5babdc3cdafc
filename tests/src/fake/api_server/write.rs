//! Writing: what a request makes of an object. A plan is made from what is there, passes admission, and
//! is carried out if nothing changed meanwhile.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    fields::Manager,
    kept::{changes_spec, keep_what_is_not_written},
    kinds::Kind,
    ownership, patch, protobuf,
    request::{Query, Target},
    rules,
    state::State,
    storage::Key,
    text, typed,
    user::User,
};
use crate::{fake::Received, random};

/// What is to become of one object.
pub(super) struct Plan {
    pub(super) key: Key,
    pub(super) kind: Arc<Kind>,
    pub(super) target: Target,
    pub(super) before: Option<Arc<Value>>,
    /// `None`: it is deleted.
    pub(super) after: Option<Value>,
    pub(super) status: StatusCode,
    pub(super) dry_run: bool,
}

/// A request that writes.
pub(super) struct Write<'a> {
    pub(super) kind: Arc<Kind>,
    pub(super) target: Target,
    pub(super) received: &'a Received,
    pub(super) query: Query,
    pub(super) user: User,
    /// RFC 3339.
    pub(super) now: String,
}

impl Write<'_> {
    pub(super) fn subresource(&self) -> &str {
        self.target.subresource.as_deref().unwrap_or_default()
    }

    pub(super) fn manager(&self, operation: &'static str) -> Manager {
        let agent = self.received.header("user-agent").unwrap_or_default();
        let agent = agent.split('/').next().unwrap_or_default();
        let name = self.query.get("fieldManager").unwrap_or(agent);
        Manager {
            name: (if name.is_empty() { "unknown" } else { name }).to_owned(),
            api_version: self.target.api_version(),
            operation,
            subresource: self.subresource().to_owned(),
            time: self.now.clone(),
        }
    }

    /// Whether all is to be done but the writing. There is one word for it.
    fn is_dry_run(&self) -> Result<bool, Failure> {
        match self.query.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let message = format!("Unsupported value: \"{other}\": supported values: \"All\"");
                let cause = Cause::invalid("dryRun", message);
                Err(Failure::invalid("Options.meta.k8s.io", "", &[cause]))
            }
        }
    }

    /// The object that was sent whole.
    fn sent(&self) -> Result<Value, Failure> {
        let content_type = self.received.media_type();
        // What could be read is JSON by now.
        if content_type == protobuf::MEDIA_TYPE {
            let message = format!(
                "the object provided is unrecognized (must be of type {}): provided data does not appear to be a protobuf message",
                self.kind.kind
            );
            return Err(Failure::bad_request(&message));
        }
        if content_type != "application/json" {
            let message = "the body of the request was in an unknown format - accepted media types \
                           include: application/json, application/yaml, \
                           application/vnd.kubernetes.protobuf";
            let reason = "UnsupportedMediaType";
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason,
                message,
            ));
        }
        let object = self.received.json().filter(Value::is_object);
        let object = object
            .ok_or_else(|| Failure::bad_request("couldn't get version/kind; json parse error"))?;
        self.checked_type(&object)?;
        Ok(object)
    }

    pub(super) fn checked_type(&self, object: &Value) -> Result<(), Failure> {
        let (kind, version) = (&self.kind.kind, self.kind.api_version());
        if object["kind"] == **kind && object["apiVersion"] == *version {
            return Ok(());
        }
        let sent = format!(
            "{}, Kind={}",
            text(&object["apiVersion"]),
            text(&object["kind"])
        );
        let message = format!(
            "the API version in the data ({sent}) does not match the expected API version ({version}, Kind={kind})"
        );
        Err(Failure::bad_request(&message))
    }

    /// The object as the server keeps it: without what its kind does not know.
    pub(super) fn normal(&self, object: &Value) -> Result<Value, Failure> {
        let mut unknown = Vec::new();
        let normal = if self.kind.is_custom() {
            let mut object = object.clone();
            let schema = &self.kind.custom["schema"]["openAPIV3Schema"];
            super::custom::prune(schema, &mut object, "", &mut unknown);
            object
        } else {
            let typed = typed::typed(&self.kind, object).map_err(|error| {
                let Kind { kind, version, .. } = &*self.kind;
                let message = format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"
                );
                Failure::bad_request(&message)
            })?;
            typed::unknown(object, &typed, "", &mut unknown);
            typed
        };
        if let (Some("Strict"), Some(first)) = (self.query.get("fieldValidation"), unknown.first())
        {
            let Kind { kind, version, .. } = &*self.kind;
            let message = format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: unknown field \"{first}\""
            );
            return Err(Failure::bad_request(&message));
        }
        Ok(normal)
    }

    fn planned(
        &self,
        key: Key,
        before: Option<Arc<Value>>,
        after: Option<Value>,
        status: StatusCode,
    ) -> Result<Plan, Failure> {
        Ok(Plan {
            key,
            kind: Arc::clone(&self.kind),
            target: self.target.clone(),
            before,
            after,
            status,
            dry_run: self.is_dry_run()?,
        })
    }
}

impl State {
    pub(super) fn plan(&self, write: &Write<'_>) -> Result<Plan, Failure> {
        let name = write.target.name.as_deref();
        match (&write.received.method, name) {
            (&Method::POST, None) => self.create(write, &write.sent()?, &write.manager("Update")),
            (&Method::PUT, Some(name)) => self.replace(write, name, &write.sent()?, "Update"),
            (&Method::PATCH, Some(name)) => self.patch(write, name),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn create(&self, write: &Write<'_>, sent: &Value, manager: &Manager) -> Result<Plan, Failure> {
        let Write { kind, target, .. } = write;
        self.namespace_takes(target)?;
        let mut object = write.normal(sent)?;
        let metadata = &mut object["metadata"];
        if !metadata["resourceVersion"].is_null() && metadata["resourceVersion"] != "" {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::bad_request(message));
        }
        if metadata["name"].is_null()
            && let Some(prefix) = metadata["generateName"].as_str()
        {
            metadata["name"] = format!("{prefix}{}", random::alphanumeric(5).to_lowercase()).into();
        }
        if metadata["name"].is_null() {
            let cause = Cause {
                reason: "FieldValueRequired",
                field: "metadata.name".to_owned(),
                message: "Required value: name or generateName is required".to_owned(),
            };
            return Err(Failure::invalid(&kind.qualified(), "", &[cause]));
        }
        let name = text(&metadata["name"]);
        check_place(metadata, target)?;
        if kind.namespaced {
            metadata["namespace"] = target.namespace.clone().into();
        }
        for server_sets in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.remove(server_sets);
            }
        }
        metadata["uid"] = random::uuid().into();
        metadata["creationTimestamp"] = write.now.clone().into();
        rules::prepare(kind, &mut object, &write.user, &write.now);
        rules::check(kind, &object)?;
        let key = Key::new(kind, &target.namespace, &name);
        if self.storage.get(&key).is_some() {
            return Err(Failure::already_exists(target, &name));
        }
        if manager.operation == "Update" {
            ownership::updated(kind, None, &mut object, manager);
        }
        write.planned(key, None, Some(object), StatusCode::CREATED)
    }

    fn replace(
        &self,
        write: &Write<'_>,
        name: &str,
        sent: &Value,
        operation: &'static str,
    ) -> Result<Plan, Failure> {
        let Write { kind, target, .. } = write;
        let key = Key::new(kind, &target.namespace, name);
        let old = self.storage.get(&key);
        let old = old.ok_or_else(|| Failure::not_found(target, name))?;
        let mut new = write.normal(sent)?;
        if new["metadata"]["name"] != name {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                text(&new["metadata"]["name"])
            );
            return Err(Failure::bad_request(&message));
        }
        check_place(&new["metadata"], target)?;
        let (sent, before) = (&new["metadata"], &old["metadata"]);
        let unset = sent["resourceVersion"].is_null() || sent["resourceVersion"] == "";
        if unset && !rules::updates_without_version(kind) {
            let message = "Invalid value: 0: must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", message);
            return Err(Failure::invalid(&kind.qualified(), name, &[cause]));
        }
        if !unset && sent["resourceVersion"] != before["resourceVersion"] {
            return Err(Failure::modified(target, name));
        }
        if !sent["uid"].is_null() && sent["uid"] != before["uid"] {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                text(&sent["uid"]),
                text(&before["uid"])
            );
            return Err(Failure::conflict(target, name, &why));
        }
        keep_what_is_not_written(kind, write.subresource(), old, &mut new);
        self.check_signer(write, &new)?;
        if rules::counts_generations(kind) && changes_spec(kind, old, &new) {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
        rules::check(kind, &new)?;
        rules::check_update(kind, write.subresource(), old, &new)?;
        if operation == "Update" {
            ownership::updated(kind, Some(old), &mut new, &write.manager("Update"));
        }
        // The last finalizer of what is being deleted lets it go.
        let ends = !new["metadata"]["deletionTimestamp"].is_null()
            && is_empty(&new["metadata"]["finalizers"])
            && new["metadata"]["deletionGracePeriodSeconds"]
                .as_u64()
                .unwrap_or_default()
                == 0
            && (kind.kind != "Namespace" || is_empty(&new["spec"]["finalizers"]));
        let before = Some(Arc::clone(old));
        let after = Some(new).filter(|_| !ends);
        write.planned(key, before, after, StatusCode::OK)
    }

    fn patch(&self, write: &Write<'_>, name: &str) -> Result<Plan, Failure> {
        let key = Key::new(&write.kind, &write.target.namespace, name);
        let current = self.storage.get(&key);
        let patch = patch::read(write)?;
        if patch.is_apply() {
            let manager = patch::apply_manager(write)?;
            let applied = patch.apply(write, current.map(|it| &**it), &manager)?;
            return match current {
                Some(_) => self.replace(write, name, &applied, "Apply"),
                None if write.target.subresource.is_some() => {
                    Err(Failure::not_found(&write.target, name))
                }
                None => self.create(write, &applied, &manager),
            };
        }
        let current = current.ok_or_else(|| Failure::not_found(&write.target, name))?;
        let mut patched = patch.change(write, current)?;
        patched["kind"] = write.kind.kind.clone().into();
        patched["apiVersion"] = write.kind.api_version().into();
        self.replace(write, name, &patched, "Update")
    }

    /// Approving and signing need a right on the signer, too.
    fn check_signer(&self, write: &Write<'_>, object: &Value) -> Result<(), Failure> {
        let verb = match (write.kind.kind.as_str(), write.subresource()) {
            ("CertificateSigningRequest", "approval") => "approve",
            ("CertificateSigningRequest", "status") => "sign",
            _ => return Ok(()),
        };
        let signer = text(&object["spec"]["signerName"]);
        let domain = signer.split('/').next().unwrap_or_default();
        let may = [signer.clone(), format!("{domain}/*")]
            .into_iter()
            .any(|name| {
                let asked = super::access::Attributes {
                    verb: verb.to_owned(),
                    group: "certificates.k8s.io".to_owned(),
                    resource: "signers".to_owned(),
                    name: Some(name),
                    ..Default::default()
                };
                self.allows(&write.user, &asked)
            });
        if may {
            return Ok(());
        }
        let message = format!(
            "{} \"{}\" is forbidden: user not permitted to {verb} requests with signerName \"{signer}\"",
            write.target.qualified(),
            text(&object["metadata"]["name"]),
        );
        Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", &message))
    }

    /// Carries a plan out; `None` if the object changed since it was made.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> Option<Value> {
        let now = self.storage.get(&plan.key);
        let version = |object: Option<&Arc<Value>>| {
            object.map(|object| text(&object["metadata"]["resourceVersion"]))
        };
        if version(now) != version(plan.before.as_ref()) {
            return None;
        }
        // What changes nothing makes no version.
        let unchanged = match (&plan.before, &plan.after) {
            (Some(before), Some(after)) => without_times(before) == without_times(after),
            _ => false,
        };
        if unchanged {
            return plan.before.as_ref().map(|before| Value::clone(before));
        }
        if plan.dry_run {
            return plan
                .after
                .clone()
                .or_else(|| plan.before.as_ref().map(|it| Value::clone(it)));
        }
        let kept = self.put(plan.key.clone(), plan.after.clone());
        kept.or_else(|| plan.before.clone())
            .map(|object| Value::clone(&object))
    }
}

pub(super) fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"]["managedFields"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        entry["time"] = Value::Null;
    }
    object
}

fn check_place(metadata: &Value, target: &Target) -> Result<(), Failure> {
    let namespace = &metadata["namespace"];
    if namespace.is_null() || *namespace == *target.namespace {
        return Ok(());
    }
    let message = format!(
        "the namespace of the provided object does not match the namespace sent on the request ({})",
        target.namespace
    );
    Err(Failure::bad_request(&message))
}

/// What the response says after a deletion.
pub(super) fn deleted(target: &Target, object: &Value) -> Value {
    let mut details = json!({
        "name": object["metadata"]["name"],
        "kind": target.resource,
        "uid": object["metadata"]["uid"],
    });
    if !target.group.is_empty() {
        details["group"] = target.group.clone().into();
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
