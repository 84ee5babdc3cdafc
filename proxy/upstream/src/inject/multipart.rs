//! `multipart/form-data` (RFC 7578) on a route that removes form fields. A part cannot be taken out of a
//! stream whose length is announced, so a form with such a field is refused, and any other passes unchanged.
//!
//! The form streams through a parser that holds back what it has not understood: a part's bytes are passed
//! on only after its head was read and names no such field. So a field that comes late never leaves,
//! although the parts before it have.
//!
//! Servers parse forms differently. What two of them could read differently is refused: a delimiter that
//! is not on a line of its own, a head with more than one reading, nested forms, and whatever is cut off.

mod head;
mod parameters;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use countersign_config::{memory, model::Strip};
use countersign_core::budget::{Charge, Short, narrow};
use memchr::memmem::Finder;

use super::form;
pub(super) use head::boundary;

/// The largest head of a part, in bytes.
const MOST_HEAD: usize = 4 * 1024;

/// The most bytes before the first delimiter.
const MOST_PREAMBLE: usize = 1024;

/// Why a form is refused while it streams. The parts before it may have been sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    /// It has a field that the route removes.
    #[error(
        "has the field `{name}`, which would carry the caller's own credential (part {part}); the request was broken off before that part"
    )]
    Field {
        /// The field, as the target's `strip` names it.
        name: String,
        /// The part, from 1.
        part: u64,
    },
    /// It has a field that overrides the method.
    #[error("has a field that would change the method that policy judged (part {part})")]
    Method {
        /// The part, from 1.
        part: u64,
    },
    /// It can be read in more than one way, or is cut off.
    #[error("cannot be checked: {0}")]
    Ambiguous(&'static str),
}

/// A form on its way, and the fields that it must not have.
pub struct MultipartGuard {
    /// `--boundary`, and its search.
    delimiter: Finder<'static>,
    fields: Box<[(String, String)]>,
    /// What was read and is not understood yet.
    held: Vec<u8>,
    state: State,
    parts: u64,
    /// For what is held.
    _charge: Charge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: its line's end, or the form's.
    Delimited,
    /// In a part's head.
    Head,
    /// In a part's content.
    Content,
    /// Behind the last delimiter.
    Closed,
    /// All was passed on, or it was refused.
    Over,
}

impl MultipartGuard {
    /// Checks a form of this content type. `charge` is for what it holds back.
    ///
    /// # Errors
    /// When there is no memory for that.
    pub(super) fn new(boundary: &str, strip: &Strip, mut charge: Charge) -> Result<Self, Short> {
        charge.set(narrow(memory::MULTIPART))?;
        let delimiter = format!("--{boundary}");
        let fields = strip.form_fields.iter();
        Ok(Self {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            fields: fields
                .map(|name| (form::folded(name), name.clone()))
                .collect(),
            held: Vec::new(),
            state: State::Preamble,
            parts: 0,
            _charge: charge,
        })
    }

    /// Takes the next piece; returns what may be sent now.
    ///
    /// # Errors
    /// When the form is refused. Nothing of the part that is at fault was returned before.
    pub fn feed(&mut self, piece: Bytes) -> Result<Bytes, FormFault> {
        let all = if self.held.is_empty() {
            piece
        } else {
            let mut all = Vec::with_capacity(self.held.len() + piece.len());
            all.append(&mut self.held);
            all.extend_from_slice(&piece);
            all.into()
        };
        let understood = match self.follow(&all) {
            Ok(understood) => understood,
            Err(fault) => {
                self.state = State::Over;
                return Err(fault);
            }
        };
        // Copied: a reference to a few bytes would keep their whole buffer alive.
        self.held.extend_from_slice(&all[understood..]);
        Ok(all.slice(..understood))
    }

