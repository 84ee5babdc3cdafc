//! `countersign credentials`: the credentials of a running gateway, and their state.

use std::{fmt::Write as _, io::Write, net::SocketAddr, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use comfy_table::{Table, presets};
use countersign_config::closest;
use countersign_core::redact::printable;
use countersign_credential::{CredentialStatus, CredentialsStatus, health::HealthStatus};

use super::{
    admin,
    answer::{self, Format},
    output,
};

/// Shows the credentials of a running gateway and their state, never their values. Reads its admin
/// endpoint.
#[derive(Debug, Args)]
pub(super) struct CredentialsCommand {
    /// The gateway's admin endpoint.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Only this credential.
    #[arg(value_name = "NAMESPACE/NAME")]
    name: Option<String>,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
    /// The same as `-o json`.
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,
}

/// The style of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A line for each credential.
    Lines,
    /// A line for each property, where lines are short.
    Narrow,
    Markdown,
}

/// Fewer columns do not hold a line of the table.
const NARROW: u16 = 100;

const HEADER: [&str; 8] = [
    "CREDENTIAL",
    "PROVIDER",
    "STATE",
    "GEN",
    "AGE",
    "EXPIRES IN",
    "LAST USE",
    "LAST ERROR",
];

impl CredentialsCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.answer())
    }

    fn answer(self) -> anyhow::Result<ExitCode> {
        let text = admin::get(self.admin, "/credentials")?;
        let mut status: CredentialsStatus =
            serde_json::from_slice(&text).context("this is not the response of a gateway")?;
        if let Some(name) = &self.name {
            only(name, &mut status)?;
        }
        let format = if self.json { Format::Json } else { self.output };
        let is_narrow = output::width().is_some_and(|width| width < NARROW);
        let style = if is_narrow {
            Style::Narrow
        } else {
            Style::Lines
        };
        answer::print(
            format,
            || table(&status, style),
            || table(&status, Style::Markdown),
            || &status,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Keeps one of the credentials.
fn only(name: &str, status: &mut CredentialsStatus) -> anyhow::Result<()> {
    let names: Vec<_> = status
        .credentials
        .iter()
        .map(|credential| credential.name.clone())
        .collect();
    status
        .credentials
        .retain(|credential| credential.name == name);
    if status.credentials.is_empty() {
        let close = closest(name, names.iter().map(String::as_str));
        let hint = close.map(|close| format!("; did you mean {close}?"));
        bail!(
            "no policy uses a credential {name:?}{}",
            hint.unwrap_or_default()
        );
    }
    status.omitted = 0;
    Ok(())
}

fn table(status: &CredentialsStatus, style: Style) -> String {
    let mut text = Vec::new();
    // A Vec takes everything.
    drop(write_table(status, style, &mut text));
    String::from_utf8_lossy(&text).into_owned()
}

fn write_table(
    status: &CredentialsStatus,
    style: Style,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if status.credentials.is_empty() {
        writeln!(out, "no policy uses a credential")?;
        return Ok(());
    }
    let mut table = Table::new();
    let preset = match style {
        Style::Markdown => presets::ASCII_MARKDOWN,
        Style::Lines | Style::Narrow => presets::NOTHING,
    };
    table.load_style(preset).set_header(HEADER);
    for credential in &status.credentials {
        let row = row(credential);
        if style == Style::Narrow {
            for (name, cell) in HEADER.iter().zip(&row).filter(|(_, cell)| *cell != "-") {
                writeln!(out, "{name:<10} {cell}")?;
            }
        }
        table.add_row(row);
    }
    if style != Style::Narrow {
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    if style == Style::Markdown {
        writeln!(out)?;
    }
    for credential in &status.credentials {
        if !credential.sources.is_empty() {
            let name = printable(&credential.name);
            writeln!(out, "{name}: {}", printable(&credential.sources.join("; ")))?;
        }
        if let Some(unheeded) = &credential.unheeded {
            let name = printable(&credential.name);
            writeln!(out, "{name}: {}", printable(unheeded))?;
        }
        if let Some(health) = &credential.health {
            write_health(&credential.name, health, out)?;
        }
    }
    if status.omitted > 0 {
        writeln!(out, "and {} more", status.omitted)?;
    }
    Ok(())
}

/// The health of a credential, one line per fact.
fn write_health(name: &str, health: &HealthStatus, out: &mut impl Write) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    if let Some(rejected) = &health.rejected {
        lines.push(rejected.clone());
    }
    if let Some(last) = &health.last_rejection
        && let Some(accepted) = last.accepted_s
    {
        let said = last.said.as_ref();
        let said = said.map(|said| format!(", `{said}`")).unwrap_or_default();
        lines.push(format!(
            "last rejected {} ago at {} (generation {}{said}); accepted again {} ago",
            format_duration(last.ago_s),
            last.host,
            last.generation,
            format_duration(accepted)
        ));
    }
    for (whose, rejected) in &health.held_back {
        lines.push(format!("{whose}: {rejected}"));
    }
    if let Some(why) = &health.not_probed {
        lines.push(format!("not probed: {why}"));
    }
    if let Some(probe) = &health.probe {
        let detail = probe.detail.as_ref();
        let detail = detail
            .map(|detail| format!(" ({detail})"))
            .unwrap_or_default();
        let (finding, at) = (&probe.finding, probe.at.round(jiff::Unit::Second)?);
        let mut line = format!("probed at {at}: {finding}{detail}");
        for (name, text) in &probe.shows {
            write!(line, ", {name} {text}")?;
        }
        if probe.outdated {
            line.push_str("; rejected since then");
        }
        lines.push(line);
    }
    if let Some(scopes) = &health.scopes {
        lines.push(format!("has the scopes {}", scopes.granted.join(", ")));
        if !scopes.unused.is_empty() {
            lines.push(format!("never needed {}", scopes.unused.join(", ")));
        }
        if !scopes.lacking.is_empty() {
            lines.push(format!("lacks {}", scopes.lacking.join("; ")));
        }
    }
    for (what, seconds) in &health.limited {
        let what = if what.is_empty() { "all" } else { what };
        lines.push(format!(
            "rate limit of {what} for {}",
            format_duration(*seconds)
        ));
    }
    for line in lines {
        writeln!(out, "{}: {}", printable(name), printable(&line))?;
    }
    Ok(())
}

fn row(credential: &CredentialStatus) -> Vec<String> {
    let name = match &credential.caller {
        Some(caller) => format!("{} of {caller}", credential.name),
        None => credential.name.clone(),
    };
    let error = match (&credential.last_error, credential.last_error_s) {
        (Some(error), Some(age)) => format!("{error} ({} ago)", format_duration(age)),
        (Some(error), None) => error.clone(),
        (None, _) => "-".to_owned(),
    };
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), format_duration);
    let cells = [
        name,
        credential.provider.clone(),
        credential.state.as_str().to_owned(),
        credential
            .generation
            .map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
        time(credential.age_s),
        time(credential.expires_in_s),
        time(credential.last_use_s),
        error,
    ];
    cells
        .iter()
        .map(|cell| printable(cell).into_owned())
        .collect()
}

