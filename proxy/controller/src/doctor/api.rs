//! The API server as the doctor asks it: objects as they are, and sentences where they cannot be had.

use std::{error::Error, fmt, io, time::Duration};

use countersign_config::shown::escaped;
use countersign_core::tls_error;
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::time::timeout;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The objects of one page of a list.
const PAGE: &str = "500";

/// A resource of the API.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
}

impl Resource {
    pub(super) const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            plural,
        }
    }

    fn path(self, namespace: &str, name: &str) -> String {
        let mut path = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.plural);
        if name.is_empty() {
            path
        } else {
            format!("{path}/{name}")
        }
    }

    /// `pods`, `jobs.batch`.
    pub(super) fn qualified(self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Whoever asks may not: the verb, the resource, and the namespace or nothing.
    Forbidden(String, String, String),
    /// The API server does not know who asks.
    Unauthorized,
    /// There is no answer.
    Unreachable(String),
    /// The API server refuses it, in its own words.
    Refused(u16, String),
}

impl Unread {
    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Forbidden(verb, resource, namespace) => {
                let place = if namespace.is_empty() {
                    String::new()
                } else {
                    format!(" in the namespace {namespace}")
                };
                format!("ask somebody who may {verb} {resource}{place}, or have it granted")
            }
            Self::Unauthorized => "log in to the cluster again".to_owned(),
            Self::Unreachable(_) => {
                "check the server of the kubeconfig's context, and the way to it: kubectl version"
                    .to_owned()
            }
            Self::Refused(..) => "look into the API server's log".to_owned(),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(verb, resource, _) => write!(f, "you may not {verb} {resource}"),
            Self::Unauthorized => f.write_str("the API server does not accept your credentials"),
            Self::Unreachable(why) => write!(f, "the API server does not answer: {why}"),
            Self::Refused(status, message) => {
                write!(f, "the API server answers {status}: {message}")
            }
        }
    }
}

/// An answer, whatever it says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The server's time, in whole seconds.
    pub(super) date: Option<Timestamp>,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn message(&self) -> String {
        let message = self.body["message"].as_str().unwrap_or_default();
        escaped(message).into_owned()
    }
}

/// The client.
pub(super) struct Api(Client);

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// A path that is no resource.
    pub(super) async fn path(&self, path: &str) -> Result<Answer, Unread> {
        let answer = self.send(Method::GET, path, None).await?;
        refused(answer, "get", path, "")
    }

    /// One object; `None` if it, or its resource, is not there.
    pub(super) async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Unread> {
        let path = resource.path(namespace, name);
        let answer = self.send(Method::GET, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = refused(answer, "get", &resource.qualified(), namespace)?;
        Ok(Some(answer.body))
    }

    /// All objects of a namespace, or of all with an empty one, that have the labels. No such resource has none.
    pub(super) async fn list(
        &self,
        resource: Resource,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, Unread> {
        let mut items = Vec::new();
        let mut from = String::new();
        loop {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("limit", PAGE)
                .append_pair("labelSelector", labels)
                .append_pair("continue", &from)
                .finish();
            let path = format!("{}?{query}", resource.path(namespace, ""));
            let answer = self.send(Method::GET, &path, None).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(items);
            }
            let mut answer = refused(answer, "list", &resource.qualified(), namespace)?;
            if let Value::Array(more) = answer.body["items"].take() {
                items.extend(more);
            }
            match answer.body["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut from),
                _ => return Ok(items),
            }
        }
    }

    /// Sends an object to be created, and gives what is answered, also if it is refused. `dry`: nothing is kept.
    pub(super) async fn create(
        &self,
        resource: Resource,
        namespace: &str,
        object: &Value,
        dry: bool,
    ) -> Result<Answer, Unread> {
        let query = if dry { "?dryRun=All" } else { "" };
        let path = format!("{}{query}", resource.path(namespace, ""));
        self.send(Method::POST, &path, Some(object)).await
    }

    /// Deletes an object; that it is gone already is fine.
    pub(super) async fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Unread> {
        let path = resource.path(namespace, name);
        let answer = self.send(Method::DELETE, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        refused(answer, "delete", &resource.qualified(), namespace).map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<Answer, Unread> {
        let body = object.map(|object| object.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.unwrap_or_default()))
            .map_err(|_| Unread::Unreachable("the request cannot be written".to_owned()))?;
        let answered = timeout(PATIENCE, async {
            let response = self.0.send(request).await;
            let response = response.map_err(|error| unreachable(&error))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| unreachable(&error))?;
            let date = head.headers.get(http::header::DATE);
            let date = date.and_then(|date| date.to_str().ok()).and_then(|date| {
                jiff::fmt::rfc2822::parse(date)
                    .ok()
                    .map(|date| date.timestamp())
            });
            Ok(Answer {
                status: head.status,
                date,
                body: serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
            })
        });
        answered.await.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(Unread::Unreachable(format!("nothing comes in {seconds} s")))
        })
    }
}

fn refused(answer: Answer, verb: &str, resource: &str, namespace: &str) -> Result<Answer, Unread> {
    match answer.status {
        status if status.is_success() => Ok(answer),
        StatusCode::FORBIDDEN => Err(Unread::Forbidden(
            verb.to_owned(),
            resource.to_owned(),
            namespace.to_owned(),
        )),
        StatusCode::UNAUTHORIZED => Err(Unread::Unauthorized),
        status => Err(Unread::Refused(status.as_u16(), answer.message())),
    }
}

/// Why there is no answer, in words of our own.
fn unreachable(error: &(dyn Error + 'static)) -> Unread {
    if let Some(error) = tls_error::find(error) {
        return Unread::Unreachable(tls_error::sentence(error));
    }
    let mut why = "the connection broke off".to_owned();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            why = error.kind().to_string();
        }
        cause = error.source();
    }
    Unread::Unreachable(why)
}
