//! The relay as a command: `countersign-relay`, and `countersign relay`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use countersign_core::{
    clock::Clock,
    logging::{self, LogFormat},
    open_files, reaper,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{CONNECTIONS, GatewayName, Proof, Relay, Settings};

/// The stack of a thread that reads a file or looks up a name, in bytes.
const BLOCKING_STACK: usize = 512 * 1024;

/// How long threads that are blocked on a disk or a name may delay the exit.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Tunnels the pod's connections to a gateway until SIGTERM or SIGINT. Holds no secret and no policy.
#[derive(Debug, Args)]
pub struct RelayCommand {
    /// A gateway; all addresses of its name are used. May be given more than once.
    #[arg(
        long = "gateway",
        value_name = "HOST:PORT",
        env = "COUNTERSIGN_GATEWAY",
        value_delimiter = ',',
        required = true
    )]
    gateways: Vec<GatewayName>,
    /// The CA of the gateways' certificates, PEM. Default: the system's roots.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_GATEWAY_CA")]
    gateway_ca: Option<PathBuf>,
    /// The pod's projected token, read again for each connection.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_TOKEN_FILE",
        default_value = "/var/run/secrets/tokens/countersign/token"
    )]
    token_file: PathBuf,
    /// The pod's X.509-SVID, PEM, which is sent to gateways instead of a token.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_CERTIFICATE",
        requires = "key"
    )]
    certificate: Option<PathBuf>,
    /// The X.509-SVID's key, PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_KEY",
        requires = "certificate"
    )]
    key: Option<PathBuf>,
    /// Where the local HTTP proxy listens; loopback only.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_HTTP",
        value_delimiter = ',',
        default_value = "127.0.0.1:3128"
    )]
    http: Vec<SocketAddr>,
    /// Where the relay listens for redirected connections, IPv4 and IPv6; loopback only.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_REDIRECTED",
        value_delimiter = ',',
        default_value = "127.0.0.1:15001,[::1]:15001"
    )]
    redirected: Vec<SocketAddr>,
    /// Where the relay serves `/readyz` and `/healthz`. The kubelet's HTTP probes come from outside the
    /// pod and need 0.0.0.0:15021.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COUNTERSIGN_HEALTH",
        default_value = "127.0.0.1:15021"
    )]
    health: SocketAddr,
    /// How long open connections may continue after SIGTERM, such as 25s or 2m.
    #[arg(
        long,
        value_name = "TIME",
        env = "COUNTERSIGN_DRAIN",
        default_value = "25s",
        value_parser = duration
    )]
    drain: Duration,
    /// The most connections that are tunnelled at once; another one gets a 503, or is closed.
    #[arg(long, value_name = "COUNT", env = "COUNTERSIGN_CONNECTIONS", default_value_t = CONNECTIONS)]
    connections: usize,
    /// The process log's format, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    log: LogFormat,
    /// Number of worker threads.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: usize,
}

impl RelayCommand {
    /// Serves connections until a signal ends it.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let _log = logging::init(self.log)?;
        open_files::raise_limit();
        // Each thread needs memory, and one thread is enough for the traffic of a pod.
        let mut builder = if self.threads > 1 {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(self.threads);
            builder
        } else {
            tokio::runtime::Builder::new_current_thread()
        };
        let runtime = builder
            .max_blocking_threads(4)
            .thread_stack_size(BLOCKING_STACK)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let ended = runtime.block_on(async {
            reaper::start();
            let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
            let relay = Relay::bind(self.settings(), Clock::system()).await?;
            tracing::info!(addresses = ?relay.addresses(), "listening");
            relay
                .run(async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        // Without a terminal there is no SIGINT to wait for.
                        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
                    }
                })
                .await;
            Ok(ExitCode::SUCCESS)
        });
        runtime.shutdown_timeout(LAST_THREADS);
        ended
    }

    fn settings(self) -> Settings {
        let proof = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Proof::Certificate { certificate, key },
            // clap takes both or neither.
            (None, _) | (_, None) => Proof::Token(self.token_file),
        };
        Settings {
            gateways: self.gateways,
            gateway_ca: self.gateway_ca,
            proof,
            http: self.http,
            redirected: self.redirected,
            health: Some(self.health),
            drain: self.drain,
            connections: self.connections,
        }
    }
}

/// A whole number of milliseconds, seconds or minutes.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (count, unit) = text.split_at(unit_at);
    let wrong = || format!("`{text}` is no time such as 500ms, 25s or 2m");
    let count: u64 = count.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => count
            .checked_mul(60)
            .map(Duration::from_secs)
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        relay: RelayCommand,
    }

    #[test]
    fn a_gateway_is_all_that_must_be_said() {
        let line = ["relay", "--gateway", "a:1,b:2", "--gateway", "c:3"];
        let settings = Line::try_parse_from(line).unwrap().relay.settings();
        assert_eq!(settings.gateways.len(), 3);
        assert!(
            matches!(settings.proof, Proof::Token(file) if file.ends_with("countersign/token"))
        );
        assert_eq!(settings.redirected.len(), 2);
        assert_eq!(settings.drain, Duration::from_secs(25));
    }

    #[rstest]
    #[case::no_gateway(&["relay"])]
    #[case::no_port(&["relay", "--gateway", "gateway"])]
    #[case::half_an_svid(&["relay", "--gateway", "a:1", "--certificate", "c.pem"])]
    #[case::no_unit(&["relay", "--gateway", "a:1", "--drain", "25"])]
    #[case::too_long(&["relay", "--gateway", "a:1", "--drain", "18446744073709551615m"])]
    fn a_line_that_makes_no_sense_is_refused(#[case] line: &[&str]) {
        Line::try_parse_from(line).unwrap_err();
    }
}
