//! `observe.decisions` and `observe.otlp`: where decision records go.

use std::path::PathBuf;

use super::{non_blank, upstream};
use crate::{
    model::{Audit, Collector, DecisionSink, RecordFormat, SinkPlace, WhenFull},
    resource::{DecisionSinkSpec, ObserveSpec, OtlpSpec, RecordFormatSpec, WhenFullSpec},
    yaml::{Findings, Location},
};

/// The most sinks: each has a thread, and its part of the memory for records that wait.
const MOST: usize = 4;

/// All sinks, in the order in which they are written.
pub(super) fn sinks(
    spec: Option<&ObserveSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<DecisionSink>> {
    let written = spec.and_then(|spec| spec.decisions.as_ref());
    let decisions = location.key("decisions");
    let mut sinks = Vec::new();
    let mut sound = true;
    for (index, spec) in written.iter().flat_map(|list| list.0.iter().enumerate()) {
        let location = decisions.index(index);
        match sink(spec, &location, findings) {
            Some(sink) => sinks.push(sink),
            None => sound = false,
        }
    }
    if written.is_some_and(|list| list.0.is_empty()) {
        findings.error(
            &decisions,
            "empty-list",
            "a gateway writes its records somewhere",
            "name a sink such as `{ stdout: json }`, or remove the key",
        );
        sound = false;
    }
    if sinks.is_empty() {
        sinks.push(DecisionSink::stdout());
    }
    if let Some(otlp) = spec.and_then(|spec| spec.otlp.as_ref()) {
        match collector(otlp, &location.key("otlp"), findings) {
            Some(collector) => sinks.push(DecisionSink {
                place: SinkPlace::Otlp(collector),
                when_full: WhenFull::Drop,
            }),
            None => sound = false,
        }
    }
    let twice = (1..sinks.len()).find(|later| {
        let mut earlier = sinks[..*later].iter();
        earlier.any(|sink| is_same(&sink.place, &sinks[*later].place))
    });
    if twice.is_some() {
        findings.error(
            &decisions,
            "sink-twice",
            "two sinks write to the same place, where their records would mix",
            "keep one of them",
        );
        sound = false;
    }
    if sinks.len() > MOST {
        findings.error(
            &decisions,
            "too-many-sinks",
            "a gateway writes its records to four places at most",
            "keep four; a collector can pass records on to more",
        );
        sound = false;
    }
    sound.then_some(sinks)
}

/// Tamper evidence needs a sink with the records as they are.
pub(super) fn check_audit(
    audit: Option<&Audit>,
    sinks: &[DecisionSink],
    location: &Location<'_>,
    findings: &Findings,
) {
    if audit.is_some() && !sinks.iter().any(|sink| sink.place.can_be_sealed()) {
        findings.error(
            &location.key("audit"),
            "nothing-to-seal",
            "only records in the format `json` on standard output or in a file can be sealed, and there is no such sink",
            "add `{ stdout: json }` or `{ file: PATH }` to `observe.decisions`",
        );
    }
}

impl SinkPlace {
    /// Whether lines there can be sealed.
    pub fn can_be_sealed(&self) -> bool {
        match self {
            Self::Stdout(format) | Self::File { format, .. } => *format == RecordFormat::Json,
            Self::Otlp(_) => false,
        }
    }
}

fn is_same(one: &SinkPlace, other: &SinkPlace) -> bool {
    match (one, other) {
        (SinkPlace::Stdout(_), SinkPlace::Stdout(_)) => true,
        (SinkPlace::File { path, .. }, SinkPlace::File { path: other, .. }) => path == other,
        (SinkPlace::Otlp(one), SinkPlace::Otlp(other)) => one.endpoint == other.endpoint,
        (SinkPlace::Stdout(_) | SinkPlace::File { .. } | SinkPlace::Otlp(_), _) => false,
    }
}

fn sink(
    spec: &DecisionSinkSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<DecisionSink> {
    let place = match (&spec.stdout, &spec.file, &spec.otlp) {
        (Some(format), None, None) => SinkPlace::Stdout((*format).into()),
        (None, Some(path), None) => SinkPlace::File {
            path: PathBuf::from(non_blank(path, &location.key("file"), findings)?),
            format: spec.format.map_or(RecordFormat::Json, Into::into),
        },
        (None, None, Some(otlp)) => {
            SinkPlace::Otlp(collector(otlp, &location.key("otlp"), findings)?)
        }
        _ => {
            findings.error(
                location,
                "not-one-sink",
                "a sink is exactly one of `stdout`, `file` and `otlp`",
                "keep one of them; write several sinks as a list",
            );
            return None;
        }
    };
    if spec.format.is_some() && spec.file.is_none() {
        findings.error(
            &location.key("format"),
            "no-file",
            "only a file has a `format`",
            "remove it; standard output has its format under `stdout`",
        );
        return None;
    }
    Some(DecisionSink {
        place,
        when_full: spec.when_full.map_or(WhenFull::Drop, Into::into),
    })
}

fn collector(spec: &OtlpSpec, location: &Location<'_>, findings: &Findings) -> Option<Collector> {
    endpoint(&spec.endpoint, spec.ca_file.as_deref(), location, findings)
}

/// A collector by its URL, and the file with its roots.
pub(super) fn endpoint(
    url: &str,
    ca_file: Option<&str>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Collector> {
    upstream::http_url(url, &location.key("endpoint"), findings)?;
    Some(Collector {
        endpoint: url.to_owned(),
        ca_file: ca_file.map(PathBuf::from),
    })
}

impl From<RecordFormatSpec> for RecordFormat {
    fn from(spec: RecordFormatSpec) -> Self {
        match spec {
            RecordFormatSpec::Json => Self::Json,
            RecordFormatSpec::Ocsf => Self::Ocsf,
        }
    }
}

impl From<WhenFullSpec> for WhenFull {
    fn from(spec: WhenFullSpec) -> Self {
        match spec {
            WhenFullSpec::Drop => Self::Drop,
            WhenFullSpec::Wait => Self::Wait,
            WhenFullSpec::Refuse => Self::Refuse,
        }
    }
}
