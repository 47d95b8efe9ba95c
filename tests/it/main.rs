//! The one integration binary: the built program and its effects against the real thing.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail by panicking, reach the world, and are called with literals"
)]

mod cli;
mod conformance;
mod connect;
mod contract;
mod docker;
mod endpoints;
mod examples;
mod export;
mod fidelity;
mod gateway_unit;
mod hostile;
mod follow;
mod fuzz;
mod git;
mod import;
mod init;
mod layout;
mod lock;
mod policy;
mod probe;
mod manifest;
mod process;
mod readme;
mod registration;
mod support;
mod tidy;
