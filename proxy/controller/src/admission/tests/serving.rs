//! The webhook's server: its certificate, its bounds, and what it says when it cannot answer.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_core::clock::Clock;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::{pod, settings};
use crate::admission::{
    certificate::ServingCertificate,
    events::Events,
    metrics::Metrics,
    namespaces::Namespaces,
    server::{Parts, Service},
};

const NOW: &str = "2026-11-30T12:00:00Z";

fn clock() -> Clock {
    Clock::manual(NOW.parse().expect("it is a time"))
}

/// Writes a certificate that is valid for this long from now.
fn write(directory: &Path, hours: i64) {
    let now: Timestamp = NOW.parse().expect("it is a time");
    let at = |hours: i64| {
        let at = now + SignedDuration::from_hours(hours);
        std::time::SystemTime::from(at).into()
    };
    let mut params = CertificateParams::new(vec!["webhook.test".to_owned()]).unwrap();
    params.not_before = at(-48);
    params.not_after = at(hours);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
}

fn certificate(directory: &Path) -> Arc<ServingCertificate> {
    let at = |name: &str| directory.join(name);
    Arc::new(ServingCertificate::new(at("tls.crt"), at("tls.key")))
}

/// An API server that knows one namespace, or does not answer.
fn api_server(labels: Option<Value>) -> Client {
    let answer = move |request: Request<kube::client::Body>| {
        let labels = labels.clone();
        async move {
            let path = request.uri().path().to_owned();
            let Some(labels) = labels else {
                return Err(std::io::Error::other("the API server is gone"));
            };
            let (status, body) = match path.strip_prefix("/api/v1/namespaces/") {
                Some(name) => (
                    200,
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": name, "labels": labels}}),
                ),
                None => (
                    200,
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": {"resourceVersion": "1"}, "items": []}),
                ),
            };
            let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(response)
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

struct Bed {
    service: Service,
    directory: tempfile::TempDir,
    certificate: Arc<ServingCertificate>,
    clock: Clock,
}

async fn bed(labels: Option<Value>) -> Bed {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 24 * 20);
    let certificate = certificate(directory.path());
    let clock = clock();
    certificate.read(&clock).await;
    let client = api_server(labels);
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    // Nobody watches: each namespace is asked for.
    let (namespaces, _watching) = Namespaces::watch(client.clone());
    let (events, _writing) = Events::written(client, metrics.clone());
    let own = Arc::clone(&certificate);
    let parts = Parts {
        settings: settings(),
        certificate: Some(own),
        namespaces,
        events,
        metrics,
        registry,
        checks: Vec::new(),
    };
    let service = Service::new(parts, &clock);
    Bed {
        service,
        directory,
        certificate,
        clock,
    }
}

impl Bed {
    async fn ask(&self, path: &str, body: Option<String>) -> (StatusCode, String) {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(body)
            .unwrap();
        let response = self.service.respond(request, true).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn review(pod: &Value) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "qa", "operation": "CREATE", "userInfo": {}, "object": pod,
    }})
    .to_string()
}

fn enabled() -> Value {
    json!({"countersign.dev/inject": "enabled"})
}

