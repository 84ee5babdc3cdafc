//! Matches paths without allocation and in bounded time: by binary search among the patterns without a
//! wildcard, and segment by segment for the others.

use std::cmp::Ordering;

use super::{CanonicalPath, ESCAPED_SLASH, EncodedSlash, PathProblem, Wildcards, check_path};

/// The most patterns in one list.
const MAX_PATTERNS: usize = 256;
/// The most bytes of one pattern.
const MAX_LENGTH: usize = 512;
/// The most `*` and `**` in one pattern, because they make matching slow.
const MAX_WILDCARDS: usize = 8;

/// Path patterns, any one of which may match. An empty list matches every path.
///
/// `*` as a whole segment matches one segment that is not empty; as part of a segment (`/api/oauth.*`)
/// it matches zero or more characters except `/`. `**` is always a whole segment and matches any number
/// of segments, including none: `/v1/**` matches `/v1`, `/v1/` and `/v1/a/b`. A trailing `/` counts:
/// `/v1/run/` and `/v1/run` are two paths. Percent-escapes are compared literally, which is exact
/// because the path is canonical. An encoded slash (`%2F`) is a part of its segment like any other
/// character, never a separator: `/projects/*/issues` matches `/projects/group%2Fproject/issues`.
#[derive(Debug, Clone, Default)]
pub struct PathPatterns {
    /// Patterns without a wildcard, sorted by [`order`], so that a long list costs little more than a
    /// short one.
    literals: Box<[Box<str>]>,
    /// Patterns with a wildcard; each is tried.
    globs: Box<[Pattern]>,
    written: Box<[String]>,
    lenient: bool,
}

/// A pattern with a wildcard.
#[derive(Debug, Clone)]
struct Pattern {
    /// The beginning of every path that matches; most paths are rejected by it.
    prefix: Box<str>,
    segments: Box<[Segment]>,
}

enum Parsed {
    Literal(Box<str>),
    Glob(Pattern),
}

#[derive(Debug, Clone)]
enum Segment {
    Literal(Box<str>),
    /// `*`
    One,
    /// `**`
    Any,
    /// A text with one or more `*` in it.
    Glob(Box<str>),
}

impl PathPatterns {
    /// Whether this pattern matches only paths with an encoded slash.
    pub fn needs_encoded_slash(pattern: &str) -> bool {
        pattern.contains(ESCAPED_SLASH)
    }

    /// Parses patterns as operators write them; the error has the pattern's index.
    ///
    /// `ignore_case` is for patterns that deny: they then match without regard to ASCII case, and also
    /// with a trailing `/`, because many servers ignore both.
    pub fn parse<S: AsRef<str>>(
        patterns: &[S],
        ignore_case: bool,
    ) -> Result<Self, (usize, PathProblem)> {
        if patterns.len() > MAX_PATTERNS {
            return Err((MAX_PATTERNS, PathProblem("a list has at most 256 patterns")));
        }
        let (mut literals, mut globs) = (Vec::new(), Vec::new());
        for (index, pattern) in patterns.iter().enumerate() {
            match parse_one(pattern.as_ref()).map_err(|problem| (index, problem))? {
                Parsed::Literal(literal) => literals.push(literal),
                Parsed::Glob(pattern) => globs.push(pattern),
            }
        }
        literals.sort_unstable_by(|one, two| order(one, two, ignore_case));
        Ok(Self {
            literals: literals.into(),
            globs: globs.into(),
            written: patterns.iter().map(|p| p.as_ref().to_owned()).collect(),
            lenient: ignore_case,
        })
    }

    /// Whether any pattern matches. Does not allocate.
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let path = path.as_str();
        self.is_any()
            || self.any_matches(path)
            || (self.lenient
                && path
                    .strip_suffix('/')
                    .is_some_and(|path| self.any_matches(path)))
    }

    fn any_matches(&self, path: &str) -> bool {
        self.literals
            .binary_search_by(|literal| order(literal, path, self.lenient))
            .is_ok()
            || self
                .globs
                .iter()
                .any(|pattern| pattern.matches(path, self.lenient))
    }

    /// Whether there are no patterns, so that any path matches.
    pub fn is_any(&self) -> bool {
        self.written.is_empty()
    }

    /// Whether they match as those of a denying route do: without regard to ASCII case, and with another `/`
    /// at the end.
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// The patterns as they were written.
    pub fn written(&self) -> &[String] {
        &self.written
    }
}

