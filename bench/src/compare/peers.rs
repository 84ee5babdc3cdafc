//! The contenders, each set up as who knows it would for this job. Their configurations are in
//! `bench/peers/`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    client::Route,
    files::{self, Addresses, Files},
};

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Nobody: the client holds the credential itself.
    Direct,
    /// Bytes from one socket to another: the floor of any hop. The client holds the credential.
    Relay,
    /// hudsucker: intercepts and puts a header on, and nothing else.
    Hudsucker,
    /// nginx as a reverse proxy, configured by hand for this one API.
    Nginx,
    /// `HAProxy`, the same.
    Haproxy,
    /// Envoy: CONNECT, an internal listener, and the filter that puts credentials on.
    Envoy,
    /// Squid, which bumps all of TLS.
    Squid,
    /// mitmproxy, with an addon.
    Mitmproxy,
    /// The product, with everything on.
    Countersign,
}

impl Peer {
    pub(super) const ALL: [Self; 9] = [
        Self::Direct,
        Self::Relay,
        Self::Hudsucker,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Squid,
        Self::Mitmproxy,
        Self::Countersign,
    ];

    /// What `--only` and the table call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Hudsucker => "hudsucker",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Squid => "squid",
            Self::Mitmproxy => "mitmproxy",
            Self::Countersign => "countersign",
        }
    }

    /// Whether it is measured by HTTP/2 too: of what a relay carries it knows nothing, and Squid
    /// has none.
    pub(super) fn speaks_http2(self) -> bool {
        !matches!(self, Self::Direct | Self::Relay | Self::Squid)
    }

    /// Whether it makes certificates for names it has never seen.
    pub(super) fn mints(self) -> bool {
        matches!(
            self,
            Self::Hudsucker | Self::Squid | Self::Mitmproxy | Self::Countersign
        )
    }

    /// Why it cannot take part here.
    pub(super) fn missing(self) -> Option<String> {
        let program = self.program()?;
        (!program.exists()).then(|| {
            format!(
                "{} is not there; bench/compare installs it",
                program.display()
            )
        })
    }

    /// What it says of its version.
    pub(super) fn version(self) -> anyhow::Result<String> {
        let flag = match self {
            Self::Direct | Self::Relay => return Ok("part of this bench".to_owned()),
            Self::Countersign => return Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Hudsucker => return hudsucker_version(),
            Self::Nginx | Self::Haproxy | Self::Squid => "-v",
            Self::Envoy | Self::Mitmproxy => "--version",
        };
        let program = self.program().context("it has no program")?;
        let said = Command::new(program).arg(flag).output()?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // Each has it somewhere in its first lines, as the first word that begins with a digit.
        let numbered = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        let word = said
            .split(['/', ' ', '\n', ','])
            .find(|word| numbered(word) && word.contains('.'));
        Ok(word.context("no version in what it says")?.to_owned())
    }

    fn program(self) -> Option<PathBuf> {
        let python = |name: &str| directory().join(".venv/bin").join(name);
        match self {
            Self::Direct | Self::Relay | Self::Countersign => None,
            Self::Hudsucker => {
                let built = "hudsucker/target/release/countersign-bench-hudsucker";
                Some(directory().join(built))
            }
            Self::Nginx => Some("/usr/sbin/nginx".into()),
            Self::Haproxy => Some("/usr/sbin/haproxy".into()),
            Self::Envoy => Some(python("envoy")),
            Self::Squid => Some("/usr/sbin/squid".into()),
            Self::Mitmproxy => Some(python("mitmdump")),
        }
    }

    /// How it is started, once its files are written.
    pub(super) fn command(self, files: &Files, addresses: &Addresses) -> anyhow::Result<Command> {
        let root = files.directory();
        let mut command = match self.program() {
            Some(program) => Command::new(program),
            None => Command::new(std::env::current_exe()?),
        };
        let template = |name: &str| configure(name, files, addresses);
        match self {
            Self::Direct | Self::Countersign => anyhow::bail!("it is started elsewhere"),
            Self::Relay => {
                command.arg("relay").args(both(addresses));
            }
            Self::Hudsucker => {
                files::write_authority(root)?;
                command.arg(root).args(both(addresses));
            }
            Self::Nginx => {
                command.arg("-c").arg(template("nginx.conf")?);
                command.arg("-p").arg(root);
            }
            Self::Haproxy => {
                join(root, [files::CERTIFICATE, files::KEY], "both.pem")?;
                command.args(["-db", "-f"]).arg(template("haproxy.cfg")?);
            }
            Self::Envoy => {
                command.arg("-c").arg(template("envoy.yaml")?);
                command.args(["--concurrency", "1", "-l", "warn", "--use-dynamic-base-id"]);
            }
            Self::Squid => {
                files::write_authority(root)?;
                join(
                    root,
                    [files::AUTHORITY, files::AUTHORITY_KEY],
                    "peer-both.pem",
                )?;
                fs::write(root.join("hosts"), hosts(addresses))?;
                ensure!(
                    addresses.upstream.port() == files::OWN_PORT,
                    "Squid needs the API at its own port, so run this as root"
                );
                make_squid_database(root)?;
                // A name of its own for its shared memory, which it leaves behind when it is killed.
                command.args(["-n", &format!("bench{}", addresses.proxy.port())]);
                command
                    .args(["-N", "-d1", "-f"])
                    .arg(template("squid.conf")?);
            }
            Self::Mitmproxy => {
                files::write_authority(root)?;
                join(
                    root,
                    [files::AUTHORITY_KEY, files::AUTHORITY],
                    "mitmproxy-ca.pem",
                )?;
                mitmproxy(&mut command, files, addresses);
            }
        }
        Ok(command)
    }

    /// The way through it.
    pub(super) fn route(self, files: &Files, addresses: &Addresses) -> anyhow::Result<Route> {
        let api = files.upstream_roots();
        let own = files.directory().join(files::AUTHORITY);
        let address = addresses.proxy;
        match self {
            Self::Direct => Route::direct(addresses.upstream, &api, files::REAL),
            Self::Relay => Route::direct(address, &api, files::REAL),
            // They show the API's own certificate; reverse proxies without CONNECT.
            Self::Nginx | Self::Haproxy => Route::direct(address, &api, "dummy"),
            Self::Envoy => Route::gateway(address, &api, &files.token),
            Self::Hudsucker | Self::Squid | Self::Mitmproxy => {
                Route::gateway(address, &own, &files.token)
            }
            Self::Countersign => Route::gateway(address, &files.gateway_roots(), &files.token),
        }
    }
}

