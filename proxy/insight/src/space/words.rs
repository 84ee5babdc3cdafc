//! All the ways in which a word can match a list of globs, each with the shortest word that does: the
//! product of their automata, built state by state.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Set, TooComplex};

/// The most states of one product.
const MAX_STATES: usize = 200_000;

/// A text in which `*` stands for zero or more bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Glob {
    text: Box<[u8]>,
    /// Whether ASCII case is ignored.
    fold: bool,
}

/// Which words there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Words {
    /// Segments of canonical paths that are not empty.
    Segments,
    /// The first labels of host names.
    Labels,
}

/// The longest label (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// What is preferred for a byte that no glob asks for, because it is read best.
const FREE: &[u8] =
    b"xyzabcdefghijklmnopqrstuvw0123456789_-ABCDEFGHIJKLMNOPQRSTUVWXYZ~!$&'()+,=:@.";

impl Glob {
    pub(crate) fn new(text: &str, fold: bool) -> Self {
        Self {
            text: text.as_bytes().into(),
            fold,
        }
    }
}

/// A glob's number and a position in it.
type Position = (u32, u32);

/// The globs that match, and the shortest such word. The words that nothing matches are one of these, if there
/// are any.
pub(crate) type Class = (Set, String);

/// Every set of globs that some word matches, and no other globs.
pub(crate) fn classes(globs: &[&Glob], words: Words) -> Result<Vec<Class>, TooComplex> {
    let product = Product { globs, words };
    let start = (product.start(), State::Start);
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([(start, Vec::new())]);
    let mut found: HashMap<Set, String> = HashMap::new();
    while let Some(((positions, state), word)) = queue.pop_front() {
        if state.may_end(words) && word.len() <= words.longest() {
            let text = String::from_utf8(word.clone()).expect("tokens are ASCII");
            found.entry(product.matching(&positions)).or_insert(text);
        }
        for token in product.tokens(&positions, state) {
            let Some(next_state) = state.step(&token, words) else {
                continue;
            };
            let next = (product.step(&positions, &token), next_state);
            if seen.contains(&next) {
                continue;
            }
            if seen.len() >= MAX_STATES {
                return Err(TooComplex);
            }
            seen.insert(next.clone());
            queue.push_back((next, [word.as_slice(), &token].concat()));
        }
    }
    let mut all: Vec<_> = found.into_iter().collect();
    all.sort();
    Ok(all)
}

struct Product<'g> {
    globs: &'g [&'g Glob],
    words: Words,
}

