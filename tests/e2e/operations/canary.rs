//! A credential, and a pod's token, are found in nothing that a gateway logs, prints, records or
//! exports, however they are written, and in nothing that the tools say when one is pasted.

use std::{fs, process::Output};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use countersign_tests::{
    client::Client,
    environment::{Environment, Options},
    fake::Misbehaviour,
    process::{self, Process},
};
use http::{Method, Request};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::harness::until;

/// What was said somewhere, and where.
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn output(&mut self, place: &str, output: &Output) {
        for stream in [&output.stdout, &output.stderr] {
            self.add(place, String::from_utf8_lossy(stream));
        }
    }

    /// Where a secret stands, in any of its forms.
    fn places_of(&self, secret: &str) -> Vec<&str> {
        let forms = forms(secret);
        let holds = |text: &String| forms.iter().any(|form| text.contains(form));
        let found = self.0.iter().filter(|(_, text)| holds(text));
        found.map(|(place, _)| place.as_str()).collect()
    }
}

/// A secret as it is, percent-encoded, and within base64 at each of its three alignments.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
    ];
    for before in ["", "x", "xx"] {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{before}{secret}"));
        // Only the characters that depend on nothing but the secret.
        let start = (before.len() * 8).div_ceil(6);
        let end = (before.len() + secret.len()) * 8 / 6;
        forms.push(encoded[start..end].to_owned());
    }
    forms
}

#[test]
fn each_form_of_a_secret_is_found() {
    let secret = "xoxb-1/2+3=4 canary";
    let mut said = Said(Vec::new());
    for text in [
        format!("Bearer {secret}"),
        "token=xoxb%2D1%2F2%2B3%3D4%20canary".to_owned(),
        BASE64_STANDARD_NO_PAD.encode(format!("user:{secret}")),
        BASE64_STANDARD_NO_PAD.encode(format!("us:{secret}, and more")),
        BASE64_STANDARD_NO_PAD.encode(format!("u:{secret}")),
    ] {
        said.add("here", text);
    }
    assert_eq!(said.places_of(secret).len(), 5);
    assert_eq!(said.places_of("another"), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_gateway_says_holds_a_secret() -> anyhow::Result<()> {
    let options = Options {
        token_review: true,
        ..Options::default()
    };
    let env = Environment::with(options).await?;
    let gateway = Process::start(&env, Some("trace")).await?;
    let token = env.token("qa", "nightly-dashboard");
    let client = gateway.client().bearer(&token);
    let mut said = Said(Vec::new());

    use_everything(&client, &mut said).await?;
    for stranger in [env.token("qa", "stranger"), format!("{token}x")] {
        let refused = gateway.client().bearer(&stranger);
        let answer = refused.send(call("/api/chat.postMessage", "")).await;
        said.add("a refused CONNECT", format!("{answer:?}"));
    }
    for how in [
        Misbehaviour::ResetAfterRequest,
        Misbehaviour::Garbage,
        Misbehaviour::WrongName,
        // What the API itself echoes reaches the caller; it must not reach the log.
        Misbehaviour::Echo,
    ] {
        env.slack.misbehave(Some(how));
        let answer = client.send(call("/api/chat.postMessage", "")).await;
        if how != Misbehaviour::Echo {
            said.add("the answer of a broken upstream", format!("{answer:?}"));
        }
    }
    env.slack.misbehave(None);
    // An inline secret instead of a reference, in a revision that is refused.
    env.write_yaml("pasted.yaml", &pasted(&env.slack.bot_token()))?;
    gateway.signal("HUP").await?;
    until("the refusal of the revision", async || {
        let ready = gateway.admin("/readyz").await;
        ready.is_ok_and(|ready| ready.contains("pasted.yaml"))
    })
    .await?;

    for path in ["/metrics", "/readyz", "/healthz", "/version"] {
        said.add(path, gateway.admin(path).await?);
    }
    tools(&env, &mut said).await?;
    let log = gateway.printed();
    assert!(log.contains("\"TRACE\""), "the process log is not at trace");
    said.add("the process log", log);
    let decisions = fs::read_to_string(env.decision_log())?;
    assert!(decisions.lines().count() > 8, "{decisions}");
    said.add("the decision log", decisions);
    said.add(
        "the strangers' decision log",
        fs::read_to_string(env.strangers_log())?,
    );

    let mut secrets = env.secrets();
    secrets.push(token);
    let key = fs::read_dir(env.ca_directory())?;
    for file in key {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            secrets.extend(text.lines().nth(1).map(str::to_owned));
        }
    }
    for (number, secret) in secrets.iter().enumerate() {
        let places = said.places_of(secret);
        // Not the secret itself: this line is searched too.
        assert!(places.is_empty(), "secret {number} stands in {places:?}");
    }
    Ok(())
}

fn call(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("https://slack.com{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", "Bearer xoxb-dummy")
        .body(Full::from(body.to_owned()))
        .expect("the paths of this test are valid")
}

/// Each place that a credential can be put in, and some requests that are refused.
async fn use_everything(client: &Client, said: &mut Said) -> anyhow::Result<()> {
    let form = "token=xoxb-dummy&channel=C1&text=hello";
    let posted = client.send(call("/api/chat.postMessage", form)).await?;
    assert_eq!(posted.json()["ok"], true, "{}", posted.text());
    let mut hook = call("/", r#"{"text":"hello"}"#);
    *hook.uri_mut() = "https://hooks.slack.com/services/countersign/dashboard".parse()?;
    hook.headers_mut().remove("content-type");
    let hooked = client.send(hook).await?;
    assert_eq!(hooked.text(), "ok");
    let opened = client.send(call("/api/apps.connections.open", "")).await?;
    assert_eq!(opened.json()["ok"], true, "{}", opened.text());
    let mut runs = call("/", "");
    *runs.method_mut() = Method::GET;
    *runs.uri_mut() = "https://api.qase.io/v1/run/DEMO?limit=1".parse()?;
    assert_eq!(client.send(runs).await?.json()["status"], true);
    for path in ["/api/auth.revoke", "/api/users.list", "/x/../y"] {
        let answer = client.send(call(path, form)).await?;
        said.add("a refusal", format!("{answer:?} {}", answer.text()));
    }
    Ok(())
}

/// What `check`, `explain` and `schema` say of a directory and a URL with secrets in them.
async fn tools(env: &Environment, said: &mut Said) -> anyhow::Result<()> {
    let binary = process::binary()?;
    let policy = env.policy_directory();
    let secret = env.slack.bot_token();
    let url = format!("https://slack.com/api/chat.postMessage?token={secret}");
    let subject = "system:serviceaccount:qa:nightly-dashboard";
    for broken in [true, false] {
        if !broken {
            env.remove_policy("pasted.yaml")?;
        }
        let check = tokio::process::Command::new(&binary)
            .arg("check")
            .arg(&policy)
            .output()
            .await?;
        assert_eq!(check.status.success(), !broken);
        said.output("check", &check);
        let explain = tokio::process::Command::new(&binary)
            .arg("explain")
            .arg(&policy)
            .args(["--as", subject, "POST", &url])
            .output()
            .await?;
        said.output("explain", &explain);
    }
    Ok(())
}

fn pasted(secret: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: Credential\n\
         metadata: {{ name: pasted, namespace: qa }}\n\
         spec:\n  target: slack\n  static:\n    token: {secret}\n"
    )
}