fn both(addresses: &Addresses) -> [String; 2] {
    [addresses.proxy.to_string(), addresses.upstream.to_string()]
}

/// Where the peers' configurations and programs are.
fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}

fn hudsucker_version() -> anyhow::Result<String> {
    let lock = fs::read_to_string(directory().join("hudsucker/Cargo.lock"))?;
    let (_, rest) = lock
        .split_once("name = \"hudsucker\"\nversion = \"")
        .context("hudsucker is not locked")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

/// Fills in a configuration, and gives the path of what is written.
fn configure(name: &str, files: &Files, addresses: &Addresses) -> anyhow::Result<PathBuf> {
    let Addresses {
        upstream, proxy, ..
    } = addresses;
    let text = fs::read_to_string(directory().join(name)).with_context(|| name.to_owned())?;
    let text = text
        .replace("{root}", &files.directory().display().to_string())
        .replace("{listen}", &proxy.to_string())
        .replace("{listen_host}", &proxy.ip().to_string())
        .replace("{listen_port}", &proxy.port().to_string())
        .replace("{upstream}", &upstream.to_string())
        .replace("{upstream_host}", &upstream.ip().to_string())
        .replace("{upstream_port}", &upstream.port().to_string())
        .replace("{host}", files::HOST)
        .replace("{credential}", files::REAL);
    let path = files.directory().join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// Some peers want a certificate and its key in one file.
fn join(root: &Path, parts: [&str; 2], name: &str) -> io::Result<()> {
    let [first, second] = parts.map(|part| fs::read_to_string(root.join(part)));
    fs::write(root.join(name), first? + &second?)
}

/// Where all names are, as Squid reads it.
fn hosts(addresses: &Addresses) -> String {
    let names = (0..files::NAMES).map(files::name);
    let all = names.chain([files::HOST.to_owned()]);
    let line = |name| format!("{} {name}\n", addresses.upstream.ip());
    all.map(line).collect::<Vec<_>>().concat()
}

fn make_squid_database(root: &Path) -> anyhow::Result<()> {
    let made = Command::new("/usr/lib/squid/security_file_certgen")
        .args(["-c", "-s"])
        .arg(root.join("ssl_db"))
        .args(["-M", "16MB"])
        .stdout(Stdio::null())
        .status()?;
    ensure!(made.success(), "Squid's store of certificates: {made}");
    // Started by root it becomes this user, who is to read and write its files.
    if rustix::process::geteuid().is_root() {
        let given = Command::new("chown")
            .args(["-R", "proxy:"])
            .arg(root)
            .status()?;
        ensure!(given.success(), "chown: {given}");
    }
    Ok(())
}

fn mitmproxy(command: &mut Command, files: &Files, addresses: &Addresses) {
    let root = files.directory();
    let option = |name: &str, value: &dyn std::fmt::Display| format!("{name}={value}");
    command
        .env("BENCH_UPSTREAM", addresses.upstream.to_string())
        .env("BENCH_CREDENTIAL", files::REAL)
        .args(["--quiet", "--script"])
        .arg(directory().join("mitmproxy.py"))
        .args(["--listen-host", &addresses.proxy.ip().to_string()])
        .args(["--listen-port", &addresses.proxy.port().to_string()])
        .args(["--set", &option("confdir", &root.display())])
        .args(["--set", "connection_strategy=lazy", "--set"])
        .arg(option(
            "ssl_verify_upstream_trusted_ca",
            &files.upstream_roots().display(),
        ));
}
