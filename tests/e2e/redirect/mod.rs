//! Pods that know of no proxy: the relay, the rules that redirect to it, and transparent listeners.

mod netns;
mod relay;
mod transparent;
