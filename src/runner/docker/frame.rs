//! The frame that crib-init reads from standard input: what the engine must not know.
//!
//! The format is described in `src/init/main.rs`, which reads it.

use crate::ports::{Material, PortError, PortResult, SecretValue};

/// The reader keeps the same bound: more is no configuration, and does not fit the tmpfs.
const MAX_FRAME: usize = 4 << 20;
/// Of one `NAME=VALUE`: Linux takes no longer ones (`MAX_ARG_STRLEN`).
const MAX_VARIABLE: usize = 128 << 10;

/// Encodes environment and files; `None` when there are none.
pub(super) fn encode(material: &Material) -> PortResult<Option<Vec<u8>>> {
    if material.env.is_empty() && material.files.is_empty() {
        return Ok(None);
    }
    let mut frame = b"TCF1".to_vec();
    bytes(&mut frame, &tables(material)?);
    Ok(Some(frame))
}

/// Both tables.
pub(super) fn tables(material: &Material) -> PortResult<Vec<u8>> {
    let Material { env, files, secrets: _ } = material;
    for (name, value) in env {
        let value = value.expose();
        let fits = !value.contains(&0) && std::str::from_utf8(value).is_ok();
        if !fits || name.len() + value.len() + 2 > MAX_VARIABLE {
            return Err(PortError::stalled(format!("cannot give the variable `{name}`"))
                .caused_by("its value is not text, or longer than 128 KiB")
                .hint("give it as a file instead (`files`)"));
        }
    }
    let mut body = Vec::new();
    table(&mut body, env.iter());
    table(&mut body, files.iter());
    if body.len() > MAX_FRAME {
        return Err(PortError::stalled("cannot give the environment and files")
            .caused_by(format!("they have {} bytes, at most {MAX_FRAME} are taken", body.len())));
    }
    Ok(body)
}

fn table<'a>(body: &mut Vec<u8>, entries: impl ExactSizeIterator<Item = (&'a String, &'a SecretValue)>) {
    number(body, entries.len());
    for (name, value) in entries {
        bytes(body, name.as_bytes());
        bytes(body, value.expose());
    }
}

pub(super) fn bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    number(body, bytes.len());
    body.extend_from_slice(bytes);
}

/// What does not fit is over [`MAX_FRAME`] and never sent.
pub(super) fn number(body: &mut Vec<u8>, number: usize) {
    body.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes())
    }

    #[test]
    fn frames_are_exact() {
        assert!(encode(&Material::default()).unwrap().is_none());
        let mut material = Material::default();
        material.env.insert("A".to_owned(), value("b"));
        let frame = encode(&material).unwrap().unwrap();
        assert_eq!(frame, b"TCF1\0\0\0\x12\0\0\0\x01\0\0\0\x01A\0\0\0\x01b\0\0\0\0");
    }

    #[test]
    fn values_that_cannot_be_variables_are_refused_without_being_shown() {
        for bad in ["canary\0", &"canary".repeat(30_000)] {
            let mut material = Material::default();
            material.env.insert("A".to_owned(), value(bad));
            let error = encode(&material).unwrap_err();
            assert!(error.chain().contains("`A`") && !error.chain().contains("canary"));
        }
    }
}
