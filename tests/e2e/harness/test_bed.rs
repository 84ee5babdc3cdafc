//! A gateway in an environment of stand-ins, with one API more than Slack and Qase, and a pod's token.
//!
//! ```ignore
//! let mut bed = TestBed::builder()
//!     .policy(|policy| policy.access(EXAMPLE)["conditions"] = json!({"rate": "2/h"}))
//!     .limits(|limits| limits.head_timeout = Duration::from_secs(1))
//!     .start()
//!     .await?;
//! let answer = bed.client().send(get("/some")).await?;
//! assert_eq!(bed.record().await?["outcome"], "permitted");
//! ```

use std::{fs, net::SocketAddr};

use countersign_config::{host::Host, model};
use countersign_core::clock::Clock;
use countersign_tests::{
    client::Client,
    environment::{DASHBOARD, Environment, Options},
    fake::{Api, StandIn},
    gateway::Gateway,
    process,
    resources::Resources,
};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{example::ExampleApi, exchange, soon};

/// The file of the resources of the API under test.
const FILE: &str = "example.yaml";

/// A gateway, everything around it, and the dashboard's token.
pub(crate) struct TestBed<A = ExampleApi> {
    pub(crate) env: Environment,
    pub(crate) api: StandIn<A>,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
}

/// The API that a test bed has besides Slack and Qase.
pub(crate) trait ApiUnderTest: Api + Sized {
    /// The hosts that it answers to.
    const HOSTS: &'static [&'static str];

    /// What an operator writes so that the dashboard may use it.
    fn resources(&self) -> Resources;

    /// The secret that lies in the file `example`.
    fn secret(&self) -> String;
}

type Change<'c> = Box<dyn FnOnce(&Environment, &mut model::Gateway) -> anyhow::Result<()> + 'c>;

/// What a test bed is to be like.
#[must_use]
pub(crate) struct Builder<'c, A> {
    options: Options,
    env: Option<Environment>,
    api: A,
    policy: Resources,
    changes: Vec<Change<'c>>,
}

impl TestBed {
    /// One with the example API and nothing changed.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// One with the example API.
    pub(crate) fn builder<'c>() -> Builder<'c, ExampleApi> {
        TestBed::with_api(ExampleApi)
    }
}

impl<A: ApiUnderTest> TestBed<A> {
    /// One with another API.
    pub(crate) fn with_api<'c>(api: A) -> Builder<'c, A> {
        Builder {
            options: Options::default(),
            env: None,
            policy: api.resources(),
            api,
            changes: Vec::new(),
        }
    }
}

impl<'c, A: ApiUnderTest> Builder<'c, A> {
    /// The environment's clock.
    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.options.clock = clock.clone();
        self
    }

    /// The API server is asked about each token.
    pub(crate) fn token_review(mut self) -> Self {
        self.options.token_review = true;
        self
    }

    /// Lines of YAML at the end of the gateway's `spec`, indented by two.
    pub(crate) fn spec(mut self, lines: &str) -> Self {
        self.options.extra.push_str(lines);
        self
    }

    /// In an environment that is there already.
    pub(crate) fn within(mut self, env: Environment) -> Self {
        self.env = Some(env);
        self
    }

    /// Changes the resources of the API under test.
    pub(crate) fn policy(mut self, edit: impl FnOnce(&mut Resources)) -> Self {
        edit(&mut self.policy);
        self
    }

    /// Changes the gateway's configuration.
    pub(crate) fn gateway(self, change: impl FnOnce(&mut model::Gateway) + 'c) -> Self {
        self.prepare(|_, gateway| {
            change(gateway);
            Ok(())
        })
    }

    /// Changes the gateway's limits.
    pub(crate) fn limits(self, change: impl FnOnce(&mut model::Limits) + 'c) -> Self {
        self.gateway(|gateway| change(&mut gateway.limits))
    }

    /// Carries connections to hosts that no target matches.
    pub(crate) fn tunnel_unmatched(self) -> Self {
        self.gateway(|gateway| gateway.unmatched = model::Unmatched::Tunnel)
    }

    /// The issuer's keys are fetched from their URL.
    pub(crate) fn keys_by_url(self) -> Self {
        self.prepare(|env, gateway| {
            gateway.issuers[0].jwks = model::JwksSource::Url {
                url: env.issuer.jwks_url(),
                ca_file: Some(env.directory().join("upstream-roots.pem")),
            };
            Ok(())
        })
    }

    /// The gateway's listener speaks TLS, with a certificate from the environment's authority.
    pub(crate) fn tls_listener(self) -> Self {
        self.prepare(|env, gateway| {
            let (certificate, key) = env.authority.issue(&["127.0.0.1"]);
            let file = |name: &str| env.directory().join(name);
            fs::write(file("proxy.crt"), certificate)?;
            fs::write(file("proxy.key"), key)?;
            gateway.listeners[0].tls = Some(model::ListenerTls::of_files(
                file("proxy.crt"),
                file("proxy.key"),
                model::ClientTrust::None,
            ));
            Ok(())
        })
    }

    /// The address of a host and port.
    pub(crate) fn resolve(self, host: &'c str, port: u16, address: SocketAddr) -> Self {
        self.prepare(move |_, gateway| {
            let host = Host::parse(host)?;
            gateway.upstream.resolve.insert((host, port), address);
            Ok(())
        })
    }

    /// Changes the environment and the gateway's configuration before the gateway starts.
    pub(crate) fn prepare(
        mut self,
        change: impl FnOnce(&Environment, &mut model::Gateway) -> anyhow::Result<()> + 'c,
    ) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Starts everything.
    pub(crate) async fn start(self) -> anyhow::Result<TestBed<A>> {
        let env = match self.env {
            Some(env) => env,
            None => Environment::with(self.options).await?,
        };
        env.write_secret("example", &self.api.secret())?;
        env.write_policy(FILE, self.policy)?;
        let api = StandIn::serve(&env.authority, A::HOSTS, self.api).await?;
        let mut changed = Ok(());
        let gateway = Gateway::start_with(&env, |gateway| {
            for host in A::HOSTS {
                let host = Host::parse(host).expect("a host");
                gateway.upstream.resolve.insert((host, 443), api.address());
            }
            let mut changes = self.changes.into_iter();
            changed = changes.try_for_each(|change| change(&env, gateway));
        })
        .await?;
        changed?;
        Ok(TestBed {
            token: env.token("qa", DASHBOARD),
            env,
            api,
            gateway,
        })
    }
}

