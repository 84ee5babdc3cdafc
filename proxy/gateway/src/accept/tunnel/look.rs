//! The result of inspecting a client's bytes.

use countersign_authorize::ShownName;

use crate::refusal::Refusal;

/// What to do with the inspected bytes.
#[derive(Debug)]
pub(super) enum Look {
    /// Wait for more.
    More,
    /// Pass on this many.
    Pass(usize),
    /// Pass on this many, if the name that they show may be reached.
    Names(ShownName, usize),
    /// Pass on all, and stop inspecting.
    Free,
    /// Refuse the tunnel.
    Refuse(Refusal),
}
