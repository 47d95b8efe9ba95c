//! `docker run` as a server's source: image, arguments, environment, and what it asked for besides.

/// A `docker run` that was understood to the last word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) image: String,
    /// Replaces the image's entry point.
    pub(super) entrypoint: Option<String>,
    pub(super) args: Vec<String>,
    /// Variables; without a value they are those of whoever starts it.
    pub(super) env: Vec<(String, Option<String>)>,
    pub(super) user: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) cpu: Option<String>,
    /// Ports that are published: `8080:80`.
    pub(super) ports: Vec<String>,
    /// What has no counterpart, as it was written.
    pub(super) other: Vec<String>,
}

/// Options without a value that change nothing for us.
const PLAIN: [&str; 10] =
    ["-i", "--interactive", "--rm", "-t", "--tty", "-d", "--detach", "--init", "-q", "--quiet"];
/// Options with a value that change nothing for us.
const NAMING: [&str; 6] = ["--name", "--pull", "--platform", "--label", "-l", "--restart"];
/// Options with a value that are told and not followed.
const TOLD: [&str; 19] = [
    "-v",
    "--volume",
    "--mount",
    "--network",
    "--net",
    "--env-file",
    "-w",
    "--workdir",
    "--add-host",
    "--dns",
    "--tmpfs",
    "--gpus",
    "--device",
    "--cap-add",
    "--cap-drop",
    "--security-opt",
    "--shm-size",
    "--ulimit",
    "-h",
];
/// Options without a value that are told and not followed.
const TOLD_PLAIN: [&str; 3] = ["--privileged", "--read-only", "-P"];

/// Reads `run …` or `container run …`. None when an option is unknown: it may take the next word.
pub(super) fn run(args: &[String]) -> Option<Run> {
    let rest = match args {
        [container, run, rest @ ..] if container == "container" && run == "run" => rest,
        [run, rest @ ..] if run == "run" => rest,
        _ => return None,
    };
    let mut found = Run::default();
    let mut at = 0;
    while let Some(word) = rest.get(at).filter(|word| word.starts_with('-')) {
        at += 1;
        if word == "--" {
            break;
        }
        at += option(word, rest.get(at), &mut found)?;
    }
    rest.get(at)?.clone_into(&mut found.image);
    found.args = rest[at + 1..].to_vec();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    found.image.chars().all(fits).then_some(found)
}

/// One option; how many of the words after it it took.
fn option(word: &str, next: Option<&String>, found: &mut Run) -> Option<usize> {
    if PLAIN.contains(&word) || ["-it", "-ti"].contains(&word) {
        return Some(0);
    }
    if TOLD_PLAIN.contains(&word) {
        found.other.push(word.to_owned());
        return Some(0);
    }
    let (name, value, taken) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, value.to_owned(), 0),
        // `-eNAME=value`: the value stands at the letter.
        _ if !word.starts_with("--")
            && word.len() > 2
            && ["-e", "-v", "-p", "-u", "-m"].contains(&&word[..2]) =>
        {
            (&word[..2], word[2..].to_owned(), 0)
        }
        _ => (word, next?.clone(), 1),
    };
    match name {
        "-e" | "--env" => {
            let (name, value) =
                value.split_once('=').map_or((value.as_str(), None), |(name, value)| (name, Some(value)));
            found.env.push((name.to_owned(), value.map(str::to_owned)));
        }
        "-u" | "--user" => found.user = Some(value),
        "-m" | "--memory" => found.memory = Some(value),
        "--cpus" => found.cpu = Some(value),
        "-p" | "--publish" => found.ports.push(value),
        "--entrypoint" => found.entrypoint = Some(value),
        name if NAMING.contains(&name) => {}
        name if TOLD.contains(&name) => found.other.push(format!("{name} {value}")),
        _ => return None,
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_understood_or_nothing_is() {
        let read = |line: &str| run(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let line = "run -i --rm --name x -e TOKEN --env=A=b=c -eB=1 -v /a:/b --network=host -p 80:80 -u 1:1 \
                    --memory 1g --privileged ghcr.io/acme/notes:1.0 --port 80 -x";
        let found = read(line).unwrap();
        assert_eq!(found.image, "ghcr.io/acme/notes:1.0");
        assert_eq!(found.args, ["--port", "80", "-x"]);
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(found.env, [pair("TOKEN", None), pair("A", Some("b=c")), pair("B", Some("1"))]);
        assert_eq!(found.other, ["-v /a:/b", "--network host", "--privileged"]);
        assert_eq!((found.user.as_deref(), found.memory.as_deref()), (Some("1:1"), Some("1g")));
        for line in ["run", "run -i", "exec x y", "run --strange x image", "run ${IMAGE}", "run -e"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
