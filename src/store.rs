//! What survives the daemon, in one file of the state directory.
//!
//! Input and output: [`Inventory`] and small values by key. Invariants: one daemon per state
//! directory, held by an exclusive lock; an inventory that was saved is on the disk when the call
//! returns; values are in memory at once and on the disk with the next inventory, at [`Redb::flush`]
//! or when the store is dropped. All of it can be rebuilt from Git and the runners, so a file that cannot be
//! read is moved aside, never repaired. Not here: deciding what to keep.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::live::{Entry, Inventory};
use crate::ports::{PortError, PortResult, Store};

/// The name of the file in the state directory.
const FILE: &str = "state.redb";
/// Counts changes of the tables' meaning; another number is treated as a file that cannot be read.
const SCHEMA: u64 = 1;

/// Values that may be in memory alone. Space in the file is reused only after a commit to the disk, so
/// without a bound the file would grow with every value.
const MAX_IN_MEMORY: u32 = 64;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const INVENTORY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("inventory");
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");

/// The key of what servers were last brought to.
const APPLIED: &str = "applied";
/// The key of volumes.
const VOLUMES: &str = "volumes";
/// The key of what containers are started ahead for.
const AHEAD: &str = "ahead";
/// The key of what guards prunes.
const GUARD: &str = "guard";
/// The key of the revision taken last, and who signs the next.
const TRUSTED: &str = "trusted";
/// The key of the revision that was healthy last.
const PROVEN: &str = "proven";
/// The key of the one that was taken back.
const WITHDRAWN: &str = "withdrawn";

/// The store of one state directory.
pub struct Redb {
    database: Database,
    path: PathBuf,
    /// Values put since the last commit to the disk.
    in_memory: AtomicU32,
}

/// Why a file was not opened.
enum Refused {
    /// Another process holds it.
    Locked,
    /// It is damaged, or of another schema.
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
    /// The disk or its permissions.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Redb {
    /// Opens the store of a state directory, which is made when it is missing.
    ///
    /// # Errors
    /// When another process uses the directory, or it cannot be written.
    pub fn open(state: &Path) -> PortResult<Self> {
        prepare(state)?;
        let path = state.join(FILE);
        match Self::try_open(&path) {
            Ok(store) => Ok(store),
            Err(Refused::Locked) => Err(locked(state)),
            Err(Refused::Failed(cause)) => Err(failed(&path, cause)),
            Err(Refused::Unreadable(cause)) => {
                let aside = set_aside(&path)?;
                tracing::error!(
                    file = %path.display(),
                    aside = %aside.display(),
                    %cause,
                    "the store cannot be read; it was moved aside and an empty one made: prunes wait for approval"
                );
                let store = match Self::try_open(&path) {
                    Ok(store) => store,
                    Err(Refused::Locked) => return Err(locked(state)),
                    Err(Refused::Failed(cause) | Refused::Unreadable(cause)) => {
                        return Err(failed(&path, cause));
                    }
                };
                store.save_inventory(&Inventory { rebuilt: true, ..Inventory::default() })?;
                Ok(store)
            }
        }
    }

