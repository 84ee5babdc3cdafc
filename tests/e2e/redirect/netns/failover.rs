//! Gateways that come late, die and come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use countersign_tests::{
    client::{Client, Session},
    netns::{GATEWAYS, Options, Pod, TestBed, available},
};
use http::Request;
use http_body_util::Full;
use tokio::{task::JoinSet, time::Instant};

use super::app;

const SLACK: &str = "203.0.113.10:443";
const POST: &str = "https://slack.com/api/chat.postMessage";

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_comes_late_or_is_killed_and_started_again_is_used_at_once()
-> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    // Once before, so that there is a root for the app to trust.
    drop(bed.gateway(0).await?);
    let mut pod = Pod::bare(&bed)?;
    pod.redirect(&["--apply", "--check"]).await?.succeeded();
    pod.relay(&[0], &[]).await?;
    let readiness = pod.readiness()?;
    assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
    assert!(readiness.contains("does not answer"), "{readiness}");
    let post = ["-sS", POST, "-d", "channel=C0LATE", "-d", "text=hi"];

    for _ in 0..2 {
        // The app hears that something is broken here, in the words of its own TLS library.
        let shown = app(&pod, "curl", &post, "").await;
        shown.failed_with("internal error");
        let mut gateway = bed.gateway(0).await?;
        let shown = app(&pod, "curl", &post, "").await.succeeded();
        assert_eq!(shown.json()["ok"], true, "{shown:?}");
        let began = Instant::now();
        pod.ready().await?;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "it was known well"
        );
        gateway.process.kill().await?;
    }
    let printed = pod.relay_process()?.printed();
    assert!(printed.contains("relay-gateway-unreachable"), "{printed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_first_is_ready_soon_after_its_gateway() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let mut pod = Pod::bare(&bed)?;
    pod.relay(&[0], &[]).await?;
    let _gateway = bed.gateway(0).await?;
    let began = Instant::now();
    pod.ready().await?;
    // Nobody asks it for a connection: it found out by itself.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

/// As the kubelet ends a native sidecar once the apps are gone.
#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_it_serves_what_is_open_and_ends_when_nothing_is() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(super::TUNNEL).await?;
    let _gateway = bed.gateway(0).await?;
    let mut pod = Pod::start(&bed, &[0]).await?;
    let idle = Instant::now();
    pod.relay_process()?.signal("TERM").await?;
    assert!(pod.relay_process()?.ended().await?.success());
    assert!(idle.elapsed() < Duration::from_secs(5), "nothing was open");

    pod.relay(&[0], &[]).await?;
    pod.ready().await?;
    let stranger = "203.0.113.99:7007".parse::<SocketAddr>()?;
    let mut open = pod
        .namespace()
        .inside(|| std::net::TcpStream::connect(stranger))??;
    // It does not speak yet, and is open all the same.
    pod.relay_process()?.signal("TERM").await?;
    let draining = |printed: &str| printed.contains("\"draining\"").then_some(());
    pod.relay_process()?.said(draining).await?;
    open.write_all(b"x")?;
    let mut told = String::new();
    open.read_to_string(&mut told)?;
    let from: IpAddr = told.trim().parse()?;
    assert!(GATEWAYS[0].has(from), "{from}");
    drop(open);
    assert!(pod.relay_process()?.ended().await?.success());
    Ok(())
}

/// Requests in all, and how often one is begun.
const REQUESTS: usize = 1000;
const EVERY: Duration = Duration::from_millis(5);
/// How long it may take until the end of a gateway is known to the app, on a busy machine.
const NOTICED: Duration = Duration::from_secs(1);
/// And until the app knows that a request is lost.
const LOST_WITHIN: Duration = Duration::from_secs(2);
/// Connections that are open before the first.
const AT_FIRST: usize = 20;
/// After how many of them the gateway is killed.
const KILLED_AFTER: usize = 400;

/// One request's story.
#[derive(Debug)]
struct Told {
    number: usize,
    /// The gateway's own certificate authority, once there was a connection.
    issuer: Option<Vec<u8>>,
    began: Instant,
    ended: Instant,
    failed: Option<String>,
}

/// A pool of kept connections, as HTTP clients have it; nothing is tried twice.
struct Load {
    client: Client,
    idle: Mutex<Vec<Session>>,
    begun: AtomicUsize,
}

impl Load {
    async fn run(self: Arc<Self>) -> anyhow::Result<Vec<Told>> {
        for _ in 0..AT_FIRST {
            let session = self.client.open("slack.com").await?;
            self.idle().push(session);
        }
        let mut ticks = tokio::time::interval(EVERY);
        let mut requests = JoinSet::new();
        for number in 0..REQUESTS {
            ticks.tick().await;
            requests.spawn(Arc::clone(&self).one(number));
            self.begun.store(number + 1, Ordering::Release);
        }
        Ok(requests.join_all().await)
    }

    async fn one(self: Arc<Self>, number: usize) -> Told {
        let began = Instant::now();
        let mut issuer = None;
        let result = self.send(number, &mut issuer).await;
        Told {
            number,
            issuer,
            began,
            ended: Instant::now(),
            failed: result.err().map(|error| format!("{error:#}")),
        }
    }

