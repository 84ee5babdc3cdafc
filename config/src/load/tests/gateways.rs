//! The Gateway file: its mistakes, and the meaning of its short forms.

use std::{fs, time::Duration};

use rstest::rstest;

use super::{examples, outline};
use crate::{
    model::{
        CaSource, CertificateSource, Collector, DecisionSink, Gateway, IN_CLUSTER, JwksSource,
        Limits, ListenerMode, RecordFormat, SinkPlace, StateStore, Transparency, TrustRoots,
        WhenFull,
    },
    problem::{Problems, Severity},
};

fn load(text: &str) -> Result<(Gateway, Problems), Problems> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, text).unwrap();
    super::gateway(&path)
}

/// The smallest gateway with a text added to its spec, at line 5.
pub(super) fn with(spec: &str) -> Result<(Gateway, Problems), Problems> {
    load(&format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: Gateway\nmetadata: {{ name: main }}\nspec:\n  {spec}\n  resources: [{{ directory: /x }}]\n"
    ))
}

#[rstest]
#[case::clear_text(
    "listeners: [{ name: a, address: \"0.0.0.0:3128\" }]",
    "plaintext-listener"
)]
#[case::no_port("listeners: [{ name: a, address: 127.0.0.1 }]", "bad-address")]
#[case::no_listeners("listeners: []", "empty-list")]
#[case::same_name(
    "listeners: [{ name: a, address: \"127.0.0.1:0\" }, { name: a, address: \"127.0.0.1:0\" }]",
    "duplicate-listener"
)]
#[case::same_address(
    "listeners: [{ name: a, address: \"127.0.0.1:1\" }, { name: b, address: \"127.0.0.1:1\" }]",
    "duplicate-listener"
)]
#[case::the_admin_endpoints_port("observe: { admin: \"127.0.0.1:3128\" }", "duplicate-listener")]
#[case::the_admin_endpoints_port_at_any_address(
    "observe: { admin: \"0.0.0.0:3128\" }",
    "duplicate-listener"
)]
#[case::the_port_that_the_admin_endpoint_has_by_itself(
    "listeners: [{ name: a, address: \"127.0.0.1:9901\" }]",
    "duplicate-listener"
)]
#[case::mode(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", mode: socks }]",
    "unknown-value"
)]
#[case::transparent_without_identity(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", mode: transparent }]",
    "missing-identity"
)]
#[case::transparent_with_a_certificate(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", mode: transparent, identity: { tokenFile: /t }, tls: { certificate: /c, key: /k } }]",
    "conflicting-keys"
)]
#[case::half_a_certificate(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", tls: { certificate: /c } }]",
    "certificate-source"
)]
#[case::two_certificates(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", tls: { certificate: /c, key: /k, issuer: { signer: a.test/b, names: [a.test] } } }]",
    "certificate-source"
)]
#[case::a_certificate_without_names(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", tls: { issuer: { signer: a.test/b, names: [] } } }]",
    "empty-list"
)]
#[case::a_name_that_is_none(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", tls: { issuer: { signer: a.test/b, names: [a..b] } } }]",
    "bad-host"
)]
#[case::no_signer("interception: { issuer: { signer: interception } }", "bad-signer")]
#[case::two_authorities(
    "interception: { ca: { directory: /x }, issuer: { signer: a.test/b } }",
    "two-sources"
)]
#[case::transparent_for_everyone(
    "listeners: [{ name: a, address: \"0.0.0.0:0\", mode: transparent, identity: { tokenFile: /t } }]",
    "plaintext-listener"
)]
#[case::explicit_and_steered(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", transparency: tproxy }]",
    "conflicting-keys"
)]
#[case::steered_by_magic(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", mode: transparent, identity: { tokenFile: /t }, transparency: magic }]",
    "unknown-value"
)]
#[case::nobody("identity: {}", "empty-list")]
#[case::jwks_in_clear(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { url: \"http://example.com\" } }] }",
    "bad-url"
)]
#[case::jwks_nowhere(
    "identity: { issuers: [{ name: a, issuer: b, jwks: {} }] }",
    "conflicting-keys"
)]
#[case::jwks_twice(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { url: \"https://a\", file: /b } }] }",
    "conflicting-keys"
)]
#[case::same_issuer(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b } }, { name: c, issuer: b, jwks: { file: /b } }] }",
    "duplicate-issuer"
)]
#[case::trust_domain_as_uri(
    "identity: { trustDomains: [{ name: \"spiffe://a\", bundle: { file: /b } }] }",
    "bad-trust-domain"
)]
#[case::trust_domain_in_capitals(
    "identity: { trustDomains: [{ name: Prod, bundle: { file: /b } }] }",
    "bad-trust-domain"
)]
#[case::bundle_twice(
    "identity: { trustDomains: [{ name: a, bundle: { file: /b, workloadApi: \"unix:///b\" } }] }",
    "conflicting-keys"
)]
#[case::bundle_nowhere(
    "identity: { trustDomains: [{ name: a, bundle: {} }] }",
    "conflicting-keys"
)]
#[case::agent_by_tcp(
    "identity: { trustDomains: [{ name: a, bundle: { workloadApi: \"tcp://127.0.0.1:8081\" } }] }",
    "bad-socket"
)]
#[case::agent_at_a_relative_path(
    "identity: { trustDomains: [{ name: a, bundle: { workloadApi: \"unix://agent.sock\" } }] }",
    "bad-socket"
)]
#[case::same_trust_domain(
    "identity: { trustDomains: [{ name: a, bundle: { file: /b } }, { name: a, bundle: { file: /c } }] }",
    "duplicate-trust-domain"
)]
#[case::svids_of_nobody(
    "listeners: [{ name: a, address: \"127.0.0.1:0\", tls: { certificate: /c, key: /k, clientTrust: spiffe } }]",
    "no-trust-domain"
)]
#[case::keys_from_nowhere("identity: { issuers: [{ name: a, issuer: b }] }", "missing-key")]
#[case::cache_too_long(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, tokenReview: { cluster: in-cluster, cacheFor: 1h } }] }",
    "bad-duration"
)]
#[case::tokens_live_too_long(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, maxTokenLife: 720h1s }] }",
    "bad-duration"
)]
#[case::tokens_live_too_briefly(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, maxTokenLife: 9m59s }] }",
    "bad-duration"
)]
#[case::tokens_live_for_no_time(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, maxTokenLife: for-ever }] }",
    "bad-duration"
)]
#[case::cluster(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, tokenReview: { cluster: outside } }] }",
    "unknown-value"
)]
#[case::cluster_key(
    "identity: { issuers: [{ name: a, issuer: b, jwks: { file: /b }, tokenReview: { cluster: { uri: x } } }] }",
    "unknown-key"
)]
#[case::every_address("upstream: { allowAddresses: [0.0.0.0/0] }", "bad-address")]
#[case::no_range("upstream: { allowAddresses: [private] }", "bad-address")]
#[case::resolve_without_port("upstream: { resolve: { slack.com: \"127.0.0.1:1\" } }", "bad-host")]
#[case::resolve_to_name(
    "upstream: { resolve: { \"slack.com:443\": localhost } }",
    "bad-address"
)]
#[case::resolve_twice(
    "upstream: { resolve: { \"slack.com:443\": \"127.0.0.1:1\", \"Slack.com.:443\": \"127.0.0.1:2\" } }",
    "duplicate-key"
)]
#[case::proxy("upstream: { proxy: \"proxy:3128\" }", "bad-url")]
#[case::proxy_with_password("upstream: { proxy: \"http://me:pw@proxy:3128\" }", "bad-url")]
#[case::otlp("observe: { otlp: { endpoint: otel } }", "bad-url")]
#[case::traces_nowhere("observe: { traces: { endpoint: otel } }", "bad-url")]
#[case::traces_by_pigeon(
    "observe: { traces: { endpoint: \"http://otel:4317\", protocol: pigeon } }",
    "unknown-value"
)]
#[case::more_than_all(
    "observe: { traces: { endpoint: \"http://otel:4317\", sampling: { ratio: 1.5 } } }",
    "bad-ratio"
)]
#[case::less_than_none(
    "observe: { traces: { endpoint: \"http://otel:4317\", sampling: { ratio: -0.1 } } }",
    "bad-ratio"
)]
#[case::no_ratio(
    "observe: { traces: { endpoint: \"http://otel:4317\", sampling: { ratio: .nan } } }",
    "invalid-yaml"
)]
#[case::no_sinks("observe: { decisions: [] }", "empty-list")]
#[case::two_in_one("observe: { decisions: { stdout: json, file: /a } }", "not-one-sink")]
#[case::no_sink("observe: { decisions: [{ whenFull: wait }] }", "not-one-sink")]
#[case::format_of_stdout("observe: { decisions: { stdout: json, format: ocsf } }", "no-file")]
#[case::when_full(
    "observe: { decisions: { stdout: json, whenFull: never } }",
    "unknown-value"
)]
#[case::sink_twice(
    "observe: { decisions: [{ file: /a }, { stdout: json }, { file: /a, format: ocsf }] }",
    "sink-twice"
)]
#[case::five_sinks(
    "observe: { decisions: [{ stdout: json }, { file: /a }, { file: /b }, { file: /c }], otlp: { endpoint: \"http://otel:4317\" } }",
    "too-many-sinks"
)]
#[case::nothing_to_seal(
    "observe: { decisions: { stdout: ocsf }, audit: { directory: /a } }",
    "nothing-to-seal"
)]
#[case::audit_directory("observe: { audit: { directory: \" \" } }", "empty-value")]
#[case::audit_too_often(
    "observe: { audit: { directory: /a, checkpointEvery: 1ms } }",
    "bad-duration"
)]
#[case::audit_no_duration(
    "observe: { audit: { directory: /a, checkpointEvery: often } }",
    "bad-duration"
)]
#[case::admin("observe: { admin: \"9901\" }", "bad-address")]
#[case::unlimited("limits: { connections: 0 }", "bad-limit")]
#[case::no_strangers("limits: { unidentified: { connections: 0 } }", "bad-limit")]
#[case::no_source("limits: { unidentified: { perSource: 0 } }", "bad-limit")]
#[case::source_beyond_all(
    "limits: { unidentified: { connections: 9, perSource: 10 } }",
    "bad-limit"
)]
#[case::source_beyond_default("limits: { unidentified: { perSource: 1025 } }", "bad-limit")]
#[case::long_rest("limits: { unidentified: { rest: 61s } }", "bad-limit")]
#[case::no_rest("limits: { unidentified: { rest: 0s } }", "bad-duration")]
#[case::unknown_bound("limits: { unidentified: { perPod: 1 } }", "unknown-key")]
#[case::limit_without_unit("limits: { drain: \"10\" }", "bad-duration")]
#[case::limit_as_number("limits: { drain: 10 }", "wrong-type")]
#[case::unknown("listener: []", "unknown-key")]
fn is_an_error(#[case] spec: &str, #[case] code: &str) {
    let problems = with(spec).unwrap_err();
    assert_eq!(outline(&problems), [format!("5: {code}")], "{problems}");
}

