//! A stand-in for an agent of the SPIFFE Workload API, at a Unix socket: gRPC over HTTP/2, and the
//! X.509 profile alone.
//!
//! As the standard wants it, a call without the metadata `workload.spiffe.io: true` is refused, and
//! what is known is sent at once and again at each change.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// Status codes of gRPC.
const INVALID_ARGUMENT: &str = "3";
const PERMISSION_DENIED: &str = "7";
const UNIMPLEMENTED: &str = "12";

/// What the agent knows: roots, DER, one after the other, by SPIFFE ID of the trust domain. `None`
/// is an agent that does not know the workload.
type Known = Option<BTreeMap<String, Vec<u8>>>;

/// A running agent; it is gone, and its socket too, when it is dropped.
pub struct WorkloadApi {
    socket: PathBuf,
    state: Arc<State>,
    _connections: JoinSet<()>,
}

struct State {
    known: watch::Sender<Known>,
    streams: AtomicUsize,
}

impl WorkloadApi {
    /// An agent at this path, which does not know who asks.
    pub fn start(socket: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let state = Arc::new(State {
            known: watch::Sender::new(None),
            streams: AtomicUsize::new(0),
        });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self {
            socket: socket.to_owned(),
            state,
            _connections: connections,
        })
    }

    /// Knows who asks, and gives these bundles from now on: trust domain's name, roots as DER.
    pub fn give(&self, bundles: &[(&str, &[&[u8]])]) {
        let bundles = bundles
            .iter()
            .map(|(name, roots)| (format!("spiffe://{name}"), roots.concat()));
        self.state.known.send_replace(Some(bundles.collect()));
    }

    /// How many streams of bundles were begun.
    pub fn streams(&self) -> usize {
        self.state.streams.load(Ordering::Acquire)
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        // A test may have removed it already.
        drop(std::fs::remove_file(&self.socket));
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: UnixStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let answer = state.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    // A client that leaves ends it in its own way.
    drop(connection.await);
}

type Body = BoxBody<Bytes, Infallible>;

impl State {
    fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let says = |name: &str, value: &str| {
            let mut values = request.headers().get_all(name).iter();
            values.next().is_some_and(|shown| shown == value) && values.next().is_none()
        };
        let is_grpc = request.method() == Method::POST
            && says("content-type", "application/grpc")
            && says("te", "trailers");
        if !is_grpc || request.uri().path() != "/SpiffeWorkloadAPI/FetchX509Bundles" {
            return refused(UNIMPLEMENTED, "unknown method");
        }
        if !says("workload.spiffe.io", "true") {
            return refused(INVALID_ARGUMENT, "security header missing from request");
        }
        if self.known.borrow().is_none() {
            return refused(PERMISSION_DENIED, "no identity issued");
        }
        self.streams.fetch_add(1, Ordering::AcqRel);
        let mut known = self.known.subscribe();
        // What is known now is news to this stream.
        known.mark_changed();
        let updates = stream::unfold(known, |mut known| async move {
            known.changed().await.ok()?;
            let message = message(known.borrow_and_update().as_ref()?);
            Some((message, known))
        });
        let trailers = stream::once(async { Frame::trailers(status(PERMISSION_DENIED, "gone")) });
        let frames = updates.map(Frame::data).chain(trailers).map(Ok);
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, grpc());
        response
    }
}

fn grpc() -> HeaderValue {
    HeaderValue::from_static("application/grpc")
}

fn status(code: &'static str, message: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    headers
}

/// An answer of trailers alone.
fn refused(code: &'static str, message: &'static str) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed(http_body_util::Empty::new()));
    *response.headers_mut() = status(code, message);
    response.headers_mut().insert(header::CONTENT_TYPE, grpc());
    response
}

/// `X509BundlesResponse` with its length before it: field 2 is a map of text to bytes.
fn message(bundles: &BTreeMap<String, Vec<u8>>) -> Bytes {
    let mut body = BytesMut::new();
    for (id, roots) in bundles {
        let mut entry = BytesMut::new();
        field(&mut entry, 1, id.as_bytes());
        field(&mut entry, 2, roots);
        field(&mut body, 2, &entry);
    }
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(body.len()).expect("bundles are small"));
    message.extend_from_slice(&body);
    message.freeze()
}

/// A field of Protocol Buffers whose length is told.
fn field(into: &mut BytesMut, number: u8, bytes: &[u8]) {
    into.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        into.put_u8(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    into.put_u8(u8::try_from(length).expect("seven bits"));
    into.extend_from_slice(bytes);
}
