//! Classes of paths: which of some lists of path patterns match.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::{
    Set, TooComplex,
    words::{self, Class, Glob, Words},
};

/// The most states of one product.
const MAX_STATES: usize = 50_000;

/// One or more patterns of which it matters only whether any matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Atom {
    pub(crate) patterns: Vec<String>,
    /// Whether they match as those of a denying route do: without regard to ASCII case and with another `/`
    /// at the end.
    pub(crate) lenient: bool,
}

/// The paths with an encoded slash, as an atom.
pub(crate) fn encoded_slash() -> Atom {
    Atom {
        patterns: vec!["/**/*%2F*/**".to_owned()],
        lenient: false,
    }
}

/// Which atoms match, and the shortest such path.
pub(crate) type PathClass = (Set, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// Nothing, behind the last `/`.
    Empty,
    /// `*`
    One,
    /// `**`
    Any,
    /// What a glob matches, by its number.
    Word(u32),
}

/// Every set of atoms that some path matches, and no other atoms.
pub(crate) fn classes(atoms: &[Atom]) -> Result<Vec<PathClass>, TooComplex> {
    let mut product = Product::new(atoms);
    let start = product.start();
    // The start is no path yet, though a path may lead to the same positions.
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([(start, String::new())]);
    let mut found: HashMap<Set, String> = HashMap::new();
    while let Some((positions, path)) = queue.pop_front() {
        if !path.is_empty() {
            let set = product.matching(&positions);
            found.entry(set).or_insert_with(|| path.clone());
        }
        let set = product.matching_with_slash(&positions);
        found.entry(set).or_insert_with(|| format!("{path}/"));
        for (matching, word) in product.next_words(&positions)? {
            let next = product.step(&positions, &matching);
            if seen.contains(&next) {
                continue;
            }
            if seen.len() >= MAX_STATES {
                return Err(TooComplex);
            }
            seen.insert(next.clone());
            queue.push_back((next, format!("{path}/{word}")));
        }
    }
    let mut all: Vec<_> = found.into_iter().collect();
    all.sort();
    Ok(all)
}

/// A pattern's number and how many of its segments are matched.
type Position = (u32, u32);

struct Pattern {
    segments: Vec<Segment>,
    atom: u32,
    lenient: bool,
}

struct Product {
    patterns: Vec<Pattern>,
    globs: Vec<Glob>,
    /// By the globs that can come next.
    known: HashMap<Set, Vec<Class>>,
}

impl Product {
    fn new(atoms: &[Atom]) -> Self {
        let mut globs: Vec<Glob> = Vec::new();
        let mut numbers: HashMap<Glob, u32> = HashMap::new();
        let mut patterns = Vec::new();
        for (
            atom,
            Atom {
                patterns: written,
                lenient,
            },
        ) in atoms.iter().enumerate()
        {
            for text in written {
                let segments = text.trim_start_matches('/').split('/');
                let segments = segments.map(|segment| match segment {
                    "" => Segment::Empty,
                    "*" => Segment::One,
                    "**" => Segment::Any,
                    word => {
                        let glob = Glob::new(word, *lenient);
                        let number = *numbers.entry(glob.clone()).or_insert_with(|| {
                            globs.push(glob);
                            number(globs.len() - 1)
                        });
                        Segment::Word(number)
                    }
                });
                patterns.push(Pattern {
                    segments: segments.collect(),
                    atom: number(atom),
                    lenient: *lenient,
                });
            }
        }
        Self {
            patterns,
            globs,
            known: HashMap::new(),
        }
    }

    fn segment(&self, (pattern, at): Position) -> Option<Segment> {
        self.patterns[pattern as usize]
            .segments
            .get(at as usize)
            .copied()
    }

    fn start(&self) -> Vec<Position> {
        self.close((0..self.patterns.len()).map(|pattern| (number(pattern), 0)))
    }

