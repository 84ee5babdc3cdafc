//! Bad input: what goes wrong in a cluster, and what is said of it.

use std::collections::BTreeMap;

use http::StatusCode;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::bed::{TrustBed, WithSigners};
use crate::harness::{auth_test, until};

/// A Lease that ends soon, so that a test need not wait long.
const SHORT: [&str; 2] = ["--lease", "3"];

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_leads_and_the_other_goes_on() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let mut first = bed.controller(&SHORT).await?;
    first.says("this controller leads").await?;
    let roots = bed.published("qa", "countersign-ca", "root.pem").await?;
    let second = bed.controller(&SHORT).await?;
    second.says(" leads").await?;
    assert!(!second.readyz().await.contains("this controller leads"));
    until("the second is ready", async || {
        second.readyz().await.starts_with("HTTP/1.1 200")
    })
    .await?;
    // Without a farewell.
    first.program.kill().await?;
    second.says("this controller leads").await?;
    bed.opt_in("release").await?;
    let later = bed
        .published("release", "countersign-ca", "root.pem")
        .await?;
    assert_eq!(later, roots, "the same root");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_ends_nothing() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let controller = bed.controller(&SHORT).await?;
    controller.says("this controller leads").await?;
    let roots = bed.published("qa", "countersign-ca", "root.pem").await?;
    let gateway = bed.gateway(WithSigners::Intermediate).await?;
    bed.ready(&gateway).await?;
    bed.env
        .api_server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    controller.says("the Lease cannot be had").await?;
    // What was signed is used on.
    let token = bed.env.token("qa", "nightly-dashboard");
    let client = TrustBed::client_of(&gateway, &roots).bearer(&token);
    assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    bed.env.api_server.set_fault(None);
    controller.says("this controller leads").await?;
    bed.opt_in("release").await?;
    bed.published("release", "countersign-ca", "root.pem")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_signs_is_the_operators() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let gateway = bed.gateway(WithSigners::Intermediate).await?;
    let token = bed.env.token("qa", "nightly-dashboard");
    let roots = bed.env.authority.pem();
    let client = TrustBed::client_of(&gateway, &roots).bearer(&token);
    assert!(client.send(auth_test()).await.is_err(), "nobody signed");
    until("its record", async || {
        let records = bed.env.decisions().unwrap_or_default();
        let mut reasons = records.iter().map(|record| &record["reason"]);
        reasons.any(|reason| reason == "interception_unavailable")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/controller";
    bed.send("DELETE", path, &json!({})).await?;
    let controller = bed.controller(&[]).await?;
    controller
        .says("a role must grant to patch and create configmaps")
        .await?;
    assert!(controller.readyz().await.starts_with("HTTP/1.1 503"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_secret_is_told_and_nothing_is_overwritten() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let controller = bed.controller(&[]).await?;
    let roots = bed.published("qa", "countersign-ca", "root.pem").await?;
    let secrets = bed.secrets();
    let good = secrets.get("countersign-trust").await?;
    let set = async |key: &str, value: &[u8]| {
        let data = BTreeMap::from([(key.to_owned(), ByteString(value.to_vec()))]);
        let patch = Patch::Merge(json!({"data": data}));
        let params = PatchParams::default();
        secrets.patch("countersign-trust", &params, &patch).await
    };
    let certificate = good.data.clone().unwrap_or_default()["interception.crt"].clone();
    set("interception.crt", b"nothing").await?;
    // A controller that starts now.
    let another = bed.controller(&["--lease", "3"]).await?;
    drop(controller);
    another
        .says("interception.crt: it does not hold exactly one certificate")
        .await?;
    another.says("restore it from a backup").await?;
    let kept: Secret = secrets.get("countersign-trust").await?;
    assert_eq!(
        kept.data.unwrap_or_default()["interception.crt"].0,
        b"nothing"
    );
    let published = bed.published("qa", "countersign-ca", "root.pem").await?;
    assert_eq!(published, roots, "what is published stays");
    set("interception.crt", &certificate.0).await?;
    until("it is in order", async || {
        !another.readyz().await.contains("cannot be used")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_root_is_used_and_must_be_one() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    std::fs::write(bed.path("trust.yaml"), "rootSecret: own-root\n")?;
    let controller = bed.controller(&[]).await?;
    controller.says("there is no Secret own-root").await?;
    let leaf = rcgen::generate_simple_self_signed(vec!["leaf.test".to_owned()])?;
    let secret = |certificate: &str, key: &str| {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own-root"},
            "type": "kubernetes.io/tls", "data": {"tls.crt": bytes(certificate), "tls.key": bytes(key)},
        })
    };
    let path = "/api/v1/namespaces/countersign/secrets";
    let object = secret(&leaf.cert.pem(), &leaf.signing_key.serialize_pem());
    bed.create(path, &object).await?;
    controller
        .says("the root in the Secret own-root cannot be used")
        .await?;
    controller.says("isCA: true").await?;
    let (certificate, key) = root("Acme root")?;
    bed.send(
        "PUT",
        &format!("{path}/own-root"),
        &secret(&certificate, &key),
    )
    .await?;
    let published = bed.published("qa", "countersign-ca", "root.pem").await?;
    assert_eq!(published.trim(), certificate.trim());
    // cert-manager issues another: both are trusted at once, and the new one signs when the pods are ready for it.
    let (certificate, key) = root("Acme root 2")?;
    bed.send(
        "PUT",
        &format!("{path}/own-root"),
        &secret(&certificate, &key),
    )
    .await?;
    until("both are published", async || {
        let roots = bed.published("qa", "countersign-ca", "root.pem").await;
        roots.is_ok_and(|roots| roots.matches("BEGIN CERTIFICATE").count() == 2)
    })
    .await
}

fn root(name: &str) -> anyhow::Result<(String, String)> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_is_no_trouble() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let controller = bed.controller(&[]).await?;
    bed.published("qa", "countersign-ca", "root.pem").await?;
    bed.send("DELETE", "/api/v1/namespaces/qa", &json!({}))
        .await?;
    let path = "/api/v1/namespaces/qa/configmaps/countersign-ca";
    bed.send("DELETE", path, &json!({})).await?;
    bed.opt_in("release").await?;
    bed.published("release", "countersign-ca", "root.pem")
        .await?;
    controller.says("this controller leads\n").await?;
    // Its token is a file, which a busy machine may not read in time.
    let printed = controller.printed();
    let errors = printed.lines().filter(|line| line.contains("\"ERROR\""));
    let of_namespace = |line: &&str| line.contains("namespace") || line.contains("configmap");
    assert_eq!(errors.filter(of_namespace).count(), 0, "{printed}");
    Ok(())
}

/// Somebody changes or deletes what is published: it is written again.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_written_again() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let _controller = bed.controller(&[]).await?;
    let roots = bed.published("qa", "countersign-ca", "root.pem").await?;
    let path = "/api/v1/namespaces/qa/configmaps/countersign-ca";
    bed.send("DELETE", path, &json!({})).await?;
    assert_eq!(
        bed.published("qa", "countersign-ca", "root.pem").await?,
        roots
    );
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::namespaced(bed.client.clone(), "qa");
    let patch = Patch::Merge(json!({"data": {"root.pem": "mine"}}));
    maps.patch("countersign-ca", &PatchParams::default(), &patch)
        .await?;
    until("it is written again", async || {
        let found = bed.published("qa", "countersign-ca", "root.pem").await;
        found.is_ok_and(|found| found == roots)
    })
    .await
}

/// The webhook's certificate is made, shown, written into the configurations, and renewed when it has expired.
#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_has_a_certificate_that_the_api_server_accepts() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    bed.install_webhooks().await?;
    let controller = bed.controller(&[]).await?;
    controller
        .says("the webhook's certificate is valid until")
        .await?;
    let pod = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "qa"},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        })
    };
    let path = "/api/v1/namespaces/qa/pods";
    until("the API server calls the webhook", async || {
        bed.create(path, &pod("first")).await.is_ok()
    })
    .await?;
    let injected = bed.create(path, &pod("second")).await?;
    assert_eq!(
        injected["spec"]["initContainers"]
            .as_array()
            .map_or(0, Vec::len),
        2
    );
    // A certificate that has expired, or that somebody else put there.
    let mut params = rcgen::CertificateParams::new(vec!["other.test".to_owned()])?;
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let expired = params.self_signed(&key)?;
    let data = BTreeMap::from([
        ("tls.crt", ByteString(expired.pem().into_bytes())),
        ("tls.key", ByteString(key.serialize_pem().into_bytes())),
    ]);
    let patch = Patch::Merge(json!({"data": data}));
    bed.secrets()
        .patch("countersign-webhook", &PatchParams::default(), &patch)
        .await?;
    until("it is renewed", async || {
        let secret = bed.secrets().get("countersign-webhook").await;
        let data = secret
            .ok()
            .and_then(|secret| secret.data)
            .unwrap_or_default();
        data.get("tls.crt")
            .is_some_and(|crt| crt.0 != expired.pem().into_bytes())
    })
    .await?;
    until("the API server calls the webhook again", async || {
        bed.create(path, &pod("third")).await.is_ok()
    })
    .await
}

/// Nobody but the gateways' account has a certificate, whatever they ask for.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_has_a_certificate() -> anyhow::Result<()> {
    use countersign_pki::{CaKey, Names, Request, Subtree};

    let bed = TrustBed::start().await?;
    let controller = bed.controller(&[]).await?;
    controller.says("this controller leads").await?;
    let names: Names = [Subtree::Dns("slack.com".to_owned())].into_iter().collect();
    let request = Request::write(&CaKey::generate()?, "me", &names)?;
    let asked = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "mine"},
        "spec": {
            "request": ByteString(request.into_bytes()),
            "signerName": "countersign.dev/interception", "usages": ["cert sign"],
        },
    });
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    bed.create(path, &asked).await?;
    until("it is refused", async || {
        let found = bed.send("GET", &format!("{path}/mine"), &json!({})).await;
        let conditions = found.unwrap_or_default()["status"]["conditions"].clone();
        conditions[0]["type"] == "Denied" && conditions[0]["reason"] == "NotAGateway"
    })
    .await?;
    // Not even approved by an administrator.
    let found = bed.send("GET", &format!("{path}/mine"), &json!({})).await?;
    assert!(found["status"]["certificate"].is_null());
    Ok(())
}
