//! Accepting connections, on a thread of its own.
//!
//! The kernel hands connections out in the order in which they came. A flood would delay everybody
//! behind it, so they are taken as fast as they come, and wait here, where sources take turns.

use std::{
    io,
    net::{self, SocketAddr},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use countersign_core::{
    budget::Purse,
    gate::{Gate, Room, Turn},
    slots::Source,
};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Handle},
    sync::oneshot,
    task::JoinSet,
    time::Instant,
};

use super::{
    AcceptContext,
    listener::{Bound, Incoming, Listener},
};

/// How many connections each worker looks at, beside each other, for the first time.
const FOR_EACH_WORKER: usize = 2;

/// How often memory for a newcomer is asked for, and how long between; also between looks for room.
const TRIES: usize = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// For how long connections from another source are expected after there was one.
const OTHERS: Duration = Duration::from_secs(10);

/// After an error. Trying at once would only spin.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread, which waits for what it is to accept.
#[derive(Debug)]
pub struct Acceptor {
    start: oneshot::Sender<(Vec<Bound>, Newcomers)>,
    ended: oneshot::Receiver<()>,
}

/// A connection that nobody has looked at yet.
#[derive(Debug)]
struct Newcomer {
    stream: net::TcpStream,
    client: SocketAddr,
    listener: Arc<Listener>,
}

/// Whether connections come from several sources at a listener.
#[derive(Debug)]
struct Sources {
    last: Option<Source>,
    others_until: Instant,
}

#[derive(Debug, Clone)]
struct Newcomers {
    context: Arc<AcceptContext>,
    gate: Gate<Source>,
    room: Room,
    workers: Handle,
}

impl Acceptor {
    /// Makes the thread.
    ///
    /// # Errors
    /// When the system gives no thread, or nothing to wait on.
    pub fn new() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (start, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            if let Ok((listeners, newcomers)) = runtime.block_on(started) {
                runtime.block_on(accept_all(listeners, newcomers));
            }
            // Nobody may wait for it.
            let _ = end.send(());
        };
        thread::Builder::new().name("accept".into()).spawn(run)?;
        Ok(Self { start, ended })
    }

    /// Accepts at all listeners until the gateway drains. Connections are served by the runtime that this
    /// is called in. It never stops because places are taken: a newcomer has one, and somebody else may
    /// have to go for it. False if it ended before, which only an error does.
    pub async fn run(self, listeners: Vec<Bound>, context: Arc<AcceptContext>) -> bool {
        let newcomers = Newcomers::new(context, Handle::current());
        let drain = newcomers.context.lifecycle.drain.clone();
        if self.start.send((listeners, newcomers)).is_ok() {
            // An error says that the thread panicked; it ends in any case.
            let _ = self.ended.await;
        }
        drain.is_cancelled()
    }
}

async fn accept_all(listeners: Vec<Bound>, newcomers: Newcomers) {
    let mut all = JoinSet::new();
    for bound in listeners {
        all.spawn(accept_at(bound, newcomers.clone()));
    }
    // They end together when the gateway drains. If one ends before, so do the others: a gateway with a dead
    // listener must not look alive.
    all.join_next().await;
}

async fn accept_at(bound: Bound, newcomers: Newcomers) {
    let (socket, listener) = bound.into_parts();
    let name = Arc::clone(&listener.name);
    // From the runtime that it was bound in to this one.
    let socket = socket.into_std().and_then(TcpListener::from_std);
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = %name, %error, "cannot wait for connections");
            return;
        }
    };
    let mut sources = Sources::new();
    let mut drain = pin!(newcomers.context.lifecycle.drain.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut drain => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let source = client.ip().into();
                sources.note(source);
                if !sources.are_several() {
                    newcomers.room_for(source).await;
                }
                newcomers.enter(stream, client, &listener);
            }
            Err(error) => {
                tracing::error!(listener = %name, %error, "cannot accept a connection");
                if is_shortage(&error) {
                    newcomers.context.slots.evict();
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether file descriptors or memory are short, of which a stranger's are the first to be given up.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno)
    })
}

impl Sources {
    fn new() -> Self {
        Self {
            last: None,
            others_until: Instant::now(),
        }
    }

    fn note(&mut self, source: Source) {
        if self.last.is_some_and(|last| last != source) {
            self.others_until = Instant::now() + OTHERS;
        }
        self.last = Some(source);
    }

    fn are_several(&self) -> bool {
        Instant::now() < self.others_until
    }
}

impl Newcomers {
    fn new(context: Arc<AcceptContext>, workers: Handle) -> Self {
        let most = FOR_EACH_WORKER * workers.metrics().num_workers();
        let bounds = context.slots.bounds();
        Self {
            context,
            gate: Gate::new(most),
            room: Room {
                for_one: bounds.per_source,
                for_all: bounds.strangers,
            },
            workers,
        }
    }

    /// Waits until no other one is closed for a newcomer of `source`. While there is one source only, closing
    /// protects nobody, and the kernel's queue can hold back who comes too fast.
    async fn room_for(&self, source: Source) {
        while self.gate.is_full_for(source, self.room)
            && !self.context.lifecycle.drain.is_cancelled()
        {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Has a connection served when it is its source's turn. It is closed here if too many wait.
    fn enter(&self, stream: TcpStream, client: SocketAddr, listener: &Arc<Listener>) {
        // From this thread's runtime to that of the workers.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return cannot_wait(&error),
        };
        let newcomer = Newcomer {
            stream,
            client,
            listener: Arc::clone(listener),
        };
        let this = self.clone();
        let start = move |turn| {
            let serve = newcomer.serve(this.context.clone(), turn, this.gate);
            this.context.lifecycle.tasks.spawn_on(serve, &this.workers);
        };
        if let Some((source, full)) = self.gate.enter(client.ip().into(), self.room, start) {
            self.context.slots.turned_away(source, full.into());
        }
    }
}

impl Newcomer {
    async fn serve(self, context: Arc<AcceptContext>, turn: Turn<Source>, gate: Gate<Source>) {
        // Counted there, if there is none.
        let Some(purse) = admitted(&context).await else {
            return;
        };
        match TcpStream::from_std(self.stream) {
            Ok(stream) => {
                let incoming = Incoming::new(context, &self.listener, self.client, purse);
                incoming.serve_within_place(stream, turn, &gate).await;
            }
            Err(error) => cannot_wait(&error),
        }
    }
}

fn cannot_wait(error: &io::Error) {
    tracing::error!(%error, "cannot wait for what a connection sends");
}

/// Memory for a newcomer. Strangers that were closed for it give theirs back when their tasks have
/// ended, which takes a moment; `None` if it takes long.
async fn admitted(context: &AcceptContext) -> Option<Arc<Purse>> {
    for _ in 0..TRIES {
        if let Ok(purse) = context.budget.admit() {
            return Some(purse);
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    None
}
