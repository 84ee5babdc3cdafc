//! Resolves names. If a name's servers keep a request waiting, later requests for the name wait for a
//! second only: one attempt continues for all of them, and the resolver caches its result.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_core::{outage::PROMPT, single_flight::SingleFlight};
use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout};

/// The most names that are remembered as slow.
const MOST: usize = 1024;

/// The addresses of a name.
pub(super) type Found = Result<SmallVec<[IpAddr; 8]>, NameError>;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NameError {
    /// The name has no address.
    NoAddress,
    /// The name servers say that there is no such name.
    Unknown,
    /// The name servers did not answer, or could not be asked.
    Failed(Arc<str>),
}

/// A resolver, and the names for which its servers do not respond.
pub(super) struct Names {
    resolver: TokioResolver,
    slow: Mutex<HashMap<Box<str>, Arc<SingleFlight<Found>>>>,
}

/// Marks a name as slow when it is dropped, also by a request that gives up.
struct Watch<'a> {
    names: &'a Names,
    name: &'a str,
    began: Instant,
    answered: bool,
}

impl Names {
    pub(super) fn new(resolver: TokioResolver) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            slow: Mutex::default(),
        })
    }

    /// The addresses of a name, given with its final dot.
    pub(super) async fn lookup(self: &Arc<Self>, name: &str) -> Found {
        let Some(flight) = self.known_slow(name) else {
            return self.watched(name).await;
        };
        let attempt = flight.join(|| {
            let (names, name) = (Arc::clone(self), name.to_owned());
            async move { names.again(&name).await }
        });
        match timeout(PROMPT, attempt).await {
            Ok(found) => found.unwrap_or_else(|lost| Err(failed(&lost))),
            Err(_elapsed) => Err(failed(&"the name servers do not answer")),
        }
    }

    async fn watched(&self, name: &str) -> Found {
        let mut watch = Watch {
            names: self,
            name,
            began: Instant::now(),
            answered: false,
        };
        let found = self.ask(name).await;
        watch.answered = !matches!(found, Err(NameError::Failed(_)));
        found
    }

    /// Resolves a name that was slow, and clears the mark if it is not any more.
    async fn again(&self, name: &str) -> Found {
        let began = Instant::now();
        let found = self.ask(name).await;
        let is_slow = matches!(found, Err(NameError::Failed(_))) && began.elapsed() >= PROMPT;
        if !is_slow {
            self.slow().remove(name);
        }
        found
    }

    async fn ask(&self, name: &str) -> Found {
        match self.resolver.lookup_ip(name).await {
            Ok(found) => {
                let found: SmallVec<_> = found.iter().collect();
                if found.is_empty() {
                    return Err(NameError::NoAddress);
                }
                Ok(found)
            }
            Err(error) => Err(classified(&error)),
        }
    }

    fn known_slow(&self, name: &str) -> Option<Arc<SingleFlight<Found>>> {
        self.slow().get(name).map(Arc::clone)
    }

    fn slow(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<SingleFlight<Found>>>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.answered || self.began.elapsed() < PROMPT {
            return;
        }
        let mut slow = self.names.slow();
        if slow.len() < MOST {
            let flight = || Arc::new(SingleFlight::new());
            slow.entry(self.name.into()).or_insert_with(flight);
        }
    }
}

fn classified(error: &NetError) -> NameError {
    let code = match error {
        NetError::Dns(DnsError::ResponseCode(code)) => Some(*code),
        NetError::Dns(DnsError::NoRecordsFound(none)) => Some(none.response_code),
        _ => None,
    };
    match code {
        Some(ResponseCode::NoError) => NameError::NoAddress,
        Some(ResponseCode::NXDomain) => NameError::Unknown,
        // As a cluster's name server answers if it cannot reach others.
        Some(code) => failed(&format!(
            "the name servers answer with \"{code}\"; if they know other names, those of this name fail"
        )),
        None => match error {
            NetError::Timeout => failed(&"the name servers do not answer"),
            NetError::NoConnections => failed(&"no name server can be reached"),
            NetError::Io(error) => failed(&format!(
                "the name servers cannot be reached ({})",
                error.kind()
            )),
            _ => failed(&"what the name servers answer cannot be used"),
        },
    }
}

fn failed(error: &impl ToString) -> NameError {
    NameError::Failed(error.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        net::{NoRecords, runtime::TokioRuntimeProvider},
        proto::op::Query,
    };
    use rstest::rstest;
    use tokio::net::UdpSocket;

    use super::*;

    fn answered(code: ResponseCode) -> NetError {
        DnsError::NoRecordsFound(NoRecords::new(Query::new(), code)).into()
    }

    /// Only what the name servers know of the name is the name's fault.
    #[rstest]
    #[case::no_name(answered(ResponseCode::NXDomain), NameError::Unknown)]
    #[case::no_address(answered(ResponseCode::NoError), NameError::NoAddress)]
    #[case::fail(answered(ResponseCode::ServFail), failed(&""))]
    #[case::refuse(DnsError::ResponseCode(ResponseCode::Refused).into(), failed(&""))]
    #[case::silent(NetError::Timeout, failed(&""))]
    #[case::unreachable(NetError::NoConnections, failed(&""))]
    #[case::broken(NetError::Message("odd"), failed(&""))]
    fn what_name_servers_say_is_told_apart(#[case] said: NetError, #[case] expected: NameError) {
        let found = classified(&said);
        assert_eq!(
            std::mem::discriminant(&found),
            std::mem::discriminant(&expected),
            "{found:?}"
        );
        // No text of the library's.
        assert!(!format!("{found:?}").contains("Query {"), "{found:?}");
    }

    /// A name server that reads queries and never responds.
    async fn silent() -> (Arc<Names>, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while socket.recv(&mut question).await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        (Names::new(builder.build().unwrap()), asked)
    }

    fn looks_up(names: &Arc<Names>, name: &'static str) -> tokio::task::JoinHandle<Found> {
        let names = Arc::clone(names);
        tokio::spawn(async move { names.lookup(name).await })
    }

    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn a_name_server_that_hangs_costs_a_request_a_second() {
        let (names, asked) = silent().await;
        let asked_more_than = async |times: usize| {
            let waiting = tokio::time::timeout(Duration::from_secs(4), async {
                while asked.load(Ordering::SeqCst) <= times {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            waiting.await.expect("it is asked");
        };
        // The first one gives up, as a request does after its timeout.
        let first = looks_up(&names, "api.test.");
        asked_more_than(0).await;
        pass(PROMPT).await;
        first.abort();
        assert!(first.await.is_err());
        for _ in 0..3 {
            let next = looks_up(&names, "api.test.");
            // It has begun to wait.
            tokio::time::sleep(Duration::from_millis(20)).await;
            pass(PROMPT).await;
            let found = tokio::time::timeout(Duration::from_secs(2), next).await;
            let found = found.expect("it does not wait").unwrap();
            assert_eq!(found, Err(failed(&"the name servers do not answer")));
        }
        // Another name is not marked.
        let other = looks_up(&names, "other.test.");
        tokio::time::sleep(Duration::from_millis(20)).await;
        pass(PROMPT).await;
        let waited = tokio::time::timeout(Duration::from_millis(100), other).await;
        assert!(waited.is_err(), "it is the first for its name");
    }
}
