//! What a lock holds fast of a source, as long as the source is the one that was locked.

use crate::lock::Resolved;
use crate::manifest::{Declared, Manifest};
use crate::resource::Spec;

/// The source of a resource as it is written: what a lock speaks of. None: there is nothing to lock,
/// a `Tool` that is a command of this repository among others.
pub fn source_of(spec: &Spec) -> Option<serde_json::Value> {
    match spec {
        Spec::Server(spec) => serde_json::to_value(&spec.source).ok(),
        Spec::Tool(spec) => match (&spec.image, &spec.build) {
            (Some(image), _) => Some(serde_json::json!({ "image": image })),
            (None, Some(build)) => Some(serde_json::json!({ "build": build })),
            (None, None) => None,
        },
        _ => None,
    }
}

/// What the lock of a resource says of its source; none when it is about another source.
pub(super) fn pinned<'m>(manifest: &'m Manifest, declared: &Declared) -> Option<&'m Resolved> {
    let lock = manifest.locks.get(&declared.id())?;
    (source_of(&declared.spec)? == lock.source).then_some(&lock.resolved)
}

/// The reference by which an image is asked for: the locked one by its digest at the registry, or by
/// its id, else the one that is written.
pub(super) fn image<'m>(manifest: &'m Manifest, declared: &Declared, written: &'m str) -> &'m str {
    let pin = pinned(manifest, declared);
    pin.and_then(|pin| pin.digest.as_deref().or(pin.image.as_deref())).unwrap_or(written)
}
