//! Who makes pages: one at a time, on a thread that may wait, for everybody who asks for the same.
//!
//! The bounds: [`KEPT`] pages are kept or in the making; a page is shown again for [`FRESH`]; a browser waits for
//! [`PATIENCE`], which is less than a connection of the admin endpoint may last. The making itself goes on, and the
//! next reload finds it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::response::Response;
use countersign_core::clock::Clock;
use tokio::{sync::watch, time::Instant};

use crate::{page::Page, reading::Room, source::Source};

/// Pages that are kept, or in the making.
const KEPT: usize = 16;

/// For how long a page is shown again.
const FRESH: Duration = Duration::from_secs(5);

/// How long a browser waits for a page.
const PATIENCE: Duration = Duration::from_secs(8);

/// Makes pages. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Shared>);

struct Shared {
    /// Held while a page is made.
    room: Arc<tokio::sync::Mutex<Room>>,
    kept: Mutex<VecDeque<Kept>>,
}

/// A page, by what was asked for.
struct Kept {
    key: String,
    made: watch::Receiver<Option<Made>>,
}

/// A page, and when it was made.
type Made = (Instant, Page);

impl Desk {
    pub(crate) fn new(source: Arc<dyn Source>, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            room: Arc::new(tokio::sync::Mutex::new(Room::new(source, clock))),
            kept: Mutex::default(),
        }))
    }

    /// The page for a key: the one that is kept or in the making, or else the one that `make` makes.
    pub(crate) async fn page(
        &self,
        key: String,
        make: impl FnOnce(&mut Room) -> Page + Send + 'static,
    ) -> Response {
        let Some(mut made) = self.join(key, make) else {
            return Page::busy().respond();
        };
        let page = match tokio::time::timeout(PATIENCE, made.wait_for(Option::is_some)).await {
            Ok(Ok(made)) => made.as_ref().map(|(_, page)| page.clone()),
            // It panicked, which the panic handler has told.
            Ok(Err(_)) => Some(Page::broken()),
            Err(_) => Some(Page::still_reading()),
        };
        page.unwrap_or_else(Page::broken).respond()
    }

    /// `None` if too much is in the making already.
    fn join(
        &self,
        key: String,
        make: impl FnOnce(&mut Room) -> Page + Send + 'static,
    ) -> Option<watch::Receiver<Option<Made>>> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(Kept::is_of_use);
        if let Some(same) = kept.iter().find(|one| one.key == key) {
            return Some(same.made.clone());
        }
        if kept.len() >= KEPT {
            let done = kept.iter().position(|one| one.made.borrow().is_some())?;
            kept.remove(done);
        }
        let (tell, made) = watch::channel(None);
        kept.push_back(Kept {
            key,
            made: made.clone(),
        });
        drop(kept);
        let room = Arc::clone(&self.0.room);
        tokio::spawn(async move {
            let mut room = room.lock_owned().await;
            let making = tokio::task::spawn_blocking(move || make(&mut room));
            if let Ok(page) = making.await {
                tell.send_replace(Some((Instant::now(), page)));
            }
        });
        Some(made)
    }
}

impl Kept {
    /// Whether it is in the making, or fresh.
    fn is_of_use(&self) -> bool {
        match &*self.made.borrow() {
            Some((at, _)) => at.elapsed() < FRESH,
            None => self.made.has_changed().is_ok(),
        }
    }
}
