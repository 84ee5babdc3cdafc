//! Records that go to several places at once, a collector among them, and places that take nothing: each has its own state,
//! none holds up another, and where the operator says so, no request is forwarded whose record might be lost.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment, records},
    process::Process,
};
use http::{Request, StatusCode};
use http_body_util::Full;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value as Any,
    logs::v1::LogRecord,
};
use prost::Message as _;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command};
use tonic::{
    Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::harness::{auth_test, python, soon, tests_directory, until};

/// Requests that are forwarded.
const REQUESTS: usize = 40;

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    received: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    /// How many records of each message it refuses for good.
    rejects: i64,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse {
            partial_success: (self.rejects > 0).then(|| ExportLogsPartialSuccess {
                rejected_log_records: self.rejects,
                error_message: "no".to_owned(),
            }),
        }))
    }
}

impl Collector {
    async fn serve(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = LogsServiceServer::new(self.clone());
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        Ok(address)
    }

    fn messages(&self) -> Vec<ExportLogsServiceRequest> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }

    fn records(&self) -> Vec<LogRecord> {
        let logs = self
            .messages()
            .into_iter()
            .flat_map(|one| one.resource_logs);
        let scopes = logs.flat_map(|logs| logs.scope_logs);
        scopes.flat_map(|scope| scope.log_records).collect()
    }
}

fn attribute<'r>(record: &'r LogRecord, name: &str) -> Option<&'r Any> {
    let found = record.attributes.iter().find(|one| one.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

/// The gateway's file with these sinks.
fn record_to(env: &Environment, sinks: &str) -> std::io::Result<()> {
    let file = format!("{{ file: {} }}", env.decision_log().display());
    env.edit_gateway(&file, sinks)
}

async fn forwarded(gateway: &Process, token: &str, count: usize) -> anyhow::Result<()> {
    let client = gateway.client().bearer(token);
    for _ in 0..count {
        let answer = soon("an answer", client.send(auth_test())).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    Ok(())
}

/// The state of a sink in `/readyz`, by the beginning of its name.
async fn sink(gateway: &Process, name: &str) -> anyhow::Result<Value> {
    let answer = soon("/readyz", gateway.admin("/readyz")).await??;
    let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
    let status: Value = serde_json::from_str(body)?;
    let mut sinks = status["sinks"].as_array().into_iter().flatten();
    let found = sinks.find(|sink| {
        sink["name"]
            .as_str()
            .is_some_and(|own| own.starts_with(name))
    });
    Ok(found
        .cloned()
        .unwrap_or_else(|| panic!("{name} is not in {status}")))
}

pub(super) async fn read_by_python(script: &str, file: &Path) -> anyhow::Result<Option<Value>> {
    let Some(python) = python() else {
        return Ok(None);
    };
    let mut command = Command::new(python);
    command
        .arg(tests_directory().join("clients/python").join(script))
        .arg(file);
    let output = soon("the answer of Python", command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_record_that_the_file_has() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let collector = Collector::default();
    let address = collector.serve().await?;
    let log = env.decision_log();
    record_to(
        &env,
        &format!(
            "[{{ file: {} }}, {{ otlp: {{ endpoint: \"http://{address}\" }} }}]",
            log.display()
        ),
    )?;
    let mut gateway = Process::start(&env, None).await?;
    forwarded(&gateway, &env.token("qa", DASHBOARD), REQUESTS).await?;
    assert_eq!(sink(&gateway, "otlp:").await?["state"], "ok");
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let written = records(&log)?;
    let sent = collector.records();
    let bodies: Vec<Value> = sent
        .iter()
        .filter_map(|record| match record.body.as_ref()?.value.as_ref()? {
            Any::StringValue(body) => serde_json::from_str(body).ok(),
            _ => None,
        })
        .collect();
    let of_requests = |record: &&Value| record["schema"] == "countersign.decision/v1";
    let decisions: Vec<Value> = bodies.iter().filter(of_requests).cloned().collect();
    assert_eq!(decisions, written, "the same records in the same order");
    assert_eq!(written.len(), REQUESTS);
    let events = bodies.iter().filter_map(|body| body["event"].as_str());
    assert_eq!(
        events.collect::<Vec<_>>(),
        ["started", "draining", "stopped"]
    );
    let of_request = sent
        .iter()
        .find(|record| attribute(record, "http.request.method").is_some())
        .expect("a request");
    let text = |name: &str| match attribute(of_request, name) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(text("k8s.namespace.name"), "qa");
    assert_eq!(text("server.address"), "slack.com");

    let message = env.directory().join("message.bin");
    std::fs::write(&message, collector.messages()[0].encode_to_vec())?;
    if let Some(read) = read_by_python("otlp_logs.py", &message).await? {
        assert_eq!(read["service"], "countersign", "{read}");
        let first = &read["records"][0];
        assert_eq!(first["event"], "countersign.event/v1", "{read}");
        assert_eq!(first["severity"], "INFO");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_for_good_is_counted() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let collector = Collector {
        rejects: 1,
        ..Collector::default()
    };
    let address = collector.serve().await?;
    record_to(
        &env,
        &format!("{{ otlp: {{ endpoint: \"http://{address}\" }} }}"),
    )?;
    let gateway = Process::start(&env, None).await?;
    forwarded(&gateway, &env.token("qa", DASHBOARD), 1).await?;
    until("the loss", async || {
        let status = sink(&gateway, "otlp:").await;
        status.is_ok_and(|status| status["dropped"].as_u64() > Some(0))
    })
    .await?;
    let metrics = gateway.admin("/metrics").await?;
    assert!(
        metrics.contains("countersign_decision_sink_dropped_total{sink=\"otlp:http://127.0.0.1:")
    );
    Ok(())
}

/// What stands where a collector should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Instead {
    Nothing,
    Silence,
    Garbage,
}

pub(super) async fn stand_instead(what: Instead) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    if matches!(what, Instead::Nothing) {
        return Ok(address);
    }
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match what {
                Instead::Garbage => drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await),
                Instead::Silence | Instead::Nothing => silent.push(stream),
            }
        }
    });
    Ok(address)
}

