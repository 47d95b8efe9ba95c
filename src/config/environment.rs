//! The environment of the process, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Variables by name. Values may be secret: they are never printed.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<OsString, OsString>>);

/// The raw value of one variable.
pub type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    /// The environment of this process, as it is now.
    pub fn capture() -> Self {
        Self(Arc::new(std::env::vars_os().collect()))
    }

    /// For what is not read from a process.
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Arc::new(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
    }

    /// The raw value.
    pub fn get_os(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Answers for single variables, for whom the rest is no concern of.
    pub fn lookup(&self) -> Arc<Lookup> {
        let environment = self.clone();
        Arc::new(move |name| environment.get_os(name).map(OsStr::to_owned))
    }

    /// The value, when it is set and UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_os(name)?.to_str()
    }

    /// The home directory, when it is an absolute path.
    pub fn home(&self) -> Option<PathBuf> {
        self.absolute("HOME")
    }

    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Where state of this user is kept: `XDG_STATE_HOME`, else below the home directory, else the
    /// system's place for daemons.
    pub fn state_home(&self) -> PathBuf {
        self.absolute("XDG_STATE_HOME")
            .or_else(|| self.home().map(|home| home.join(".local/state")))
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join("toolcrib")
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}
