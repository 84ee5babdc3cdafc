//! Attacks on what proves a caller: what it costs to look at a proof, how long a proof stands, and
//! whose it is. Numbered as in the list of threats.

mod chains;
mod issuers;
mod keys;
mod lives;
mod strangers;
