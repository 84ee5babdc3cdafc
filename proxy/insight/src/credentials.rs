//! Credentials: how they stand, as a gateway says, and what became of them, as records say.

mod health;
mod timeline;

pub use self::{
    health::{Health, Standing, length},
    timeline::{Moment, MomentKind, Timeline, Timelines},
};
