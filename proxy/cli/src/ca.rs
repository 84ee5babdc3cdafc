//! `countersign ca`: shows the interception CA, exports what clients must trust, and rotates a cluster's root.

mod rotate;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use countersign_config::{model::CaSource, shown::escaped};
use countersign_core::clock::Clock;
use countersign_gateway::ca::{self, Ca, CertificateSummary};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    answer,
    files::{load_gateway, write_public},
    output,
};
#[cfg(feature = "pkcs12")]
use super::{environment::TRUST_STORE_PASSWORD, trust_store};

/// Show the interception CA, export what clients must trust, or rotate a cluster's root
#[derive(Debug, Args)]
pub struct CaCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Subjects, fingerprints, validity, and the hosts that the intermediate is constrained to
    Show {
        #[command(flatten)]
        location: Location,
        /// The format of the output
        #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
        output: answer::Format,
    },
    /// Write the certificates that clients must trust
    Export(Export),
    /// Let another root take the place of a cluster's, with overlap
    Rotate(rotate::Rotate),
}

/// The location of the CA.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Location {
    /// The CA's directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The Gateway file, which names the CA's directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    location: Location,
    /// The format to write
    #[arg(short = 'o', long = "output", alias = "format", value_enum, default_value_t = Format::Bundle)]
    format: Format,
    /// The file to write. Default: standard output
    #[cfg_attr(feature = "pkcs12", arg(required_if_eq("format", "pkcs12")))]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The password of a PKCS#12 trust store. The default is Java's convention; it is not a secret,
    /// because the store has only public certificates
    #[cfg(feature = "pkcs12")]
    #[arg(long, value_name = "TEXT", default_value = TRUST_STORE_PASSWORD)]
    password: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Only the interception root, PEM
    Pem,
    /// The system's roots and the interception root, PEM
    Bundle,
    /// The system's roots and the interception root, as a PKCS#12 trust store for Java
    #[cfg(feature = "pkcs12")]
    Pkcs12,
}

