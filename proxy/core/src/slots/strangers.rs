//! The places of connections that have proven nothing yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Bounds, LOOK, Shed,
    place::{Place, Source},
};

/// All strangers, by listener.
#[derive(Debug, Default)]
pub(super) struct Strangers(HashMap<Arc<str>, Pool>);

/// The strangers at one listener.
#[derive(Debug, Default)]
struct Pool {
    /// By the order in which they came.
    all: BTreeMap<u64, Arc<Place>>,
    by_source: HashMap<Source, BTreeSet<u64>>,
    /// The sources by how many they have.
    by_count: BTreeSet<(usize, Source)>,
}

impl Strangers {
    /// Takes a newcomer in. If there are too many then, the one that gives way is returned; the newcomer
    /// itself where nobody was looked at yet.
    pub(super) fn enter(
        &mut self,
        place: Arc<Place>,
        bounds: &Bounds,
    ) -> Option<(Arc<Place>, Shed)> {
        let pool = self.0.entry(Arc::clone(place.listener())).or_default();
        let source = place.source;
        let crowded = if pool.of(source) >= bounds.per_source {
            Some((Some(source), Shed::SourceFull))
        } else if pool.all.len() >= bounds.strangers {
            Some((pool.fullest(), Shed::ListenerFull))
        } else {
            None
        };
        let gone = crowded.and_then(|(source, why)| Some((pool.least(source)?, why)));
        if let Some((least, why)) = &gone {
            if least.is_new() {
                // Those before it are next to be looked at.
                return Some((place, *why));
            }
            pool.remove(least.number);
        }
        pool.insert(place);
        gone
    }

    /// Takes out the one that should go first, of the listener that has most.
    pub(super) fn give_way(&mut self) -> Option<Arc<Place>> {
        let pool = self.0.values_mut().max_by_key(|pool| pool.all.len())?;
        let least = pool.least(pool.fullest())?;
        pool.remove(least.number)
    }

    /// Takes one out; false if it was none.
    pub(super) fn leave(&mut self, place: &Place) -> bool {
        let Some(pool) = self.0.get_mut(place.listener()) else {
            return false;
        };
        pool.remove(place.number).is_some()
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        let pool = self.0.get(place.listener());
        pool.is_some_and(|pool| pool.all.contains_key(&place.number))
    }

    pub(super) fn open(&self) -> usize {
        self.0.values().map(|pool| pool.all.len()).sum()
    }
}

impl Pool {
    fn of(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, BTreeSet::len)
    }

    /// The source that has most; `None` if none has more than one.
    fn fullest(&self) -> Option<Source> {
        let (count, source) = self.by_count.last()?;
        (*count > 1).then_some(*source)
    }

    /// The one of a source, or of all, that has come least far; of these the oldest.
    fn least(&self, source: Option<Source>) -> Option<Arc<Place>> {
        let numbers = source.and_then(|source| self.by_source.get(&source));
        let least = if let Some(numbers) = numbers {
            let places = numbers.iter().filter_map(|number| self.all.get(number));
            places.take(LOOK).min_by_key(|place| place.stage())
        } else {
            let places = self.all.values().take(LOOK);
            places.min_by_key(|place| place.stage())
        };
        least.map(Arc::clone)
    }

    fn insert(&mut self, place: Arc<Place>) {
        let (number, source) = (place.number, place.source);
        let numbers = self.by_source.entry(source).or_default();
        let before = numbers.len();
        numbers.insert(number);
        self.recount(source, before);
        self.all.insert(number, place);
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Place>> {
        let place = self.all.remove(&number)?;
        let source = place.source;
        if let Some(numbers) = self.by_source.get_mut(&source) {
            let before = numbers.len();
            numbers.remove(&number);
            self.recount(source, before);
        }
        Some(place)
    }

    fn recount(&mut self, source: Source, before: usize) {
        self.by_count.remove(&(before, source));
        match self.of(source) {
            0 => drop(self.by_source.remove(&source)),
            count => drop(self.by_count.insert((count, source))),
        }
    }
}
