//! One queue of the log, which no single source can fill.
//!
//! A queue is bounded in records and in bytes. A quarter of it is reserved for sources with few records in
//! it. Of the rest, one source may hold at most twice what is free, so that a single flood is limited to
//! half of the queue, and several leave each other room.

use std::{
    borrow::Cow,
    hash::BuildHasher as _,
    mem::size_of,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use foldhash::fast::RandomState;

use super::{
    super::{CUT, PathOnly, closed::Closed},
    class::was_forwarded,
};

/// The number of queued records up to which texts are not copied: a path keeps the buffer of its whole
/// request head alive.
const UNTRIMMED: usize = 256;

/// The longest text that is queued; longer ones are cut when they are written anyway.
const TEXT: usize = 8 * 1024;

/// A source with less than this part of the queue has few records in it.
const LITTLE: usize = 64;

/// The number of cells in which shares are counted. Two sources in one cell share it.
const CELLS: usize = 4096;

/// The bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Lane {
    queue: SyncSender<Waiting>,
    shares: Arc<Shares>,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Outlet {
    queue: Receiver<Waiting>,
    shares: Arc<Shares>,
}

#[derive(Debug)]
struct Waiting {
    closed: Box<Closed>,
    weight: u32,
    cell: u16,
}

#[derive(Debug)]
struct Shares {
    bytes: usize,
    held: AtomicUsize,
    cells: Box<[AtomicUsize]>,
    hasher: RandomState,
}

pub(super) fn lane(bounds: Bounds) -> (Lane, Outlet) {
    let (sender, receiver) = sync_channel(bounds.records);
    let shares = Arc::new(Shares {
        bytes: bounds.bytes,
        held: AtomicUsize::new(0),
        cells: (0..CELLS).map(|_| AtomicUsize::new(0)).collect(),
        hasher: RandomState::default(),
    });
    let lane = Lane {
        queue: sender,
        shares: Arc::clone(&shares),
    };
    let outlet = Outlet {
        queue: receiver,
        shares,
    };
    (lane, outlet)
}

impl Lane {
    /// Queues a record, or returns it if there is no room. Never waits.
    pub(super) fn put(&self, mut closed: Box<Closed>) -> Result<(), Box<Closed>> {
        let many = self.shares.held.load(Ordering::Relaxed) > UNTRIMMED * size_of::<Closed>();
        let mut weight = weigh(&closed);
        if many || weight > TEXT {
            trim(&mut closed);
            weight = weigh(&closed);
        }
        let Some(cell) = self.shares.take(&closed, weight) else {
            return Err(closed);
        };
        let waiting = Waiting {
            closed,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            cell,
        };
        self.queue.try_send(waiting).map_err(|back| {
            let (TrySendError::Full(back) | TrySendError::Disconnected(back)) = back;
            self.shares.give_back(&back);
            back.closed
        })
    }
}

impl Outlet {
    /// The next record, if there is one.
    pub(super) fn next(&self) -> Option<Box<Closed>> {
        let waiting = self.queue.try_recv().ok()?;
        self.shares.give_back(&waiting);
        Some(waiting.closed)
    }

    /// Whether all sending ends are gone.
    pub(super) fn is_closed(&self) -> bool {
        // Only the other end shares them.
        Arc::strong_count(&self.shares) == 1
    }
}

impl Shares {
    /// Takes room for a record of the source with this cell.
    fn take(&self, closed: &Closed, weight: usize) -> Option<u16> {
        let forwarded = was_forwarded(closed);
        let cell = self.cell(closed, forwarded);
        let ours = &self.cells[cell];
        let held = self.held.fetch_add(weight, Ordering::Relaxed) + weight;
        let share = ours.fetch_add(weight, Ordering::Relaxed) + weight;
        if held <= self.bytes && self.is_fair(held, share, closed, forwarded) {
            return u16::try_from(cell).ok();
        }
        self.held.fetch_sub(weight, Ordering::Relaxed);
        ours.fetch_sub(weight, Ordering::Relaxed);
        None
    }

    fn is_fair(&self, held: usize, share: usize, closed: &Closed, forwarded: bool) -> bool {
        let free = (self.bytes / 4 * 3).saturating_sub(held);
        // Refusals must not displace records of what the same workload had forwarded.
        let refused = !forwarded && closed.entry.caller.is_some();
        let most = if refused { free / 2 } else { free * 2 };
        share <= most || share <= self.bytes / LITTLE
    }

    fn give_back(&self, waiting: &Waiting) {
        let weight = waiting.weight as usize;
        self.held.fetch_sub(weight, Ordering::Relaxed);
        self.cells[usize::from(waiting.cell)].fetch_sub(weight, Ordering::Relaxed);
    }

    /// The source of a record: a workload, a caller without a workload, or an address.
    fn cell(&self, closed: &Closed, forwarded: bool) -> usize {
        let entry = &closed.entry;
        let caller = || entry.caller.as_ref()?.subject.as_deref();
        let hash = match (&entry.workload, caller()) {
            (Some(workload), _) => self.hasher.hash_one((forwarded, workload.name.as_str())),
            (None, Some(subject)) => self.hasher.hash_one((forwarded, subject)),
            (None, None) => {
                let address = entry.client.map(|client| client.ip());
                self.hasher.hash_one((forwarded, address))
            }
        };
        // The low bits of the hash are good enough.
        #[expect(clippy::cast_possible_truncation, reason = "reduced to a cell at once")]
        let cell = hash as usize % CELLS;
        cell
    }
}

/// What a record holds, in bytes.
fn weigh(closed: &Closed) -> usize {
    let entry = &closed.entry;
    let path = entry.target.as_ref().and_then(|part| part.path.as_ref());
    let nearest = entry.nearest.iter().flat_map(|nearest| &nearest.mismatches);
    let rejected = entry
        .credential
        .as_ref()
        .and_then(|part| part.rejected.as_ref());
    let said = [
        entry
            .upstream
            .as_ref()
            .and_then(|part| part.api_error.as_deref()),
        rejected.and_then(|part| part.api_error.as_deref()),
        entry.detail.as_deref(),
        path.map(PathOnly::as_str),
    ];
    let texts: usize = said.into_iter().flatten().map(str::len).sum();
    let mismatches: usize = nearest
        .map(|mismatch| mismatch.expected.len() + mismatch.actual.len() + 64)
        .sum();
    size_of::<Closed>() + texts + mismatches
}

/// Frees what will not be written.
fn trim(closed: &mut Closed) {
    let entry = &mut closed.entry;
    if let Some(part) = &mut entry.target {
        part.path = part.path.take().map(|path| path.trimmed(TEXT));
    }
    if let Some(Cow::Owned(detail)) = &mut entry.detail {
        cut_amid(detail);
    }
    if let Some(nearest) = &mut entry.nearest {
        for mismatch in &mut nearest.mismatches {
            cut(&mut mismatch.expected);
            cut(&mut mismatch.actual);
        }
    }
    if let Some(said) = entry
        .upstream
        .as_mut()
        .and_then(|part| part.api_error.as_mut())
    {
        cut(said);
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push_str(CUT);
        text.shrink_to_fit();
    }
}

/// Keeps the end too: it says what to do.
fn cut_amid(text: &mut String) {
    if text.len() > TEXT {
        let end = text.ceil_char_boundary(text.len() - TEXT / 2);
        let end = text.split_off(end);
        text.truncate(text.floor_char_boundary(TEXT / 2));
        text.extend([CUT, &end]);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::observe::{Outcome, fixture};

    const BOUNDS: Bounds = Bounds {
        records: 8192,
        bytes: 1024 * 1024,
    };

    const REFUSED: Outcome = Outcome::Refused {
        reason: "request_not_allowed",
        blame: "operator",
    };

    fn of(subject: &str, outcome: Outcome) -> Box<Closed> {
        let (recorder, _) = fixture::recorder();
        let mut record = recorder.open();
        record.caller = Some(fixture::caller(subject));
        record.take_closed(outcome)
    }

    /// How many of `count` records go in.
    fn put(lane: &Lane, count: usize, subject: &str, outcome: Outcome) -> usize {
        (0..count)
            .filter(|_| lane.put(of(subject, outcome)).is_ok())
            .count()
    }

    /// A lane in which none of these shares a cell with another: who meets whom is chance.
    fn apart(whose: &[(&str, Outcome)]) -> (Lane, Outlet) {
        loop {
            let (lane, outlet) = lane(BOUNDS);
            let cell = |(subject, outcome): &(&str, Outcome)| {
                let closed = of(subject, *outcome);
                lane.shares.cell(&closed, was_forwarded(&closed))
            };
            let cells: HashSet<usize> = whose.iter().map(cell).collect();
            if cells.len() == whose.len() {
                return (lane, outlet);
            }
        }
    }

    #[test]
    fn one_flood_leaves_half() {
        let both = ["flood", "honest"].map(|subject| (subject, Outcome::Permitted));
        let (lane, outlet) = apart(&both);
        let all = BOUNDS.bytes / weigh(&of("flood", Outcome::Permitted));
        let flood = put(&lane, 2 * all, "flood", Outcome::Permitted);
        assert!(flood > all / 3 && flood <= all / 2, "{flood} of {all}");
        let honest = put(&lane, all / 10, "honest", Outcome::Permitted);
        assert_eq!(honest, all / 10);
        let taken = std::iter::from_fn(|| outlet.next()).count();
        assert_eq!(taken, flood + honest);
        assert_eq!(lane.shares.held.load(Ordering::Relaxed), 0);
        assert_eq!(put(&lane, all, "flood", Outcome::Permitted), flood);
    }

    #[test]
    fn ten_floods_leave_room_for_ten_who_say_little() {
        let floods: Vec<String> = (0..10).map(|number| format!("flood {number}")).collect();
        let honest: Vec<String> = (0..10).map(|number| format!("honest {number}")).collect();
        let all: Vec<_> = floods
            .iter()
            .chain(&honest)
            .map(|subject| (subject.as_str(), Outcome::Permitted))
            .collect();
        let (lane, _outlet) = apart(&all);
        let most = BOUNDS.bytes / weigh(&of("flood 0", Outcome::Permitted));
        for flood in &floods {
            put(&lane, most, flood, Outcome::Permitted);
        }
        let little = most / LITTLE;
        for subject in &honest {
            assert_eq!(put(&lane, little, subject, Outcome::Permitted), little);
        }
    }

    #[test]
    fn refusals_do_not_crowd_out_what_the_same_workload_had_forwarded() {
        let (lane, _outlet) = apart(&[("one", REFUSED), ("one", Outcome::Permitted)]);
        let all = BOUNDS.bytes / weigh(&of("one", REFUSED));
        let refused = put(&lane, all, "one", REFUSED);
        assert!(refused <= all / 4, "{refused} of {all}");
        assert_eq!(put(&lane, all / 4, "one", Outcome::Permitted), all / 4);
    }

    #[test]
    fn records_are_bounded_whatever_they_weigh() {
        let (lane, _outlet) = lane(Bounds {
            records: 3,
            ..BOUNDS
        });
        assert_eq!(put(&lane, 5, "one", Outcome::Permitted), 3);
        // What did not go in holds nothing.
        let three = 3 * weigh(&of("one", Outcome::Permitted));
        assert_eq!(lane.shares.held.load(Ordering::Relaxed), three);
    }

    #[test]
    fn long_texts_weigh_and_are_trimmed() {
        let long = |outcome| {
            let mut closed = of("one", outcome);
            fixture::fill(&mut closed.entry);
            let path = format!("/{}", "é".repeat(30_000)).parse::<http::uri::PathAndQuery>();
            closed.entry.target.as_mut().unwrap().path = Some(path.unwrap().into());
            closed.entry.detail = Some(format!("{} Do this.", "é".repeat(30_000)).into());
            closed.entry.nearest.as_mut().unwrap().mismatches[0].actual = "é".repeat(30_000);
            closed
        };
        let mut closed = long(REFUSED);
        assert!(weigh(&closed) > 180_000);
        trim(&mut closed);
        assert!(weigh(&closed) < 4 * TEXT, "{}", weigh(&closed));
        let detail = closed.entry.detail.as_deref().unwrap();
        assert!(detail.contains(CUT) && detail.ends_with("é Do this."));
        let (lane, _outlet) = lane(BOUNDS);
        while lane.put(long(Outcome::Permitted)).is_ok() {}
        assert!(lane.shares.held.load(Ordering::Relaxed) <= BOUNDS.bytes);
    }

    #[test]
    fn an_outlet_knows_when_the_other_end_is_gone() {
        let (lane, outlet) = lane(BOUNDS);
        assert!(!outlet.is_closed());
        drop(lane);
        assert!(outlet.is_closed());
    }
}
