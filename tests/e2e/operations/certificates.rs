//! The gateway's own certificates: one that has expired is told before a client meets it, and what clients say about
//! it is blamed on whoever replaces it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_config::model::{self, ClientTrust, ListenerTls};
use countersign_core::clock::Clock;
use countersign_gateway::certificates;
use countersign_tests::{client::Client, environment::Environment, fake::Authority, process};
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::Value;
use tokio::process::Command;

use crate::harness::{HOST, TestBed, get, until};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR_AGO: SignedDuration = SignedDuration::from_hours(-1);

/// The certificate of the proxy's listener, which ends in a while.
fn write(env: &Environment, lifetime: SignedDuration) -> anyhow::Result<ListenerTls> {
    let (certificate, key) = env.authority.issue_for(&["127.0.0.1"], lifetime);
    let file = |name: &str| env.directory().join(name);
    let tls = ListenerTls::of_files(file("proxy.crt"), file("proxy.key"), ClientTrust::None);
    let [certificate_file, key_file] = files(&tls);
    fs::write(certificate_file, certificate)?;
    fs::write(key_file, key)?;
    Ok(tls)
}

fn files(tls: &ListenerTls) -> [&Path; 2] {
    tls.files().expect("they are in files")
}

async fn listens_by(lifetime: SignedDuration) -> anyhow::Result<TestBed> {
    TestBed::builder()
        .prepare(|env, gateway| {
            gateway.listeners[0].tls = Some(write(env, lifetime)?);
            Ok(())
        })
        .start()
        .await
}

impl TestBed {
    fn file(&self, name: &str) -> PathBuf {
        self.env.directory().join(name)
    }

    /// What a client that trusts these roots makes of the listener.
    async fn greets(&self, roots: &str) -> bool {
        let client = Client::through(self.gateway.address(), self.gateway.roots());
        client.to_proxy(Some(roots), "http/1.1").await.is_ok()
    }