#[rstest]
#[case::away(Instead::Nothing, true)]
#[case::answers_garbage(Instead::Garbage, true)]
#[case::never_answers(Instead::Silence, false)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_collector(
    #[case] instead: Instead,
    #[case] is_told_soon: bool,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let address = stand_instead(instead).await?;
    let log = env.decision_log();
    record_to(
        &env,
        &format!(
            "{{ file: {} }}\n    otlp: {{ endpoint: \"http://{address}\" }}",
            log.display()
        ),
    )?;
    let gateway = Process::start(&env, None).await?;
    forwarded(&gateway, &env.token("qa", DASHBOARD), REQUESTS).await?;
    until("the file's records", async || {
        env.decisions()
            .is_ok_and(|records| records.len() == REQUESTS)
    })
    .await?;
    assert_eq!(sink(&gateway, "file:").await?["state"], "ok");
    if is_told_soon {
        until("the failure", async || {
            let status = sink(&gateway, "otlp:").await;
            status.is_ok_and(|status| {
                status["state"] == "failing" && status["dropped"].as_u64() > Some(0)
            })
        })
        .await?;
        let status = sink(&gateway, "otlp:").await?;
        assert!(
            status["error"]
                .as_str()
                .is_some_and(|error| error.contains("collector")),
            "{status}"
        );
        let metrics = gateway.admin("/metrics").await?;
        assert!(metrics.contains(&format!(
            "countersign_decision_sink_up{{sink=\"otlp:http://{address}\"}} 0"
        )));
    }
    Ok(())
}

