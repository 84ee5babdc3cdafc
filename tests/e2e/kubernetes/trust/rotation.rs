//! `countersign ca rotate`: four steps, under traffic.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::ensure;
use countersign_tests::{client::Failure, process::Process, shown};
use http::StatusCode;
use serde_json::json;

use super::bed::{TrustBed, WithSigners};
use crate::harness::{auth_test, until};

/// The fewest requests that count.
const REQUESTS: u64 = 1_000;

/// How many clients there are. Each request has a connection of its own.
const CLIENTS: usize = 4;

/// What clients saw.
#[derive(Default)]
struct Traffic {
    sent: AtomicU64,
    failed: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Traffic {
    /// Sends requests on new connections until it is told to stop.
    async fn keep_sending(
        self: Arc<Self>,
        address: SocketAddr,
        token: String,
        roots: Arc<Mutex<String>>,
    ) {
        while !self.stop.load(Ordering::Relaxed) {
            let trusted = roots.lock().expect("no panic").clone();
            let client = countersign_tests::client::Client::through(address, &trusted);
            let answer = client.bearer(&token).send(auth_test()).await;
            self.sent.fetch_add(1, Ordering::Relaxed);
            let problem = match answer {
                Ok(answer) if answer.json()["ok"] == json!(true) => continue,
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => error.to_string(),
            };
            self.failed.lock().expect("no panic").push(problem);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_the_root_is_rotated() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let controller = bed.controller(&[]).await?;
    let old = bed.published("qa", "countersign-ca", "root.pem").await?;
    let gateway = bed.gateway(WithSigners::Intermediate).await?;
    bed.ready(&gateway).await?;
    let token = bed.env.token("qa", "nightly-dashboard");
    // What a pod has that starts now.
    let roots = Arc::new(Mutex::new(old.clone()));
    let traffic = Arc::new(Traffic::default());
    let clients = (0..CLIENTS).map(|_| {
        let (roots, traffic) = (Arc::clone(&roots), Arc::clone(&traffic));
        tokio::spawn(traffic.keep_sending(gateway.address(), token.clone(), roots))
    });
    let clients: Vec<_> = clients.collect();
    let more = async |count: u64| {
        let from = traffic.sent.load(Ordering::Relaxed);
        let sent = async || traffic.sent.load(Ordering::Relaxed) >= from + count;
        until("requests are sent", sent).await
    };
    more(100).await?;

    let mut transcript = vec![bed.rotates(&["add"]).await?];
    more(100).await?;
    let (done, early) = bed.rotate(&["reissue"]).await?;
    ensure!(!done, "a step was left out: {early}");
    ensure!(early.contains("reissue comes after distribute"), "{early}");
    transcript.push(bed.rotates(&["distribute"]).await?);
    let both = bed.published("qa", "countersign-ca", "root.pem").await?;
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    // Pods are restarted.
    both.clone_into(&mut roots.lock().expect("no panic"));
    more(100).await?;
    transcript.push(bed.rotates(&["reissue"]).await?);
    until("the gateway has another intermediate", async || {
        all_reissued(&bed).await
    })
    .await?;
    more(200).await?;
    transcript.push(bed.rotates(&["remove", "--wait", "20s"]).await?);
    let new = bed.published("qa", "countersign-ca", "root.pem").await?;
    assert_eq!(new.matches("BEGIN CERTIFICATE").count(), 1);
    assert_ne!(new, old);
    new.clone_into(&mut roots.lock().expect("no panic"));
    more(200).await?;
    let enough = async || traffic.sent.load(Ordering::Relaxed) >= REQUESTS;
    until("enough requests are sent", enough).await?;
    traffic.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?;
    }
    let sent = traffic.sent.load(Ordering::Relaxed);
    let failed = traffic.failed.lock().expect("no panic").clone();
    shown(&format!(
        "{}{sent} requests, {} failed",
        transcript.concat(),
        failed.len()
    ));
    assert_eq!(failed, Vec::<String>::new(), "{}", controller.printed());
    assert!(sent >= REQUESTS);

    // Asked for again, nothing happens; and the state is told.
    let again = bed.rotates(&["remove"]).await?;
    assert!(again.contains("nothing to do"), "{again}");
    let told = bed.rotates(&[]).await?;
    assert!(
        told.contains("next       countersign ca rotate add"),
        "{told}"
    );

    an_old_root_is_told_of(&bed, &gateway, &token, &old).await?;
    let fresh = TrustBed::client_of(&gateway, &new).bearer(&token);
    assert_eq!(fresh.send(auth_test()).await?.status, StatusCode::OK);
    Ok(())
}

/// Whether every gateway has a certificate of the root that signs now.
async fn all_reissued(bed: &TrustBed) -> bool {
    let state = bed.state().await.unwrap_or_default();
    let public = state.authorities.get("interception").cloned();
    let public = public.unwrap_or_default();
    public.holders.values().all(|it| it.root == public.signs)
}

/// Who still trusts the old root is told so.
async fn an_old_root_is_told_of(
    bed: &TrustBed,
    gateway: &Process,
    token: &str,
    old: &str,
) -> anyhow::Result<()> {
    let late = TrustBed::client_of(gateway, old).bearer(token);
    let refused = late.send(auth_test()).await;
    assert!(matches!(refused, Err(Failure::Connect(_))), "{refused:?}");
    let told = async || {
        let records = bed.env.decisions().unwrap_or_default();
        records.iter().any(|record| {
            let text = record.to_string();
            text.contains("own_certificate") && text.contains("this root replaced another at")
        })
    };
    until("the record says that the root was replaced", told).await
}

/// Pods that started before both roots were published would break: the step says which.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_pods_that_trust_the_old_root_alone() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let _controller = bed.controller(&[]).await?;
    bed.published("qa", "countersign-ca", "root.pem").await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "old-7d9f", "namespace": "qa", "labels": {"countersign.dev/client": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    bed.create("/api/v1/namespaces/qa/pods", &pod).await?;
    bed.rotates(&["add"]).await?;
    bed.rotates(&["distribute"]).await?;
    let (done, told) = bed.rotate(&["reissue"]).await?;
    assert!(!done, "{told}");
    assert!(told.contains("qa/old-7d9f"), "{told}");
    assert!(told.contains("kubectl rollout restart"), "{told}");
    let signs = bed.state().await?.authorities["interception"].signs.clone();
    let told = bed.rotates(&["reissue", "--force"]).await?;
    assert!(told.contains("1 pods that may break"), "{told}");
    let public = bed.state().await?.authorities["interception"].clone();
    assert_ne!(public.signs, signs);
    assert_eq!(public.trusted.len(), 2);
    // The other authority is as it was.
    let told = bed.rotates(&["--ca", "gateways"]).await?;
    assert!(told.contains("there is one root"), "{told}");
    Ok(())
}

/// Whatever stops, the rotation goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_with_another_controller() -> anyhow::Result<()> {
    let bed = TrustBed::start().await?;
    let mut controller = bed.controller(&[]).await?;
    bed.published("qa", "countersign-ca", "root.pem").await?;
    bed.rotates(&["add"]).await?;
    let trusted = bed.state().await?.authorities["interception"]
        .trusted
        .clone();
    controller.program.signal("TERM").await?;
    controller.program.ended().await?;
    let _another = bed.controller(&[]).await?;
    let told = bed.rotates(&["all", "--wait", "20s"]).await?;
    assert!(told.contains("distribute done"), "{told}");
    let public = bed.state().await?.authorities["interception"].clone();
    assert_eq!(
        public.trusted,
        [trusted[1].clone()],
        "the one that was added signs alone"
    );
    Ok(())
}
