//! Toolcrib.

// Pure: no async, clock, files, network, process, logging.
pub mod resource;
pub mod manifest;
pub mod build;
pub mod desired;
pub mod policy;
pub mod live;
pub mod plan;
pub mod status;
pub mod catalog;
pub mod schema;
pub mod ports;

// Effects: every outside library has one owner.
pub mod git;
pub mod runner;
pub mod mcp;
pub mod http;
pub mod probe;
pub mod execute;
pub mod gateway;
pub mod admin;
pub mod store;
pub mod secret;
pub mod telemetry;

// Composition.
pub mod reconcile;
pub mod config;
pub mod daemon;
pub mod cli;