    /// Opens a file and reads all of it that matters, so that damage is found here and not later.
    fn try_open(path: &Path) -> Result<Self, Refused> {
        // Some damage ends in a panic of the library instead of an error (redb 4.4, allocator state).
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Self::read_all(path)));
        opened.unwrap_or_else(|_| Err(Refused::Unreadable("reading it ends in a panic".into())))
    }

    fn read_all(path: &Path) -> Result<Self, Refused> {
        let unreadable = |error: PortError| Refused::Unreadable(error.into());
        let fresh = !path.exists();
        let mut database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Refused::Locked,
            DatabaseError::Storage(redb::StorageError::Io(error)) if !damaged(&error) => {
                Refused::Failed(error.into())
            }
            error => Refused::Unreadable(error.into()),
        })?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| Refused::Failed(error.into()))?;
        let whole = database.check_integrity().map_err(|error| Refused::Unreadable(error.into()))?;
        let store = Self { database, path: path.to_owned(), in_memory: AtomicU32::new(0) };
        let schema = store.schema(fresh).map_err(|error| Refused::Unreadable(error.into()))?;
        if schema != SCHEMA {
            return Err(Refused::Unreadable(format!("it has schema {schema}, not {SCHEMA}").into()));
        }
        let inventory = store.inventory().map_err(unreadable)?;
        if !whole {
            tracing::warn!(file = %path.display(), "the store was repaired; prunes wait for approval");
            store.save_inventory(&Inventory { rebuilt: true, ..inventory }).map_err(unreadable)?;
        }
        Ok(store)
    }

    /// The schema of the file; a fresh file gets ours, with all tables in it.
    fn schema(&self, fresh: bool) -> Result<u64, redb::Error> {
        if fresh {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert("schema", SCHEMA)?;
            write.open_table(INVENTORY)?;
            write.open_table(VALUES)?;
            write.commit()?;
        }
        let read = self.database.begin_read()?;
        read.open_table(INVENTORY)?;
        read.open_table(VALUES)?;
        Ok(read.open_table(META)?.get("schema")?.map_or(0, |found| found.value()))
    }

    /// Puts on the disk what is only in memory. Called when the daemon ends.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self) -> PortResult<()> {
        self.write("failed to flush the store", Durability::Immediate, |_| Ok(()))
    }

    fn write(
        &self,
        operation: &str,
        durability: Durability,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> PortResult<()> {
        let outcome = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            write.set_durability(durability)?;
            change(&write)?;
            write.commit()?;
            Ok(())
        };
        outcome().map_err(|cause| self.error(operation, cause))?;
        if matches!(durability, Durability::Immediate) {
            self.in_memory.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn error(
        &self,
        operation: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> PortError {
        PortError::retry(operation)
            .caused_by(cause)
            .hint(format!("look at the disk that holds `{}`: is it full or read-only?", self.path.display()))
    }

    fn rows(&self) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(INVENTORY)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (name, entry) = row?;
            rows.push((name.value().to_owned(), entry.value().to_owned()));
        }
        Ok(rows)
    }

    fn value(&self, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(VALUES)?.get(key)?.map(|found| found.value().to_owned()))
    }

    /// A value of the inventory; none before it was written first.
    fn json<T: serde::de::DeserializeOwned>(&self, key: &str, operation: &str) -> PortResult<Option<T>> {
        let bytes = self.get(key)?;
        bytes
            .map(|bytes| serde_json::from_slice(&bytes).map_err(|cause| self.error(operation, cause)))
            .transpose()
    }

    fn rebuilt(&self) -> Result<bool, redb::Error> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(META)?.get("rebuilt")?.is_some_and(|found| found.value() == 1))
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(error = %error.chain(), "what was only in memory is lost");
        }
    }
}

impl Store for Redb {
    fn inventory(&self) -> PortResult<Inventory> {
        const OPERATION: &str = "failed to read the inventory";
        let rebuilt = self.rebuilt().map_err(|cause| self.error(OPERATION, cause))?;
        let mut inventory = Inventory { rebuilt, ..Inventory::default() };
        for (name, row) in self.rows().map_err(|cause| self.error(OPERATION, cause))? {
            let entry: Entry = serde_json::from_slice(&row).map_err(|cause| self.error(OPERATION, cause))?;
            inventory.entries.insert(name, entry);
        }
        inventory.applied = self.json(APPLIED, OPERATION)?.unwrap_or_default();
        inventory.volumes = self.json(VOLUMES, OPERATION)?.unwrap_or_default();
        inventory.ahead = self.json(AHEAD, OPERATION)?.unwrap_or_default();
        inventory.guard = self.json(GUARD, OPERATION)?.flatten();
        inventory.trusted = self.json(TRUSTED, OPERATION)?.flatten();
        inventory.proven = self.json(PROVEN, OPERATION)?.flatten();
        inventory.withdrawn = self.json(WITHDRAWN, OPERATION)?.flatten();
        Ok(inventory)
    }

