//! The most frequent items of a stream, in constant memory.

/// The `N` most frequent items, by the algorithm of Metwally et al. ("space saving", 2005): an item with
/// more than one in `N` of the total is always among them.
#[derive(Debug)]
pub(in crate::observe) struct Top<T, const N: usize> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    thing: T,
    count: u64,
    /// By how much the count may be too high: the count of the item that was replaced.
    inherited: u64,
}

impl<T, const N: usize> Default for Top<T, N> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T: Clone + Eq, const N: usize> Top<T, N> {
    pub(super) fn add(&mut self, thing: &T) {
        if let Some(known) = self.entries.iter_mut().find(|known| known.thing == *thing) {
            known.count += 1;
        } else if self.entries.len() < N {
            self.entries.push(Entry {
                thing: thing.clone(),
                count: 1,
                inherited: 0,
            });
        } else if let Some(least) = self.entries.iter_mut().min_by_key(|entry| entry.count) {
            *least = Entry {
                thing: thing.clone(),
                count: least.count + 1,
                inherited: least.count,
            };
        }
    }

    /// Items that are certainly frequent, with a lower bound of their counts.
    pub(in crate::observe) fn named(&self) -> impl Iterator<Item = (&T, u64)> {
        self.entries
            .iter()
            .map(|entry| (&entry.thing, entry.count - entry.inherited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_frequent_is_found_among_any_number_of_others() {
        let mut top = Top::<u32, 4>::default();
        for number in 0..30_000 {
            top.add(&(1000 + number));
            top.add(&7);
        }
        let named: Vec<_> = top.named().collect();
        assert_eq!(named.len(), 4);
        let (_, count) = named.iter().find(|(thing, _)| **thing == 7).unwrap();
        assert!(*count > 25_000 && *count <= 30_000, "{count}");
        let others = named.iter().filter(|(thing, _)| **thing != 7);
        assert!(others.into_iter().all(|(_, count)| *count == 1));
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut top = Top::<&str, 4>::default();
        for thing in ["a", "b", "a", "c", "a"] {
            top.add(&thing);
        }
        let named: Vec<_> = top.named().collect();
        assert_eq!(named, [(&"a", 3), (&"b", 1), (&"c", 1)]);
    }
}
