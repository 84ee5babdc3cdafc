//! How often the gateway allocates for a request on connections that are open: from the client's
//! bytes to the record that is handed to the log.
//!
//! The gateway has a thread to itself, on which everything is counted; the client and the API run
//! on others. Two runs of different length are compared, so that what happens once is left out.
//! What the decision log's own thread does is not counted.

use bytes::Bytes;
use countersign_config::{
    host::Host,
    load,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, RequestFacts},
};
use countersign_gateway::app;
use countersign_tests::{
    client::{Client, Session},
    environment::Environment,
    fake::Protocol,
};
use http::{Method, Request, StatusCode, uri::PathAndQuery};
use http_body_util::Full;
use rstest::rstest;
use tokio::runtime::{Builder, Runtime};

const FEW: u64 = 100;
const MANY: u64 = 300;

/// A `traceparent` for the API.
const TRACEPARENT: u64 = 3;

/// What it takes now. A change that makes it more must say what for; one that makes it less sets
/// the new number.
#[rstest]
#[case::http1(Protocol::Http1, false, 31)]
#[case::http2(Protocol::Http2, false, 33)]
#[case::traced_http1(Protocol::Http1, true, 31 + TRACEPARENT)]
#[case::traced_http2(Protocol::Http2, true, 33 + TRACEPARENT)]
fn a_request_on_an_open_connection_allocates_no_more_than(
    #[case] protocol: Protocol,
    #[case] traced: bool,
    #[case] most: u64,
) {
    let others = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = Builder::new_current_thread().enable_all().build().unwrap();
    let env = others.block_on(Environment::start()).unwrap();
    if traced {
        let file = format!("{{ file: {} }}", env.decision_log().display());
        // No collector is there: what is sent, and how, is no part of a request.
        let traces = "traces: { endpoint: \"http://127.0.0.1:1\", sampling: { ratio: 1 } }";
        let both = format!("{file}\n    {traces}");
        env.edit_gateway(&file, &both).unwrap();
    }
    let client = gateway.block_on(serve(&env)).over(protocol);
    let open = async move { client.open("slack.com").await };
    let mut session = gateway.block_on(others.spawn(open)).unwrap().unwrap();
    // The first requests make what all share.
    let mut counts = [0; 3];
    for (count, requests) in counts.iter_mut().zip([FEW, FEW, MANY]) {
        (*count, session) = allocations(&gateway, &others, session, requests);
    }
    let each = (counts[2] - counts[1]).div_ceil(MANY - FEW);
    println!("{protocol:?}, traced: {traced}: {each} allocations a request");
    assert!(each <= most, "{each} allocations a request");
}

/// The dashboard's own policies, with a schedule; CEL, which has values of its own, is left out.
#[test]
fn a_decision_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["access.yaml", "credentials.yaml", "workload.yaml"] {
        let path = format!("../examples/nightly-dashboard/policy/{name}");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.contains("when:"));
        let text: Vec<_> = lines.collect();
        std::fs::write(directory.path().join(name), text.join("\n")).unwrap();
    }
    let policies = load::resources(&[directory.path()]).unwrap().policies;
    let caller = CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some("nightly-dashboard".into()),
        ..CallerFacts::default()
    };
    let who = policies.recognise(&caller);
    let host = Host::parse("api.qase.io").unwrap();
    let path = CanonicalPath::check(&PathAndQuery::from_static("/v1/run/DEMO")).unwrap();
    let request = RequestFacts {
        host: &host,
        port: 443,
        method: &Method::GET,
        path: &path,
    };
    let now = "2026-11-23T05:10:00Z".parse().unwrap();
    let decide = || {
        matches!(
            policies.decide(&who, &caller, &request, now),
            Decision::Permit(_)
        )
    };
    assert!(decide());
    let counted = allocation_counter::measure(|| assert!(decide()));
    assert_eq!(counted.count_total, 0);
}

/// Starts the environment's gateway on this runtime.
async fn serve(env: &Environment) -> Client {
    let (gateway, _) = load::gateway(&env.gateway_yaml()).expect("it loads");
    let app = app::build(gateway, env.clock.clone())
        .await
        .expect("it builds");
    let (_, address) = app.addresses()[0];
    let roots = std::fs::read_to_string(env.ca_directory().join("root.pem")).expect("a root");
    tokio::spawn(app.run(std::future::pending()));
    let token = env.token("qa", "nightly-dashboard");
    Client::through(address, &roots).bearer(&token)
}

/// Sends so many requests one after the other, and counts what the gateway's thread allocates.
fn allocations(
    gateway: &Runtime,
    others: &Runtime,
    mut session: Session,
    requests: u64,
) -> (u64, Session) {
    let load = async move {
        for _ in 0..requests {
            let request = Request::post("https://slack.com/api/auth.test");
            let request = request.body(Full::<Bytes>::default()).expect("a request");
            let answer = session.send(request).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.json()["ok"], true);
        }
        session
    };
    let mut back = None;
    let counted = allocation_counter::measure(|| {
        back = Some(
            gateway
                .block_on(others.spawn(load))
                .expect("it does not panic"),
        );
    });
    (counted.count_total, back.expect("it was measured"))
}
