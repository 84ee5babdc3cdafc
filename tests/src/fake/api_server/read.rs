//! Reading: one object, lists in pages, and watches.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    failure::{Cause, Failure},
    kinds::Kind,
    request::{Query, Target},
    selector::Selector,
    state::State,
    storage::{Form, Key, Page, Watcher, shown},
};
use crate::{
    fake::{Body, Received, body},
    random,
};

const METADATA: &str = "application/json;as=PartialObjectMetadata";

/// How the client wants to see objects.
pub(super) fn form(received: &Received) -> Form {
    let accept = received
        .header("accept")
        .unwrap_or_default()
        .replace(' ', "");
    // Kubernetes' clients send the form that they like best first.
    if accept.starts_with(METADATA) {
        Form::Metadata
    } else {
        Form::Full
    }
}

impl State {
    pub(super) fn read(
        &self,
        kind: &Kind,
        target: &Target,
        name: &str,
        received: &Received,
    ) -> Result<Response<Body>, Failure> {
        let key = Key::new(kind, &target.namespace, name);
        let found = self.storage.get(&key);
        let object = found.ok_or_else(|| Failure::not_found(target, name))?;
        let object = shown(object, kind, form(received));
        Ok(body::json(StatusCode::OK, &object))
    }

    pub(super) fn list(
        &mut self,
        kind: &Kind,
        target: &Target,
        received: &Received,
        query: &Query,
    ) -> Result<Response<Body>, Failure> {
        let selector = Selector::of(query, kind)?;
        let limit = number(query, "limit")?.unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (version, mut items) = if let Some(token) = query.get("continue") {
            self.next_page(token)?
        } else {
            self.check_version(query)?;
            let collection = kind.collection();
            let all = self.storage.all(&collection, &target.namespace);
            let wanted = all.filter(|(_, object)| selector.matches(object));
            (
                self.storage.version,
                wanted.map(|(_, it)| Arc::clone(it)).collect(),
            )
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if limit > 0 && items.len() > limit {
            let left = items.split_off(limit);
            metadata["remainingItemCount"] = left.len().into();
            let token = random::alphanumeric(32);
            metadata["continue"] = token.clone().into();
            self.storage.pages.insert(token, Page { version, left });
        }
        let form = form(received);
        let items = items.iter().map(|object| {
            let mut item = shown(object, kind, form);
            // Items of lists of built-in kinds do not say what they are.
            if let (Some(fields), Form::Full, false) =
                (item.as_object_mut(), form, kind.is_custom())
            {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            item
        });
        let (api_version, name) = match form {
            Form::Full => (kind.api_version(), format!("{}List", kind.kind)),
            Form::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadataList".to_owned(),
            ),
        };
        let list = json!({
            "kind": name,
            "apiVersion": api_version,
            "metadata": metadata,
            "items": items.collect::<Vec<_>>(),
        });
        Ok(body::json(StatusCode::OK, &list))
    }

    fn next_page(&mut self, token: &str) -> Result<(u64, Vec<Arc<Value>>), Failure> {
        // A page can be asked for again, until its version is compacted.
        let page = self.storage.pages.get(token).ok_or_else(|| {
            Failure::gone(
                "The provided continue parameter is too old to display a consistent list result. You \
                 can start a new list without the continue parameter, or use the continue token in \
                 this response to retrieve the remainder of the results.",
            )
        })?;
        Ok((page.version, page.left.clone()))
    }

    /// A list is of now, which is not older than any version of the past; one of the future is not there.
    fn check_version(&self, query: &Query) -> Result<(), Failure> {
        let matching = query.get("resourceVersionMatch");
        let Some(version) = version(query)? else {
            if matching.is_some() && !query.is_true("sendInitialEvents") {
                let message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
                return Err(bad_option("resourceVersionMatch", message));
            }
            return Ok(());
        };
        if matching == Some("Exact") && version != self.storage.version {
            let message = format!(
                "too old resource version: {version} ({})",
                self.storage.version
            );
            return Err(Failure::gone(&message));
        }
        if version > self.storage.version {
            let message = format!(
                "Timeout: Too large resource version: {version}, current: {}",
                self.storage.version
            );
            let failure = Failure::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", &message);
            return Err(failure.with_details(json!({
                "causes": [{
                    "reason": "ResourceVersionTooLarge",
                    "message": "Too large resource version",
                }],
                "retryAfterSeconds": 1,
            })));
        }
        Ok(())
    }

    pub(super) fn watch(
        &mut self,
        kind: &Kind,
        target: &Target,
        received: &Received,
        query: &Query,
    ) -> Result<Response<Body>, Failure> {
        let mut selector = Selector::of(query, kind)?;
        if let Some(name) = &target.name {
            selector = selector.named(name);
        }
        let initial = query.get("sendInitialEvents");
        let matching = query.get("resourceVersionMatch");
        if initial.is_some() && matching != Some("NotOlderThan") {
            let message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(bad_option("resourceVersionMatch", message));
        }
        if initial.is_none() && matching.is_some() {
            let message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(bad_option("resourceVersionMatch", message));
        }
        let bookmarks = query.is_true("allowWatchBookmarks");
        let (lines, told) = mpsc::unbounded_channel();
        let watcher = Watcher {
            kind: kind.clone(),
            namespace: target.namespace.clone(),
            selector,
            bookmarks,
            form: form(received),
            lines,
        };
        let version = version(query)?;
        match (version, query.is_true("sendInitialEvents")) {
            (_, true) => self.storage.watch_all(watcher, bookmarks),
            (None | Some(0), false) if initial.is_none() => self.storage.watch_all(watcher, false),
            (None | Some(0), false) => self.storage.watch_from(self.storage.version, watcher),
            (Some(from), false) if from > self.storage.version => {
                let message = "Timeout: Too large resource version";
                return Err(Failure::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Timeout",
                    message,
                ));
            }
            (Some(from), false) => self.storage.watch_from(from, watcher),
        }
        let life = number(query, "timeoutSeconds")?.filter(|&seconds| seconds > 0);
        Ok(streamed(told, life.map(Duration::from_secs)))
    }
}

fn streamed(told: mpsc::UnboundedReceiver<bytes::Bytes>, life: Option<Duration>) -> Response<Body> {
    // A watch of no stated length ends after half an hour to an hour on a real server.
    let end = Instant::now() + life.unwrap_or(Duration::from_mins(30));
    let frames = stream::unfold(told, move |mut told| async move {
        let line = tokio::time::timeout_at(end, told.recv()).await.ok()??;
        Some((Ok(Frame::data(line)), told))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn bad_option(field: &str, message: &str) -> Failure {
    Failure::invalid(
        "ListOptions.meta.k8s.io",
        "",
        &[Cause::invalid(field, message)],
    )
}

fn version(query: &Query) -> Result<Option<u64>, Failure> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            let message = format!(
                "Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
            );
            let cause = Cause::invalid("resourceVersion", message);
            let invalid = Failure::invalid("ListOptions", "", &[cause]);
            Failure::bad_request(&invalid.message)
        })
    };
    query.get("resourceVersion").map(parse).transpose()
}

fn number(query: &Query, name: &str) -> Result<Option<u64>, Failure> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            Failure::bad_request(&format!(
                "{name}: strconv.ParseInt: parsing \"{text}\": invalid syntax"
            ))
        })
    };
    query.get(name).map(parse).transpose()
}