impl CaCommand {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Show { location, output } => print(&location.directory()?, output)?,
            Action::Export(export) => export.run(&mut output::raw_stdout())?,
            Action::Rotate(rotate) => return rotate.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Location {
    fn directory(self) -> anyhow::Result<PathBuf> {
        match (self.directory, self.config) {
            (Some(directory), _) => Ok(directory),
            (None, Some(config)) => match load_gateway(&config)?.ca {
                CaSource::Directory(directory) => Ok(directory),
                CaSource::Signer { signer, state } => anyhow::bail!(
                    "{signer} signs this gateway's certificates: see `countersign ca rotate`, and the ConfigMaps {state} and countersign-ca in the cluster"
                ),
            },
            (None, None) => anyhow::bail!("--directory or --config must be given"),
        }
    }
}

impl Export {
    fn run(self, stdout: &mut impl Write) -> anyhow::Result<()> {
        // This clock is not used: no leaf is minted here.
        let ca = Ca::open(&self.location.directory()?, Clock::system(), 0)?;
        let contents = match self.format {
            Format::Pem => ca.root_pem().into_bytes(),
            Format::Bundle => ca.bundle_pem()?.into_bytes(),
            #[cfg(feature = "pkcs12")]
            Format::Pkcs12 => trust_store::pkcs12(&ca, &self.password)?,
        };
        if let Some(out) = self.out {
            return write_public(&out, &contents)
                .with_context(|| format!("{} cannot be written", out.display()));
        }
        stdout.write_all(&contents)?;
        // Without a line end the output would be flushed at exit, where errors go unnoticed.
        Ok(stdout.flush()?)
    }
}

/// What a program reads.
#[derive(Serialize)]
struct Shown {
    schema: &'static str,
    root: Certificate,
    intermediate: Option<Certificate>,
}

#[derive(Serialize)]
struct Certificate {
    subject: String,
    sha256: String,
    not_before: Timestamp,
    not_after: Timestamp,
    permitted: Vec<String>,
    excluded: Vec<String>,
}

impl From<CertificateSummary> for Certificate {
    fn from(summary: CertificateSummary) -> Self {
        let CertificateSummary {
            subject,
            sha256,
            not_before,
            not_after,
            permitted,
            excluded,
        } = summary;
        Self {
            subject,
            sha256,
            not_before,
            not_after,
            permitted,
            excluded,
        }
    }
}

fn print(directory: &Path, output: answer::Format) -> anyhow::Result<()> {
    let mut text = Vec::new();
    show(directory, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (root, intermediate) = ca::describe(directory)?;
    answer::print(
        output,
        || text.clone().into_owned(),
        || format!("```text\n{text}```\n"),
        || Shown {
            schema: "countersign.ca/v1",
            root: root.into(),
            intermediate: intermediate.map(Certificate::from),
        },
    )
}

fn show(directory: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let (root, intermediate) = ca::describe(directory)?;
    writeln!(out, "root")?;
    show_certificate(&root, out)?;
    writeln!(out)?;
    let Some(intermediate) = intermediate else {
        writeln!(
            out,
            "no intermediate was issued yet; nothing is intercepted"
        )?;
        return Ok(());
    };
    writeln!(out, "intermediate, latest")?;
    show_certificate(&intermediate, out)?;
    for (what, names) in [
        ("permitted", &intermediate.permitted),
        ("excluded ", &intermediate.excluded),
    ] {
        writeln!(out, "  {what}    {}", list(names))?;
    }
    Ok(())
}

fn show_certificate(certificate: &CertificateSummary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  subject      {}", escaped(&certificate.subject))?;
    writeln!(out, "  SHA-256      {}", certificate.sha256)?;
    writeln!(out, "  valid from   {}", certificate.not_before)?;
    writeln!(out, "  valid until  {}", certificate.not_after)
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing named".to_owned(),
        names => {
            let shown: Vec<_> = names.iter().map(|name| escaped(name)).collect();
            shown.join("\n               ")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use countersign_config::host::HostPattern;
    use rstest::rstest;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ca: CaCommand,
    }

    fn made() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::open_or_create(directory.path(), Clock::system(), 1).unwrap();
        let hosts = ["slack.com", "api.qase.io"].map(|text| HostPattern::parse(text).unwrap());
        ca.constrain(hosts.iter()).unwrap();
        directory
    }

    #[test]
    fn show_names_the_hosts_and_the_dates() {
        let directory = made();
        let mut out = Vec::new();
        show(directory.path(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "permitted    api.qase.io and below\n               slack.com and below\n";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.contains("excluded     0.0.0.0/0\n               ::/0\n"),
            "{text}"
        );
        assert_eq!(text.matches("SHA-256").count(), 2);
    }

    #[rstest]
    #[case("pem", b"-----BEGIN CERTIFICATE")]
    #[case("bundle", b"-----BEGIN CERTIFICATE")]
    fn export_writes_a_file_that_others_may_read(#[case] format: &str, #[case] begins: &[u8]) {
        exports(format, begins);
    }

    #[cfg(feature = "pkcs12")]
    #[test]
    fn a_trust_store_is_exported_alike() {
        exports("pkcs12", b"\x30");
    }

    fn exports(format: &str, begins: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let directory = made();
        let out = directory.path().join("out");
        let line = ["ca", "export", "--format", format, "--directory"].map(Into::into);
        let line =
            line.into_iter()
                .chain([directory.path().into(), "--out".into(), out.clone().into()]);
        let line: Vec<std::ffi::OsString> = line.collect();
        Line::try_parse_from(line).unwrap().ca.run().unwrap();
        let contents = std::fs::read(&out).unwrap();
        assert!(contents.starts_with(begins));
        assert!(!String::from_utf8_lossy(&contents).contains("PRIVATE"));
        let mode = std::fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[rstest]
    #[case::no_place(&["ca", "show"])]
    #[case::two_places(&["ca", "show", "--directory", "a", "--config", "b"])]
    #[case::binary_to_the_terminal(&["ca", "export", "--directory", "a", "--format", "pkcs12"])]
    fn a_line_that_makes_no_sense_is_refused(#[case] line: &[&str]) {
        Line::try_parse_from(line).unwrap_err();
    }

    #[test]
    fn a_directory_without_a_ca_is_not_made_into_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = show(directory.path(), &mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().contains("start the gateway once"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
