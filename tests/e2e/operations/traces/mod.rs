//! Spans of requests: from the caller's trace to the API, by gRPC and over HTTP, of the requests that the operator wants; and
//! collectors that take nothing, for which nothing waits.

mod collector;

use std::fmt::Write as _;

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    process::Process,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status};
use prost::Message as _;
use rstest::rstest;

use super::several_sinks::{Instead, read_by_python, stand_instead};
use crate::harness::{post_message, soon, until};
use collector::{Collector, Protocol, number, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A gateway that sends spans.
struct Traced {
    env: Environment,
    gateway: Process,
    collector: Collector,
}

impl Traced {
    async fn start(protocol: Protocol, sampling: &str, policy: &str) -> anyhow::Result<Self> {
        let env = Environment::start().await?;
        if !policy.is_empty() {
            env.write_yaml("slack.yaml", policy)?;
        }
        let collector = Collector::default();
        let address = collector.serve(protocol).await?;
        trace_to(&env, &format!("http://{address}"), protocol, sampling)?;
        let gateway = Process::start(&env, None).await?;
        Ok(Self {
            env,
            gateway,
            collector,
        })
    }

    /// Calls Slack with these headers; returns those that Slack got.
    async fn call(&self, headers: &[(&'static str, &str)]) -> anyhow::Result<HeaderMap> {
        let client = self
            .gateway
            .client()
            .bearer(&self.env.token("qa", DASHBOARD));
        let answer = soon(
            "an answer",
            client.send(with(post_message("C0", "hello"), headers)?),
        )
        .await??;
        assert_eq!(answer.status, StatusCode::OK);
        let received = self.env.slack.server().memory().at("/api/chat.postMessage");
        let last = received.last().expect("Slack got it");
        Ok(last.headers.clone())
    }

    /// Asks for what no policy permits; the path has what looks like a token.
    async fn be_refused(&self, headers: &[(&'static str, &str)]) -> anyhow::Result<()> {
        let client = self
            .gateway
            .client()
            .bearer(&self.env.token("qa", DASHBOARD));
        let path = format!(
            "https://slack.com/api/{}?q=canary",
            self.env.slack.user_token()
        );
        let request = Request::post(path).body(Full::default())?;
        soon("a refusal", client.send(with(request, headers)?)).await??;
        Ok(())
    }

    /// Ends the gateway, which sends what waits; returns what the collector got, in which no secret is.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.gateway.signal("TERM").await?;
        assert_eq!(
            soon("its end", self.gateway.ended()).await??.code(),
            Some(0)
        );
        for message in self.collector.messages() {
            let bytes = message.encode_to_vec();
            let text = String::from_utf8_lossy(&bytes);
            for secret in self.env.secrets() {
                assert!(!text.contains(&secret), "a secret is in a span");
            }
            assert!(!text.contains("canary"), "a query is in a span");
        }
        Ok(())
    }
}

/// The gateway's file with a collector of spans.
fn trace_to(
    env: &Environment,
    endpoint: &str,
    protocol: Protocol,
    sampling: &str,
) -> std::io::Result<()> {
    let file = format!("{{ file: {} }}", env.decision_log().display());
    let traces = format!(
        "{file}\n    traces: {{ endpoint: \"{endpoint}\", protocol: {}, sampling: {{ {sampling} }} }}",
        protocol.name()
    );
    env.edit_gateway(&file, &traces)
}

fn with(
    mut request: Request<Full<bytes::Bytes>>,
    headers: &[(&'static str, &str)],
) -> anyhow::Result<Request<Full<bytes::Bytes>>> {
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse()?);
    }
    Ok(request)
}

fn hex(id: &[u8]) -> String {
    let write = |mut text: String, byte: &u8| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    };
    id.iter().fold(String::new(), write)
}

fn traceparent(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all("traceparent").iter();
    all.filter_map(|value| value.to_str().ok()).collect()
}

/// One line for each span: how deep it stands, its name, its ids, and how long it took.
fn drawn(collector: &Collector, request: &Span) -> String {
    let line = |span: &Span| {
        let took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1000;
        let parent = hex(&span.parent_span_id);
        format!(
            "{:<12} span {} parent {parent:<16} {took:>7} us",
            span.name,
            hex(&span.span_id)
        )
    };
    let mut lines = vec![format!("trace {}", hex(&request.trace_id)), line(request)];
    for name in [
        "identify",
        "decide",
        "credential",
        "connect",
        "upstream",
        "body",
    ] {
        let step = collector.step(request, name);
        lines.extend(step.map(|step| format!("  {}", line(&step))));
    }
    lines.join("\n")
}

#[rstest]
#[case::by_grpc(Protocol::Grpc)]
#[case::over_http(Protocol::Http)]
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_caller_to_the_api(
    #[case] protocol: Protocol,
) -> anyhow::Result<()> {
    let mut traced = Traced::start(protocol, "ratio: 0", "").await?;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let sent = [
        ("traceparent", &*parent),
        ("tracestate", "vendor=1"),
        ("tracestate", "other=2"),
    ];
    let at_slack = traced.call(&sent).await?;
    traced.end().await?;

    let requests = traced.collector.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    println!("{}", drawn(&traced.collector, request));
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.trace_state, "vendor=1,other=2");
    assert_eq!(request.name, "POST slack");
    assert_eq!(request.kind, i32::from(SpanKind::Server));
    let upstream = traced
        .collector
        .step(request, "upstream")
        .expect("the call");
    assert_eq!(upstream.kind, i32::from(SpanKind::Client));
    let expected = format!("00-{TRACE}-{}-01", hex(&upstream.span_id));
    println!("Slack got traceparent {:?}", traceparent(&at_slack));
    assert_eq!(traceparent(&at_slack), [expected]);
    let states: Vec<_> = at_slack.get_all("tracestate").iter().collect();
    assert_eq!(states, ["vendor=1", "other=2"]);
    for name in ["identify", "decide", "credential", "connect", "body"] {
        let step = traced.collector.step(request, name).expect(name);
        assert!(step.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= request.end_time_unix_nano);
    }
    for (name, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/api/chat.postMessage"),
        ("server.address", "slack.com"),
        ("k8s.namespace.name", "qa"),
        ("countersign.target", "slack"),
        ("countersign.outcome", "permitted"),
    ] {
        assert_eq!(text(request, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(number(request, "http.response.status_code"), Some(200));
    let record = &traced.env.decisions()?[0];
    assert_eq!(record["trace_id"], TRACE);
    assert_eq!(
        text(request, "countersign.record.id").as_deref(),
        record["id"].as_str()
    );

    let message = traced.env.directory().join("spans.bin");
    std::fs::write(&message, traced.collector.messages()[0].encode_to_vec())?;
    if let Some(read) = read_by_python("otlp_traces.py", &message).await? {
        assert_eq!(read["service"], "countersign", "{read}");
        assert_eq!(read["spans"][0]["name"], "POST slack", "{read}");
        assert_eq!(read["spans"][0]["trace"], TRACE);
        assert_eq!(read["spans"][0]["parent"], CALLER);
        let steps = read["spans"].as_array().map_or(0, Vec::len);
        assert_eq!(steps, traced.collector.spans().len(), "{read}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_none_that_is_sampled_refusals_are_sent_all_the_same() -> anyhow::Result<()> {
    let mut traced = Traced::start(Protocol::Grpc, "ratio: 0", "").await?;
    for parent in [None, Some(format!("00-{TRACE}-{CALLER}-00"))] {
        let sent: Vec<_> = parent
            .iter()
            .map(|parent| ("traceparent", &**parent))
            .collect();
        let at_slack = traced.call(&sent).await?;
        let got = traceparent(&at_slack);
        assert!(got.len() == 1 && got[0].ends_with(['0', '2']), "{got:?}");
    }
    let parent = format!("00-{TRACE}-{CALLER}-00");
    let token = format!("vendor={}", traced.env.slack.bot_token());
    traced
        .be_refused(&[("traceparent", &parent), ("tracestate", &token)])
        .await?;
    traced.end().await?;
    let requests = traced.collector.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let refused = &requests[0];
    assert_eq!(hex(&refused.trace_id), TRACE);
    assert_eq!(
        text(refused, "error.type").as_deref(),
        Some("request_not_allowed")
    );
    let status = refused.status.as_ref().expect("a status");
    assert_eq!(status.code, i32::from(status::StatusCode::Error));
    assert!(traced.collector.step(refused, "decide").is_some());
    assert!(traced.collector.step(refused, "upstream").is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_as_others_where_the_operator_says_so() -> anyhow::Result<()> {
    let mut traced = Traced::start(Protocol::Http, "ratio: 0, refusals: false", "").await?;
    traced.be_refused(&[]).await?;
    traced.call(&[]).await?;
    traced.end().await?;
    assert_eq!(traced.collector.spans(), []);
    Ok(())
}

#[rstest]
#[case::none(&[])]
#[case::not_well_formed(&[("traceparent", "00-zz-00f067aa0ba902b7-01"), ("tracestate", "vendor=1")])]
#[case::twice(&[
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01"),
])]
#[tokio::test(flavor = "multi_thread")]
async fn without_a_trace_of_the_caller_one_begins(
    #[case] sent: &[(&'static str, &str)],
) -> anyhow::Result<()> {
    let mut traced = Traced::start(Protocol::Grpc, "ratio: 1", "").await?;
    let at_slack = traced.call(sent).await?;
    traced.end().await?;
    let requests = traced.collector.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    let record = &traced.env.decisions()?[0];
    let begun = hex(&request.trace_id);
    assert_eq!(record["trace_id"], begun);
    assert_eq!(
        record["id"].as_str().map(|id| id.replace('-', "")),
        Some(begun.clone())
    );
    assert!(request.parent_span_id.is_empty());
    let upstream = traced
        .collector
        .step(request, "upstream")
        .expect("the call");
    let expected = format!("00-{begun}-{}-03", hex(&upstream.span_id));
    assert_eq!(traceparent(&at_slack), [expected]);
    assert!(
        !at_slack.contains_key("tracestate"),
        "it belonged to another trace"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_keeps_the_trace_from_its_api() -> anyhow::Result<()> {
    let policy = "apiVersion: countersign.dev/v1alpha1\nkind: TargetService\nmetadata: { name: slack }\nspec: { extends: slack, traceparent: drop }\n";
    let mut traced = Traced::start(Protocol::Grpc, "ratio: 1", policy).await?;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let at_slack = traced
        .call(&[("traceparent", &parent), ("tracestate", "vendor=1")])
        .await?;
    traced.end().await?;
    for name in ["traceparent", "tracestate"] {
        assert!(!at_slack.contains_key(name), "{at_slack:?}");
    }
    let requests = traced.collector.requests();
    assert_eq!(
        hex(&requests[0].trace_id),
        TRACE,
        "the gateway's own spans are made"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_sent_again_says_so() -> anyhow::Result<()> {
    let mut traced = Traced::start(Protocol::Grpc, "ratio: 1", "").await?;
    traced.call(&[]).await?;
    let token = traced.env.slack.replace_bot_token();
    traced.env.write_secret("slack-bot", &token)?;
    traced.call(&[]).await?;
    let received = traced
        .env
        .slack
        .server()
        .memory()
        .at("/api/chat.postMessage");
    traced.end().await?;
    assert_eq!(received.len(), 3, "one was sent twice");
    let requests = traced.collector.requests();
    let again = requests.last().expect("the second");
    let upstream = traced.collector.step(again, "upstream").expect("the call");
    assert_eq!(number(&upstream, "http.request.resend_count"), Some(1));
    assert_eq!(upstream.events.len(), 1);
    let expected = hex(&upstream.span_id);
    for attempt in &received[1..] {
        let got = traceparent(&attempt.headers).concat();
        assert!(got.contains(&expected), "{got}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_spans_a_trace_passes_as_it_is() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let sent = [("traceparent", &*parent), ("tracestate", "vendor=1")];
    soon(
        "an answer",
        client.send(with(post_message("C0", "hello"), &sent)?),
    )
    .await??;
    let received = env.slack.server().memory().at("/api/chat.postMessage");
    assert_eq!(traceparent(&received[0].headers), [parent]);
    assert_eq!(received[0].headers["tracestate"], "vendor=1");
    Ok(())
}

#[rstest]
#[case::away(Instead::Nothing, true)]
#[case::answers_garbage(Instead::Garbage, true)]
#[case::never_answers(Instead::Silence, false)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_collector_of_spans(
    #[case] instead: Instead,
    #[case] is_told_soon: bool,
    #[values(Protocol::Grpc, Protocol::Http)] protocol: Protocol,
) -> anyhow::Result<()> {
    const REQUESTS: usize = 20;
    let env = Environment::start().await?;
    let address = stand_instead(instead).await?;
    trace_to(&env, &format!("http://{address}"), protocol, "ratio: 1")?;
    let gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    for _ in 0..REQUESTS {
        let answer = soon("an answer", client.send(post_message("C0", "hello"))).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    until("the records", async || {
        env.decisions()
            .is_ok_and(|records| records.len() == REQUESTS)
    })
    .await?;
    if is_told_soon {
        until("the count of what is lost", async || {
            let metrics = gateway.admin("/metrics").await.unwrap_or_default();
            let lost = "countersign_spans_dropped_total{reason=\"collector\"} ";
            let found = metrics.lines().find_map(|line| line.strip_prefix(lost));
            found.is_some_and(|count| count.trim() != "0")
        })
        .await?;
    }
    let metrics = gateway.admin("/metrics").await?;
    assert!(
        metrics.contains("countersign_spans_sent_total 0"),
        "{metrics}"
    );
    assert!(metrics.contains("countersign_decisions_dropped_total{class=\"identified\"} 0"));
    Ok(())
}