#[test]
fn sinks_are_read_in_their_order_alone_or_in_a_list() {
    let sinks = |spec: &str| with(spec).unwrap().0.observe.decisions;
    assert_eq!(sinks("limits: {}"), [DecisionSink::stdout()]);
    let file = DecisionSink::file("/a".into());
    assert_eq!(
        sinks("observe: { decisions: { file: /a } }"),
        std::slice::from_ref(&file)
    );
    let collector = |endpoint: &str, ca_file: Option<&str>| {
        SinkPlace::Otlp(Collector {
            endpoint: endpoint.to_owned(),
            ca_file: ca_file.map(Into::into),
        })
    };
    let several = "observe: { decisions: [{ stdout: ocsf }, { file: /a, whenFull: refuse }, { otlp: { endpoint: \"https://c:4317\", caFile: /ca }, whenFull: wait }], otlp: { endpoint: \"http://d:4317\" } }";
    let expected = [
        (SinkPlace::Stdout(RecordFormat::Ocsf), WhenFull::Drop),
        (file.place, WhenFull::Refuse),
        (collector("https://c:4317", Some("/ca")), WhenFull::Wait),
        (collector("http://d:4317", None), WhenFull::Drop),
    ];
    let read = sinks(several).into_iter();
    let read: Vec<_> = read.map(|sink| (sink.place, sink.when_full)).collect();
    assert_eq!(read, expected);
}

