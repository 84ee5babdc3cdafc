//! Looking for the credential in a body, by the piece.

use std::hint::black_box;

use countersign_gateway::pipeline::Search;

const SECRET: &[u8] = b"xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx";
const TEXT: &[u8] = b"{\"ok\":true,\"channel\":\"C0123456789\",\"ts\":\"1503435956.000247\"},";

/// A body that passes in pieces of one size, and does not hold the credential.
pub(crate) struct Echo {
    search: Search,
    piece: Vec<u8>,
}

impl Echo {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            search: Search::default(),
            piece: TEXT.iter().copied().cycle().take(bytes).collect(),
        }
    }

    pub(crate) fn look(&mut self) {
        self.search.look(black_box(SECRET), black_box(&self.piece));
    }
}
