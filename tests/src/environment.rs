//! Everything around one gateway: the APIs, the token issuer, and a directory with the gateway's
//! file, its resources and its secrets.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let env = countersign_tests::environment::Environment::start().await?;
//! let token = env.token("qa", "nightly-dashboard");
//! println!("countersign run --config {}", env.gateway_yaml().display());
//! # Ok(()) }
//! ```

mod nightly_dashboard;

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use countersign_core::clock::Clock;
use tempfile::TempDir;

use crate::{
    fake::{ApiServer, Authority, Issuer, Qase, Slack, TokenRequest},
    provoked,
    resources::{Resources, SECRETS},
};

pub use nightly_dashboard::DASHBOARD;

/// The file of the dashboard's resources.
pub const DASHBOARD_FILE: &str = "nightly-dashboard.yaml";

/// What an [`Environment`] is to be like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time of tokens and of Slack's token rotation.
    pub clock: Clock,
    /// Whether the gateway asks an API server about each token.
    pub token_review: bool,
    /// Lines of YAML for the end of the gateway's `spec`, indented by two.
    pub extra: String,
}

/// A running environment. What it wrote is deleted when it is dropped.
pub struct Environment {
    /// The authority of the APIs' certificates.
    pub authority: Authority,
    /// Slack.
    pub slack: Slack,
    /// Qase.
    pub qase: Qase,
    /// The issuer of the pods' tokens, known to the gateway as `prod-eu`.
    pub issuer: Issuer,
    /// The cluster's API server, which the gateway asks only if the options say so.
    pub api_server: ApiServer,
    /// The time of tokens and of Slack's token rotation.
    pub clock: Clock,
    directory: TempDir,
    /// What was built and written, by file.
    built: Mutex<HashMap<String, Resources>>,
}

/// What gateways wrote to files counts as well.
impl Drop for Environment {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            provoked::note_log(&self.decision_log());
            provoked::note_log(&self.strangers_log());
        }
    }
}

impl Environment {
    /// Starts an environment by the machine's clock, without token review.
    pub async fn start() -> io::Result<Self> {
        Self::with(Options::default()).await
    }

    /// Starts an environment.
    pub async fn with(options: Options) -> io::Result<Self> {
        let authority = Authority::default();
        let clock = options.clock.clone();
        let slack = Slack::start(&authority, clock.clone()).await?;
        let qase = Qase::start(&authority).await?;
        let issuer = Issuer::start(&authority, clock.clone()).await?;
        let api_server = ApiServer::start(&authority, &issuer, clock.clone()).await?;
        let env = Self {
            authority,
            slack,
            qase,
            issuer,
            api_server,
            clock,
            directory: tempfile::Builder::new().prefix("countersign-").tempdir()?,
            built: Mutex::default(),
        };
        env.write(&options)?;
        env.note_canaries()?;
        Ok(env)
    }

    /// The directory of everything below.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file that starts a gateway.
    pub fn gateway_yaml(&self) -> PathBuf {
        self.path("gateway.yaml")
    }

    /// The directory of the resources.
    pub fn policy_directory(&self) -> PathBuf {
        self.path("policy")
    }

    /// The directory of the secrets: `slack-bot`, `slack-user`, `slack-app`, `slack-webhook`,
    /// `slack-client-secret`, `slack-refresh-token`, `qase`.
    pub fn secret_directory(&self) -> PathBuf {
        self.path("secrets")
    }

    /// The directory of the gateway's certificate authority.
    pub fn ca_directory(&self) -> PathBuf {
        self.path("ca")
    }

    /// The file of the decision records.
    pub fn decision_log(&self) -> PathBuf {
        self.path("decisions.jsonl")
    }

    /// The file beside it: records of those who proved nothing, or nothing yet.
    pub fn strangers_log(&self) -> PathBuf {
        self.path("decisions.unidentified.jsonl")
    }

    /// The decision records so far of callers who proved who they are.
    pub fn decisions(&self) -> io::Result<Vec<serde_json::Value>> {
        records(&self.decision_log())
    }

