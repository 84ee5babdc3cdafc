//! All gateways: found by name, watched, and tried in turn until one responds.

use std::{
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use countersign_core::{certificate::Standing, clock::Clock, destination::Authority};
use countersign_types::host::Host;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{sync::Notify, time::timeout};

use super::{
    answer::{RelayError, Unreached},
    dial::Dialer,
    fault::{ANSWER_TIMEOUT, Fault, LOOKUP_TIMEOUT, Rejection, bounded},
    gateway::{
        Gateway,
        connection::{Lease, Outgoing, Unanswered},
    },
    settings::GatewayName,
};

/// The interval of name lookups and of retries of failed gateways.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// The first retry delay while no gateway is healthy; it doubles each time. At a pod's start the app
/// waits for it.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The most gateways that are tried for one tunnel.
const MOST_ATTEMPTS: usize = 4;

/// An established tunnel.
pub(super) struct Tunnel {
    pub(super) stream: TokioIo<Upgraded>,
    /// Held as long as the tunnel is open.
    pub(super) lease: Lease,
}

/// A gateway's response other than success.
pub(super) struct Refused {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) gateway: Arc<Gateway>,
}

/// Why there is no tunnel.
pub(super) enum TunnelError {
    /// A gateway refused.
    Refused(Box<Refused>),
    /// No gateway could be reached.
    Failed(RelayError),
}

impl From<RelayError> for TunnelError {
    fn from(error: RelayError) -> Self {
        Self::Failed(error)
    }
}

/// A gateway's name, and why it could not be resolved last.
#[derive(Debug)]
struct Name {
    name: GatewayName,
    fault: Mutex<Option<Fault>>,
}

/// All gateways.
#[derive(Debug)]
pub(super) struct GatewayPool {
    names: Vec<Name>,
    dialer: Arc<Dialer>,
    clock: Clock,
    known: ArcSwap<Vec<Arc<Gateway>>>,
    turn: AtomicUsize,
    ended: Arc<Notify>,
}

impl GatewayPool {
    /// The gateways before the first lookup.
    pub(super) fn new(names: Vec<GatewayName>, dialer: Dialer, clock: Clock) -> Self {
        let name = |name| Name {
            name,
            fault: Mutex::default(),
        };
        Self {
            names: names.into_iter().map(name).collect(),
            dialer: Arc::new(dialer),
            clock,
            known: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            ended: Arc::default(),
        }
    }

    /// All known addresses.
    pub(super) fn known(&self) -> Arc<Vec<Arc<Gateway>>> {
        self.known.load_full()
    }

