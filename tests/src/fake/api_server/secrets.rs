//! Secrets as the API server keeps them: with versions, RBAC, and watches that tell each change.

mod grant;
mod received;

pub use grant::Grant;

use std::collections::{BTreeMap, VecDeque};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use self::received::{is_dry_run, sent, valid};
use super::{Failure, access::USER, failure};
use crate::fake::{Body, Received, body};

type Key = (String, String);

/// All Secrets of a cluster.
#[derive(Default)]
pub(super) struct Secrets {
    version: u64,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    objects: BTreeMap<Key, Value>,
    changes: VecDeque<Change>,
    watchers: Vec<Watcher>,
    pub(super) grants: Vec<Grant>,
}

struct Change {
    version: u64,
    kind: &'static str,
    object: Value,
}

struct Watcher {
    namespace: String,
    name: Option<String>,
    bookmarks: bool,
    lines: mpsc::UnboundedSender<Bytes>,
}

impl Watcher {
    fn wants(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        metadata["namespace"] == *self.namespace
            && self
                .name
                .as_ref()
                .is_none_or(|name| metadata["name"] == **name)
    }

    /// Whether anyone still reads.
    fn tell(&self, kind: &str, object: &Value) -> bool {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        self.lines.send(Bytes::from(line)).is_ok()
    }
}

/// What of the collection a request is about.
struct Selection<'a> {
    namespace: &'a str,
    name: Option<String>,
    fields: Vec<(String, String)>,
}