/// Lets the dashboard ask Slack for everything.
fn allow_everything(env: &Environment) -> std::io::Result<()> {
    env.edit_policy(DASHBOARD_FILE, |resources| {
        let rule = json!([{ "methods": ["POST"], "paths": ["/api/**"] }]);
        resources.access("dashboard-posts-to-slack")["allow"] = rule;
    })
}

/// A request whose record is large, so that few fill a queue.
fn large() -> anyhow::Result<Request<Full<bytes::Bytes>>> {
    let path = "x".repeat(7000);
    Ok(Request::post(format!("https://slack.com/api/{path}")).body(Full::default())?)
}

fn counted(printed: &str) -> usize {
    let lines = printed
        .lines()
        .filter(|line| line.starts_with("{\"schema\":\"countersign.decision"));
    lines.filter(|line| line.contains("\"status\":")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_no_request_is_forwarded_that_cannot_be_recorded() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    record_to(&env, "{ stdout: json, whenFull: refuse }")?;
    allow_everything(&env)?;
    let mut gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    gateway.stop_reading();
    let mut sent = 0;
    let refused = loop {
        let answer = soon("an answer", client.send(large()?)).await??;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            break answer;
        }
        sent += 1;
        assert!(sent < 5000, "it is never full");
    };
    assert!(
        refused.headers["proxy-status"]
            .to_str()?
            .contains("records_full"),
        "{:?}",
        refused.headers
    );
    assert_eq!(sink(&gateway, "stdout").await?["state"], "full");
    gateway.read_again();
    until("room", async || {
        sink(&gateway, "stdout")
            .await
            .is_ok_and(|status| status["state"] == "ok")
    })
    .await?;
    assert_ne!(
        client.send(large()?).await?.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let printed = gateway
        .said(|printed| (counted(printed) > sent).then(|| printed.to_owned()))
        .await?;
    assert_eq!(
        counted(&printed),
        sent + 1,
        "one record for each request that was forwarded"
    );
    assert!(
        printed.contains("\"reason\":\"records_full\""),
        "the refusal has its record too"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_wait_requests_wait_for_room_and_go_on() -> anyhow::Result<()> {
    const MOST: usize = 1200;
    let env = Environment::start().await?;
    record_to(&env, "{ stdout: json, whenFull: wait }")?;
    allow_everything(&env)?;
    let gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    gateway.stop_reading();
    let sending = async {
        for _ in 0..MOST {
            let answer = soon("an answer", client.send(large()?)).await??;
            assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        anyhow::Ok(())
    };
    let reading = async {
        until("a full sink", async || {
            sink(&gateway, "stdout")
                .await
                .is_ok_and(|status| status["state"] == "full")
        })
        .await?;
        gateway.read_again();
        anyhow::Ok(())
    };
    let (sent, read) = tokio::join!(sending, reading);
    sent?;
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_siem_gets_events_of_its_own_schema() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let events = env.directory().join("events.jsonl");
    record_to(
        &env,
        &format!(
            "[{{ file: {} }}, {{ file: {}, format: ocsf }}]",
            env.decision_log().display(),
            events.display()
        ),
    )?;
    let mut gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    let denied = Request::post("https://slack.com/api/auth.revoke").body(Full::default())?;
    client.send(denied).await?;
    drop(client);
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let written = records(&events)?;
    let classes: Vec<u64> = written
        .iter()
        .filter_map(|event| event["class_uid"].as_u64())
        .collect();
    assert_eq!(classes.len(), written.len());
    for class in [4002, 3003, 6002] {
        assert!(classes.contains(&class), "{class} is not in {classes:?}");
    }
    let text = std::fs::read_to_string(&events)?;
    for secret in env.secrets() {
        assert!(!text.contains(&secret), "a secret is in an event");
    }
    if let Some(read) = read_by_python("ocsf_events.py", &events).await? {
        assert_eq!(
            read["events"].as_u64(),
            Some(written.len() as u64),
            "{read}"
        );
    }
    Ok(())
}