#[test]
fn the_file_holds_one_gateway_and_nothing_else() {
    let one = fs::read_to_string(examples("smallest/gateway.yaml")).unwrap();
    let problems = load(&format!("{one}---\n{}", one.replace("main", "second"))).unwrap_err();
    assert_eq!(outline(&problems), ["7: second-gateway"]);
    let problems = load(&format!("{one}---\n{}", super::BASE)).unwrap_err();
    assert_eq!(
        outline(&problems),
        ["7: wrong-kind", "16: wrong-kind", "25: wrong-kind"]
    );
    let problems = load("# nothing\n").unwrap_err();
    assert_eq!(outline(&problems), ["0: no-gateway"]);
    let problems = super::gateway(&examples("vanished.yaml")).unwrap_err();
    assert_eq!(outline(&problems), ["0: unreadable"]);
}

#[test]
fn plaintext_may_be_meant() {
    let listener = "listeners: [{ name: a, address: \"0.0.0.0:3128\", plaintext: allowed }]";
    assert!(with(listener).is_ok());
}

#[rstest]
#[case("", Transparency::Redirect)]
#[case(", transparency: redirect", Transparency::Redirect)]
#[case(", transparency: tproxy", Transparency::Tproxy)]
#[case(", transparency: tproxy, plaintext: allowed", Transparency::Tproxy)]
fn a_transparent_listener_says_how_it_is_steered(
    #[case] more: &str,
    #[case] transparency: Transparency,
) {
    let (gateway, _) = with(&format!(
        "listeners: [{{ name: a, address: \"[::1]:0\", mode: transparent, identity: {{ tokenFile: /t }}{more} }}]"
    ))
    .unwrap();
    let listener = &gateway.listeners[0];
    assert_eq!(listener.mode, ListenerMode::Transparent(transparency));
    assert!(listener.own_token_file.is_some());
}