impl Selection<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Secrets {
    /// The answer to a request beneath `/api/v1/namespaces/`, given by what follows.
    pub(super) fn respond(&mut self, rest: &str, received: &Received) -> Response<Body> {
        let parts: Vec<&str> = rest.split('/').collect();
        let answered = match (parts.as_slice(), &received.method) {
            (&[namespace, "secrets", name], &Method::GET) => self.read(namespace, name),
            (&[namespace, "secrets", name], &Method::PUT) => {
                self.replace(namespace, name, received)
            }
            (&[namespace, "secrets"], &Method::POST) => self.create(namespace, received),
            (&[namespace, "secrets"], &Method::GET) => self.select(namespace, received),
            _ => Err(Failure::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource",
            )),
        };
        answered.unwrap_or_else(|error| failure(&error))
    }

    /// Sets a Secret as `kubectl apply` would.
    pub(super) fn set(&mut self, namespace: &str, name: &str, data: &[(&str, &[u8])]) {
        let encoded: Map<String, Value> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), BASE64_STANDARD.encode(value).into()))
            .collect();
        let key = (namespace.to_owned(), name.to_owned());
        let uid = self.objects.get(&key).map_or_else(
            || crate::random::alphanumeric(12).into(),
            |object| object["metadata"]["uid"].clone(),
        );
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "type": "Opaque",
            "data": encoded,
        });
        self.store(key, object);
    }

    pub(super) fn delete(&mut self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(mut object) = self.objects.remove(&key) else {
            return false;
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell("DELETED", object);
        true
    }

    pub(super) fn data(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let object = self.objects.get(&(namespace.to_owned(), name.to_owned()))?;
        let data = object["data"].as_object()?.iter().map(|(key, value)| {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
            (key.clone(), bytes.unwrap_or_default())
        });
        Some(data.collect())
    }

    /// Tells the watchers how far they are.
    pub(super) fn bookmark(&mut self) {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"resourceVersion": self.version.to_string(), "creationTimestamp": null},
        });
        self.watchers
            .retain(|watcher| !watcher.bookmarks || watcher.tell("BOOKMARK", &object));
    }

    /// Ends all watches, as their `timeoutSeconds` would.
    pub(super) fn end_watches(&mut self) {
        self.watchers.clear();
    }

    pub(super) fn watches(&self) -> usize {
        let open = |watcher: &&Watcher| !watcher.lines.is_closed();
        self.watchers.iter().filter(open).count()
    }

    /// Forgets what changed until now, as etcd's compaction does.
    pub(super) fn forget_changes(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.changes.clear();
    }

    fn read(&self, namespace: &str, name: &str) -> Result<Response<Body>, Failure> {
        self.permit(namespace, "get", Some(name))?;
        let found = self.objects.get(&(namespace.to_owned(), name.to_owned()));
        let object = found.ok_or_else(|| not_found(name))?;
        Ok(body::json(StatusCode::OK, object))
    }

    fn create(&mut self, namespace: &str, received: &Received) -> Result<Response<Body>, Failure> {
        self.permit(namespace, "create", None)?;
        let mut object = sent(received)?;
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        valid(&object, namespace, &name)?;
        if !object["metadata"]["resourceVersion"].is_null() {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let key = (namespace.to_owned(), name);
        if self.objects.contains_key(&key) {
            let message = format!("secrets \"{}\" already exists", key.1);
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "AlreadyExists",
                &message,
            ));
        }
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["uid"] = crate::random::alphanumeric(12).into();
        if object["type"].is_null() {
            object["type"] = "Opaque".into();
        }
        if is_dry_run(received)? {
            return Ok(body::json(StatusCode::CREATED, &object));
        }
        Ok(body::json(StatusCode::CREATED, &self.store(key, object)))
    }

    fn replace(
        &mut self,
        namespace: &str,
        name: &str,
        received: &Received,
    ) -> Result<Response<Body>, Failure> {
        self.permit(namespace, "update", Some(name))?;
        let mut object = sent(received)?;
        valid(&object, namespace, name)?;
        let key = (namespace.to_owned(), name.to_owned());
        let old = self.objects.get(&key).ok_or_else(|| not_found(name))?;
        let (new, before) = (&object["metadata"], &old["metadata"]);
        let differs = |field: &str| !new[field].is_null() && new[field] != before[field];
        if differs("resourceVersion") || differs("uid") {
            let message = format!(
                "Operation cannot be fulfilled on secrets \"{name}\": the object has been \
                 modified; please apply your changes to the latest version and try again"
            );
            return Err(Failure::new(StatusCode::CONFLICT, "Conflict", &message));
        }
        if object["type"].is_null() {
            object["type"] = "Opaque".into();
        }
        let frozen = old["immutable"] == true;
        if object["type"] != old["type"] || frozen && object["data"] != old["data"] {
            let message = format!("Secret \"{name}\" is invalid: field is immutable");
            return Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                &message,
            ));
        }
        object["metadata"]["uid"] = before["uid"].clone();
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["resourceVersion"] = before["resourceVersion"].clone();
        // What changes nothing makes no version.
        if object == *old {
            return Ok(body::json(StatusCode::OK, old));
        }
        if is_dry_run(received)? {
            return Ok(body::json(StatusCode::OK, &object));
        }
        Ok(body::json(StatusCode::OK, &self.store(key, object)))
    }

    fn select(&mut self, namespace: &str, received: &Received) -> Result<Response<Body>, Failure> {
        let fields = received.query_fields();
        let selector = fields.iter().find(|(key, _)| key == "fieldSelector");
        let name = match selector.map(|(_, value)| value.split_once('=')) {
            None => None,
            Some(Some(("metadata.name", name))) => Some(name.trim_start_matches('=').to_owned()),
            Some(_) => {
                let message = "field label not supported";
                return Err(Failure::new(StatusCode::BAD_REQUEST, "BadRequest", message));
            }
        };
        let selection = Selection {
            namespace,
            name,
            fields,
        };
        match selection.field("watch") {
            Some("true" | "1") => self.watch(&selection),
            _ => self.list(&selection),
        }
    }

    fn list(&self, selection: &Selection<'_>) -> Result<Response<Body>, Failure> {
        self.permit(selection.namespace, "list", selection.name.as_deref())?;
        let wanted = |(namespace, name): &Key| {
            namespace == selection.namespace
                && selection.name.as_ref().is_none_or(|wanted| wanted == name)
        };
        // A list's items do not say what they are.
        let items = self.objects.iter().filter(|(key, _)| wanted(key));
        let items: Vec<Value> = items
            .map(|(_, object)| {
                let mut item = object.clone();
                if let Some(item) = item.as_object_mut() {
                    item.remove("kind");
                    item.remove("apiVersion");
                }
                item
            })
            .collect();
        let list = json!({
            "kind": "SecretList",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.to_string()},
            "items": items,
        });
        Ok(body::json(StatusCode::OK, &list))
    }

    fn watch(&mut self, selection: &Selection<'_>) -> Result<Response<Body>, Failure> {
        self.permit(selection.namespace, "watch", selection.name.as_deref())?;
        let from = selection.field("resourceVersion").unwrap_or_default();
        let (lines, told) = mpsc::unbounded_channel();
        let watcher = Watcher {
            namespace: selection.namespace.to_owned(),
            name: selection.name.clone(),
            bookmarks: selection.field("allowWatchBookmarks") == Some("true"),
            lines,
        };
        match from {
            "" | "0" => {
                for object in self.objects.values().filter(|object| watcher.wants(object)) {
                    watcher.tell("ADDED", object);
                }
                self.watchers.push(watcher);
            }
            from => match from.parse::<u64>() {
                Err(_) => {
                    let message = format!("invalid resource version \"{from}\"");
                    return Err(Failure::new(
                        StatusCode::BAD_REQUEST,
                        "BadRequest",
                        &message,
                    ));
                }
                Ok(from) if from > self.version => {
                    let message = "Timeout: Too large resource version";
                    return Err(Failure::new(
                        StatusCode::GATEWAY_TIMEOUT,
                        "Timeout",
                        message,
                    ));
                }
                // It is said within the watch, and ends it.
                Ok(from) if from < self.forgotten => {
                    let message = format!("too old resource version: {from} ({})", self.version);
                    let gone = Failure::new(StatusCode::GONE, "Expired", &message);
                    watcher.tell("ERROR", &gone.status());
                }
                Ok(from) => {
                    for change in self.changes.iter().filter(|change| change.version > from) {
                        if watcher.wants(&change.object) {
                            watcher.tell(change.kind, &change.object);
                        }
                    }
                    self.watchers.push(watcher);
                }
            },
        }
        let frames = stream::unfold(told, |mut told| async move {
            let line = told.recv().await?;
            Some((Ok(Frame::data(line)), told))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed());
        response.headers_mut().insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }

    fn permit(&self, namespace: &str, verb: &str, name: Option<&str>) -> Result<(), Failure> {
        let covered = |grant: &Grant| grant.covers(namespace, verb, name);
        if self.grants.iter().any(covered) {
            return Ok(());
        }
        let message = format!(
            "secrets {}is forbidden: User \"{USER}\" cannot {verb} resource \"secrets\" in API \
             group \"\" in the namespace \"{namespace}\"",
            name.map(|name| format!("\"{name}\" ")).unwrap_or_default()
        );
        Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", &message))
    }

    fn store(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let kind = if self.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.objects.insert(key, object.clone());
        self.tell(kind, object.clone());
        object
    }

    fn tell(&mut self, kind: &'static str, object: Value) {
        self.watchers
            .retain(|watcher| !watcher.wants(&object) || watcher.tell(kind, &object));
        self.changes.push_back(Change {
            version: self.version,
            kind,
            object,
        });
    }
}

fn not_found(name: &str) -> Failure {
    let message = format!("secrets \"{name}\" not found");
    Failure::new(StatusCode::NOT_FOUND, "NotFound", &message)
}