    /// Whether it is ready, and what it tells of the listener's certificate.
    async fn readiness(&self) -> anyhow::Result<(bool, Value)> {
        let (head, body) = self.ask_admin("/readyz").await?;
        let body: Value = serde_json::from_str(&body)?;
        let is_ready = head.starts_with("HTTP/1.1 200 ");
        assert_eq!(body["ready"], is_ready, "{body}");
        let listener = &body["certificates"][0];
        assert_eq!(listener["name"], "listener/proxy", "{body}");
        assert_eq!(body["certificates"][1]["name"], "ca/root", "{body}");
        Ok((is_ready, listener.clone()))
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_and_blamed_on_the_operator() -> anyhow::Result<()> {
    let mut bed = listens_by(HOUR_AGO).await?;
    let (ready, certificate) = bed.readiness().await?;
    assert!(!ready, "{certificate}");
    assert_eq!(certificate["state"], "expired");
    let file = bed.file("proxy.crt").display().to_string();
    assert_eq!(certificate["file"], *file);
    let series =
        "countersign_certificate_not_after_timestamp_seconds{certificate=\"listener/proxy\"}";
    let ends = bed.metric(series).await?.expect("it is there");
    assert!(ends < bed.env.clock.now().as_second().unsigned_abs());

    let roots = bed.env.authority.pem();
    assert!(!bed.greets(&roots).await);
    let record = bed.recorded("own_certificate").await?;
    assert_eq!(record["blame"], "operator", "{record}");
    let detail = record["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("not valid now by its clock") && detail.contains(&file),
        "{detail}"
    );
    assert!(
        detail.contains("expired at ") && detail.contains("replace it"),
        "{detail}"
    );

    // It accepts connections, and is still not ready.
    assert!(!bed.readiness().await?.0);

    // Replaced: no restart is needed.
    write(&bed.env, DAY)?;
    bed.reload()?;
    assert!(bed.greets(&roots).await);
    let (ready, certificate) = bed.readiness().await?;
    assert!(ready, "{certificate}");
    assert_eq!(certificate["state"], "valid");
    let later = bed.metric(series).await?.expect("it is there");
    assert!(later > ends);
    Ok(())
}

#[tokio::test]
async fn a_valid_certificate_is_not_replaced_by_an_expired_one() -> anyhow::Result<()> {
    let bed = listens_by(DAY).await?;
    let is_ready = async || bed.readiness().await.is_ok_and(|(ready, _)| ready);
    until("readiness", is_ready).await?;
    write(&bed.env, HOUR_AGO)?;
    bed.reload()?;
    assert!(bed.greets(&bed.env.authority.pem()).await);
    let (ready, certificate) = bed.readiness().await?;
    assert!(ready, "{certificate}");
    assert_eq!(certificate["state"], "valid");
    let error = certificate["reload_error"].as_str().expect("it is told");
    assert!(error.contains("proxy.crt expired at "), "{error}");
    Ok(())
}

/// Clients that do not trust what issued it: a relay's or SDK's CA, and the interception's root.
#[tokio::test]
async fn a_client_without_our_root_is_not_blamed() -> anyhow::Result<()> {
    let mut bed = listens_by(DAY).await?;
    assert!(!bed.greets(&Authority::new("Another").pem()).await);
    let record = bed.recorded("own_certificate").await?;
    assert_eq!(
        (&record["blame"], &record["outcome"]),
        (&"operator".into(), &"failed".into())
    );
    let detail = record["detail"].as_str().expect("a detail");
    let file = bed.file("proxy.crt").display().to_string();
    assert!(
        detail.contains("does not trust the CA") && detail.contains(&file),
        "{detail}"
    );
    assert!(detail.contains("is valid until"), "{detail}");

    let mut bed = TestBed::start().await?;
    assert!(bed.end_to_end_client().send(get("/some")).await.is_err());
    let record = bed.recorded("own_certificate").await?;
    assert_eq!(record["blame"], "operator", "{record}");
    let detail = record["detail"].as_str().expect("a detail");
    let root = bed
        .env
        .ca_directory()
        .join("root.pem")
        .display()
        .to_string();
    assert!(detail.contains(HOST) && detail.contains(&root), "{detail}");
    Ok(())
}

fn valid(env: &Environment) -> anyhow::Result<ListenerTls> {
    write(env, DAY)
}

fn expired(env: &Environment) -> anyhow::Result<ListenerTls> {
    write(env, HOUR_AGO)
}

fn ends_soon(env: &Environment) -> anyhow::Result<ListenerTls> {
    write(env, SignedDuration::from_hours(1))
}

fn of_another_key(env: &Environment) -> anyhow::Result<ListenerTls> {
    let tls = write(env, DAY)?;
    let (_, other) = env.authority.issue(&["127.0.0.1"]);
    fs::write(files(&tls)[1], other)?;
    Ok(tls)
}

fn without_key(env: &Environment) -> anyhow::Result<ListenerTls> {
    let tls = write(env, DAY)?;
    fs::write(files(&tls)[1], "nothing")?;
    Ok(tls)
}

fn not_on_this_machine(env: &Environment) -> anyhow::Result<ListenerTls> {
    let tls = write(env, DAY)?;
    fs::remove_file(files(&tls)[0])?;
    Ok(tls)
}

/// The problems that `check --config` finds with a listener's files.
#[rstest]
#[case(valid, None)]
#[case(expired, Some(("certificate-expired", "expired at ")))]
#[case(ends_soon, Some(("certificate-ends-soon", "in 59m ")))]
#[case(of_another_key, Some(("certificate-unusable", "do not belong together")))]
#[case(without_key, Some(("certificate-unusable", "holds no PEM private key")))]
#[case(not_on_this_machine, None)]
#[tokio::test]
async fn a_check_finds_what_clients_would_refuse(
    #[case] make: fn(&Environment) -> anyhow::Result<ListenerTls>,
    #[case] expected: Option<(&str, &str)>,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let (mut gateway, _): (model::Gateway, _) =
        countersign_config::load::gateway(&env.gateway_yaml())
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    gateway.listeners[0].tls = Some(make(&env)?);
    let found = certificates::check(&gateway, Clock::system().now());
    let found: Vec<_> = found
        .0
        .iter()
        .map(|it| (it.code, it.message.as_str()))
        .collect();
    match (expected, &found[..]) {
        (None, []) => {}
        (Some((code, told)), [(found, message)]) => {
            assert_eq!(code, *found);
            assert!(message.contains(told), "{message}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// The roots that are trusted are warned of, because some libraries still accept them.
#[tokio::test]
async fn the_command_fails_for_an_expired_certificate_and_warns_of_an_expired_root()
-> anyhow::Result<()> {
    let env = Environment::start().await?;
    let check = async || -> anyhow::Result<(bool, String)> {
        let mut command = Command::new(process::binary()?);
        command.arg("check").arg("--config").arg(env.gateway_yaml());
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.success(), said))
    };
    let (usable, said) = check().await?;
    assert!(usable && !said.contains("certificate-"), "{said}");
    let tls = write(&env, HOUR_AGO)?;
    let [certificate, key] = files(&tls).map(Path::display);
    let with_tls = format!("mode: explicit, tls: {{ certificate: {certificate}, key: {key} }} }}");
    env.edit_gateway("mode: explicit }", &with_tls)?;
    let (usable, said) = check().await?;
    assert!(
        !usable && said.contains("error[certificate-expired]"),
        "{said}"
    );
    write(&env, DAY)?;

    let roots = env.directory().join("upstream-roots.pem");
    fs::write(&roots, Authority::expired("Old").pem())?;
    let (usable, said) = check().await?;
    assert!(usable, "{said}");
    assert!(said.contains("warning[certificate-expired]"), "{said}");
    assert!(said.contains("upstream-roots.pem"), "{said}");
    Ok(())
}