#[rstest]
#[case::default("{}", Some((None, 0)))]
#[case::off("observe: { console: { enabled: false } }", None)]
#[case::on("observe: { console: { tokenFile: /t } }", Some((Some("/t"), 0)))]
#[case::elsewhere(
    "observe: { console: { tokenFile: /t, hosts: [console.example.com], plaintext: allowed } }",
    Some((Some("/t"), 1))
)]
fn the_console_is_for_this_machine_alone_unless_said_otherwise(
    #[case] spec: &str,
    #[case] expected: Option<(Option<&str>, usize)>,
) {
    let spec = if spec == "{}" { "limits: {}" } else { spec };
    let (gateway, _) = with(spec).unwrap_or_else(|problems| panic!("{problems}"));
    let console = gateway.observe.console;
    let found = console.map(|console| (console.token_file, console.hosts.len()));
    let expected = expected.map(|(file, hosts)| (file.map(Into::into), hosts));
    assert_eq!(found, expected);
}

#[rstest]
#[case::without_token(
    "{ hosts: [a.example.com], plaintext: allowed }",
    "console-without-token"
)]
#[case::in_clear("{ tokenFile: /t, hosts: [a.example.com] }", "console-in-clear")]
#[case::no_host(
    "{ tokenFile: /t, hosts: [\"a b\"], plaintext: allowed }",
    "invalid-host"
)]
#[case::no_file("{ tokenFile: \"\" }", "empty-value")]
fn a_console_for_others_has_a_token_and_tls_before_it(#[case] console: &str, #[case] code: &str) {
    let problems = with(&format!("observe: {{ console: {console} }}")).unwrap_err();
    let codes: Vec<_> = problems.0.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [code]);
}

#[test]
fn admin_and_replays_can_be_switched_off() {
    let (gateway, _) = with("observe: { admin: none }\n  limits: { replayBytes: 0 }").unwrap();
    assert_eq!(gateway.observe.admin, None);
    assert_eq!(gateway.limits.replay_bytes, 0);
}

#[rstest]
#[case("{}", 1024, 512, 5)]
#[case("{ connections: 9 }", 9, 5, 5)]
#[case("{ connections: 1 }", 1, 1, 5)]
#[case("{ connections: 9, perSource: 9, rest: 1m }", 9, 9, 60)]
fn strangers_are_bounded_at_a_listener_and_from_a_source(
    #[case] written: &str,
    #[case] connections: usize,
    #[case] per_source: usize,
    #[case] rest: u64,
) {
    let (gateway, _) = with(&format!("limits: {{ unidentified: {written} }}")).unwrap();
    let bounds = gateway.limits.unidentified;
    assert_eq!(bounds.connections, connections);
    assert_eq!(bounds.per_source, per_source);
    assert_eq!(bounds.rest, Duration::from_secs(rest));
}

#[rstest]
#[case::unsaid("", 24 * 3600)]
#[case::shortest(", maxTokenLife: 10m", 600)]
#[case::longest(", maxTokenLife: 720h", 720 * 3600)]
fn tokens_live_as_long_as_is_said(#[case] said: &str, #[case] seconds: u64) {
    let issuer = format!("{{ name: a, issuer: b, jwks: {{ file: /b }}{said} }}");
    let (gateway, _) = with(&format!("identity: {{ issuers: [{issuer}] }}")).unwrap();
    let life = gateway.issuers[0].max_token_life;
    assert_eq!(life, Duration::from_secs(seconds));
}

/// Issuer, keys and API server of the cluster in which the gateway runs.
#[test]
fn in_cluster_finds_the_rest_by_itself() {
    let (gateway, _) = with("identity: { issuers: [{ name: prod, issuer: in-cluster }] }").unwrap();
    let issuer = &gateway.issuers[0];
    assert_eq!(
        (issuer.name.as_str(), issuer.issuer.as_str()),
        ("prod", IN_CLUSTER)
    );
    assert!(
        matches!(&issuer.jwks, JwksSource::Url { url, ca_file: Some(_) } if url == "https://kubernetes.default.svc/openid/v1/jwks")
    );
    assert!(issuer.token_review.is_some());
    assert!(issuer.pod_facts.is_none());
}

