//! How redirected connections arrive.

/// How the kernel redirects connections, which determines where their original destination is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transparency {
    /// netfilter's `REDIRECT` rewrites the destination and remembers the original (`SO_ORIGINAL_DST`).
    Redirect,
    /// `TPROXY` keeps the destination. The listener needs `CAP_NET_ADMIN`.
    Tproxy,
}