    fn save_inventory(&self, inventory: &Inventory) -> PortResult<()> {
        let mut rows = Vec::with_capacity(inventory.entries.len());
        for (name, entry) in &inventory.entries {
            let row = serde_json::to_vec(entry)
                .map_err(|cause| self.error("failed to write the inventory", cause))?;
            rows.push((name.as_str(), row));
        }
        let values = [
            (APPLIED, serde_json::to_vec(&inventory.applied)),
            (VOLUMES, serde_json::to_vec(&inventory.volumes)),
            (AHEAD, serde_json::to_vec(&inventory.ahead)),
            (GUARD, serde_json::to_vec(&inventory.guard)),
            (TRUSTED, serde_json::to_vec(&inventory.trusted)),
            (PROVEN, serde_json::to_vec(&inventory.proven)),
            (WITHDRAWN, serde_json::to_vec(&inventory.withdrawn)),
        ];
        let values = values.into_iter().map(|(key, value)| Ok((key, value?)));
        let values: Vec<(&str, Vec<u8>)> = values
            .collect::<Result<_, serde_json::Error>>()
            .map_err(|cause| self.error("failed to write the inventory", cause))?;
        self.write("failed to write the inventory", Durability::Immediate, |write| {
            for (key, value) in &values {
                write.open_table(VALUES)?.insert(*key, value.as_slice())?;
            }
            write.open_table(META)?.insert("rebuilt", u64::from(inventory.rebuilt))?;
            let mut table = write.open_table(INVENTORY)?;
            table.retain(|name, _| inventory.entries.contains_key(name))?;
            for (name, row) in &rows {
                if table.get(name)?.is_none_or(|found| found.value() != row.as_slice()) {
                    table.insert(name, row.as_slice())?;
                }
            }
            Ok(())
        })
    }

    fn put_durably(&self, key: &str, value: &[u8]) -> PortResult<()> {
        self.put(key, value)?;
        self.flush()
    }

    fn get(&self, key: &str) -> PortResult<Option<Vec<u8>>> {
        self.value(key).map_err(|cause| self.error(&format!("failed to read `{key}` of the store"), cause))
    }

    fn put(&self, key: &str, value: &[u8]) -> PortResult<()> {
        let waiting = self.in_memory.fetch_add(1, Ordering::Relaxed);
        let durability = if waiting < MAX_IN_MEMORY { Durability::None } else { Durability::Immediate };
        self.write(&format!("failed to write `{key}` to the store"), durability, |write| {
            write.open_table(VALUES)?.insert(key, value)?;
            Ok(())
        })
    }
}

/// A random key in a file of its own (mode 0600), made when it is missing.
///
/// # Errors
/// When the file cannot be read or made, or holds no key.
#[expect(clippy::disallowed_methods, reason = "reads a file: an effect")]
pub fn key(path: &Path) -> PortResult<[u8; 32]> {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    let cannot = |cause: std::io::Error| failed(path, cause);
    let read = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(33).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            PortError::stalled(format!("`{}` holds no key of 32 bytes", path.display()))
                .hint("remove it: users then authorize again")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            // Whole under its name or not at all.
            let aside = path.with_extension("key.new");
            let options =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
            let mut file = options.map_err(cannot)?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(cannot)?;
            std::fs::rename(&aside, path).map_err(cannot)?;
            Ok(key)
        }
        Err(error) => Err(cannot(error)),
    }
}

/// Makes the state directory, readable by its owner alone.
fn prepare(state: &Path) -> PortResult<()> {
    let failed = |cause: std::io::Error| {
        PortError::stalled(format!("failed to prepare state directory `{}`", state.display()))
            .caused_by(cause)
            .hint("name a folder that can be written with --state")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    std::fs::set_permissions(state, Permissions::from_mode(0o700)).map_err(failed)
}

/// Whether an error of the disk speaks of the file's content: it ends too early, or holds nonsense.
fn damaged(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn set_aside(path: &Path) -> PortResult<PathBuf> {
    let name = |count: u32| path.with_extension(format!("redb.unreadable-{count}"));
    // As many as anybody could wish to look at; the oldest name is used again after that.
    let aside = (1..100).map(name).find(|aside| !aside.exists()).unwrap_or_else(|| name(1));
    std::fs::rename(path, &aside).map_err(|cause| failed(path, cause))?;
    Ok(aside)
}

fn locked(state: &Path) -> PortError {
    PortError::stalled(format!("another toolcrib uses this state directory: `{}`", state.display()))
        .hint("`toolcrib reconcile --wait` has a daemon that runs look now; a second one needs another --name or --state")
}

fn failed(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
    PortError::stalled(format!("failed to open `{}`", path.display()))
        .caused_by(cause)
        .hint("see that the state directory can be written, or name another with --state")
}

#[cfg(test)]
mod tests;
