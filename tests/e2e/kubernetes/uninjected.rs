//! Pods of opted-in namespaces that run without a relay: the controller tells their owner, and counts them.

use countersign_controller::{
    admission::{Settings, events::Events, metrics::Metrics},
    uninjected::{self, Counters},
};
use countersign_tests::environment::Environment;
use prometheus_client::{encoding::text, registry::Registry};
use serde_json::{Value, json};

use crate::harness::until;

fn pod(namespace: &str, name: &str, more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        for (inner, value) in value.as_object().into_iter().flatten() {
            pod[key][inner] = value.clone();
        }
    }
    pod
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A client of the API server that may everything.
fn administrator(env: &Environment) -> anyhow::Result<kube::Client> {
    let server = &env.api_server;
    let at = |name: &str| env.directory().join(name);
    std::fs::write(at("api-server.pem"), server.ca_pem())?;
    std::fs::write(at("admin-token"), server.admin())?;
    let mut config = kube::Config::new(server.url().parse()?);
    config.root_cert_file = Some(at("api-server.pem"));
    config.auth_info.token_file = Some(at("admin-token").display().to_string());
    Ok(countersign_controller::connect(config)?)
}

#[tokio::test]
async fn pods_without_a_relay_are_told_of_and_counted() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let server = &env.api_server;
    server.set_object(&namespace(
        "qa",
        &json!({"countersign.dev/inject": "enabled"}),
    ));
    server.set_object(&namespace("other", &json!({})));
    let owner = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5f9c7", "uid": "web", "controller": true,
    }]}});
    for object in [
        pod("qa", "web-1", &owner),
        pod("qa", "web-2", &owner),
        pod("qa", "on-the-host", &json!({"spec": {"hostNetwork": true}})),
        pod("qa", "ended", &json!({"status": {"phase": "Succeeded"}})),
        pod(
            "qa",
            "relayed",
            &json!({"spec": {"initContainers": [{"name": "countersign-relay", "image": "relay"}]}}),
        ),
        pod("other", "alone", &json!({})),
    ] {
        server.set_object(&object);
    }
    let client = administrator(&env)?;
    let mut registry = Registry::with_prefix("countersign");
    let (events, writing) = Events::written(client.clone(), Metrics::register(&mut registry));
    let counters = Counters::register(&mut registry);
    let settings = Settings::parse("gateways: [\"countersign.countersign.svc:3128\"]")?;
    // Its numbers go with it.
    let mut watching = std::pin::pin!(uninjected::watch(
        client,
        settings,
        events,
        counters,
        || true
    ));
    let told = || server.objects("events.k8s.io/v1", "events", "qa");
    tokio::select! {
        () = &mut watching => anyhow::bail!("it never ends"),
        () = writing => anyhow::bail!("it never ends"),
        done = until("the Events", async || told().len() >= 2) => done?,
    }
    let told = told();
    let of = |name: &str| {
        let found = told.iter().find(|it| it["regarding"]["name"] == name);
        found.unwrap_or_else(|| panic!("nobody told {name}: {told:?}"))
    };
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(of("web-5f9c7")["reason"], "PodWithoutRelay");
    let note = of("web-5f9c7")["note"].as_str().expect("a note");
    assert!(
        note.starts_with("2 pods run without a relay") && note.contains("(not_injected)"),
        "{note}"
    );
    let note = of("on-the-host")["note"].as_str().expect("a note");
    assert!(note.contains("(would_be_refused)"), "{note}");
    let mut shown = String::new();
    text::encode(&mut shown, &registry)?;
    for line in [
        "countersign_pods_without_relay{namespace_of_pods=\"qa\",reason=\"not_injected\"} 2",
        "countersign_pods_without_relay{namespace_of_pods=\"qa\",reason=\"would_be_refused\"} 1",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    Ok(())
}