/// `59s`, `3m20s`, `2h05m`, `3d04h`.
fn format_duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use countersign_credential::{
        CredentialState,
        health::{LastRejectionStatus, ProbeStatus, ScopesStatus},
    };
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0s")]
    #[case(59, "59s")]
    #[case(200, "3m20s")]
    #[case(7_500, "2h05m")]
    #[case(273_600, "3d04h")]
    fn times_are_brief(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(format_duration(seconds), expected);
    }

    fn health() -> HealthStatus {
        HealthStatus {
            rejected: None,
            last_rejection: Some(LastRejectionStatus {
                host: "slack.com".into(),
                workload: None,
                generation: 2,
                said: Some("invalid_\u{1b}auth".into()),
                ago_s: 300,
                accepted_s: Some(290),
            }),
            held_back: [("qa/o\u{1b}ther at slack.com".into(), "no".into())].into(),
            not_probed: Some("no policy permits it".into()),
            probe: Some(ProbeStatus {
                finding: "works".into(),
                detail: None,
                generation: 3,
                at: "2026-11-23T05:10:00.5Z".parse().unwrap(),
                shows: [("team".into(), "Ac\u{1b}me".into())].into(),
                outdated: true,
            }),
            scopes: Some(ScopesStatus {
                granted: vec!["chat:write".into(), "files:read".into()],
                unused: vec!["files:read".into()],
                lacking: vec!["users:read,users:read.email".into()],
            }),
            limited: [("slack.com/api/chat.postMessage".into(), 30)].into(),
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_and_no_escape_of_others() {
        let credential = CredentialStatus {
            name: "qa/example".into(),
            provider: "tokenExchange".into(),
            sources: vec![
                "token in the file /secrets/\u{1b}token".into(),
                "issued by x".into(),
            ],
            caller: Some("system:serviceaccount:qa:a".into()),
            state: CredentialState::Stale,
            generation: Some(3),
            age_s: Some(200),
            expires_in_s: None,
            last_use_s: Some(1),
            last_error: Some("\u{1b}[31mred".into()),
            last_error_s: Some(5),
            unheeded: Some("revokeWhenIdle is not\u{1b} heeded".into()),
            health: Some(health()),
        };
        let status = CredentialsStatus {
            credentials: vec![credential],
            omitted: 2,
        };
        let mut out = Vec::new();
        write_table(&status, Style::Lines, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for expected in [
            "qa/example of system:",
            "stale",
            "3m20s",
            "5s ago",
            "and 2 more",
            "qa/example: probed at 2026-11-23T05:10:01Z: works, team Ac",
            "qa/example: has the scopes chat:write, files:read\n",
            "qa/example: never needed files:read\n",
            "qa/example: not probed: no policy permits it\n",
            "at slack.com: no\n",
            "qa/example: revokeWhenIdle is not",
            "qa/example: lacks users:read,users:read.email\n",
            "rate limit of slack.com/api/chat.postMessage for 30s\n",
            "qa/example: token in the file /secrets/",
            "; issued by x\n",
            "; rejected since then\n",
            "last rejected 5m00s ago at slack.com (generation 2, `invalid_",
            "; accepted again 4m50s ago\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
