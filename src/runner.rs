//! Places where things run: the adapters of [`crate::ports::Runner`].
//!
//! Not here: choosing a place, and what to do when one fails.

pub mod docker;
pub mod process;
