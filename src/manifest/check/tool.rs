//! Checks of a `Tool`.

use serde_json::Value;

use super::super::schema::problems;
use super::Check;
use crate::resource::Packed;
use crate::resource::tool::ToolSpec;

pub(super) fn tool(check: &mut Check<'_, '_>, spec: &ToolSpec) {
    if let Some(name) = &spec.publish_as {
        check.name_part(&["publishAs"], name);
        if name.is_empty() {
            check.invalid(&["publishAs"], "the published name is empty", "write a name, or remove the field");
        }
    }
    if spec.description.trim().is_empty() {
        let hint = "say what the tool does and when to use it: models choose by it";
        check.invalid(&["description"], "the description is empty", hint);
    }
    program(check, spec);
    schemas(check, spec);
    super::contract::tests(check, &spec.tests, false);
    check.env(spec.env.iter());
    check.files(spec.files.iter());
    check.volumes(&spec.volumes);
    check.egress(&spec.egress);
    check.concurrency(spec.concurrency);
    check.security(spec.security.as_ref());
    if spec.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        check.invalid(&["timeout"], "no call ends in no time", "write a length of time such as `30s`");
    }
    for (at, code) in spec.success_exit_codes.iter().flatten().enumerate() {
        if !(0..=255).contains(code) {
            let message = format!("{code} is not an exit code");
            check.invalid(&["successExitCodes", &at.to_string()], message, "write numbers from 0 to 255");
        }
    }
}

fn program(check: &mut Check<'_, '_>, spec: &ToolSpec) {
    if spec.image.is_some() && spec.build.is_some() {
        check.fault(
            &["build"],
            "not-exactly-one",
            "the tool has both `image` and `build`",
            "keep one of them",
        );
    }
    if let Some(image) = &spec.image {
        check.image(&["image"], image);
    }
    if let Some(build) = &spec.build {
        check.build(&["build"], build);
    }
    if spec.image.is_none() && spec.build.is_none() && spec.command.is_empty() {
        let hint = "add `command: [program, …]`, or an `image` whose entry point is the program";
        check.fault(&[], "missing-field", "the tool says nothing to run", hint);
    }
    if spec.command.first().is_some_and(String::is_empty) {
        check.invalid(&["command"], "the program has no name", "write `[program, argument, …]`");
    }
}

fn schemas(check: &mut Check<'_, '_>, spec: &ToolSpec) {
    if spec.parameters.is_some() && spec.input_schema.is_some() {
        let message = "the tool has both `parameters` and `inputSchema`";
        check.fault(&["inputSchema"], "not-exactly-one", message, "keep one of them");
    }
    let input = spec.input_schema.as_ref().map(Packed::unpack);
    for (field, schema) in [("inputSchema", &input), ("outputSchema", &spec.output_schema)] {
        let Some(schema) = schema else { continue };
        for problem in problems(schema) {
            let path: Vec<&str> =
                std::iter::once(field).chain(problem.path.iter().map(String::as_str)).collect();
            check.fault(&path, "invalid-schema", problem.message, &problem.hint);
        }
        let object = schema.as_object().and_then(|schema| schema.get("type"));
        if object.and_then(Value::as_str) != Some("object") {
            let message = format!("`{field}` does not describe an object");
            check.invalid(
                &[field],
                message,
                "begin it with `type: object` and list fields below `properties`",
            );
        }
    }
}