#[test]
fn the_longer_forms_mean_what_they_say() {
    let (gateway, _) = with(
        "identity: { issuers: [{ name: a, issuer: b, audience: c, jwks: { url: \"http://127.0.0.1:1/keys\" }, \
         tokenReview: { cluster: { url: \"https://api:6443/\", tokenFile: /t } } }] }\n  \
         upstream: { roots: /roots.pem, allowAddresses: [10.1.0.0/16, \"::1\"], proxy: \"http://proxy:3128\", \
         resolve: { \"Slack.COM:443\": \"127.0.0.1:8443\" } }\n  \
         state: { vault: { mount: kv, path: countersign } }\n  \
         vault: { address: \"https://vault:8200/\", auth: { kubernetes: { role: countersign } } }\n  \
         limits: { drain: 5s, leaves: 10, headBytes: 1024 }",
    )
    .unwrap();
    let issuer = &gateway.issuers[0];
    assert!(
        matches!(&issuer.jwks, JwksSource::Url { url, ca_file: None } if url == "http://127.0.0.1:1/keys")
    );
    let review = issuer.token_review.as_ref().unwrap();
    assert_eq!(review.cluster.url, "https://api:6443");
    assert_eq!(review.cache_for, Duration::from_secs(10));
    assert_eq!(
        gateway.upstream.roots,
        TrustRoots::SystemAnd("/roots.pem".into())
    );
    assert_eq!(gateway.upstream.allow_addresses.len(), 2);
    assert_eq!(gateway.upstream.proxy.as_ref().unwrap().port, 3128);
    let (host, port) = gateway.upstream.resolve.keys().next().unwrap();
    assert_eq!((host.to_string().as_str(), *port), ("slack.com", 443));
    assert!(matches!(gateway.state, StateStore::Vault { .. }));
    assert_eq!(gateway.limits.drain, Duration::from_secs(5));
    assert_eq!(gateway.limits.leaves, 10);
    assert_eq!(gateway.limits.head_timeout, Limits::default().head_timeout);
}

#[rstest]
#[case::written("memory: 33554432, formBytes: 8388608", Severity::Error, "formBytes")]
#[case::connections("memory: 33554432, connections: 5000", Severity::Error, "connections")]
#[case::heads("memory: 33554432, headBytes: 8388608", Severity::Error, "headBytes")]
#[case::too_little("memory: 1048576", Severity::Error, "memory")]
#[case::not_written("formBytes: 67108864", Severity::Warning, "formBytes")]
#[case::not_written_connections("connections: 10000", Severity::Warning, "connections")]
fn bounds_that_memory_cannot_keep_are_told_with_their_place(
    #[case] limits: &str,
    #[case] severity: Severity,
    #[case] key: &str,
) {
    let problems = match with(&format!("limits: {{ {limits} }}")) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    let [problem] = problems.0.as_slice() else {
        panic!("{problems}")
    };
    assert_eq!(problem.severity, severity);
    let rendered = problem.render(false);
    assert!(rendered.contains(key), "{rendered}");
}

#[test]
fn without_a_word_of_connections_there_are_as_many_as_memory_holds() {
    let (gateway, warnings) = with("limits: { memory: 33554432 }").unwrap();
    assert!(warnings.0.is_empty());
    assert_eq!(gateway.limits.memory, Some(32 * 1024 * 1024));
}

#[test]
fn certificates_can_be_signed_in_the_cluster() {
    let spec = "listeners: [{ name: a, address: \"0.0.0.0:3128\", tls: { issuer: { signer: countersign.dev/gateway, names: [a.svc, 192.0.2.7] } } }]\n  interception: { issuer: { signer: countersign.dev/interception } }";
    let (gateway, _) = with(spec).unwrap_or_else(|problems| panic!("{problems}"));
    let CaSource::Signer { signer, state } = &gateway.ca else {
        panic!("{:?}", gateway.ca);
    };
    assert_eq!(
        (&**signer, &**state),
        ("countersign.dev/interception", "countersign-trust")
    );
    let tls = gateway.listeners[0].tls.as_ref().unwrap();
    let CertificateSource::Signer { signer, names } = &tls.source else {
        panic!("{tls:?}");
    };
    assert_eq!(signer, "countersign.dev/gateway");
    assert_eq!(names.len(), 2);
}
