//! One record on one line, for people.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::record::{Decision, Entry, Event, Outcome};

/// One line without its end; foreign text in it is not escaped yet.
pub fn brief(entry: &Entry<'_>, zone: &TimeZone) -> String {
    let time = entry
        .time()
        .to_zoned(zone.clone())
        .strftime("%m-%d %H:%M:%S%.3f");
    match entry {
        Entry::Decision(decision) => format!("{time} {}", decided(decision)),
        Entry::Event(event) => format!("{time} {}", happened(event)),
        Entry::Summary(summary) => {
            let whose = summary
                .workload
                .as_ref()
                .map(|workload| workload.name.as_str());
            let whose = whose
                .or(summary.subject.as_deref())
                .unwrap_or(summary.class.as_str());
            let reason = summary
                .reasons
                .first()
                .map_or("", |reason| reason.reason.as_str());
            format!(
                "{time} refused    {whose} {} more times ({reason})",
                summary.count
            )
        }
        Entry::Dropped(dropped) => format!(
            "{time} LOST       {} records ({})",
            dropped.count, dropped.class
        ),
        Entry::Shed(shed) => format!(
            "{time} shed       {} connections ({})",
            shed.count, shed.class
        ),
    }
}

fn decided(decision: &Decision<'_>) -> String {
    let outcome = match decision.outcome {
        Outcome::Permitted => "permitted",
        Outcome::Refused => "REFUSED",
        Outcome::Failed => "FAILED",
        Outcome::Tunnelled => "tunnelled",
        Outcome::Other => "other",
    };
    let caller = decision.caller.as_ref();
    let whom = decision
        .workload
        .as_ref()
        .map(|workload| workload.name.as_str());
    let whom = whom
        .or_else(|| caller.and_then(|caller| caller.subject.as_deref()))
        .or_else(|| caller.and_then(|caller| caller.client.as_deref()))
        .unwrap_or("-");
    let mut line = format!("{outcome:<10} {whom}");
    if let Some(target) = &decision.target {
        let method = target.method.as_deref().unwrap_or("CONNECT");
        let host = target
            .authority
            .strip_suffix(":443")
            .unwrap_or(&target.authority);
        let _ = write!(
            line,
            " {method} {host}{}",
            target.path.as_deref().unwrap_or_default()
        );
    }
    if let Some(upstream) = &decision.upstream {
        if let Some(status) = upstream.status {
            let _ = write!(line, " {status}");
        }
        if let Some(error) = &upstream.api_error {
            let _ = write!(line, " {error}");
        }
    }
    if !matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled) {
        let _ = write!(line, " {}", decision.reason);
        if let Some(blame) = &decision.blame {
            let _ = write!(line, " (blames {blame})");
        }
        let _ = write!(line, " {}", decision.id);
    }
    line
}

fn happened(event: &Event<'_>) -> String {
    let name = serde_json::to_value(event.event).ok();
    let name = name
        .as_ref()
        .and_then(|name| name.as_str())
        .unwrap_or("event")
        .to_owned();
    let mut line = format!("gateway    {name}");
    if let Some(revision) = &event.revision {
        let _ = write!(line, ", revision {revision}");
    }
    for change in event.changes.iter().take(3) {
        let _ = write!(line, ", {} {} {}", change.change, change.kind, change.name);
    }
    if let Some(detail) = &event.detail {
        let _ = write!(line, ": {detail}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    #[test]
    fn a_refusal_has_its_id_and_whom_it_blames() {
        let text = concat!(
            r#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:03.412Z","id":"0194","outcome":"refused","reason":"request_not_allowed","blame":"operator","workload":{"name":"qa/nightly"},"target":{"name":"slack","authority":"slack.com:443","method":"POST","path":"/api/chat.delete"}}"#,
            "\n",
            r#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:04Z","id":"0195","outcome":"permitted","reason":"permitted","target":{"authority":"api.test:8443","method":"GET","path":"/"},"upstream":{"status":404}}"#,
            "\n",
            r#"{"schema":"countersign.event/v1","time":"2026-11-23T05:10:05Z","event":"reload_rejected","revision":"aa","detail":"no"}"#,
        );
        let mut lines = Vec::new();
        Reader::stream("-", text.as_bytes())
            .each(|line| lines.push(brief(&line.entry, &TimeZone::UTC)));
        assert_eq!(
            lines,
            [
                "11-23 05:10:03.412 REFUSED    qa/nightly POST slack.com/api/chat.delete request_not_allowed (blames operator) 0194",
                "11-23 05:10:04.000 permitted  - GET api.test:8443/ 404",
                "11-23 05:10:05.000 gateway    reload_rejected, revision aa: no",
            ]
        );
    }
}
