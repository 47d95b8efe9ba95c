//! What can be declared and is not there yet: refused, each with what this version does instead.
//!
//! A field is obeyed or refused, never passed over. What comes to work loses its line here.

use super::Check;
use crate::resource::Spec;
use crate::resource::runner::RunnerSpec;

/// The code of all of these.
const CODE: &str = "not-supported";

pub(super) fn refuse(check: &mut Check<'_, '_>, spec: &Spec) {
    match spec {
        Spec::Runner(spec) => runner(check, spec),
        Spec::Crib(_)
        | Spec::Integration(_)
        | Spec::Policy(_)
        | Spec::Server(_)
        | Spec::Tool(_)
        | Spec::Toolset(_) => {}
    }
}

impl Check<'_, '_> {
    /// `what` follows "this version does not support"; `instead` is what it does, or what to do.
    fn later(&mut self, given: bool, path: &[&str], what: &str, instead: &str) {
        if given {
            self.fault(path, CODE, format!("this version does not support {what}"), instead);
        }
    }
}

fn runner(check: &mut Check<'_, '_>, spec: &RunnerSpec) {
    for kind in spec.later() {
        let what = format!("runners of kind `{kind}`");
        check.later(true, &[kind], &what, "use `docker: {}` or `process: {}`");
    }
}
