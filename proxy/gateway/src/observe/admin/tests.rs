use axum::body::Body;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

use super::*;

struct Admin {
    base: String,
    state: AdminState,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

async fn admin() -> Admin {
    // The process has one provider; a second test in it finds it installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let state = AdminState::new(Metrics::new());
    let (stop, stopped) = oneshot::channel();
    let serving = state.clone();
    let done = tokio::spawn(serve(listener, serving, async move {
        stopped.await.unwrap();
    }));
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    Admin {
        base,
        state,
        client,
        stop,
        done,
    }
}

impl Admin {
    async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("{}{path}", self.base);
        self.client.get(url).send().await.unwrap()
    }

    async fn readiness(&self) -> (u16, Value) {
        let answer = self.get("/readyz").await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

#[tokio::test]
async fn readiness_follows_the_gateway() {
    let admin = admin().await;
    let starting = json!({
        "ready": false, "draining": false, "revision": null, "reload_error": null,
        "restart_needed": [], "config_error": null, "listeners": [], "certificates": []
    });
    assert_eq!(admin.readiness().await, (503, starting));

    admin.state.set_revision(&"9f2c1a".into());
    admin
        .state
        .set_listeners([("proxy".into(), ([127, 0, 0, 1], 3128).into())]);
    admin.state.set_ready(true);
    let ready = json!({
        "ready": true, "draining": false, "revision": "9f2c1a", "reload_error": null,
        "restart_needed": [], "config_error": null,
        "listeners": [{"name": "proxy", "address": "127.0.0.1:3128"}], "certificates": []
    });
    assert_eq!(admin.readiness().await, (200, ready));

    admin.state.set_draining(true);
    assert_eq!(admin.readiness().await.0, 503);
}

#[tokio::test]
async fn a_gateway_that_can_identify_nobody_is_not_ready_and_says_why() {
    let admin = admin().await;
    admin
        .state
        .set_identity(false, &["no keys, xoxb-canary-canary-canary".to_owned()]);
    admin.state.set_ready(true);
    let (status, body) = admin.readiness().await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)));
    assert_eq!(body["waiting_for"], json!(["no keys, [redacted]"]));
    // The callers of another source can be identified.
    admin.state.set_identity(true, &["no keys".to_owned()]);
    let (status, body) = admin.readiness().await;
    assert_eq!((status, &body["waiting_for"]), (200, &json!(["no keys"])));
    admin.state.set_identity(true, &[]);
    assert_eq!(admin.readiness().await.1.get("waiting_for"), None);
}

#[tokio::test]
async fn a_changed_gateway_file_is_told_and_does_not_take_the_gateway_out() {
    let admin = admin().await;
    admin.state.set_ready(true);
    let keys = ["spec.limits.drain".to_owned()];
    admin.state.set_config_change(&keys, None);
    let (status, body) = admin.readiness().await;
    assert_eq!(status, 200);
    assert_eq!(body["restart_needed"], json!(["spec.limits.drain"]));
    let error = "g.yaml:3: xoxb-canary-canary-canary";
    admin.state.set_config_change(&[], Some(error));
    let (_, body) = admin.readiness().await;
    assert_eq!(body["restart_needed"], json!([]));
    assert_eq!(body["config_error"], "g.yaml:3: [redacted]");
    admin.state.set_config_change(&[], None);
    assert_eq!(admin.readiness().await.1["config_error"], Value::Null);
}

#[tokio::test]
async fn a_rejected_revision_is_told_and_does_not_take_the_gateway_out() {
    let admin = admin().await;
    admin.state.set_ready(true);
    admin
        .state
        .set_reload_error(Some("a.yaml:3: xoxb-canary-canary-canary"));
    let (status, body) = admin.readiness().await;
    assert_eq!(status, 200);
    assert_eq!(body["reload_error"], "a.yaml:3: [redacted]");

    admin.state.set_reload_error(Some(&"é".repeat(ERROR_BYTES)));
    let (_, body) = admin.readiness().await;
    assert_eq!(body["reload_error"].as_str().unwrap().len(), ERROR_BYTES);

    admin.state.set_reload_error(None);
    assert_eq!(admin.readiness().await.1["reload_error"], Value::Null);
}

