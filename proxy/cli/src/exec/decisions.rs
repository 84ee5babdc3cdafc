//! Decisions as sentences, for the user at the terminal.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write},
};

use countersign_core::redact::printable;
use serde_json::Value;

/// Receives the decision log's lines, and writes a sentence for each that the user should see.
pub(super) struct DecisionPrinter<W> {
    out: W,
    /// Also report successful requests.
    verbose: bool,
    /// A file for the lines themselves.
    copy: Option<File>,
}

impl<W: Write> DecisionPrinter<W> {
    /// Writes sentences to `out`, and the lines themselves to `copy`.
    pub(super) fn new(out: W, verbose: bool, copy: Option<File>) -> Self {
        Self { out, verbose, copy }
    }

    fn print(&mut self, line: &[u8]) -> io::Result<()> {
        let record: Value = serde_json::from_slice(line)?;
        match sentence(&record, self.verbose) {
            Some(sentence) => writeln!(self.out, "countersign: {}", printable(&sentence)),
            None => Ok(()),
        }
    }
}

impl<W: Write> Write for DecisionPrinter<W> {
    /// Receives whole lines from the log.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Some(copy) = &mut self.copy {
            copy.write_all(lines)?;
        }
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            self.print(line)?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The sentence for a record, if the user should see it.
fn sentence(record: &Value, verbose: bool) -> Option<String> {
    let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
    let number = |pointer| record.pointer(pointer).and_then(Value::as_u64);
    if let Some(count) = number("/count") {
        return Some(match text("/schema") {
            Some("countersign.summary/v1") => {
                format!("{count} more were refused for the same reasons")
            }
            Some("countersign.shed/v1") => {
                format!("{count} connections were closed in favour of others")
            }
            _ => format!("{count} decisions could not be shown"),
        });
    }
    let outcome = text("/outcome")?;
    let wrong = matches!(outcome, "refused" | "failed");
    if !wrong && !verbose {
        return None;
    }
    let mut said = outcome.to_owned();
    if let Some(method) = text("/target/method") {
        write!(said, " {method}").expect("writing to a String does not fail");
    }
    if let Some(authority) = text("/target/authority") {
        let path = text("/target/path").unwrap_or_default();
        write!(said, " {authority}{path}").expect("writing to a String does not fail");
    }
    if wrong {
        let reason = text("/reason").unwrap_or("no reason");
        let detail = text("/detail").map(|detail| format!(": {detail}"));
        write!(said, " ({reason}){}", detail.unwrap_or_default())
    } else {
        let status = number("/upstream/status").map(|status| format!(": {status}"));
        let millis = number("/timing_us/total").unwrap_or_default() / 1000;
        write!(said, "{} in {millis} ms", status.unwrap_or_default())
    }
    .expect("writing to a String does not fail");
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMITTED: &str = r#"{"outcome":"permitted","reason":"permitted","target":{"authority":"slack.com:443","method":"POST","path":"/api/chat.postMessage"},"upstream":{"status":200},"timing_us":{"total":81950}}"#;
    const REFUSED: &str = r#"{"outcome":"refused","reason":"path-not-allowed","target":{"authority":"slack.com:443","method":"POST","path":"/api/auth.revoke"},"detail":"no rule allows it\u001b[2J"}"#;
    const EARLY: &str = r#"{"outcome":"refused","reason":"no-proof","target":null}"#;
    const DROPPED: &str =
        r#"{"schema":"countersign.dropped/v1","count":3,"time":"2026-11-23T05:10:03.412Z"}"#;
    const SUMMARY: &str =
        r#"{"schema":"countersign.summary/v1","class":"identified","count":70,"reasons":[]}"#;
    const SHED: &str = r#"{"schema":"countersign.shed/v1","class":"identified","count":2}"#;

    fn told(verbose: bool, lines: &[&str]) -> String {
        let mut printer = DecisionPrinter::new(Vec::new(), verbose, None);
        printer
            .write_all((lines.join("\n") + "\n").as_bytes())
            .unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn only_what_went_wrong_is_told() {
        assert_eq!(
            told(false, &[PERMITTED, REFUSED, EARLY, SUMMARY, SHED, DROPPED]),
            "countersign: refused POST slack.com:443/api/auth.revoke (path-not-allowed): no rule allows it\\u{1b}[2J\n\
             countersign: refused (no-proof)\n\
             countersign: 70 more were refused for the same reasons\n\
             countersign: 2 connections were closed in favour of others\n\
             countersign: 3 decisions could not be shown\n"
        );
    }

    #[test]
    fn everything_is_told_when_asked_for() {
        assert_eq!(
            told(true, &[PERMITTED]),
            "countersign: permitted POST slack.com:443/api/chat.postMessage: 200 in 81 ms\n"
        );
    }

    #[test]
    fn a_copy_has_the_lines_as_they_were() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut printer = DecisionPrinter::new(io::sink(), false, Some(file.reopen().unwrap()));
        printer
            .write_all(format!("{PERMITTED}\n").as_bytes())
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(file.path()).unwrap(),
            format!("{PERMITTED}\n")
        );
    }
}
