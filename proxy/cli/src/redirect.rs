//! `countersign redirect`: the rules that redirect a pod's connections to the relay.

use std::{io::Write, process::ExitCode};

use clap::Args;
use countersign_relay::redirect::{
    Family, RedirectOptions, Redirection,
    apply::{self, Format},
    check::{self, Finding},
    iptables, nft,
};
use ipnet::IpNet;

use super::output;

/// Prints, applies, removes or checks the rules that redirect a pod's connections to the relay.
///
/// As an init container, use `--apply --check`: it exits with 0 only if test connections were
/// redirected.
#[derive(Debug, Args)]
pub(super) struct RedirectCommand {
    /// The relay's uid. The rules do not redirect this uid with the relay's gid: give it to nothing
    /// else.
    #[arg(long, default_value_t = 1337)]
    uid: u32,
    /// The relay's gid.
    #[arg(long, default_value_t = 1337)]
    gid: u32,
    /// The port that the relay listens on for redirected connections.
    #[arg(long, default_value_t = 15001)]
    port: u16,
    /// Destination ports that are not redirected; 53 is DNS over TCP.
    #[arg(
        long = "exclude-port",
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "53"
    )]
    exclude_ports: Vec<u16>,
    /// Destinations that are not redirected.
    #[arg(long = "exclude-cidr", value_name = "CIDR", value_delimiter = ',')]
    exclude_networks: Vec<IpNet>,
    /// The only destination ports to redirect. Default: all.
    #[arg(long = "only-port", value_name = "PORT", value_delimiter = ',')]
    only_ports: Vec<u16>,
    /// The format of the rules.
    #[arg(short = 'o', long = "output", alias = "format", value_enum, default_value_t = Format::Nft)]
    format: Format,
    /// Apply the rules; needs `NET_ADMIN`.
    #[arg(long)]
    apply: bool,
    /// Remove the rules; needs `NET_ADMIN`.
    #[arg(long, conflicts_with_all = ["apply", "check"])]
    remove: bool,
    /// Test that the applied rules redirect; run it before the relay.
    #[arg(long)]
    check: bool,
}

impl RedirectCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = output::stdout();
        if self.remove {
            apply::remove(self.format)?;
            writeln!(out, "removed")?;
            return Ok(ExitCode::SUCCESS);
        }
        let redirection = Redirection::new(RedirectOptions {
            uid: self.uid,
            gid: self.gid,
            port: self.port,
            exclude_ports: self.exclude_ports,
            exclude_networks: self.exclude_networks,
            only_ports: self.only_ports,
        })?;
        if self.apply {
            apply::apply(&redirection, self.format)?;
            writeln!(out, "applied")?;
        }
        if self.check {
            for finding in check::check(&redirection)? {
                writeln!(out, "{}", told(finding))?;
            }
        }
        if !self.apply && !self.check {
            print(&redirection, self.format, &mut out)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(redirection: &Redirection, format: Format, out: &mut impl Write) -> std::io::Result<()> {
    match format {
        Format::Nft => write!(out, "{}", nft::ruleset(redirection)),
        Format::Iptables => {
            let none = iptables::Present::default();
            writeln!(out, "# iptables-restore --noflush")?;
            write!(out, "{}", iptables::rules(redirection, Family::V4, none))?;
            writeln!(out, "# ip6tables-restore --noflush")?;
            write!(out, "{}", iptables::rules(redirection, Family::V6, none))
        }
    }
}

fn told(finding: Finding) -> &'static str {
    match finding {
        Finding::Redirected(Family::V4) => "IPv4: connections are redirected",
        Finding::Redirected(Family::V6) => "IPv6: connections are redirected",
        Finding::NoRoute(Family::V4) => "IPv4: there is no route",
        Finding::NoRoute(Family::V6) => "IPv6: there is no route",
    }
}
