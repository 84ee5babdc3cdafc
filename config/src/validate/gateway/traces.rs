//! `observe.traces`: where spans go, and of which requests.

use super::sinks::endpoint;
use crate::{
    model::{Collector, OtlpProtocol, Traces},
    resource::{OtlpProtocolSpec, TracesSpec},
    yaml::{Findings, Location},
};

/// Where a collector takes spans over HTTP.
const HTTP_PATH: &str = "/v1/traces";

/// Where spans go.
pub(super) fn traces(
    spec: &TracesSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Traces> {
    let collector = endpoint(&spec.endpoint, spec.ca_file.as_deref(), location, findings);
    let ratio = spec.sampling.and_then(|sampling| sampling.ratio);
    let ratio = ratio.unwrap_or(Traces::RATIO);
    if !(0.0..=1.0).contains(&ratio) {
        findings.error(
            &location.key("sampling").key("ratio"),
            "bad-ratio",
            "a ratio is a number from 0 to 1",
            "write the part of the requests that is traced, such as `0.1` for a tenth",
        );
        return None;
    }
    let protocol = match spec.protocol {
        None | Some(OtlpProtocolSpec::Grpc) => OtlpProtocol::Grpc,
        Some(OtlpProtocolSpec::Http) => OtlpProtocol::Http,
    };
    Some(Traces {
        collector: at_its_path(collector?, protocol),
        protocol,
        ratio,
        refusals: spec
            .sampling
            .and_then(|sampling| sampling.refusals)
            .unwrap_or(true),
    })
}

/// The URL that spans are sent to: over HTTP with the path that the protocol gives, unless the operator wrote one.
fn at_its_path(mut collector: Collector, protocol: OtlpProtocol) -> Collector {
    let url = &collector.endpoint;
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let path = url[after_scheme..]
        .split_once('/')
        .map_or("", |(_, path)| path);
    if protocol == OtlpProtocol::Http && path.is_empty() {
        collector.endpoint = format!("{}{HTTP_PATH}", url.trim_end_matches('/'));
    }
    collector
}