impl Product<'_> {
    fn start(&self) -> Vec<Position> {
        let firsts = (0..self.globs.len()).map(|glob| (number(glob), 0));
        self.close(firsts.collect())
    }

    /// With the positions that are reached because a star matches nothing.
    fn close(&self, positions: Vec<Position>) -> Vec<Position> {
        let mut all = Vec::with_capacity(positions.len());
        for (glob, mut at) in positions {
            all.push((glob, at));
            while self.byte(glob, at) == Some(b'*') {
                at += 1;
                all.push((glob, at));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn byte(&self, glob: u32, at: u32) -> Option<u8> {
        self.globs[glob as usize].text.get(at as usize).copied()
    }

    fn step(&self, positions: &[Position], token: &[u8]) -> Vec<Position> {
        let mut now = positions.to_vec();
        for given in token {
            let mut next = Vec::with_capacity(now.len());
            for &(glob, at) in &now {
                let fold = self.globs[glob as usize].fold;
                match self.byte(glob, at) {
                    Some(b'*') => next.push((glob, at)),
                    Some(wanted) if same(wanted, *given, fold) => next.push((glob, at + 1)),
                    Some(_) | None => {}
                }
            }
            now = self.close(next);
        }
        now
    }

    fn matching(&self, positions: &[Position]) -> Set {
        let ends = positions
            .iter()
            .filter(|(glob, at)| self.byte(*glob, *at).is_none());
        ends.map(|(glob, _)| *glob).collect()
    }

    /// What can come next: everything that a glob asks for, and one byte that none asks for.
    fn tokens(&self, positions: &[Position], state: State) -> Vec<Vec<u8>> {
        let mut tokens: Vec<Vec<u8>> = Vec::new();
        for &(glob, at) in positions {
            let Glob { text, fold } = self.globs[glob as usize];
            match text.get(at as usize) {
                None | Some(b'*') => {}
                Some(b'%') => tokens.push(escape(&text[at as usize..]).to_vec()),
                Some(byte) if *fold => {
                    tokens.push(vec![byte.to_ascii_lowercase()]);
                    tokens.push(vec![byte.to_ascii_uppercase()]);
                }
                Some(byte) => tokens.push(vec![*byte]),
            }
        }
        tokens.sort_unstable();
        tokens.dedup();
        let is_free = |byte: &u8| {
            !tokens.iter().any(|token| token == &[*byte])
                && state.step(&[*byte], self.words).is_some()
        };
        if let Some(free) = FREE.iter().copied().find(is_free) {
            tokens.push(vec![free]);
        }
        tokens
    }
}

/// One escaped character, which above ASCII has several escapes.
fn escape(text: &[u8]) -> &[u8] {
    let length = match text.get(1) {
        Some(b'C' | b'D') => 6,
        Some(b'E') => 9,
        Some(b'F') => 12,
        Some(_) | None => 3,
    };
    &text[..length.min(text.len())]
}

fn same(wanted: u8, given: u8, fold: bool) -> bool {
    wanted == given || (fold && wanted.eq_ignore_ascii_case(&given))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a list in memory is shorter")
}

/// How far a word is, for what words cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// Nothing yet, or nothing yet after an encoded slash.
    Start,
    /// `.` since then.
    Dot,
    /// `..` since then.
    Dots,
    /// Anything else.
    Inside,
    /// Behind `%25`.
    Percent,
    /// Behind `%25` and a hexadecimal digit: another one would be an escape in an escape.
    PercentDigit,
    /// A label that ends in a hyphen so far.
    Hyphen,
}

impl State {
    fn may_end(self, words: Words) -> bool {
        match words {
            Words::Segments => matches!(self, Self::Inside | Self::Percent | Self::PercentDigit),
            Words::Labels => self == Self::Inside,
        }
    }

    fn step(self, token: &[u8], words: Words) -> Option<Self> {
        match words {
            Words::Segments => self.in_segment(token),
            Words::Labels => self.in_label(token),
        }
    }

    fn in_segment(self, token: &[u8]) -> Option<Self> {
        let digit = |token: &[u8]| token.len() == 1 && token[0].is_ascii_hexdigit();
        match (self, token) {
            (Self::Start | Self::Dot | Self::Dots, b"%2F") => None,
            (_, b"%2F") => Some(Self::Start),
            (_, b"%25") => Some(Self::Percent),
            (Self::Start, b".") => Some(Self::Dot),
            (Self::Dot, b".") => Some(Self::Dots),
            (Self::Percent, token) if digit(token) => Some(Self::PercentDigit),
            (Self::PercentDigit, token) if digit(token) => None,
            _ => Some(Self::Inside),
        }
    }

    fn in_label(self, token: &[u8]) -> Option<Self> {
        let [byte] = token else { return None };
        match (self, byte) {
            (Self::Start, b'-') => None,
            (_, b'-') => Some(Self::Hyphen),
            (_, b'a'..=b'z' | b'0'..=b'9' | b'_') => Some(Self::Inside),
            _ => None,
        }
    }
}

impl Words {
    fn longest(self) -> usize {
        match self {
            Self::Segments => usize::MAX,
            Self::Labels => MAX_LABEL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(globs: &[(&str, bool)], words: Words) -> Vec<(Vec<u32>, String)> {
        let globs: Vec<_> = globs
            .iter()
            .map(|(text, fold)| Glob::new(text, *fold))
            .collect();
        let globs: Vec<_> = globs.iter().collect();
        classes(&globs, words).expect("it is small")
    }

    fn sets(globs: &[(&str, bool)]) -> Vec<Vec<u32>> {
        said(globs, Words::Segments)
            .into_iter()
            .map(|(set, _)| set)
            .collect()
    }

    #[test]
    fn every_way_to_match_is_found_once_and_no_other() {
        assert_eq!(sets(&[]), [Vec::<u32>::new()]);
        assert_eq!(sets(&[("a", false)]), [vec![], vec![0]]);
        assert_eq!(
            sets(&[("a", false), ("b", false)]),
            [vec![], vec![0], vec![1]]
        );
        // Whatever the first matches, the second does too.
        assert_eq!(
            sets(&[("chat.post", false), ("chat.*", false)]),
            [vec![], vec![0, 1], vec![1]]
        );
        assert_eq!(
            sets(&[("a*", false), ("*b", false)]),
            [vec![], vec![0], vec![0, 1], vec![1]]
        );
        assert_eq!(
            sets(&[("a", false), ("A", true)]),
            [vec![], vec![0, 1], vec![1]]
        );
    }

    #[test]
    fn escapes_are_whole_and_match_byte_by_byte() {
        // `%20` ends in 0.
        assert_eq!(
            sets(&[("*%20", false), ("*0", false)]),
            [vec![], vec![0, 1], vec![1]]
        );
        assert_eq!(sets(&[("%2F*", false)]), [Vec::<u32>::new()]);
        assert_eq!(sets(&[("a%2F*", false)]), [vec![], vec![0]]);
        let (_, word) = said(&[("%C3%A9", false)], Words::Segments)
            .pop()
            .expect("a class");
        assert_eq!(word, "%C3%A9");
    }

    #[test]
    fn no_word_is_one_that_cannot_be() {
        let words = said(
            &[(".*", false), ("*.", false), ("*..", false)],
            Words::Segments,
        );
        assert!(
            words.iter().all(|(_, word)| word != "." && word != ".."),
            "{words:?}"
        );
        let labels = said(&[("-*", false), ("*-", false)], Words::Labels);
        assert_eq!(labels.len(), 1);
    }
}
