//! Nodes to typed values, with every fault and its place.
//!
//! Input: a [`Node`] and the type that is wanted. Output: the value, or all faults that could be
//! found. Not here: what a resource is.
//!
//! serde stops at its first fault. To find the others the entry at fault is left out and the whole is
//! read again, until it reads or nothing is left to leave out; what is at fault only because something
//! was left out is not reported.

mod access;
mod error;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::tree::{Mark, Node};
use error::ReadError;

/// Faults of one value that are looked for. More say nothing new, and each costs a reading.
const MAX_FAULTS: usize = 30;

/// What is wrong with a value, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) mark: Mark,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// What one reading leaves out, and what it found on its way.
#[derive(Default)]
struct Log {
    /// Addresses of nodes that are left out: nodes neither move nor go while they are read.
    left_out: BTreeSet<usize>,
    faults: RefCell<BTreeSet<Fault>>,
}

impl Log {
    fn leaves_out(&self, node: &Node<'_>) -> bool {
        !self.left_out.is_empty() && self.left_out.contains(&address(node))
    }
}

/// What a node is known by while the tree stands.
fn address(node: &Node<'_>) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Reads `node`, the value of `key`.
pub(super) fn read<T: DeserializeOwned>(node: &Node<'_>, key: Mark) -> Result<T, BTreeSet<Fault>> {
    let mut log = Log::default();
    for _ in 0..MAX_FAULTS {
        match T::deserialize(access::Reader { node, log: &log }) {
            Ok(value) if log.faults.borrow().is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => {
                let culprit = error.culprit;
                if !error.consequent {
                    log.faults.borrow_mut().insert(error.into_fault(key));
                }
                match culprit {
                    Some(culprit) if log.left_out.insert(culprit) => {}
                    _ => break,
                }
            }
        }
    }
    let mut faults = log.faults.into_inner();
    if faults.is_empty() {
        faults.insert(ReadError::plain("invalid-value", "this cannot be read").into_fault(key));
    }
    Err(faults)
}
