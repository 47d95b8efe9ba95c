//! Toolcrib serves MCP tools from Git: the catalog that clients see is the catalog of a commit.
//!
//! # Bird's eye
//!
//! A daemon follows one ref of one repository. For every commit it reads the declared resources
//! ([`manifest`]), works out what they ask for ([`desired`]), compares that with what runs
//! ([`live`], [`plan`]), changes what differs, asks the running servers what they offer ([`probe`])
//! and swaps one immutable [`catalog`] into the endpoint ([`gateway`]).
//!
//! ```text
//!   git ──> manifest ──> desired ──> plan ──> jobs (build, start, probe, stop)
//!    ^          pure       pure      pure        │ runner, mcp, probe
//!    │                       │                   v
//!  trigger               policy, lock        offers ──> catalog ──> gateway ──> clients
//!                                                        pure        swap
//! ```
//!
//! # Code map
//!
//! Modules are declared below in the order in which they are best read. Three layers:
//!
//! - **Pure** modules decide. They know no clock, file, network, process or log, hence cannot fail
//!   but by saying what is wrong with their input, and are tested by tables and properties. [`ports`]
//!   closes this layer: the traits by which the core names what it needs of the world.
//! - **Effects** do. Each outside library has one owner: [`git`] git2 and notify, [`runner`] bollard,
//!   [`mcp`] the wire and the transports, [`http`] axum's listeners, [`store`] redb, [`cli`] clap;
//!   [`outgoing`] is the one way to ask another program over HTTP.
//! - **Composition** joins: [`reconcile`] is the loop over ports, [`daemon`] names the adapters,
//!   [`config`] turns what was typed into what it means, [`cli`] speaks with people.
//!
//! Who may import whom is a table in `tests/it/tidy.rs`, and a test.
//!
//! # Invariants
//!
//! - **The plan is the plan.** One function, [`plan::plan`], serves the command line, the admin
//!   endpoint and the loop. It is synchronous, total and deterministic; a step leaves no choice.
//! - **Unknown is not absent.** A runner that cannot be asked creates and prunes nothing
//!   ([`live::Observation`]); a file that cannot be parsed deletes nothing ([`manifest::Manifest`]).
//! - **Written before it is made.** The inventory holds an instance's name before the instance
//!   exists and until it is seen gone, so a daemon killed at any point forgets nothing.
//! - **Data is nobody's but a person's.** No pass removes a volume, whatever is declared
//!   ([`reconcile::volume`]).
//! - **A call keeps what it started on.** A catalog entry carries its route; a swap changes what the
//!   next call finds, never a call under way.
//! - **Raw JSON passes through.** Definitions, arguments and results are text from end to end: a field
//!   nobody here knows arrives as it was sent ([`mcp::wire`]).
//! - **A commit is read from the object database**, never from a work tree, but where the command line
//!   was told to; symlinks, submodules and paths that leave the tree are diagnostics.
//! - **No secret has a printable type.** [`ports::SecretValue`] can neither be formatted nor
//!   serialised; it leaves only towards the workload it was declared for.
//! - **The floor holds.** What the operator did not allow ([`desired::Floor`]), no repository can.
//!
//! # What is deliberately not here
//!
//! No shell between a caller's arguments and a program; no state that Git and the runners could not
//! rebuild; no retry inside a step (the loop looks again, see [`reconcile::backoff`]); no clock in a
//! decision; no library of our own where a good one exists, but for what the project is about.

// Pure: no async, clock, files, network, process, logging.
pub mod resource;
pub mod wording;
pub mod schema;
pub mod lock;
pub mod manifest;
pub mod reference;
pub mod build;
pub mod desired;
pub mod policy;
pub mod live;
pub mod plan;
pub mod status;
pub mod catalog;
pub mod relation;
pub mod update;
pub mod contract;
pub mod convert;
pub mod review;
pub mod registration;
pub mod ports;

// Effects: every outside library has one owner.
pub mod git;
pub mod outgoing;
pub mod runner;
pub mod mcp;
pub mod http;
pub mod probe;
pub mod execute;
pub mod gateway;
pub mod admin;
pub mod store;
pub mod registrar;
pub mod secret;
pub mod telemetry;

// Composition.
pub mod reconcile;
pub mod config;
pub mod daemon;
pub mod cli;