#[tokio::test]
async fn health_version_and_metrics_answer() {
    let admin = admin().await;
    assert_eq!(admin.get("/healthz").await.text().await.unwrap(), "ok\n");
    let version: Value = admin.get("/version").await.json().await.unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let metrics = admin.get("/metrics").await;
    let kind = metrics.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = metrics.text().await.unwrap();
    assert!(text.contains("countersign_build_info"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[rstest]
#[case("POST", "/healthz", 405)]
#[case("PUT", "/readyz", 405)]
#[case("DELETE", "/metrics", 405)]
#[case("POST", "/credentials", 405)]
#[case("DELETE", "/credentials", 405)]
#[case("GET", "/credentials/qa/example", 404)]
#[case("GET", "/", 404)]
#[case("GET", "/debug/pprof", 404)]
#[case("GET", "/readyz/", 404)]
#[tokio::test]
async fn t57_nothing_can_be_changed_and_nothing_else_is_there(
    #[case] method: &str,
    #[case] path: &str,
    #[case] status: u16,
) {
    let admin = admin().await;
    let url = format!("{}{path}", admin.base);
    let method = method.parse().unwrap();
    let answer = admin.client.request(method, url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), status);
}

#[tokio::test]
async fn it_ends_when_told() {
    let admin = admin().await;
    admin.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), admin.done)
        .await
        .expect("it ends")
        .unwrap();
}

/// Silent ones, and ones that drip a head, many times as many as there are places.
#[rstest]
#[case::silent(b"")]
#[case::dripping(b"GET /heal")]
#[tokio::test]
async fn t69_clients_that_stall_make_room_for_a_probe(#[case] said: &[u8]) {
    let admin = admin().await;
    let address = admin.base.strip_prefix("http://").unwrap();
    let mut stalled = Vec::new();
    for _ in 0..3 * CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may have been closed by then.
        let _ = stream.write_all(said).await;
        stalled.push(stream);
        if stalled.len() % CONNECTIONS == 0 {
            assert_eq!(admin.get("/healthz").await.status().as_u16(), 200);
        }
    }
    assert_eq!(admin.readiness().await.0, 503);
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let admin = admin().await;
    let address = admin.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("ok\n"), "{answer}");
}

/// As the kubelet's, or another pod's.
#[tokio::test]
async fn the_latest_records_are_for_this_machine_alone() {
    let (recorder, _) = super::super::fixture::recorder();
    let state = AdminState::new(Metrics::new());
    state.set_log(recorder.log());
    let asked = async |client: &str, path: &str| {
        let mut request = axum::extract::Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        let client = client.parse().unwrap();
        request.extensions_mut().insert(Client(client));
        let service = TowerToHyperService::new(router(state.clone()));
        let answer = service.call(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 4096)
            .await
            .unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    };
    for client in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(asked(client, "/records").await, "", "{client}");
    }
    for client in [
        "10.0.0.2",
        "192.168.0.1",
        "::ffff:10.0.0.2",
        "fe80::1",
        "0.0.0.0",
    ] {
        let told = asked(client, "/records").await;
        assert!(told.contains("kubectl port-forward"), "{client}: {told}");
        for path in ["/records?id=x", "/revisions", "/revisions/x", "/last-use"] {
            assert_eq!(asked(client, path).await, told, "{client} {path}");
        }
        assert_eq!(asked(client, "/healthz").await, "ok\n", "{client}");
    }
}

#[tokio::test]
async fn the_latest_records_are_shown_and_found_by_their_id() {
    let admin = admin().await;
    assert_eq!(admin.get("/records").await.status(), 404, "no log yet");
    let (recorder, _) = super::super::fixture::recorder();
    admin.state.set_log(recorder.log());
    let id = |record: &super::super::Record| record.id.to_string();
    let first = recorder.open();
    let (first_id, second) = (id(&first), recorder.open());
    let second_id = id(&second);
    drop(first);
    let answer = admin.get("/records").await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let next = answer.headers()["countersign-next"]
        .to_str()
        .unwrap()
        .to_owned();
    let lines = answer.text().await.unwrap();
    assert!(
        lines.contains(&first_id) && lines.ends_with('\n'),
        "{lines}"
    );

    drop(second);
    let later = admin.get(&format!("/records?after={next}")).await;
    let later = later.text().await.unwrap();
    assert!(
        later.contains(&second_id) && !later.contains(&first_id),
        "{later}"
    );

    let one = admin.get(&format!("/records?id={first_id}")).await;
    let one: Value = one.json().await.unwrap();
    assert_eq!(
        (&one["id"], &one["reason"]),
        (&json!(first_id), &json!("client_gone"))
    );
    let unknown = "0194f3c1-2a44-7000-8000-000000000001";
    assert_eq!(
        admin.get(&format!("/records?id={unknown}")).await.status(),
        404
    );
    assert_eq!(admin.get("/records?id=../etc").await.status(), 400);
    assert_eq!(admin.get("/records?after=x").await.status(), 400);
}
