//! The build script: compiles `src/init/main.rs` (crib-init) to one static file that the Docker runner embeds.
#![expect(clippy::disallowed_methods, reason = "a build script runs rustc and speaks to cargo")]

use std::path::PathBuf;
use std::process::Command;
use std::{env, io};

const SOURCE: &str = "src/init/main.rs";

fn main() -> Result<(), io::Error> {
    for source in ["src/init", "src/outgoing/forbidden.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let var = |name: &str| env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")));
    let out = PathBuf::from(var("OUT_DIR")?).join("crib-init");
    let mut command = Command::new(var("RUSTC")?);
    command.args(["--edition=2024", "--crate-name=crib_init", "--crate-type=bin", "--cap-lints=warn"]);
    command.args(["-Ctarget-feature=+crt-static", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"]);
    command.args(["-Clto=fat", "-Ccodegen-units=1", "-Crelocation-model=static"]);
    command.args(["--target", &var("TARGET")?, SOURCE, "-o"]).arg(&out);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("rustc on {SOURCE}: {status}"))) }
}
