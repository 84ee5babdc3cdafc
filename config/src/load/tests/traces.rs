//! `observe.traces`, and what a target says of `traceparent`.

use rstest::rstest;

use super::{
    gateways::with,
    load_texts,
    several::{HEAD, target},
};
use crate::model::{OtlpProtocol, TRACEPARENT, TRACESTATE, Traces};

#[test]
fn traces_have_defaults_and_a_path_over_http() {
    let traces = |spec: &str| {
        let spec = format!("observe: {{ traces: {{ {spec} }} }}");
        with(&spec).unwrap().0.observe.traces.unwrap()
    };
    let plain = traces("endpoint: \"http://otel:4317\"");
    assert_eq!(plain.collector.endpoint, "http://otel:4317");
    assert_eq!(
        (plain.protocol, plain.ratio),
        (OtlpProtocol::Grpc, Traces::RATIO)
    );
    assert!(plain.refusals);
    for (written, sent_to) in [
        ("http://otel:4318", "http://otel:4318/v1/traces"),
        ("http://otel:4318/", "http://otel:4318/v1/traces"),
        ("https://otel/spans", "https://otel/spans"),
    ] {
        let all = traces(&format!(
            "endpoint: \"{written}\", protocol: http, caFile: /ca, sampling: {{ ratio: 1, refusals: false }}"
        ));
        assert_eq!(all.collector.endpoint, sent_to);
        assert_eq!((all.protocol, all.ratio), (OtlpProtocol::Http, 1.0));
        assert!(!all.refusals && all.collector.ca_file.is_some());
    }
}

#[rstest]
#[case::forwarded("", false)]
#[case::said("traceparent: forward\n  ", false)]
#[case::dropped("traceparent: drop\n  ", true)]
fn a_target_may_keep_the_trace_from_its_api(#[case] said: &str, #[case] drops: bool) {
    let written = target(
        "mine",
        &format!(
            "{said}hosts: [a.example]\n  routes: [{{ paths: [\"/a\"] }}, {{ strip: {{ headers: [x] }} }}]"
        ),
    );
    // Routes of the catalog, too.
    let extending = format!(
        "{HEAD}TargetService\nmetadata: {{ name: gov }}\nspec:\n  {said}extends: slack\n  domains: {{ slack.com: slack-gov.example }}\n"
    );
    let loaded = load_texts(&[&written, &extending], None).unwrap();
    for name in ["mine", "gov"] {
        let mut targets = loaded.policies.targets().iter();
        let found = targets.find(|target| target.name.as_str() == name).unwrap();
        for route in &found.routes {
            let stripped = &route.strip.headers;
            assert_eq!(route.strip.drops_trace(), drops, "{name}: {stripped:?}");
            let has_both = stripped.contains(&TRACEPARENT) && stripped.contains(&TRACESTATE);
            assert_eq!(has_both, drops);
        }
    }
}

#[rstest]
#[case::unknown("hosts: [a.example]\n  traceparent: hide", "unknown-value")]
#[case::not_decrypted(
    "hosts: [a.example]\n  intercept: false\n  traceparent: drop",
    "not-decrypted"
)]
fn what_makes_no_sense_is_an_error(#[case] spec: &str, #[case] code: &str) {
    let problems = load_texts(&[&target("mine", spec)], None).unwrap_err();
    assert!(problems.render(false).contains(code), "{problems}");
}
