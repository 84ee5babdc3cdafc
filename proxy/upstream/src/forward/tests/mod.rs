//! The upstream client against real servers over TLS on loopback.

mod again;
mod exchange;
mod fairness;
mod faults;
mod reach;
mod sharing;
mod support;
mod upgrades;
