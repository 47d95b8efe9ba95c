//! The build script: compiles `src/init/main.rs` (crib-init) to one static file that the Docker runner embeds,
//! and has the linker put the functions that a daemon uses side by side.
#![expect(clippy::disallowed_methods, reason = "a build script runs rustc and speaks to cargo")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const SOURCE: &str = "src/init/main.rs";

/// Functions that a daemon uses, one a line; made by `tests/bench/layout/run`.
const LAYOUT: &str = "src/layout.txt";

fn main() -> Result<(), io::Error> {
    for source in ["src/init", "src/outgoing/forbidden.rs", LAYOUT] {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=TOOLCRIB_LAYOUT");
    let out = PathBuf::from(var("OUT_DIR")?);
    init(&out.join("crib-init"))?;
    if is_laid_out()? { lay_out(&out.join("layout.ld")) } else { Ok(()) }
}

fn var(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

fn init(to: &Path) -> io::Result<()> {
    let mut command = Command::new(var("RUSTC")?);
    command.args(["--edition=2024", "--crate-name=crib_init", "--crate-type=bin", "--cap-lints=warn"]);
    command.args(["-Ctarget-feature=+crt-static", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"]);
    command.args(["-Clto=fat", "-Ccodegen-units=1", "-Crelocation-model=static"]);
    command.args(["--target", &var("TARGET")?, SOURCE, "-o"]).arg(to);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("rustc on {SOURCE}: {status}"))) }
}

/// Optimised builds for Linux with glibc: elsewhere linkers read no scripts of GNU's, and a build that is not
/// optimised is made to be linked soon. `TOOLCRIB_LAYOUT=0` leaves it out.
fn is_laid_out() -> io::Result<bool> {
    let linux = var("CARGO_CFG_TARGET_OS")? == "linux" && var("CARGO_CFG_TARGET_ENV")? == "gnu";
    let wanted = env::var("TOOLCRIB_LAYOUT").map_or(true, |value| value != "0");
    Ok(linux && wanted && var("OPT_LEVEL")? != "0")
}

/// Linux maps 64 KiB of a program or more around each page that is touched, and what a daemon uses is a sixth of
/// the code, all over it: so that it lies together, the linker collects it in a section of its own. What of the
/// list is not there is no fault.
fn lay_out(script: &Path) -> io::Result<()> {
    let list = fs::read_to_string(LAYOUT)?;
    let (rust, others): (Vec<&str>, Vec<&str>) = list.lines().partition(|name| name.starts_with("_ZN"));
    let (instances, names): (Vec<&str>, Vec<&str>) =
        rust.into_iter().partition(|name| without_hash(name).is_some());
    // Of these many instances are not used. They come last: with other hashes, the used ones are among them.
    let unused: BTreeSet<&str> = instances.iter().copied().filter_map(without_hash).collect();
    let mut text = String::from("SECTIONS {\n  .text.daemon : {\n");
    for name in others {
        let _ = writeln!(text, "    *(.text.{name})");
    }
    for instance in instances {
        // Behind the hash may stand that of a module.
        let _ = writeln!(text, "    *(.text.{instance}*)");
    }
    for name in names.into_iter().chain(unused) {
        let _ = writeln!(text, "    *(.text.{name}17h*)");
    }
    text.push_str("  }\n} INSERT BEFORE .text;\n");
    fs::write(script, text)?;
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    Ok(())
}

/// The name of all instances of a function, of the name of one: that ends with `17h`, sixteen digits and `E`.
fn without_hash(instance: &str) -> Option<&str> {
    let (name, hash) = instance.split_at_checked(instance.len().checked_sub(20)?)?;
    hash.starts_with("17h").then_some(name)
}