    /// What happened to the gateway itself so far, as the decision log says.
    pub fn events(&self) -> io::Result<Vec<serde_json::Value>> {
        let mut lines = lines(&self.decision_log())?;
        lines.retain(is_event);
        Ok(lines)
    }

    /// A token of a pod that runs as this service account, and that the API server knows.
    pub fn token(&self, namespace: &str, service_account: &str) -> String {
        let request = TokenRequest::new(namespace, service_account);
        self.api_server.add_pod(&request);
        self.issuer.mint(&request)
    }

    /// Writes one file of resources, whole or not at all.
    pub fn write_policy(&self, file: &str, resources: impl Into<Resources>) -> io::Result<()> {
        let resources = resources.into();
        self.write_yaml(file, &resources.to_string())?;
        self.built().insert(file.to_owned(), resources);
        Ok(())
    }

    /// Changes what was built for a file, and writes it again.
    ///
    /// # Panics
    /// If nothing was built for it.
    pub fn edit_policy(&self, file: &str, edit: impl FnOnce(&mut Resources)) -> io::Result<()> {
        let built = self.built().get(file).cloned();
        let mut resources = built.unwrap_or_else(|| panic!("{file} was not built"));
        edit(&mut resources);
        self.write_policy(file, resources)
    }

    /// Writes one file of resources as it stands, for tests of the YAML itself; only `{secrets}` in it
    /// becomes the directory of the secrets.
    pub fn write_yaml(&self, file: &str, yaml: &str) -> io::Result<()> {
        let secrets = self.secret_directory().display().to_string();
        let path = self.policy_directory().join(file);
        replace(&path, &yaml.replace(SECRETS, &secrets))
    }

