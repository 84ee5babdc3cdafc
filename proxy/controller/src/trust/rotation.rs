//! The rotation of a root, in four steps with overlap: add, distribute, reissue, remove. Each is checked before the
//! next, and what was done is kept beside the roots, so that it goes on wherever it stopped.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::AuthorityName;

/// A step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A second root is made. Nothing trusts it yet, and it signs nothing.
    Add,
    /// Both roots are published, and it is checked that they are, everywhere.
    Distribute,
    /// The new root signs, once no pod runs that started before it was published.
    Reissue,
    /// The old root is not trusted any more, once no gateway shows a certificate below it.
    Remove,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 4] = [Self::Add, Self::Distribute, Self::Reissue, Self::Remove];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Distribute => "distribute",
            Self::Reissue => "reissue",
            Self::Remove => "remove",
        }
    }

    /// The step of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "at")]
pub enum Position {
    /// There is one root.
    #[default]
    Steady,
    /// There is another, which is not known to be published everywhere.
    Added,
    /// Both are published everywhere.
    Distributed {
        /// Since when.
        since: Timestamp,
    },
    /// The new root signs.
    Reissued {
        /// Since when.
        since: Timestamp,
    },
}

impl Position {
    /// The step that comes now.
    pub const fn next(self) -> Step {
        match self {
            Self::Steady => Step::Add,
            Self::Added => Step::Distribute,
            Self::Distributed { .. } => Step::Reissue,
            Self::Reissued { .. } => Step::Remove,
        }
    }

    /// What it means, as a sentence.
    pub fn sentence(self) -> String {
        match self {
            Self::Steady => "there is one root".to_owned(),
            Self::Added => {
                "a second root is there, and not yet known to be published everywhere".to_owned()
            }
            Self::Distributed { since } => {
                format!("both roots are published everywhere since {since:.0}")
            }
            Self::Reissued { since } => {
                format!("the new root signs since {since:.0}, and the old one is still trusted")
            }
        }
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose root.
    pub authority: AuthorityName,
    /// The step.
    pub step: Step,
    /// Whether it is taken although pods would break.
    pub force: bool,
    /// By which the answer is found.
    pub id: String,
}

impl Asked {
    /// As the annotation has it.
    pub fn to_annotation(&self) -> String {
        let force = if self.force { "force" } else { "checked" };
        let Self {
            authority,
            step,
            id,
            ..
        } = self;
        format!("{authority} {} {force} {id}", step.as_str())
    }

    /// Reads the annotation.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (authority, step, force, id) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let authority = AuthorityName::ALL
            .into_iter()
            .find(|it| it.as_str() == authority)?;
        let force = match force {
            "force" => true,
            "checked" => false,
            _ => return None,
        };
        words.next().is_none().then_some(Self {
            authority,
            step: Step::parse(step)?,
            force,
            id: id.to_owned(),
        })
    }
}

/// The answer to what an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Of the question.
    pub id: String,
    /// Whether the step is done.
    pub done: bool,
    /// What was done, or why not and what to do.
    pub told: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_as_it_was_written() {
        let asked = Asked {
            authority: AuthorityName::Gateways,
            step: Step::Reissue,
            force: true,
            id: "7f3a".to_owned(),
        };
        assert_eq!(asked.to_annotation(), "gateways reissue force 7f3a");
        assert_eq!(Asked::parse(&asked.to_annotation()), Some(asked));
        for wrong in [
            "",
            "gateways",
            "gateways reissue",
            "gateways renew checked a",
            "others add checked a",
            "gateways add maybe a",
            "gateways add checked a b",
        ] {
            assert_eq!(Asked::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_steps_come_in_their_order() {
        let since = Timestamp::UNIX_EPOCH;
        let positions = [
            Position::Steady,
            Position::Added,
            Position::Distributed { since },
            Position::Reissued { since },
        ];
        assert_eq!(positions.map(Position::next), Step::ALL);
        for position in positions {
            let text = serde_json::to_string(&position).unwrap();
            assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
        }
    }
}
