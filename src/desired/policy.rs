//! A `Policy` with its modules.

use std::sync::Arc;

use super::place::Findings;
use super::{PolicyModule, PolicySource, files};
use crate::desired::context::Context;
use crate::manifest::{Declared, MAX_MANIFEST_BYTES};
use crate::resource::Digest;
use crate::resource::policy::PolicySpec;

pub(super) fn policy(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &PolicySpec,
    findings: &mut Findings<'_>,
) -> Option<PolicySource> {
    let mut modules: Vec<PolicyModule> = Vec::new();
    for (at, module) in spec.modules.iter().enumerate() {
        let at = at.to_string();
        let field = ["modules", at.as_str()];
        let Some((path, entry)) = files::file(context.snapshot, declared, &field, module, findings) else {
            continue;
        };
        let text = context.resolutions.blobs.get(&entry.id).map(|bytes| std::str::from_utf8(bytes));
        match text {
            Some(Ok(text)) => {
                modules.push(PolicyModule { file: path, line: 1, indent: 0, text: text.into() });
            }
            Some(Err(_)) => {
                findings.error(&field, "not-text", format!("`{path}` is not UTF-8 text"), "save it as UTF-8");
            }
            None => {
                // All that is asked for is read, but what is larger.
                let message = format!("`{path}` has more than {} MiB", MAX_MANIFEST_BYTES >> 20);
                findings.error(&field, "too-large", message, "split the module");
            }
        }
    }
    if let Some(text) = &spec.rego {
        let (line, indent) = declared.text_start(&["spec", "rego"]);
        modules.push(PolicyModule {
            file: declared.place.file.clone(),
            line,
            indent,
            text: text.as_str().into(),
        });
    }
    let id = declared.id();
    let texts: Vec<_> = modules.iter().map(|module| (&module.file, &module.text)).collect();
    let digest = Digest::of(
        "policy",
        &(&id, &spec.package, spec.rego_version, &spec.points, spec.enforcement, texts, &spec.opa),
    );
    (!findings.failed()).then(|| PolicySource {
        id,
        place: declared.place.clone(),
        package: spec.package.clone(),
        version: spec.rego_version,
        points: spec.points.clone(),
        enforcement: spec.enforcement,
        modules,
        opa: spec.opa.clone(),
        digest,
    })
}
