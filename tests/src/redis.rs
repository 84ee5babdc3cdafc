//! A real Redis, whose users Vault's engine for Valkey makes and ends: so a lease can be seen to
//! live and die where it counts.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::random;

/// The longest that the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server; killed when this is dropped.
pub struct Redis {
    address: SocketAddr,
    password: String,
    _child: Child,
    _directory: TempDir,
}

impl Redis {
    /// Starts one on a free loopback port. `None` if the machine has no Redis, which was then said
    /// loudly.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let directory = tempfile::Builder::new().prefix("redis-").tempdir()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let password = random::alphanumeric(24);
        let started = Command::new("redis-server")
            .args(["--port", &address.port().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(directory.path())
            .args(["--requirepass", &password])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = match started {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::skipped("no redis-server: tests/run installs it");
                return Ok(None);
            }
            child => child?,
        };
        let server = Self {
            address,
            password,
            _child: child,
            _directory: directory,
        };
        let up = timeout(PATIENCE, async {
            while server.admits(&server.password).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        up.await.context("Redis does not start")?;
        Ok(Some(server))
    }

    /// What Vault's engine needs to know of it.
    pub fn connection(&self) -> serde_json::Value {
        serde_json::json!({
            "plugin_name": "valkey-database-plugin",
            "host": self.address.ip(),
            "port": self.address.port(),
            "username": "default",
            "password": self.password,
            "tls": false,
            "allowed_roles": "*",
        })
    }

    /// Whether the server's own user has this password.
    async fn admits(&self, password: &str) -> anyhow::Result<bool> {
        Ok(self.ask(&[&["AUTH", password]]).await?.starts_with("+OK"))
    }

    /// Whether some user has this password now: the server shows their hashes.
    pub async fn knows(&self, password: &str) -> anyhow::Result<bool> {
        let commands: [&[&str]; 2] = [&["AUTH", &self.password], &["ACL", "LIST"]];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, password.as_bytes());
        let mut shown = String::from("#");
        for byte in hash.as_ref() {
            write!(shown, "{byte:02x}")?;
        }
        Ok(self.ask(&commands).await?.contains(&shown))
    }

    /// Everything that is answered to these commands, and then to a good-bye.
    async fn ask(&self, commands: &[&[&str]]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let mut request = String::new();
        for command in commands.iter().chain([&["QUIT"].as_slice()]) {
            write!(request, "*{}\r\n", command.len())?;
            for word in *command {
                write!(request, "${}\r\n{word}\r\n", word.len())?;
            }
        }
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }
}