#[tokio::test]
async fn a_review_is_answered_and_counted() {
    let bed = bed(Some(enabled())).await;
    let (status, answer) = bed.ask("/mutate", Some(review(&pod()))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["response"]["patch"].is_string());
    let out = super::changed(
        pod(),
        &["metadata", "annotations"],
        json!({"countersign.dev/inject": "disabled"}),
    );
    let (_, answer) = bed.ask("/mutate", Some(review(&out))).await;
    assert!(answer.contains("opt_out_not_allowed"), "{answer}");
    let (_, metrics) = bed.ask("/metrics", None).await;
    for line in [
        r#"countersign_admission_pods_total{webhook="mutate",result="injected",reason="redirect"} 1"#,
        r#"countersign_admission_pods_total{webhook="mutate",result="refused",reason="opt_out_not_allowed"} 1"#,
        r#"countersign_admission_pods_total{webhook="mutate",result="left_alone",reason="opted_out"} 0"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_fails_the_call_and_admits_nothing() {
    let bed = bed(None).await;
    let (status, answer) = bed.ask("/mutate", Some(review(&pod()))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        answer.contains("the namespace qa cannot be read"),
        "{answer}"
    );
    let (_, metrics) = bed.ask("/metrics", None).await;
    assert!(
        metrics.contains("countersign_admission_failures_total 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_request_that_is_none_is_told() {
    let bed = bed(Some(enabled())).await;
    let big = "x".repeat(8 * 1024 * 1024 + 1);
    for (path, body, status) in [
        ("/mutate", Some("{".to_owned()), StatusCode::BAD_REQUEST),
        ("/mutate", Some(big), StatusCode::PAYLOAD_TOO_LARGE),
        ("/mutate", None, StatusCode::METHOD_NOT_ALLOWED),
        ("/elsewhere", None, StatusCode::NOT_FOUND),
        ("/healthz", None, StatusCode::OK),
    ] {
        assert_eq!(bed.ask(path, body).await.0, status, "{path}");
    }
    // In clear text no review is answered.
    let request = Request::post("/mutate")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(
        bed.service.respond(request, false).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn an_expired_certificate_is_told_and_a_new_one_is_taken_without_a_restart() {
    let bed = bed(Some(enabled())).await;
    let ready = || bed.ask("/readyz", None);
    let (status, told) = ready().await;
    assert_eq!(status, StatusCode::OK);
    assert!(told.contains("is valid until"), "{told}");
    let before = bed.certificate.config().unwrap();

    bed.clock.set("2026-12-25T00:00:00Z".parse().unwrap());
    let (status, told) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        told.contains("not ready: the webhook's certificate expired at"),
        "{told}"
    );

    // Half of a pair takes nothing away, and is told.
    fs::write(bed.directory.path().join("tls.key"), "none").unwrap();
    bed.clock.set(NOW.parse().unwrap());
    bed.certificate.read(&bed.clock).await;
    let (status, told) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(told.contains("holds no PEM private key"), "{told}");
    assert!(Arc::ptr_eq(&before, &bed.certificate.config().unwrap()));

    write(bed.directory.path(), 24 * 60);
    bed.certificate.read(&bed.clock).await;
    assert_eq!(ready().await.0, StatusCode::OK);
    assert!(!Arc::ptr_eq(&before, &bed.certificate.config().unwrap()));
}

#[tokio::test]
async fn it_waits_for_its_first_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certificate(directory.path());
    certificate.read(&clock()).await;
    assert!(certificate.config().is_none());
    let told = certificate.readiness(&clock()).unwrap_err();
    assert!(told.contains("cannot read"), "{told}");
    write(directory.path(), 24);
    certificate.read(&clock()).await;
    assert!(certificate.config().is_some());
}

/// Bodies arrive over real TLS, with the certificate that is in force when a connection is made.
#[tokio::test(flavor = "multi_thread")]
async fn it_answers_over_tls() {
    use rustls_pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let bed = bed(Some(enabled())).await;
    let pem = fs::read(bed.directory.path().join("tls.crt")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(Arc::new(bed.service).serve_webhook(listener));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder_with_provider(countersign_core::ciphers::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("webhook.test").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    let body = review(&pod());
    let head = format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("JSONPatch"),
        "{answer}"
    );
    serving.abort();
}

#[test]
fn the_webhook_is_called_for_opted_in_pods_alone_and_by_a_type_of_kubernetes() {
    use k8s_openapi::api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    };

    let [mutating, validating] =
        crate::admission::webhooks::configurations(&settings(), "countersign-controller", "CA");
    let typed: MutatingWebhookConfiguration = serde_json::from_value(mutating.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), mutating);
    let typed: ValidatingWebhookConfiguration = serde_json::from_value(validating.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), validating);
    for configuration in [&mutating, &validating] {
        let webhook = &configuration["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], "Fail");
        let selected = webhook["namespaceSelector"].to_string();
        for part in ["countersign.dev/inject", "kube-system", "\"countersign\""] {
            assert!(selected.contains(part), "{selected}");
        }
        // A label of the pod would be its author's to choose.
        assert!(webhook.get("objectSelector").is_none());
    }
    let rules = validating["webhooks"][0]["rules"].to_string();
    assert!(rules.contains("pods/ephemeralcontainers"), "{rules}");
}
