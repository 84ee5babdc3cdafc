//! The places of connections whose caller was proven, shared fairly among workloads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{LOOK, Share, place::Place};

/// Connections of proven callers, by whose they are.
#[derive(Debug, Default)]
pub(super) struct Shares {
    open: usize,
    by_share: HashMap<Share, BTreeMap<u64, Arc<Place>>>,
    whose: HashMap<u64, Share>,
}

impl Shares {
    /// Makes room for one more of `share`, of `most` in all: the connection that gives way for it,
    /// if one must. `None` if there is no room for it.
    #[expect(
        clippy::option_option,
        reason = "whether there is room, and at whose cost"
    )]
    pub(super) fn room(&mut self, share: &Share, most: usize) -> Option<Option<Arc<Place>>> {
        if self.open < most {
            return Some(None);
        }
        let own = self.by_share.get(share).map_or(0, BTreeMap::len);
        let sharers = self.by_share.len() + usize::from(own == 0);
        let fair = (most / sharers).max(1);
        let number = if own < fair {
            let fullest = self.by_share.values().max_by_key(|places| places.len())?;
            if fullest.len() <= fair {
                return None;
            }
            resting(fullest).or_else(|| fullest.keys().next_back().copied())?
        } else {
            resting(self.by_share.get(share)?)?
        };
        Some(self.remove(number))
    }

    pub(super) fn enter(&mut self, place: Arc<Place>, share: Share) {
        self.whose.insert(place.number, share.clone());
        let places = self.by_share.entry(share).or_default();
        places.insert(place.number, place);
        self.open += 1;
    }

    pub(super) fn leave(&mut self, place: &Place) {
        self.remove(place.number);
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Place>> {
        let share = self.whose.remove(&number)?;
        let places = self.by_share.get_mut(&share)?;
        let place = places.remove(&number)?;
        if places.is_empty() {
            self.by_share.remove(&share);
        }
        self.open -= 1;
        Some(place)
    }
}

/// The one of the newest or oldest that has rested longest; `None` if none of them rests.
fn resting(places: &BTreeMap<u64, Arc<Place>>) -> Option<u64> {
    let newest = places.values().rev().take(LOOK);
    let looked = places.values().take(LOOK).chain(newest);
    let resting = looked.filter_map(|place| Some((place.resting_since()?, place.number)));
    resting.min().map(|(_, number): (Instant, u64)| number)
}