fn parse_one(text: &str) -> Result<Parsed, PathProblem> {
    if text.len() > MAX_LENGTH {
        return Err(PathProblem("a pattern has at most 512 bytes"));
    }
    check_path(text, Wildcards::Allowed, EncodedSlash::Keep)?;
    let Some(star) = text.find('*') else {
        return Ok(Parsed::Literal(text.into()));
    };
    let segments: Box<[Segment]> = text[1..]
        .split('/')
        .map(parse_segment)
        .collect::<Result<_, _>>()?;
    let wildcards: usize = segments.iter().map(Segment::wildcards).sum();
    if wildcards > MAX_WILDCARDS {
        return Err(PathProblem("a pattern has at most 8 wildcards"));
    }
    let before = &text[..star];
    let prefix = if text[star..].starts_with("**") {
        // `**` can match no segment; then its `/` is absent too.
        before.strip_suffix('/').unwrap_or(before)
    } else {
        before
    };
    Ok(Parsed::Glob(Pattern {
        prefix: prefix.into(),
        segments,
    }))
}

fn parse_segment(text: &str) -> Result<Segment, PathProblem> {
    match text {
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Any),
        _ if text.contains("**") => Err(PathProblem("`**` must be a whole segment")),
        _ if text.contains('*') => Ok(Segment::Glob(text.into())),
        _ => Ok(Segment::Literal(text.into())),
    }
}

impl Pattern {
    fn matches(&self, path: &str, ignore_case: bool) -> bool {
        let (text, prefix) = (path.as_bytes(), self.prefix.as_bytes());
        text.get(..prefix.len())
            .is_some_and(|start| same(prefix, start, ignore_case))
            && text
                .strip_prefix(b"/")
                .is_some_and(|path| match_segments(&self.segments, path, ignore_case))
    }
}

impl Segment {
    fn wildcards(&self) -> usize {
        match self {
            Self::Literal(_) => 0,
            Self::One | Self::Any => 1,
            Self::Glob(text) => text.matches('*').count(),
        }
    }

    fn matches(&self, text: &[u8], ignore_case: bool) -> bool {
        match self {
            Self::Literal(literal) => same(literal.as_bytes(), text, ignore_case),
            Self::One => !text.is_empty(),
            Self::Any => true,
            Self::Glob(glob) => match_glob(glob.as_bytes(), text, ignore_case),
        }
    }
}

/// Matches with one level of backtracking: when something after a `**` fails, that `**` takes one
/// segment more. Earlier ones need no second try, because the last one can take whatever they could.
///
/// Segments are short, so that a look at each byte costs less than a search for the next `/`.
fn match_segments(pattern: &[Segment], path: &[u8], ignore_case: bool) -> bool {
    let mut wanted = pattern.iter();
    let mut given = path.split(|byte| *byte == b'/');
    let mut retry = None;
    loop {
        let before = given.clone();
        match (wanted.next(), given.next()) {
            (Some(Segment::Any), _) => {
                given = before.clone();
                retry = Some((wanted.clone(), before));
            }
            (Some(segment), Some(text)) if segment.matches(text, ignore_case) => {}
            (None, None) => return true,
            (Some(_) | None, _) => {
                let Some((behind, start)) = retry.as_mut() else {
                    return false;
                };
                if start.next().is_none() {
                    return false;
                }
                wanted = behind.clone();
                given = start.clone();
            }
        }
    }
}

/// The same for the characters of one segment.
fn match_glob(glob: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut retry = None;
    while seen < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, seen));
            }
            Some(byte) if same(&[*byte], &text[seen..=seen], ignore_case) => {
                at += 1;
                seen += 1;
            }
            Some(_) | None => {
                let Some((behind, start)) = retry.as_mut() else {
                    return false;
                };
                *start += 1;
                (at, seen) = (*behind, *start);
            }
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

fn same(one: &[u8], two: &[u8], ignore_case: bool) -> bool {
    if ignore_case {
        one.eq_ignore_ascii_case(two)
    } else {
        one == two
    }
}

/// An order in which only [`same`] texts are equal: by length, then by bytes.
fn order(one: &str, two: &str, ignore_case: bool) -> Ordering {
    let (one, two) = (one.as_bytes(), two.as_bytes());
    one.len().cmp(&two.len()).then_with(|| {
        if ignore_case {
            let fold = u8::to_ascii_lowercase;
            one.iter().map(fold).cmp(two.iter().map(fold))
        } else {
            one.cmp(two)
        }
    })
}
