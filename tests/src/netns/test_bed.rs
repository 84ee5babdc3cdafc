//! A test bed: the environment, its internet, and gateways as processes, each in a namespace of its own.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use super::{
    internet::Internet,
    network::{GATEWAYS, Network},
};
use crate::{
    environment::{Environment, records},
    fake::TrustDomain,
    listener_files::ListenerFiles,
    process::{self, Process},
};

/// The port of every gateway.
pub const GATEWAY_PORT: u16 = 3129;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How gateways are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What becomes of hosts that no target matches: `deny` or `tunnel`.
    pub unmatched: &'static str,
    /// Whether they ask for X.509-SVIDs of the environment's trust domain.
    pub spiffe: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unmatched: "deny",
            spiffe: false,
        }
    }
}

/// The trust domain of pods that have certificates.
pub const TRUST_DOMAIN: &str = "prod.example.com";

/// A running gateway.
pub struct GatewayProcess {
    /// The process.
    pub process: Process,
    decisions: PathBuf,
}

/// An environment, its internet, and whatever is needed to start its gateways.
pub struct TestBed {
    /// The stand-ins and the files.
    pub env: Environment,
    /// The namespaces.
    pub network: Network,
    /// What is in the internet.
    pub internet: Internet,
    /// Who vouches for pods' certificates.
    pub trust_domain: TrustDomain,
    options: Options,
}

impl TestBed {
    /// Starts the environment and its internet.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let env = Environment::start().await?;
        let network = Network::new()?;
        let internet = Internet::start(&network.internet, &env)?;
        let addresses: Vec<IpAddr> = GATEWAYS
            .iter()
            .flat_map(|link| [link.v4(), link.v6()])
            .collect();
        ListenerFiles::write(env.directory(), &addresses)?;
        let trust_domain = TrustDomain::new(TRUST_DOMAIN, env.clock.clone());
        let bundle = env.directory().join("trust-bundle.json");
        fs::write(bundle, trust_domain.bundle())?;
        Ok(Self {
            env,
            network,
            internet,
            trust_domain,
            options,
        })
    }

    /// Starts the gateway of this number, 0 or 1, or starts it again.
    pub async fn gateway(&self, number: usize) -> anyhow::Result<GatewayProcess> {
        let env = &self.env;
        let at = |name: String| env.directory().join(name);
        let file = at(format!("gateway-{number}.yaml"));
        fs::write(&file, self.yaml(number))?;
        let mut command = self.network.gateways[number].command("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(process::binary()?);
        command
            .args(["run", "--log", "json", "--config"])
            .arg(&file);
        Ok(GatewayProcess {
            process: Process::launch(command.into(), env).await?,
            decisions: at(format!("decisions-{number}.jsonl")),
        })
    }

    fn yaml(&self, number: usize) -> String {
        let root = self.env.directory().display().to_string();
        let (trust, domains) = if self.options.spiffe {
            let bundle = format!("bundle: {{ file: {root}/trust-bundle.json }}");
            let domain = format!("{{ name: {TRUST_DOMAIN}, {bundle} }}");
            ("spiffe", format!("\n    trustDomains:\n      - {domain}"))
        } else {
            ("none", String::new())
        };
        let values = [
            ("{number}", number.to_string()),
            ("{address}", GATEWAYS[number].v4().to_string()),
            ("{port}", GATEWAY_PORT.to_string()),
            ("{trust}", trust.to_owned()),
            ("{domains}", domains),
            ("{issuer}", self.env.issuer.url()),
            ("{unmatched}", self.options.unmatched.to_owned()),
            ("{root}", root),
        ];
        let yaml = include_str!("gateway.yaml").to_owned();
        values
            .iter()
            .fold(yaml, |yaml, (name, value)| yaml.replace(name, value))
    }
}

impl GatewayProcess {
    /// Its decision records, as soon as there are so many.
    pub async fn decisions(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                let records = records(&self.decisions)?;
                if records.len() >= count {
                    return Ok(records);
                }
                // They are written a moment after the answer.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waiting.await.context("there are fewer records")?
    }
}
