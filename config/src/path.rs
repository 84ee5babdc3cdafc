//! Paths that were proven canonical, and the patterns that match them.

use http::uri::PathAndQuery;

/// The path of a request, proven to mean the same to us and to any server: it starts with `/`,
/// and has no empty, `.` or `..` segment (also percent-encoded), no `//`, `;`, `\`, `#`, control
/// or non-ASCII byte, no percent-encoded `/`, `\`, `;`, NUL or control byte, no percent-encoded
/// unreserved character, and no broken percent-escape. A trailing `/` is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(PathAndQuery);

/// Why a path is not canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not canonical: {0}")]
pub struct PathProblem(pub &'static str);

impl CanonicalPath {
    /// Checks the path of `target`; nothing is repaired. The query is kept as it is.
    pub fn check(_target: &PathAndQuery) -> Result<Self, PathProblem> {
        unimplemented!()
    }

    /// The path, without the query.
    pub fn as_str(&self) -> &str {
        self.0.path()
    }

    /// The query, raw, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Path and query as they are sent on.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.0
    }
}

/// Path patterns, any one of which may match: `*` is one segment or a part of one, `**` as a
/// whole segment any number of segments (also none). No patterns match every path.
#[derive(Debug, Clone, Default)]
pub struct PathPatterns(());

impl PathPatterns {
    /// Parses patterns as operators write them; the error names the pattern's index.
    pub fn parse<S: AsRef<str>>(
        _patterns: &[S],
        _ignore_case: bool,
    ) -> Result<Self, (usize, PathProblem)> {
        unimplemented!()
    }

    /// Whether any pattern matches. Does not allocate.
    pub fn matches(&self, _path: &CanonicalPath) -> bool {
        unimplemented!()
    }

    /// Whether there are no patterns, so that any path matches.
    pub fn is_any(&self) -> bool {
        unimplemented!()
    }

    /// The patterns as they were written.
    pub fn written(&self) -> &[String] {
        unimplemented!()
    }
}