    /// With the positions that are reached because `**` matches nothing.
    fn close(&self, positions: impl Iterator<Item = Position>) -> Vec<Position> {
        let mut all = Vec::new();
        for (pattern, mut at) in positions {
            all.push((pattern, at));
            while self.segment((pattern, at)) == Some(Segment::Any) {
                at += 1;
                all.push((pattern, at));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// After a segment that is not empty and that exactly these globs match.
    fn step(&self, positions: &[Position], matching: &[u32]) -> Vec<Position> {
        let next =
            positions
                .iter()
                .filter_map(|&(pattern, at)| match self.segment((pattern, at))? {
                    Segment::Any => Some((pattern, at)),
                    Segment::One => Some((pattern, at + 1)),
                    Segment::Word(glob) => matching
                        .binary_search(&glob)
                        .is_ok()
                        .then_some((pattern, at + 1)),
                    Segment::Empty => None,
                });
        self.close(next)
    }

    /// The classes of the next segment.
    fn next_words(&mut self, positions: &[Position]) -> Result<Vec<Class>, TooComplex> {
        if positions.is_empty() {
            // Nothing can match any more.
            return Ok(Vec::new());
        }
        let globs = positions
            .iter()
            .filter_map(|position| match self.segment(*position) {
                Some(Segment::Word(glob)) => Some(glob),
                Some(Segment::Empty | Segment::One | Segment::Any) | None => None,
            });
        let globs: Vec<u32> = globs.collect::<BTreeSet<_>>().into_iter().collect();
        if let Some(known) = self.known.get(&globs) {
            return Ok(known.clone());
        }
        let asked: Vec<_> = globs
            .iter()
            .map(|glob| &self.globs[*glob as usize])
            .collect();
        let local = words::classes(&asked, Words::Segments)?;
        let classes: Vec<Class> = local
            .into_iter()
            .map(|(set, word)| (set.iter().map(|at| globs[*at as usize]).collect(), word))
            .collect();
        self.known.insert(globs, classes.clone());
        Ok(classes)
    }

    /// The atoms that match if the path ends here.
    fn matching(&self, positions: &[Position]) -> Set {
        let ends = positions
            .iter()
            .filter(|position| self.segment(**position).is_none());
        self.atoms(ends.map(|(pattern, _)| *pattern))
    }

    /// The atoms that match if the path ends in one more `/`.
    fn matching_with_slash(&self, positions: &[Position]) -> Set {
        let ends = positions
            .iter()
            .filter(|&&(pattern, at)| match self.segment((pattern, at)) {
                None => self.patterns[pattern as usize].lenient,
                Some(Segment::Empty | Segment::Any) => self.ends(pattern, at + 1),
                Some(Segment::One | Segment::Word(_)) => false,
            });
        self.atoms(ends.map(|(pattern, _)| *pattern))
    }

    /// Whether the rest of a pattern matches nothing.
    fn ends(&self, pattern: u32, at: u32) -> bool {
        let rest = &self.patterns[pattern as usize].segments[at as usize..];
        rest.iter().all(|segment| *segment == Segment::Any)
    }

    fn atoms(&self, patterns: impl Iterator<Item = u32>) -> Set {
        let atoms = patterns.map(|pattern| self.patterns[pattern as usize].atom);
        atoms.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a list in memory is shorter")
}

#[cfg(test)]
mod tests {
    use countersign_config::path::{CanonicalPath, EncodedSlash, PathPatterns};
    use proptest::{prelude::*, sample::select};

    use super::*;

    const PATTERNS: [&str; 22] = [
        "/",
        "/**",
        "/*",
        "/a",
        "/a/",
        "/a/*",
        "/a/**",
        "/**/b",
        "/a/**/b",
        "/*/b",
        "/a*",
        "/*b/**",
        "/api/chat.*",
        "/api/chat.post",
        "/api/*.post",
        "/A",
        "/a/b/",
        "/**/",
        "/a%20*",
        "/*0",
        "/**/*%2F*/**",
        "/a/.*",
    ];

    fn matching(atoms: &[Atom], path: &CanonicalPath) -> Set {
        let matches = |atom: &Atom| {
            let patterns = PathPatterns::parse(&atom.patterns, atom.lenient);
            patterns.expect("patterns").matches(path)
        };
        let all = atoms.iter().enumerate();
        all.filter(|(_, atom)| matches(atom))
            .map(|(index, _)| number(index))
            .collect()
    }

    fn path(text: &str) -> CanonicalPath {
        let text = text.parse().expect("a path");
        CanonicalPath::check_with(&text, EncodedSlash::Keep).expect("it is canonical")
    }

    fn any_atoms() -> impl Strategy<Value = Vec<Atom>> {
        let atom = (
            prop::collection::vec(select(&PATTERNS[..]), 1..3),
            any::<bool>(),
        );
        prop::collection::vec(atom, 0..6).prop_map(|atoms| {
            let atoms = atoms.into_iter().map(|(patterns, lenient)| Atom {
                patterns: patterns.into_iter().map(str::to_owned).collect(),
                lenient,
            });
            atoms.collect()
        })
    }

    const SEGMENTS: [&str; 17] = [
        "a",
        "b",
        "A",
        "B",
        "ab",
        "bb",
        "api",
        "chat.post",
        "chat.",
        "x.post",
        "CHAT.POST",
        "a%20",
        "%20",
        "0",
        "a%2Fb",
        ".x",
        "q",
    ];

    fn any_path() -> impl Strategy<Value = String> {
        (
            prop::collection::vec(select(&SEGMENTS[..]), 0..5),
            any::<bool>(),
        )
            .prop_map(|(segments, slash)| {
                let path: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
                if slash || path.is_empty() {
                    path + "/"
                } else {
                    path
                }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn each_path_is_in_a_class_and_each_example_in_its_own(
            atoms in any_atoms(),
            paths in prop::collection::vec(any_path(), 20),
        ) {
            let classes = classes(&atoms).expect("it is small");
            for (set, example) in &classes {
                prop_assert_eq!(&matching(&atoms, &path(example)), set, "{}", example);
            }
            for text in paths {
                let set = matching(&atoms, &path(&text));
                prop_assert!(classes.iter().any(|(known, _)| *known == set), "{} {:?}", text, set);
            }
        }
    }
}
