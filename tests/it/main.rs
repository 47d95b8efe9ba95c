//! The one integration binary: the built program and its effects against the real thing.

mod cli;
mod docker;
mod gateway_unit;
mod follow;
mod git;
mod probe;
mod manifest;
mod process;
mod support;
mod tidy;
