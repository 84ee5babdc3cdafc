//! Every mistake with its place and remedy; never with a value, which may be secret.

use std::{collections::HashSet, fmt::Write as _, path::PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::shown;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The resources cannot be used.
    Error,
    /// They can be used, but probably not as intended.
    Warning,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, for example `unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Where; `None` if it concerns no file in particular.
    pub place: Option<Place>,
}

/// A place in a file; lines and columns count from 1.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line; 0 is the whole file.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// How many characters it covers.
    pub width: usize,
    /// The text of that line, with secrets hidden.
    pub snippet: String,
}

/// All findings of one load.
#[derive(Debug, Clone, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// The finding for people: message, `file:line:column`, the line, the remedy.
    pub fn render(&self, styled: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message).id(self.code);
        let file = self.place.as_ref().map(|place| shown::path(&place.file));
        let mut group = Group::with_title(title);
        if let (Some(place), Some(file)) = (&self.place, &file) {
            group = if place.line == 0 {
                group.element(annotate_snippets::Origin::path(file))
            } else {
                group.element(
                    Snippet::source(&place.snippet)
                        .line_start(place.line)
                        .path(file)
                        .annotation(AnnotationKind::Primary.span(place.span())),
                )
            };
        }
        let group = group.element(Level::HELP.message(&self.remedy));
        let renderer = if styled {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }
}

impl Place {
    /// The range in the snippet, in bytes. Hiding secrets may have shortened the line.
    fn span(&self) -> std::ops::Range<usize> {
        let length = self.snippet.len();
        let byte = |character: usize| {
            self.snippet
                .char_indices()
                .nth(character)
                .map_or(length, |(byte, _)| byte)
        };
        let start = byte(self.column.saturating_sub(1));
        let end = byte((self.column.saturating_sub(1)).saturating_add(self.width));
        start..end
    }
}

impl Problems {
    /// Whether any is an error.
    pub fn any_error(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// The errors alone, one per line, and how many warnings there are besides. For logs and status, which
    /// show the beginning of a long text.
    pub fn errors(&self) -> String {
        let errors = self.0.iter().filter(|p| p.severity == Severity::Error);
        let mut text = errors
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        match self.count(Severity::Warning) {
            0 => {}
            1 => text.push_str("\n(and one warning)"),
            more => write!(text, "\n(and {more} warnings)").expect("a text takes everything"),
        }
        text
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Every finding for people, separated by empty lines.
    pub fn render(&self, styled: bool) -> String {
        let mut text = String::new();
        for problem in &self.0 {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&problem.render(styled));
            text.push('\n');
        }
        text
    }

    /// Removes what was reported at the places of findings with this code: it follows from them.
    pub(crate) fn drop_consequences(&mut self, code: &str) {
        let at = |problem: &Problem| {
            let place = problem.place.as_ref()?;
            Some((place.file.clone(), place.line, place.column))
        };
        let causes: HashSet<_> = self
            .0
            .iter()
            .filter(|problem| problem.code == code && problem.severity == Severity::Error)
            .filter_map(at)
            .collect();
        if !causes.is_empty() {
            self.0.retain(|problem| {
                problem.code == code || at(problem).is_none_or(|place| !causes.contains(&place))
            });
        }
    }

    /// Sorts by file, line and column; findings without a place come first.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let key = |problem: &Problem| {
                problem
                    .place
                    .as_ref()
                    .map(|place| (place.file.clone(), place.line, place.column))
            };
            key(a).cmp(&key(b))
        });
    }
}

/// One line per finding, for logs: `file:line:column: code: message; remedy`.
impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:", shown::path(&place.file))?;
            if place.line > 0 {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

impl std::error::Error for Problems {}