    /// The names that could not be resolved when they were last looked up, and why.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = (&GatewayName, Fault)> {
        let fault = |name: &Name| name.fault().clone();
        self.names
            .iter()
            .filter_map(move |name| Some((&name.name, fault(name)?)))
    }

    /// Whether there is a usable proof.
    pub(super) async fn proof(&self) -> Result<(), RelayError> {
        Ok(self.dialer.proof().check(self.clock.now()).await?)
    }

    /// The proof for a request, read from its file now.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, RelayError> {
        Ok(self.dialer.proof().authorization().await?)
    }

    /// Looks up names and tries gateways, until it is dropped.
    pub(super) async fn watch(&self) {
        let mut retry = FIRST_RETRY;
        let mut unproven = None;
        let mut ending = None;
        loop {
            self.look_up().await;
            self.tell_proof(&mut unproven).await;
            self.tell_end(&mut ending).await;
            match self.dialer.proof().fingerprint().await {
                Ok(current) => {
                    let known = self.known();
                    let probes: FuturesUnordered<_> =
                        known.iter().map(|gateway| gateway.probe(current)).collect();
                    probes.collect::<()>().await;
                }
                // Open tunnels continue.
                Err(error) => tracing::debug!(%error, "the gateways are not tried"),
            }
            let any_well = self.known().iter().any(|gateway| gateway.is_well());
            tokio::select! {
                () = tokio::time::sleep(pause(any_well, &mut retry)) => {}
                () = self.ended.notified() => {}
            }
        }
    }

    /// Logs that there is no usable proof when that begins or changes, and when it is over.
    async fn tell_proof(&self, before: &mut Option<String>) {
        let now = self.proof().await.err();
        let text = now.as_ref().map(ToString::to_string);
        if text == *before {
            return;
        }
        if let Some(error) = &now {
            tracing::warn!(reason = error.code(), %error, "cannot show who this pod is");
        } else {
            tracing::info!("can show who this pod is again");
        }
        *before = text;
    }

    /// When the pod's certificate ends, if it should have been renewed by now.
    pub(super) async fn ends_soon(&self) -> Option<(Timestamp, String)> {
        let validity = self.dialer.proof().validity().await.ok()??;
        let now = self.clock.now();
        let soon = validity.standing(now) == Standing::EndsSoon;
        soon.then(|| (validity.not_after, validity.sentence(now)))
    }

    /// Logs once for each certificate that it should have been renewed.
    async fn tell_end(&self, before: &mut Option<Timestamp>) {
        let ends = self.ends_soon().await;
        let at = ends.as_ref().map(|(at, _)| *at);
        if let Some((at, standing)) = ends
            && *before != Some(at)
        {
            tracing::warn!(not_after = %at, "the pod's certificate {standing}");
        }
        *before = at;
    }

    /// Opens a tunnel through the first gateway that responds.
    pub(super) async fn tunnel(&self, authority: &Authority) -> Result<Tunnel, TunnelError> {
        let authorization = self.authorization().await?;
        let asked = self
            .each(|gateway| {
                let request = connect_request(authority, authorization.clone());
                async move {
                    let (response, lease) = ask(&gateway, request).await?;
                    Ok(Refused {
                        response,
                        lease,
                        gateway,
                    })
                }
            })
            .await?;
        if !asked.response.status().is_success() {
            return Err(TunnelError::Refused(Box::new(asked)));
        }
        let stream = hyper::upgrade::on(asked.response)
            .await
            .map_err(|error| RelayError::broken(&error))?;
        Ok(Tunnel {
            stream: TokioIo::new(stream),
            lease: asked.lease,
        })
    }

    /// A permit for a request in absolute form, which can be sent only once.
    pub(super) async fn lease(&self) -> Result<Lease, RelayError> {
        let mut unreached = self.unreached();
        for gateway in self.in_turn() {
            match gateway.lease().await {
                Ok(lease) => return Ok(lease),
                Err(fault) => unreached.add(&gateway, &fault),
            }
        }
        Err(unreached.into())
    }

    fn unreached(&self) -> Unreached {
        let mut unreached = Unreached::default();
        for (name, fault) in self.unresolved() {
            unreached.add_name(name, &fault);
        }
        unreached
    }

    /// Tries gateways in turn; one that cannot be reached or is full (503) is skipped.
    async fn each<F>(&self, attempt: impl Fn(Arc<Gateway>) -> F) -> Result<Refused, RelayError>
    where
        F: Future<Output = Result<Refused, Fault>>,
    {
        let mut unreached = self.unreached();
        let mut no_place = None;
        for gateway in self.in_turn() {
            match timeout(ANSWER_TIMEOUT, attempt(Arc::clone(&gateway))).await {
                Ok(Ok(answer)) if answer.response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    tracing::info!(gateway = %gateway.name(), address = %gateway.address(), "the gateway answered 503");
                    no_place = Some(answer);
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => unreached.add(&gateway, &fault),
                Err(_) => unreached.add(&gateway, &Fault::Silent),
            }
        }
        // A response of a gateway says more than the silence of others.
        no_place.ok_or_else(|| unreached.into())
    }

    /// The gateways to try: first the healthy ones, in rotation, then the others.
    fn in_turn(&self) -> impl Iterator<Item = Arc<Gateway>> + use<> {
        let known = self.known.load();
        let (mut well, mut unwell): (Vec<_>, Vec<_>) =
            known.iter().cloned().partition(|gateway| gateway.is_well());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for group in [&mut well, &mut unwell] {
            if !group.is_empty() {
                let first = turn % group.len();
                group.rotate_left(first);
            }
        }
        well.into_iter().chain(unwell).take(MOST_ATTEMPTS)
    }

    /// Addresses that still exist keep their connections.
    async fn look_up(&self) {
        let before = self.known();
        let mut after = Vec::new();
        for entry in &self.names {
            let name = &entry.name;
            let found = addresses(name).await;
            entry.tell(found.as_ref().err());
            let Ok(found) = found else {
                let old = before.iter().filter(|gateway| gateway.name() == name);
                after.extend(old.cloned());
                continue;
            };
            for address in found {
                let same = |gateway: &&Arc<Gateway>| {
                    gateway.address() == address && gateway.name() == name
                };
                let gateway = before.iter().find(same).cloned();
                after.push(gateway.unwrap_or_else(|| {
                    let (dialer, ended) = (Arc::clone(&self.dialer), Arc::clone(&self.ended));
                    Gateway::new(name.clone(), address, dialer, ended)
                }));
            }
        }
        self.known.store(Arc::new(after));
    }
}

