//! Where commands read decision logs from.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use countersign_insight::reader::Reader;

use super::admin;

/// How often a file is looked at that may grow.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The logs that a command reads.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Decision logs: files (also rotated ones, and compressed with gzip), folders of them, or `-` for standard input,
    /// such as the output of `kubectl logs --prefix`.
    #[arg(value_name = "LOG")]
    paths: Vec<PathBuf>,
    /// Ask a running gateway's admin endpoint for its latest records; may be given for each gateway.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "paths")]
    admin: Vec<SocketAddr>,
}

impl Logs {
    /// Some files and folders, or some gateways.
    pub(super) fn new(paths: &[PathBuf], admin: &[SocketAddr]) -> Self {
        Self {
            paths: paths.to_vec(),
            admin: admin.to_vec(),
        }
    }

    /// Everything that is there now.
    ///
    /// # Errors
    /// When something of it cannot be opened.
    pub(super) fn open(&self) -> anyhow::Result<Reader> {
        if self.paths.is_empty() && self.admin.is_empty() {
            bail!("name a decision log, `-` for standard input, or --admin ADDRESS");
        }
        if self.admin.is_empty() {
            return Ok(Reader::open(&self.paths)?);
        }
        let mut inputs = Vec::new();
        for address in &self.admin {
            let records = admin::get(*address, "/records")?;
            let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(records));
            inputs.push((address.to_string(), input));
        }
        Ok(Reader::streams(inputs))
    }

    /// What is there now, and what comes later.
    ///
    /// # Errors
    /// When it is not one file or pipe.
    pub(super) fn follow(&self) -> anyhow::Result<Reader> {
        let [path] = &self.paths[..] else {
            bail!("--follow takes one LOG, or `-`");
        };
        if path.as_os_str() == "-" {
            return Ok(Reader::stream("-", io::stdin()));
        }
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Reader::stream(&path.display().to_string(), Growing(file)))
    }
}

/// A file that has no end: it waits for more.
struct Growing(File);

impl Read for Growing {
    #[allow(
        clippy::disallowed_methods,
        reason = "a command that waits for its user's log to grow"
    )]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into)? {
                0 => thread::sleep(LOOK_EVERY),
                read => return Ok(read),
            }
        }
    }
}
