//! Trust without hands, with real processes: controllers and gateways against the stand-in for the API server, each
//! with the rights that its role grants and no others.

mod bed;
mod rights;
mod rotation;
mod trouble;

use countersign_controller::admission::{NamespaceFacts, Settings, inject, names, policy};
use http::StatusCode;
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::ConfigMap};
use kube::{Api, ResourceExt as _, api::ListParams};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use crate::harness::auth_test;
use bed::{TrustBed, WithSigners};

/// From nothing: a label on a namespace, a controller, a gateway. No key and no certificate is made by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_its_certificates_and_a_namespace_its_roots() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let controller = bed.controller(&[]).await?;
    let roots = bed.published("qa", "countersign-ca", "root.pem").await?;
    let bundle = bed.published("qa", "countersign-ca", "bundle.pem").await?;
    assert!(bundle.ends_with(&roots), "the system's roots come first");
    assert!(bundle.matches("BEGIN CERTIFICATE").count() > 10);
    let maps: Api<ConfigMap> = Api::namespaced(bed.client.clone(), "qa");
    let map = maps.get("countersign-ca").await?;
    let store = &map.binary_data.as_ref().expect("a trust store")["trust.p12"];
    assert!(store.0.starts_with(b"\x30"), "PKCS#12 is a sequence");
    assert!(
        map.annotations()
            .contains_key("countersign.dev/published-at")
    );
    assert!(maps.get_opt("countersign-trust").await?.is_none());

    let gateway = bed.gateway(WithSigners::Both).await?;
    bed.ready(&gateway).await?;
    let token = bed.env.token("qa", "nightly-dashboard");
    let client = TrustBed::client_of(&gateway, &roots).bearer(&token);
    let answer = client.send(auth_test()).await?;
    assert_eq!(
        (answer.status, &answer.json()["ok"]),
        (StatusCode::OK, &json!(true))
    );

    // A listener's certificate is below the root that relays have.
    let gateway_ca = bed
        .published("qa", "countersign-gateway-ca", "ca.crt")
        .await?;
    assert_ne!(gateway_ca, roots, "two authorities");
    let shown = bed.serving_chain(&gateway, &gateway_ca).await?;
    assert_eq!(shown.len(), 1, "the leaf alone");

    let requests: Api<CertificateSigningRequest> = Api::all(bed.client.clone());
    let made = requests.list(&ListParams::default()).await?.items;
    let mut signers: Vec<_> = made.iter().map(|it| it.spec.signer_name.as_str()).collect();
    signers.sort_unstable();
    assert_eq!(
        signers,
        ["countersign.dev/gateway", "countersign.dev/interception"]
    );
    for request in &made {
        let status = request.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        assert_eq!(conditions[0].type_, "Approved");
        let chain = status.certificate.expect("it is signed").0;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
        assert_eq!(chain.len(), 2, "with its root");
    }
    let readyz = gateway.admin("/readyz").await?;
    for name in ["ca/root", "ca/intermediate"] {
        assert!(readyz.contains(name), "{readyz}");
    }
    assert!(!controller.printed().contains("PRIVATE KEY"));
    assert!(!gateway.printed().contains("PRIVATE KEY"));
    Ok(())
}

/// Both engines mount what trust publishes, in every container of the app.
#[test]
fn what_admission_mounts_is_what_trust_publishes() -> anyhow::Result<()> {
    let settings = Settings::parse("gateways: [\"countersign.countersign.svc:3128\"]")?;
    let namespace = NamespaceFacts {
        name: "qa".to_owned(),
        labels: [(names::INJECT.to_owned(), names::ENABLED.to_owned())].into(),
        ..NamespaceFacts::default()
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "qa"},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    let injected = format!("{:?}", inject(&pod, &namespace, &settings));
    let policies = serde_json::to_string(&policy::objects(&settings))?;
    for text in [&injected, &policies] {
        for mounted in [
            "countersign-ca",
            "countersign-gateway-ca",
            "/etc/countersign/ca",
        ] {
            assert!(text.contains(mounted), "{mounted} is missing in {text}");
        }
        for file in ["bundle.pem", "root.pem", "trust.p12", "ca.crt"] {
            assert!(text.contains(file), "{file} is missing in {text}");
        }
    }
    Ok(())
}