    async fn send(&self, number: usize, issuer: &mut Option<Vec<u8>>) -> anyhow::Result<()> {
        let mut session = self.session().await?;
        *issuer = session.issuer().map(<[u8]>::to_vec);
        let body = format!("channel=C0LOAD&text={number}");
        let request = Request::post(POST)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))?;
        let answer = session.send(request).await?;
        anyhow::ensure!(answer.json()["ok"] == true, "{}", answer.text());
        self.idle().push(session);
        Ok(())
    }

    /// The connection that was used last and is still open, or a new one.
    async fn session(&self) -> anyhow::Result<Session> {
        loop {
            let kept = self.idle().pop();
            let Some(mut session) = kept else {
                return self.client.open("slack.com").await.context("opening");
            };
            if session.is_open().await {
                return Ok(session);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers of the requests that Slack received, and from which gateway.
fn received(bed: &TestBed) -> BTreeMap<usize, IpAddr> {
    let mut received = BTreeMap::new();
    for request in bed.env.slack.received().of_pods() {
        let peer = request.connection.peer.ip();
        if !request.complete {
            // The gateway was killed within the request.
            assert!(GATEWAYS[0].has(peer), "{request:?}");
            continue;
        }
        let form = request.form();
        let text = form.iter().find(|(name, _)| name == "text");
        let number = text.and_then(|(_, text)| text.parse().ok());
        let number = number.expect("each has its number");
        let before = received.insert(number, peer);
        assert_eq!(before, None, "no request was sent twice");
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_is_killed_and_only_what_was_in_flight_on_it_is_lost()
-> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let mut doomed = bed.gateway(0).await?;
    let _survivor = bed.gateway(1).await?;
    let pod = Pod::start(&bed, &[0, 1]).await?;
    let root = std::fs::read_to_string(bed.env.ca_directory().join("root.pem"))?;
    let load = Arc::new(Load {
        client: Client::direct(SLACK.parse()?, &root),
        idle: Mutex::default(),
        begun: AtomicUsize::new(0),
    });
    let running = pod.namespace().spawn(Arc::clone(&load).run())?;

    let slack = bed.env.slack.server();
    until(|| load.begun.load(Ordering::Acquire) >= KILLED_AFTER).await?;
    // For a moment Slack answers nobody, so that there is something in flight on both.
    slack.hold(true);
    let held_from = bed.env.slack.received().count();
    until(|| bed.env.slack.received().count() >= held_from + 12).await?;
    let before = Instant::now();
    doomed.process.kill().await?;
    let killed = Instant::now();
    slack.hold(false);

    let ended = tokio::task::spawn_blocking(move || running.join());
    let told = tokio::time::timeout(Duration::from_mins(1), ended).await??;
    let told = told.map_err(|_| anyhow::anyhow!("the load panicked"))???;
    judge(&bed, &told, before, killed);
    Ok(())
}

/// Every lost request was on a connection through the gateway that was killed, sent before its
/// end could be known; and was lost at once.
fn judge(bed: &TestBed, told: &[Told], before: Instant, killed: Instant) {
    assert_eq!(told.len(), REQUESTS);
    let received = received(bed);
    // A connection of the app is one tunnel, and so goes through one gateway; which one, its
    // certificate tells.
    let mut gateways: BTreeMap<&[u8], BTreeSet<IpAddr>> = BTreeMap::new();
    for request in told {
        if let (Some(gateway), Some(issuer)) = (received.get(&request.number), &request.issuer) {
            gateways.entry(issuer).or_default().insert(*gateway);
        }
    }
    assert_eq!(gateways.len(), 2, "both were used, and each has its own");
    assert!(gateways.values().all(|addresses| addresses.len() == 1));
    let on_doomed = |request: &Told| match &request.issuer {
        Some(issuer) => {
            let mut addresses = gateways[issuer.as_slice()].iter();
            addresses.all(|address| GATEWAYS[0].has(*address))
        }
        // It was still being connected, through one or the other.
        None => request.failed.is_some(),
    };
    let known = killed + NOTICED;
    let in_flight = |request: &&Told| request.began <= known && request.ended >= before;
    let lost: Vec<&Told> = told.iter().filter(|told| told.failed.is_some()).collect();
    for request in &lost {
        let Told { number, failed, .. } = request;
        assert!(on_doomed(request), "{number} was not on it: {failed:?}");
        assert!(in_flight(request), "{number} was not in flight: {failed:?}");
        let took = request.ended.duration_since(killed);
        assert!(took < LOST_WITHIN, "{number} was lost after {took:?}");
    }
    let late = lost.iter().filter(|request| request.began > killed).count();
    let at_once = |request: &&Told| request.began <= killed && request.ended >= before;
    let (here, there): (Vec<_>, Vec<_>) = told
        .iter()
        .filter(at_once)
        .partition(|told| on_doomed(told));
    let began = told.iter().map(|told| told.began);
    let span = began
        .clone()
        .max()
        .zip(began.min())
        .map(|(end, start)| end - start);
    let figures = format!(
        "{REQUESTS} requests in {:.1?}; as one of two gateways was killed {} were in flight on it \
         and {} on the other; lost: {}, of them {late} sent before its end was known; answered: {}",
        span.unwrap_or_default(),
        here.len(),
        there.len(),
        lost.len(),
        REQUESTS - lost.len(),
    );
    countersign_tests::told(&figures);
    assert!(!lost.is_empty(), "nothing was in flight on it: {figures}");
}

async fn until(mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let waiting = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waiting.await.context("it does not come to that")
}
