//! A watch of one Secret: a long response with one JSON document per line.

use std::{fmt, time::Duration};

use http::{Method, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    Kube, KubeError, KubeResponse, LARGEST_ANSWER, Status, StoredSecret, secret::SecretRef,
};
use crate::{TIMEOUT, TransportError, transport};

/// How long one watch lasts before the API server ends it, which shows that the connection still works.
const LIFE: Duration = Duration::from_mins(4);

/// How much longer we wait for that end.
const PATIENCE: Duration = Duration::from_secs(15);

/// An event of a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// The Secret exists, and is new or changed.
    Present(StoredSecret),
    /// It was deleted; has the version to continue from.
    Deleted(String),
    /// Nothing has changed up to this version.
    Bookmark(String),
}

/// A running watch.
pub struct Watch {
    answer: Response,
    unread: Zeroizing<Vec<u8>>,
    namespace: String,
    name: String,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Kube {
    /// Watches one Secret from a version on. Needs the verb `watch`.
    pub async fn watch_secret(
        &self,
        namespace: &str,
        name: &str,
        from: &str,
    ) -> Result<Watch, KubeError> {
        let of = SecretRef { namespace, name };
        let mut url = self.selected(of)?;
        url.query_pairs_mut()
            .append_pair("watch", "true")
            .append_pair("allowWatchBookmarks", "true")
            .append_pair("timeoutSeconds", &LIFE.as_secs().to_string())
            .append_pair("resourceVersion", from);
        let request = self.request(Method::GET, url).await?;
        let sent = request.timeout(LIFE + PATIENCE).send();
        // A watch has no end, but its response head arrives at once.
        let begun = timeout(TIMEOUT, sent).await;
        let answer = begun.map_err(|_| KubeError::Silent)?;
        let answer = answer.map_err(transport::classify)?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let body = transport::body(answer, LARGEST_ANSWER).await?;
            return Err(of
                .failure(self, "watch", &KubeResponse { status, body })
                .await);
        }
        Ok(Watch {
            answer,
            unread: Zeroizing::new(Vec::with_capacity(16 * 1024)),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Watch {
    /// The next event; `None` when the API server has ended the watch, as it does regularly. Cancel
    /// safe.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, KubeError> {
        loop {
            while let Some(line) = self.line() {
                if !line.trim_ascii().is_empty() {
                    return self.event(&line).map(Some);
                }
            }
            let chunk = self.answer.chunk().await;
            let Some(chunk) = chunk.map_err(transport::classify)? else {
                return Ok(None);
            };
            if self.unread.len() + chunk.len() > LARGEST_ANSWER {
                return Err(TransportError::TooLarge.into());
            }
            self.unread.extend_from_slice(&chunk);
        }
    }

    fn line(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        Some(Zeroizing::new(self.unread.drain(..=end).collect()))
    }

    fn event(&self, line: &[u8]) -> Result<WatchEvent, KubeError> {
        // The cause is not shown: the parser's error contains parts of the value.
        let line: Line = serde_json::from_slice(line).map_err(|_| MALFORMED)?;
        match line {
            Line::Added(secret) | Line::Modified(secret) => match secret.resource_version() {
                "" => Err(MALFORMED),
                _ => Ok(WatchEvent::Present(secret)),
            },
            Line::Deleted(object) => Ok(WatchEvent::Deleted(object.metadata.resource_version)),
            Line::Bookmark(object) => Ok(WatchEvent::Bookmark(object.metadata.resource_version)),
            Line::Error(status) => {
                let of = SecretRef {
                    namespace: &self.namespace,
                    name: &self.name,
                };
                Err(of.judge("watch", status.code, &status))
            }
        }
    }
}

const MALFORMED: KubeError = KubeError::Malformed("watch event");

/// `meta/v1`, `WatchEvent`.
#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Line {
    Added(StoredSecret),
    Modified(StoredSecret),
    Deleted(Object),
    Bookmark(Object),
    Error(Status),
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}
