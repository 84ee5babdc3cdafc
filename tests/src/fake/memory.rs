//! What a stand-in remembers of the requests it received.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::{Connection, Part, multipart::PartCounter};

/// The most bytes of a body that are kept; the length and the digest cover all of it.
const BODY_KEPT: usize = 1024 * 1024;

/// One request as it arrived.
#[derive(Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The host of `Host` or `:authority`, without a port.
    pub host: String,
    /// The path, as sent.
    pub path: String,
    /// The query, as sent.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's first MiB.
    pub body: Bytes,
    /// The bytes of the whole body.
    pub body_length: u64,
    /// The SHA-256 of the whole body, as lower-case hexadecimal digits.
    pub body_sha256: String,
    /// The parts of a complete multipart form.
    pub parts: Option<Vec<Part>>,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// Whether the body arrived to its end.
    pub complete: bool,
    /// The connection it came on.
    pub connection: Connection,
}

impl Received {
    /// Every value of a header, as text.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    /// The value of a header that is there exactly once.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.header_values(name).as_slice() {
            [value] => Some(value.clone()),
            [] | [_, _, ..] => None,
        }
    }

    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The fields of a form body; none if it is no form.
    pub fn form(&self) -> Vec<(String, String)> {
        if self.is_form() {
            fields(&String::from_utf8_lossy(&self.body))
        } else {
            Vec::new()
        }
    }

    /// The fields of the query.
    pub fn query_fields(&self) -> Vec<(String, String)> {
        self.query.as_deref().map(fields).unwrap_or_default()
    }

    /// Whether the body says that it is a form.
    pub fn is_form(&self) -> bool {
        self.media_type() == "application/x-www-form-urlencoded"
    }

    /// The media type without its parameters, in lower case; empty if there is none.
    pub fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// Whether a text stands anywhere in the request: path, query, headers, trailers, or the
    /// kept part of the body, as it is or percent-encoded.
    pub fn contains(&self, needle: &str) -> bool {
        let encoded =
            percent_encoding::utf8_percent_encode(needle, percent_encoding::NON_ALPHANUMERIC)
                .to_string();
        let holds = |bytes: &[u8]| {
            [needle, encoded.as_str()].iter().any(|text| {
                bytes
                    .windows(text.len().max(1))
                    .any(|window| window == text.as_bytes())
            })
        };
        let headers = |headers: &HeaderMap| {
            headers
                .iter()
                .any(|(name, value)| holds(name.as_str().as_bytes()) || holds(value.as_bytes()))
        };
        holds(self.path.as_bytes())
            || self
                .query
                .as_deref()
                .is_some_and(|query| holds(query.as_bytes()))
            || headers(&self.headers)
            || self.trailers.as_ref().is_some_and(headers)
            || holds(&self.body)
    }
}

/// Shows no value: paths, headers and bodies hold secrets here.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().map(http::HeaderName::as_str).collect();
        f.debug_struct("Received")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("headers", &names)
            .field("body_length", &self.body_length)
            .field("complete", &self.complete)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// Decodes `a=b&c=d`.
pub(crate) fn fields(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced)
            .decode_utf8_lossy()
            .into_owned()
    };
    text.split('&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// All requests that a stand-in received, in the order in which their bodies ended.
#[derive(Debug)]
pub struct Memory {
    received: Mutex<Vec<Arc<Received>>>,
    count: watch::Sender<usize>,
    forgetful: AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            received: Mutex::default(),
            count: watch::Sender::new(0),
            forgetful: AtomicBool::new(false),
        }
    }
}

impl Memory {
    /// Everything received so far.
    pub fn all(&self) -> Vec<Arc<Received>> {
        self.lock().clone()
    }

    /// What was received for one path.
    pub fn at(&self, path: &str) -> Vec<Arc<Received>> {
        let mut received = self.all();
        received.retain(|request| request.path == path);
        received
    }

    /// What pods asked for: all but the gateway's own probes.
    pub fn of_pods(&self) -> Vec<Arc<Received>> {
        let is_probe = |request: &Received| {
            let agent = request.header("user-agent");
            agent.is_some_and(|agent| agent.contains("(probe)"))
        };
        let mut received = self.all();
        received.retain(|request| !is_probe(request));
        received
    }

    /// How many requests were received, also while forgetful.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until at least `count` requests were received; false after `limit`.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> bool {
        let mut counts = self.count.subscribe();
        tokio::time::timeout(limit, counts.wait_for(|&seen| seen >= count))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.lock().clear();
        self.count.send_replace(0);
    }

    /// Stops keeping requests, for load that would fill the memory; they are still counted.
    pub fn set_forgetful(&self, forgetful: bool) {
        self.forgetful.store(forgetful, Ordering::Release);
    }

    /// The requests that hold one of these texts anywhere.
    pub fn holding(&self, needles: &[&str]) -> Vec<Arc<Received>> {
        let mut received = self.all();
        received.retain(|request| needles.iter().any(|needle| request.contains(needle)));
        received
    }

    /// Reads a request to its end and remembers it.
    pub(crate) async fn read(
        &self,
        head: Parts,
        body: Incoming,
        host: String,
        connection: Connection,
    ) -> Arc<Received> {
        let read = read_body(&head.headers, body).await;
        let received = Arc::new(Received {
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            method: head.method,
            host,
            headers: head.headers,
            body: read.kept.freeze(),
            body_length: read.length,
            body_sha256: read.sha256,
            parts: read.parts,
            trailers: read.trailers,
            complete: read.complete,
            connection,
        });
        if !self.forgetful.load(Ordering::Acquire) {
            self.lock().push(Arc::clone(&received));
        }
        self.count.send_modify(|count| *count += 1);
        received
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Received>>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ReadBody {
    kept: BytesMut,
    length: u64,
    sha256: String,
    parts: Option<Vec<Part>>,
    trailers: Option<HeaderMap>,
    complete: bool,
}

async fn read_body(headers: &HeaderMap, mut body: Incoming) -> ReadBody {
    let mut kept = BytesMut::new();
    let mut length = 0;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut counter = PartCounter::for_headers(headers);
    let mut trailers = None;
    let complete = loop {
        match body.frame().await {
            None => break true,
            // The client went away: what arrived is remembered as incomplete.
            Some(Err(_gone)) => break false,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    length += data.len() as u64;
                    digest.update(&data);
                    let room = BODY_KEPT.saturating_sub(kept.len()).min(data.len());
                    kept.extend_from_slice(&data[..room]);
                    if let Some(counter) = &mut counter {
                        counter.push(&data);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
            },
        }
    };
    ReadBody {
        kept,
        length,
        sha256: crate::random::encode_hex(digest.finish().as_ref()),
        parts: counter.and_then(PartCounter::finish),
        trailers,
        complete,
    }
}