    /// Removes one file of resources.
    pub fn remove_policy(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.policy_directory().join(file))
    }

    /// Replaces a text in the file that starts a gateway.
    ///
    /// # Panics
    /// If it does not stand there.
    pub fn edit_gateway(&self, from: &str, to: &str) -> io::Result<()> {
        let yaml = fs::read_to_string(self.gateway_yaml())?;
        assert!(yaml.contains(from), "gateway.yaml has no `{from}`");
        fs::write(self.gateway_yaml(), yaml.replace(from, to))
    }

    /// Adds lines to the end of the gateway's `spec`, indented by two.
    pub fn extend_gateway(&self, lines: &str) -> io::Result<()> {
        let yaml = fs::read_to_string(self.gateway_yaml())?;
        fs::write(self.gateway_yaml(), format!("{yaml}{lines}\n"))
    }

    /// Writes one secret, as a mounted Secret changes: whole or not at all.
    pub fn write_secret(&self, name: &str, value: &str) -> io::Result<()> {
        replace(&self.secret_directory().join(name), value)
    }

    /// The addresses that stand in for the real names: `host:port`, address.
    pub fn resolve(&self) -> Vec<(String, SocketAddr)> {
        let slack = self
            .slack
            .hosts()
            .iter()
            .map(|host| (host, self.slack.address()));
        let qase = self
            .qase
            .hosts()
            .iter()
            .map(|host| (host, self.qase.address()));
        slack
            .chain(qase)
            .map(|(host, address)| (format!("{host}:443"), address))
            .collect()
    }

    /// Every secret of the environment, which nobody but the gateway and the APIs may see.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.slack.secrets();
        secrets.extend(self.qase.secrets());
        secrets.push(self.api_server.bearer().to_owned());
        secrets
    }

    /// Adds the secrets to the file that `tests/run` searches the suite's output for.
    fn note_canaries(&self) -> io::Result<()> {
        let Some(path) = std::env::var_os("COUNTERSIGN_CANARY_FILE") else {
            return Ok(());
        };
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        // In one write: tests run side by side.
        let lines = self.secrets().join("\n") + "\n";
        io::Write::write_all(&mut file, lines.as_bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, options: &Options) -> io::Result<()> {
        for directory in [self.policy_directory(), self.secret_directory()] {
            fs::create_dir(directory)?;
        }
        let app = self.slack.rotating_app();
        for (name, value) in [
            ("slack-bot", self.slack.bot_token()),
            ("slack-user", self.slack.user_token()),
            ("slack-app", self.slack.app_token()),
            ("slack-webhook", self.slack.webhook_path()),
            ("slack-client-secret", app.client_secret),
            ("slack-refresh-token", app.refresh_token),
            ("qase", self.qase.token()),
            ("gateway-token", self.api_server.bearer().to_owned()),
        ] {
            // Editors and `kubectl create secret` leave a line end; the gateway must not mind.
            self.write_secret(name, &format!("{value}\n"))?;
        }
        fs::write(self.path("upstream-roots.pem"), self.authority.pem())?;
        self.issuer.write_jwks(&self.path("jwks.json"))?;
        self.write_policy(DASHBOARD_FILE, nightly_dashboard::resources())?;
        fs::write(self.gateway_yaml(), self.gateway(options))
    }

    fn gateway(&self, options: &Options) -> String {
        let root = self.directory.path().display();
        let mut resolve = String::new();
        for (name, address) in self.resolve() {
            write!(resolve, "\n      \"{name}\": \"{address}\"")
                .expect("writing to a String cannot fail");
        }
        let review = if options.token_review {
            format!(
                "\n        tokenReview:\n          cacheFor: 10s\n          cluster:\n            url: \"{}\"\n            \
                 caFile: {root}/upstream-roots.pem\n            \
                 tokenFile: {root}/secrets/gateway-token",
                self.api_server.url()
            )
        } else {
            String::new()
        };
        GATEWAY
            .replace("{root}", &root.to_string())
            .replace("{issuer}", &self.issuer.url())
            .replace("{review}", &review)
            .replace("{resolve}", &resolve)
            .replace("{extra}", &options.extra)
    }

    fn built(&self) -> MutexGuard<'_, HashMap<String, Resources>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision records in a file so far.
pub fn records(path: &Path) -> io::Result<Vec<serde_json::Value>> {
    let mut lines = lines(path)?;
    lines.retain(|line| !is_event(line));
    Ok(lines)
}

fn is_event(line: &serde_json::Value) -> bool {
    line["schema"] == "countersign.event/v1"
}

fn lines(path: &Path) -> io::Result<Vec<serde_json::Value>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

/// Writes beside the file and renames.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

const GATEWAY: &str = include_str!("environment/gateway.yaml");

#[cfg(test)]
mod tests {
    use countersign_config::load;

    use super::*;

    #[tokio::test]
    async fn an_environment_writes_what_a_gateway_needs() {
        let env = Environment::start().await.unwrap();
        let yaml = fs::read_to_string(env.gateway_yaml()).unwrap();
        assert!(yaml.contains(&format!("\"slack.com:443\": \"{}\"", env.slack.address())));
        assert!(!yaml.contains("{root}") && !yaml.contains("tokenReview"));
        for secret in env.secrets() {
            assert!(!yaml.contains(&secret), "gateway.yaml holds a secret");
        }
        let qase = fs::read_to_string(env.secret_directory().join("qase")).unwrap();
        assert_eq!(qase.trim(), env.qase.token());
        assert_eq!(env.decisions().unwrap(), Vec::<serde_json::Value>::new());
    }

    #[tokio::test]
    async fn what_an_environment_writes_loads() {
        for token_review in [false, true] {
            let options = Options {
                token_review,
                ..Options::default()
            };
            let env = Environment::with(options).await.unwrap();
            let (gateway, warnings) = load::gateway(&env.gateway_yaml())
                .unwrap_or_else(|problems| panic!("{problems:?}"));
            assert!(warnings.0.is_empty(), "{warnings:?}");
            assert_eq!(gateway.issuers[0].token_review.is_some(), token_review);
            assert_eq!(gateway.upstream.resolve.len(), env.resolve().len());
            let loaded = load::resources(&[env.policy_directory()])
                .unwrap_or_else(|problems| panic!("{problems:?}"));
            assert!(loaded.warnings.0.is_empty(), "{:?}", loaded.warnings);
            assert_eq!(loaded.policies.policies().len(), 2);
        }
    }
}
