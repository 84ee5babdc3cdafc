//! Whether what concurrent clients saw of a register with compare-and-set can be explained by one
//! order of operations, each at a moment between its call and its return (linearizability).
//!
//! Every writing has a value of its own, and says which value it replaced. So the order of the
//! writings is known, and what is left is whether moments can be found for them: each as early as
//! what came before allows, and no later than what was seen allows. That is exact, not a sample.

use std::collections::HashMap;

/// When an operation was called and when it returned; any unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Just before it was called.
    pub called: u64,
    /// Just after it returned; `u64::MAX` if it never did.
    pub returned: u64,
}

/// What an operation did, with values named by numbers; 0 is what was there at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It saw this value.
    Read(u64),
    /// It put `new` in the place of `old`.
    Replaced {
        /// What was there.
        old: u64,
        /// What is there now.
        new: u64,
    },
    /// It was refused, because what it expected was no longer there. The client had seen `old`
    /// before it asked.
    Refused {
        /// What it expected.
        old: u64,
    },
    /// It failed, and may have put `new` in the place of `old` or not.
    Unknown {
        /// What was there.
        old: u64,
        /// What may be there now.
        new: u64,
    },
}

/// Whether the history can be explained.
///
/// # Errors
/// With what cannot.
pub fn check(history: &[(Span, Operation)]) -> Result<(), String> {
    let order = order(history)?;
    let place: HashMap<u64, usize> = order.iter().enumerate().map(|(at, v)| (*v, at)).collect();
    let find = |value: u64| {
        let at = place.get(&value).copied();
        at.ok_or_else(|| format!("{value} was seen, and nobody wrote it"))
    };
    // The moment of each writing lies between these.
    let mut earliest = vec![0; order.len() + 1];
    let mut latest = vec![u64::MAX; order.len() + 1];
    for (span, operation) in history {
        match *operation {
            Operation::Read(value) => {
                let at = find(value)?;
                latest[at] = latest[at].min(span.returned);
                earliest[at + 1] = earliest[at + 1].max(span.called);
            }
            Operation::Replaced { new, .. } => {
                let at = find(new)?;
                earliest[at] = earliest[at].max(span.called);
                latest[at] = latest[at].min(span.returned);
            }
            Operation::Unknown { new, .. } => {
                if let Some(at) = place.get(&new) {
                    earliest[*at] = earliest[*at].max(span.called);
                }
            }
            Operation::Refused { old } => {
                let after = find(old)? + 1;
                if after == order.len() {
                    return Err(format!("{old} was refused, and it was never replaced"));
                }
                latest[after] = latest[after].min(span.returned);
            }
        }
    }
    let mut moment = 0;
    for (at, value) in order.iter().enumerate() {
        moment = moment.max(earliest[at]);
        if moment > latest[at] {
            return Err(format!("{value} cannot have been written in time"));
        }
    }
    Ok(())
}

/// The values one after the other, from 0.
fn order(history: &[(Span, Operation)]) -> Result<Vec<u64>, String> {
    let mut next = HashMap::new();
    let mut perhaps: HashMap<u64, Vec<u64>> = HashMap::new();
    for (_, operation) in history {
        match *operation {
            Operation::Replaced { old, new } => {
                if let Some(other) = next.insert(old, new) {
                    return Err(format!("{old} was replaced twice: by {other} and {new}"));
                }
            }
            Operation::Unknown { old, new } => perhaps.entry(old).or_default().push(new),
            Operation::Read(_) | Operation::Refused { .. } => {}
        }
    }
    let seen: Vec<u64> = history
        .iter()
        .filter_map(|(_, operation)| match *operation {
            Operation::Read(value) => Some(value),
            Operation::Replaced { old, .. } | Operation::Refused { old } => Some(old),
            Operation::Unknown { .. } => None,
        })
        .collect();
    let mut order = vec![0];
    let mut now = 0;
    loop {
        let unknown = perhaps.get(&now).into_iter().flatten().copied();
        let done = unknown.filter(|new| seen.contains(new)).collect::<Vec<_>>();
        now = match (next.remove(&now), done.as_slice()) {
            (Some(new), []) => new,
            (None, [new]) => *new,
            (None, []) => break,
            (Some(_), [_, ..]) | (None, [_, _, ..]) => {
                return Err(format!("{now} was replaced twice"));
            }
        };
        order.push(now);
    }
    match next.keys().next() {
        Some(lost) => Err(format!("{lost} was replaced, and nobody had written it")),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Operation::*, *};

    fn at(called: u64, returned: u64) -> Span {
        Span { called, returned }
    }

    const UNTIL_EVER: u64 = u64::MAX;

    #[rstest]
    #[case::one_after_the_other(&[
        (at(0, 1), Replaced { old: 0, new: 1 }), (at(2, 3), Read(1)), (at(4, 5), Replaced { old: 1, new: 2 }),
    ])]
    #[case::a_read_beside_a_writing_sees_either(&[
        (at(0, 10), Replaced { old: 0, new: 1 }), (at(1, 2), Read(0)), (at(3, 4), Read(1)),
    ])]
    #[case::a_refusal_beside_the_writing(&[
        (at(0, 10), Replaced { old: 0, new: 1 }), (at(1, 9), Refused { old: 0 }),
    ])]
    #[case::unknown_and_done(&[
        (at(0, UNTIL_EVER), Unknown { old: 0, new: 1 }), (at(50, 60), Read(1)),
    ])]
    #[case::unknown_and_not_done(&[
        (at(0, UNTIL_EVER), Unknown { old: 0, new: 1 }), (at(50, 60), Read(0)),
        (at(61, 62), Replaced { old: 0, new: 2 }),
    ])]
    fn is_explained(#[case] history: &[(Span, Operation)]) {
        assert_eq!(check(history), Ok(()));
    }

    #[rstest]
    #[case::stale_read(&[
        (at(0, 1), Replaced { old: 0, new: 1 }), (at(2, 3), Read(0)),
    ])]
    #[case::read_from_the_future(&[
        (at(0, 1), Read(1)), (at(2, 3), Replaced { old: 0, new: 1 }),
    ])]
    #[case::back_again(&[
        (at(0, 10), Replaced { old: 0, new: 1 }), (at(1, 2), Read(1)), (at(3, 4), Read(0)),
    ])]
    #[case::two_winners(&[
        (at(0, 10), Replaced { old: 0, new: 1 }), (at(0, 10), Replaced { old: 0, new: 2 }),
    ])]
    #[case::refused_for_nothing(&[
        (at(0, 1), Read(0)), (at(2, 3), Refused { old: 0 }),
    ])]
    #[case::refused_too_early(&[
        (at(0, 1), Refused { old: 0 }), (at(2, 3), Replaced { old: 0, new: 1 }),
    ])]
    #[case::lost_writing(&[
        (at(0, 1), Replaced { old: 0, new: 1 }), (at(2, 3), Replaced { old: 7, new: 8 }),
    ])]
    #[case::unknown_and_another(&[
        (at(0, UNTIL_EVER), Unknown { old: 0, new: 1 }), (at(2, 3), Read(1)),
        (at(4, 5), Replaced { old: 0, new: 2 }),
    ])]
    fn is_not_explained(#[case] history: &[(Span, Operation)]) {
        assert!(check(history).is_err());
    }
}
