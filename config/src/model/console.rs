//! The console at the admin endpoint.

use std::path::PathBuf;

use crate::host::Host;

/// Who may open the console.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Console {
    /// A file with the token that is asked for, read again for each login; `None` asks for none.
    pub token_file: Option<PathBuf>,
    /// Names, besides this machine's own, under which it may be called. Without one it is shown to this machine
    /// alone; with one, there is a token.
    pub hosts: Vec<Host>,
}
