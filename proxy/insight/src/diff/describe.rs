//! Says in patterns which classes are meant, exactly.

use std::collections::BTreeSet;

use crate::space::Set;

/// Some classes, in words: what matches `pattern`, but for what matches one of `except`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Described {
    /// `None` is anything.
    pub pattern: Option<String>,
    /// What is left out.
    pub except: Vec<String>,
    /// What it must match as well.
    pub and: Vec<String>,
}

impl std::fmt::Display for Described {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.pattern.as_deref().unwrap_or("any"))?;
        if !self.and.is_empty() {
            write!(f, " and {}", self.and.join(" and "))?;
        }
        if !self.except.is_empty() {
            write!(f, " except {}", self.except.join(", "))?;
        }
        Ok(())
    }
}

type Indices = BTreeSet<usize>;

/// Describes the chosen ones of all classes. `names` says what each number in a class's set means. Only if
/// `is_all` are there no others, so that something may be described by what it is not.
pub(crate) fn describe(
    all: &[&Set],
    chosen: &Indices,
    names: &[String],
    is_all: bool,
) -> Vec<Described> {
    let everything: Indices = (0..all.len()).collect();
    let matching: Vec<Indices> = (0_u32..)
        .take(names.len())
        .map(|name| {
            everything
                .iter()
                .copied()
                .filter(|class| all[*class].contains(&name))
                .collect()
        })
        .collect();
    let cover = Cover {
        chosen,
        matching: &matching,
        names,
        is_all,
    };
    if *chosen == everything {
        return vec![Described {
            pattern: None,
            except: Vec::new(),
            and: Vec::new(),
        }];
    }
    let mut left = chosen.clone();
    let mut said = Vec::new();
    while let Some(name) = cover.whole(&left) {
        left.retain(|class| !matching[name].contains(class));
        said.push(cover.name(Some(name), &[]));
    }
    if (!left.is_empty() || said.len() > 1)
        && let Some((name, except)) = cover.alone(&everything)
    {
        return vec![cover.name(name, &except)];
    }
    while !left.is_empty() {
        let Some((name, except)) = cover.with_exceptions(&left, &everything) else {
            break;
        };
        let own = name.map_or(&everything, |name| &matching[name]);
        left.retain(|class| !own.contains(class));
        said.push(cover.name(name, &except));
    }
    // What no pattern says alone: all that match these and none of the others.
    said.extend(left.into_iter().map(|class| cover.exactly(all[class])));
    said
}

struct Cover<'a> {
    chosen: &'a Indices,
    /// The classes of each name.
    matching: &'a [Indices],
    names: &'a [String],
    is_all: bool,
}

impl Cover<'_> {
    /// The name that says most of what is left and nothing that is not chosen.
    fn whole(&self, left: &Indices) -> Option<usize> {
        let gains = self.matching.iter().enumerate().filter_map(|(name, own)| {
            let gain = own.intersection(left).count();
            (gain > 0 && own.is_subset(self.chosen)).then_some((gain, name))
        });
        let best = gains.max_by_key(|(gain, name)| (*gain, usize::MAX - name));
        best.map(|(_, name)| name)
    }

    /// One name for everything chosen, if it needs few exceptions.
    fn alone(&self, everything: &Indices) -> Option<(Option<usize>, Vec<usize>)> {
        const FEW: usize = 3;
        let named = self
            .matching
            .iter()
            .enumerate()
            .map(|(name, own)| (Some(name), own));
        let all = named.chain(self.is_all.then_some((None, everything)));
        let covering = all.filter(|(_, own)| self.chosen.is_subset(own));
        let found = covering.filter_map(|(name, own)| Some((name, self.exceptions(own)?)));
        found
            .filter(|(_, except)| except.len() <= FEW)
            .min_by_key(|(_, except)| except.len())
    }

    /// The name that needs fewest exceptions, with these.
    fn with_exceptions(
        &self,
        left: &Indices,
        everything: &Indices,
    ) -> Option<(Option<usize>, Vec<usize>)> {
        let named = self
            .matching
            .iter()
            .enumerate()
            .map(|(name, own)| (Some(name), own));
        let candidates = named.chain(self.is_all.then_some((None, everything)));
        let found = candidates.filter_map(|(name, own)| {
            if own.is_disjoint(left) {
                return None;
            }
            let except = self.exceptions(own)?;
            Some((except.len(), name.is_none(), name, except))
        });
        let best = found.min_by_key(|(count, is_any, name, _)| (*count, *is_any, *name));
        best.map(|(_, _, name, except)| (name, except))
    }

    /// Names for everything in `own` that is not chosen.
    fn exceptions(&self, own: &Indices) -> Option<Vec<usize>> {
        let mut excess: Indices = own.difference(self.chosen).copied().collect();
        let mut except = Vec::new();
        while !excess.is_empty() {
            let gains = self
                .matching
                .iter()
                .enumerate()
                .filter_map(|(name, other)| {
                    let gain = other.intersection(&excess).count();
                    let harmless = other
                        .intersection(own)
                        .all(|class| !self.chosen.contains(class));
                    (gain > 0 && harmless).then_some((gain, name))
                });
            let (_, name) = gains.max_by_key(|(gain, name)| (*gain, usize::MAX - name))?;
            excess.retain(|class| !self.matching[name].contains(class));
            except.push(name);
        }
        Some(except)
    }

    fn name(&self, name: Option<usize>, except: &[usize]) -> Described {
        Described {
            pattern: name.map(|name| self.names[name].clone()),
            except: except
                .iter()
                .map(|name| self.names[*name].clone())
                .collect(),
            and: Vec::new(),
        }
    }

    fn exactly(&self, class: &Set) -> Described {
        let mut own = class.iter().map(|name| self.names[*name as usize].clone());
        let others = (0_u32..)
            .zip(self.names)
            .filter(|(number, _)| !class.contains(number));
        Described {
            pattern: own.next(),
            and: own.collect(),
            except: others.map(|(_, name)| name.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[&[u32]], chosen: &[usize], names: &[&str]) -> Vec<String> {
        let all: Vec<Set> = all.iter().map(|set| set.to_vec()).collect();
        let all: Vec<&Set> = all.iter().collect();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let said = describe(&all, &chosen.iter().copied().collect(), &names, true);
        said.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_shortest_exact_words_are_found() {
        let names = ["/api/*", "/api/a", "/v1/**"];
        let all: [&[u32]; 4] = [&[], &[0], &[0, 1], &[2]];
        assert_eq!(said(&all, &[0, 1, 2, 3], &names), ["any"]);
        assert_eq!(said(&all, &[1, 2], &names), ["/api/*"]);
        assert_eq!(said(&all, &[2], &names), ["/api/a"]);
        assert_eq!(said(&all, &[1], &names), ["/api/* except /api/a"]);
        assert_eq!(said(&all, &[0], &names), ["any except /api/*, /v1/**"]);
        assert_eq!(said(&all, &[2, 3], &names), ["/api/a", "/v1/**"]);
        let crossed: [&[u32]; 4] = [&[], &[0], &[0, 1], &[1]];
        assert_eq!(said(&crossed, &[2], &names[..2]), ["/api/* and /api/a"]);
    }
}
