//! The Model Context Protocol: messages, transports and both eras, as client and as server.

pub mod client;
pub mod server;
pub mod wire;