    /// The form has ended; returns the rest of it.
    ///
    /// # Errors
    /// When it is not complete.
    pub fn finish(&mut self) -> Result<Bytes, FormFault> {
        let rest = std::mem::take(&mut self.held);
        let complete = match self.state {
            State::Over => true,
            State::Closed => matches!(&*rest, b"" | b"\r\n"),
            State::Preamble | State::Delimited | State::Head | State::Content => false,
        };
        self.state = State::Over;
        if !complete {
            return Err(FormFault::Ambiguous("it is cut off within a part"));
        }
        Ok(rest.into())
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is left to pass on or to check once its bytes have ended.
    pub fn is_settled(&self) -> bool {
        match self.state {
            State::Over => true,
            State::Closed => self.held.is_empty(),
            State::Preamble | State::Delimited | State::Head | State::Content => false,
        }
    }

    /// Understands as much as possible; returns how many bytes that are.
    fn follow(&mut self, all: &[u8]) -> Result<usize, FormFault> {
        let mut at = 0;
        loop {
            let rest = &all[at..];
            let step = match self.state {
                State::Preamble => self.preamble(rest)?,
                State::Delimited => delimited(rest)?,
                State::Head => self.head(rest)?,
                State::Content => self.content(rest)?,
                State::Closed => epilogue(rest)?,
                State::Over => return Err(FormFault::Ambiguous("something follows its end")),
            };
            match step {
                Step::Next(length, state) => {
                    at += length;
                    self.state = state;
                }
                Step::More(length) => return Ok(at + length),
            }
        }
    }

    /// All of it is held until the first delimiter is there.
    fn preamble(&self, rest: &[u8]) -> Result<Step, FormFault> {
        if let Some(place) = self.delimiter.find(rest) {
            let before = &rest[..place];
            if !before.is_empty() && !before.ends_with(b"\r\n") {
                return Err(FormFault::Ambiguous(
                    "a delimiter is not on a line of its own",
                ));
            }
            return Ok(Step::Next(place + self.length(), State::Delimited));
        }
        if rest.len() > MOST_PREAMBLE {
            return Err(FormFault::Ambiguous("it does not begin with a part"));
        }
        Ok(Step::More(0))
    }

    /// From the end of the delimiter's line to the empty line. Nothing of it is passed on before all of it
    /// was read: a delimiter without a part is of no use to anyone.
    fn head(&mut self, rest: &[u8]) -> Result<Step, FormFault> {
        let end = memchr::memmem::find(rest, b"\r\n\r\n");
        let head = &rest[..end.unwrap_or(rest.len())];
        if head.len() > MOST_HEAD {
            return Err(FormFault::Ambiguous("the head of a part is too large"));
        }
        let Some(end) = end else {
            return Ok(Step::More(0));
        };
        if self.delimiter.find(head).is_some() {
            return Err(FormFault::Ambiguous("a delimiter is in the head of a part"));
        }
        self.parts += 1;
        let part = self.parts;
        // Without the end of the delimiter's line.
        let lines = head.get(2..).unwrap_or_default();
        let name = head::name(lines).map_err(FormFault::Ambiguous)?;
        if name.overrides_method() {
            return Err(FormFault::Method { part });
        }
        let stripped = self.fields.iter().find(|(folded, _)| name.is(folded));
        if let Some((_, name)) = stripped {
            let name = name.clone();
            return Err(FormFault::Field { name, part });
        }
        // The empty line stays: the part may be empty, and its end begins with the same line end.
        Ok(Step::Next(end + 2, State::Content))
    }

    fn content(&self, rest: &[u8]) -> Result<Step, FormFault> {
        if let Some(place) = self.delimiter.find(rest) {
            if !rest[..place].ends_with(b"\r\n") {
                return Err(FormFault::Ambiguous(
                    "a delimiter is not on a line of its own",
                ));
            }
            // The delimiter's own line stays with what it begins.
            return Ok(Step::Next(place + self.length(), State::Delimited));
        }
        // The end may be the beginning of a delimiter, with the line end before it.
        let known = rest.len().saturating_sub(self.length() + 2);
        Ok(Step::More(known))
    }

    fn length(&self) -> usize {
        self.delimiter.needle().len()
    }
}

/// Prints no content.
impl std::fmt::Debug for MultipartGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MultipartGuard")
            .field("state", &self.state)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

/// What was understood of the bytes at hand.
enum Step {
    /// This many, and then another state.
    Next(usize, State),
    /// This many, and more bytes are needed.
    More(usize),
}

/// Behind a delimiter there is only the end of its line, or `--` and the end of the form.
fn delimited(rest: &[u8]) -> Result<Step, FormFault> {
    match rest {
        [b'\r', b'\n', ..] => Ok(Step::Next(0, State::Head)),
        [b'-', b'-', ..] => Ok(Step::Next(2, State::Closed)),
        [] | [b'\r' | b'-'] => Ok(Step::More(0)),
        _ => Err(FormFault::Ambiguous(
            "a delimiter is not on a line of its own",
        )),
    }
}

/// Behind the form there is a line end at most. It is passed on at the end.
fn epilogue(rest: &[u8]) -> Result<Step, FormFault> {
    match rest {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(Step::More(0)),
        _ => Err(FormFault::Ambiguous("something follows its end")),
    }
}