impl<A> TestBed<A> {
    /// A client that shows the pod's token.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&self.token)
    }

    /// A client that shows a token of another service account.
    pub(crate) fn client_of(&self, account: &str) -> Client {
        self.client_with(&self.env.token("qa", account))
    }

    /// A client that shows this token.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        self.gateway.client(&self.env).bearer(token)
    }

    /// A client that shows the pod's token, and trusts the APIs' own root and not the gateway's.
    pub(crate) fn end_to_end_client(&self) -> Client {
        Client::through(self.gateway.address(), &self.env.authority.pem()).bearer(&self.token)
    }

    /// The next decision record.
    pub(crate) async fn record(&mut self) -> anyhow::Result<Value> {
        soon("a decision record", self.gateway.decisions().next()).await
    }

    /// The next decision record, which tells this reason.
    pub(crate) async fn recorded(&mut self, reason: &str) -> anyhow::Result<Value> {
        let record = self.record().await?;
        assert_eq!(record["reason"], reason, "{record}");
        Ok(record)
    }

    /// The next decision record, which tells this reason; nothing was sent to the API.
    pub(crate) async fn refused(&mut self, reason: &str) -> anyhow::Result<Value> {
        let record = self.recorded(reason).await?;
        assert_eq!(self.api.received().count(), 0, "it was sent upstream");
        Ok(record)
    }

    /// Changes the resources of the API under test, and takes the new revision.
    pub(crate) fn edit_policy(&self, edit: impl FnOnce(&mut Resources)) -> anyhow::Result<()> {
        self.env.edit_policy(FILE, edit)?;
        self.reload()
    }

    /// Takes the resources as a new revision.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        Ok(self.gateway.reloader().reload()?)
    }

    /// The address of the admin endpoint.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.gateway.admin().expect("there is an admin endpoint")
    }

    /// What a path of the admin endpoint answers: head and body.
    pub(crate) async fn ask_admin(&self, path: &str) -> anyhow::Result<(String, String)> {
        let answer = soon("the admin's answer", process::admin(self.admin(), path)).await??;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok((head.to_owned(), body.to_owned()))
    }

    /// The value of a series of the metrics, if it is there.
    pub(crate) async fn metric(&self, series: &str) -> anyhow::Result<Option<u64>> {
        let (_, metrics) = self.ask_admin("/metrics").await?;
        let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
        Ok(metrics.lines().find_map(value))
    }

    /// What `/credentials` tells of a credential.
    pub(crate) async fn credential(&self, name: &str) -> anyhow::Result<Value> {
        let (_, body) = self.ask_admin("/credentials").await?;
        let all: Value = serde_json::from_str(&body)?;
        let mut all = all["credentials"].as_array().into_iter().flatten();
        let found = all.find(|credential| credential["name"] == name);
        Ok(found.expect("it is told of").clone())
    }

    /// What the proxy answers to bytes on a connection of their own; `TOKEN` is the pod's.
    pub(crate) async fn to_proxy(&self, bytes: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.gateway.address()).await?;
        exchange(&mut stream, &bytes.replace("TOKEN", &self.token)).await
    }

    /// What the proxy answers to a request in absolute form on a connection of its own.
    pub(crate) async fn absolute(&self, token: &str, uri: &str) -> anyhow::Result<String> {
        let host = uri.split('/').nth(2).unwrap_or_default();
        let head = format!(
            "GET {uri} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        self.to_proxy(&head).await
    }
}