impl Name {
    /// Records what a lookup showed. A new cause is logged at once, a repeated one not.
    fn tell(&self, fault: Option<&Fault>) {
        let before = std::mem::replace(&mut *self.fault(), fault.cloned());
        let Some(fault) = fault else { return };
        let (name, cause, error) = (&self.name, fault.cause(), fault);
        if before.is_some_and(|before| before.cause() == cause) {
            tracing::debug!(gateway = %name, cause, %error, "still not resolved");
        } else {
            tracing::warn!(gateway = %name, cause, %error, "the gateway has no address");
        }
    }

    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait until gateways are checked again.
fn pause(any_well: bool, retry: &mut Duration) -> Duration {
    if any_well {
        *retry = FIRST_RETRY;
        return WATCH_EVERY;
    }
    let pause = *retry;
    *retry = (pause * 2).min(WATCH_EVERY);
    pause
}

async fn ask(
    gateway: &Arc<Gateway>,
    mut request: Request<Outgoing>,
) -> Result<(Response<Incoming>, Lease), Fault> {
    // If a connection was closed cleanly at that moment, it is tried once more on a new one.
    for last in [false, true] {
        let mut lease = gateway.lease().await?;
        if lease.is_http1()
            && let Some(authority) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        match lease.send(request).await {
            Ok(response) => {
                note_response(gateway, &response);
                return Ok((response, lease));
            }
            Err(Unanswered {
                unsent: Some(unsent),
                ..
            }) if !last => request = unsent,
            Err(Unanswered { error, .. }) => {
                let fault = Fault::of_hyper(&error);
                gateway.tell(Err(fault.clone()));
                return Err(fault);
            }
        }
    }
    Err(Fault::Closed)
}

/// What a response to CONNECT shows about the gateway.
fn note_response(gateway: &Gateway, response: &Response<Incoming>) {
    if let Some(rejection) = Rejection::of(response) {
        gateway.tell(Err(Fault::Rejected(rejection)));
    } else if response.status().is_success() && !gateway.is_well() {
        gateway.tell(Ok(()));
    }
}

fn connect_request(authority: &Authority, authorization: Option<HeaderValue>) -> Request<Outgoing> {
    let mut request = Request::new(Either::Left(Empty::new()));
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() =
        Uri::try_from(authority.to_string()).expect("a canonical authority is a URI");
    if let Some(authorization) = authorization {
        request
            .headers_mut()
            .insert(PROXY_AUTHORIZATION, authorization);
    }
    request
}

/// The addresses of a name, by the system's resolver: hosts file and search domains apply.
async fn addresses(name: &GatewayName) -> Result<BTreeSet<SocketAddr>, Fault> {
    let host = match name.host() {
        Host::Ip(address) => return Ok([SocketAddr::new(*address, name.port())].into()),
        Host::Name(host) => host.to_string(),
    };
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, name.port())));
    let found = found.await.map_err(|_| Fault::NameUnanswered)?;
    // The system's own words: `failed to lookup address information: Name or service not known`.
    let unresolved = |error: std::io::Error| {
        let text = error.to_string();
        let text = text.rsplit(": ").next().unwrap_or_default();
        Fault::NameUnresolved(bounded(text))
    };
    let found: BTreeSet<_> = found.map_err(unresolved)?.collect();
    if found.is_empty() {
        return Err(Fault::NameEmpty);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_soon_and_then_less_often() {
        let mut retry = FIRST_RETRY;
        let mut pauses = |any_well: bool, times: usize| {
            let next = |_| pause(any_well, &mut retry).as_millis();
            (0..times).map(next).collect::<Vec<_>>()
        };
        assert_eq!(pauses(false, 7), [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pauses(true, 2), [5000, 5000]);
        assert_eq!(pauses(false, 2), [250, 500]);
    }
}
