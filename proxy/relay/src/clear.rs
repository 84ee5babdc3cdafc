//! Redirected connections with HTTP in clear text. Each request goes to a gateway in absolute form, so
//! policy decides by the host that it names: the address that the app connected to comes only from its
//! own DNS.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use countersign_core::{
    destination::Authority,
    slots::Slot,
    wire::{
        connection_state::ConnectionState, protocol::Protocol, rewound::Rewound,
        stream::ClientStream,
    },
};
use http::{
    Method, Request, Uri,
    header::{HOST, HeaderMap},
    uri::{PathAndQuery, Scheme},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    Shared,
    answer::RelayError,
    local::{self, Answer, HEAD_BYTES, HEAD_TIMEOUT},
};

/// How long an HTTP/2 client may leave its responses unread.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// The limits of one HTTP/2 client: concurrent requests, the size of each head, and unread bytes of one
/// request and of all together.
const STREAMS: u32 = 32;
const HEAD_LIST: u32 = 16 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// How much of one response may wait to be sent to it.
const SEND_BUFFER: usize = 16 * 1024;

/// Serves one client until it leaves or the relay drains.
pub(super) async fn serve(
    stream: Rewound<TcpStream>,
    protocol: Protocol,
    destination: SocketAddr,
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
) {
    let draining = shared.draining.clone();
    let service = service_fn(move |request| {
        let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
        async move { Ok::<_, Infallible>(handle(request, destination, &shared, &slot).await) }
    });
    let ended = match protocol {
        Protocol::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // A client that has closed its sending side still gets its response.
                .half_close(true)
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = draining.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Protocol::Http2 => {
            let stream = ClientStream::new(stream, ConnectionState::new(), STALL_TIMEOUT);
            let stream = stream.with_frames(HEAD_TIMEOUT);
            let connection = http2().serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = draining.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%destination, %error, "a client that speaks HTTP in clear broke off");
    }
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

async fn handle(
    request: Request<Incoming>,
    destination: SocketAddr,
    shared: &Arc<Shared>,
    slot: &Slot,
) -> Answer {
    slot.asks();
    let answered = match in_absolute_form(request, destination) {
        Ok(request) => local::forward(request, shared, slot).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| local::not_carried(&error))
}

/// The request as a proxy request, with the port that the app connected to.
fn in_absolute_form<B>(
    mut request: Request<B>,
    destination: SocketAddr,
) -> Result<Request<B>, RelayError> {
    if request.method() == Method::CONNECT {
        return Err(RelayError::Malformed(
            "CONNECT is for proxies, and this is none",
        ));
    }
    let other_scheme = |scheme: &Scheme| *scheme != Scheme::HTTP;
    if request.uri().scheme().is_some_and(other_scheme) {
        return Err(RelayError::Malformed(
            "the request is for another scheme than http",
        ));
    }
    let host = single_host(request.headers_mut())?;
    let by_uri = request.uri().authority().map(http::uri::Authority::as_str);
    let port = destination.port();
    let authority = match (by_uri, &host) {
        (None, None) => return Err(RelayError::Malformed("the request has no Host")),
        (Some(named), None) => parse(named, port)?,
        (None, Some(named)) => parse(named, port)?,
        (Some(named), Some(host)) if parse(named, port)? == parse(host, port)? => {
            parse(named, port)?
        }
        (Some(_), Some(_)) => return Err(RelayError::Malformed("Host differs from the URI")),
    };
    if authority.port() != port {
        return Err(RelayError::Malformed(
            "Host names another port than that of the connection",
        ));
    }
    let path = request.uri().path_and_query();
    let path = path.map_or("/", PathAndQuery::as_str).to_owned();
    if path == "*" {
        return Err(RelayError::Malformed("OPTIONS * is for the next hop only"));
    }
    let absolute = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.to_string())
        .path_and_query(path)
        .build();
    *request.uri_mut() =
        absolute.map_err(|_| RelayError::Malformed("the request's target is no path"))?;
    Ok(request)
}

/// Removes the single `Host`; from here on an absolute URI has the host.
fn single_host(headers: &mut HeaderMap) -> Result<Option<String>, RelayError> {
    let mut values = headers.get_all(HOST).iter();
    let host = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(host), None) => {
            let text = host.to_str();
            Some(
                text.map_err(|_| RelayError::Malformed("Host is no text"))?
                    .to_owned(),
            )
        }
        (Some(_), Some(_)) => return Err(RelayError::Malformed("the request has several Hosts")),
    };
    headers.remove(HOST);
    Ok(host)
}

fn parse(named: &str, port: u16) -> Result<Authority, RelayError> {
    Authority::with_default_port(named, port).map_err(|error| RelayError::Malformed(error.0))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn absolute(method: &str, target: &str, hosts: &[&str]) -> Result<String, RelayError> {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        let request = in_absolute_form(request, "192.0.2.7:80".parse().unwrap())?;
        assert!(!request.headers().contains_key(HOST));
        Ok(request.uri().to_string())
    }

    /// The library's default limits add up to 4 MiB per connection.
    #[tokio::test]
    async fn a_client_of_http2_is_told_how_little_it_may_have() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(http::Response::new(
                http_body_util::Empty::<bytes::Bytes>::new(),
            ))
        });
        let serving = tokio::spawn(http2().serve_connection(TokioIo::new(server), service));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(preface).await.unwrap();
        let mut head = [0; 9];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "it begins with SETTINGS");
        let mut settings = vec![0; usize::from(head[2])];
        client.read_exact(&mut settings).await.unwrap();
        let told = |wanted: u8| {
            let setting = settings.chunks(6).find(|setting| setting[1] == wanted);
            setting.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
        };
        // RFC 9113, section 6.5.2.
        assert_eq!(told(3), Some(STREAMS));
        assert_eq!(told(4), Some(STREAM_WINDOW));
        assert_eq!(told(6), Some(HEAD_LIST));
        serving.abort();
    }

    #[rstest]
    #[case::origin("/a?b=c", &["Example.com"], "http://example.com:80/a?b=c")]
    #[case::port("/", &["example.com:80"], "http://example.com:80/")]
    #[case::address("/", &["192.0.2.9"], "http://192.0.2.9:80/")]
    #[case::absolute("http://example.com/a", &["example.com"], "http://example.com:80/a")]
    #[case::by_uri_alone("http://example.com/a", &[], "http://example.com:80/a")]
    fn the_name_is_what_the_gateway_is_asked_for(
        #[case] target: &str,
        #[case] hosts: &[&str],
        #[case] expected: &str,
    ) {
        assert_eq!(absolute("GET", target, hosts).unwrap(), expected);
    }

    #[rstest]
    #[case::no_host("GET", "/", &[])]
    #[case::two_hosts("GET", "/", &["a.example", "b.example"])]
    #[case::another_host("GET", "http://a.example/", &["b.example"])]
    #[case::another_port("GET", "/", &["a.example:8080"])]
    #[case::another_scheme("GET", "https://a.example/", &["a.example"])]
    #[case::no_name("GET", "/", &["a..example"])]
    #[case::next_hop("OPTIONS", "*", &["a.example"])]
    #[case::a_tunnel("CONNECT", "a.example:80", &["a.example:80"])]
    fn what_does_not_say_where_it_goes_is_refused(
        #[case] method: &str,
        #[case] target: &str,
        #[case] hosts: &[&str],
    ) {
        assert!(matches!(
            absolute(method, target, hosts),
            Err(RelayError::Malformed(_))
        ));
    }
}
