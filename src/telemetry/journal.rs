//! Records kept on the disk: one JSON object a line, in files that follow one another.
//!
//! Input: lines. Output: the lines of the last files, oldest first. Invariants: at most [`FILES`] files
//! of [`FILE_BYTES`] each, readable by their owner only; nobody waits for the disk; what could not be
//! kept is counted, and the count is kept. Not here: what a record says.

#![expect(clippy::disallowed_methods, reason = "records are files, written by a thread of their own")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

/// Files that are kept, with the one that is written.
pub const FILES: usize = 8;
/// Bytes after which the next file is begun: about 20,000 calls.
pub const FILE_BYTES: u64 = 8 << 20;
/// Records that wait for the disk: what a few hundred milliseconds bring.
const WAITING: usize = 4096;
/// Bytes of one line that is read back; ours are shorter.
const MAX_LINE: usize = 64 << 10;
/// Lines of this long are written together: a thread that is woken for each call takes time from calls.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are written together at most.
const BATCH: usize = 256 << 10;
/// How long a reader waits until what was recorded before is written.
const WRITTEN: Duration = Duration::from_secs(2);

/// Takes records, and gives them back.
pub struct Journal {
    folder: PathBuf,
    sender: SyncSender<Message>,
    lost: std::sync::Arc<AtomicU64>,
}

enum Message {
    /// JSON, without its end.
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Written(SyncSender<()>),
}

impl Journal {
    /// In a folder that is made when it is not there.
    ///
    /// # Errors
    /// When the folder or the first file cannot be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let writer = Writer::open(folder)?;
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        let lost = std::sync::Arc::<AtomicU64>::default();
        let counted = std::sync::Arc::clone(&lost);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receiver, &counted))?;
        Ok(Self { folder: folder.to_owned(), sender, lost })
    }

    /// Keeps a line, without its end. Never waits: when the disk does not keep up, the record is lost
    /// and counted.
    pub fn keep(&self, line: impl Into<Vec<u8>>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(Message::Line(line.into()))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was given before is written, or for [`WRITTEN`]. Blocks.
    pub fn written(&self) {
        let (sender, receiver) = mpsc::sync_channel(1);
        if self.sender.send(Message::Written(sender)).is_ok() {
            let _ = receiver.recv_timeout(WRITTEN);
        }
    }

    /// Looks at every line that is kept, oldest first. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self, mut look: impl FnMut(&str)) -> io::Result<()> {
        // Late is no reason to say nothing: the newest lines are missing then.
        self.written();
        for at in (0..FILES).rev() {
            let file = match File::open(path(&self.folder, at)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut reader = BufReader::new(io::Read::take(file, 2 * FILE_BYTES));
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                if line.len() <= MAX_LINE
                    && let Ok(text) = std::str::from_utf8(&line)
                {
                    look(text.trim_end());
                }
                line.clear();
            }
        }
        Ok(())
    }
}

/// The file that is written is `calls.jsonl`, those before it `calls.1.jsonl` and so on.
fn path(folder: &Path, at: usize) -> PathBuf {
    folder.join(if at == 0 { "calls.jsonl".to_owned() } else { format!("calls.{at}.jsonl") })
}

struct Writer {
    folder: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path(folder, 0))?;
        let bytes = file.metadata()?.len();
        Ok(Self { folder: folder.to_owned(), file, bytes })
    }

    fn run(mut self, receiver: &Receiver<Message>, lost: &AtomicU64) {
        while let Ok(first) = receiver.recv() {
            if matches!(first, Message::Line(_)) {
                // Nothing is waited for: while this thread does not listen, a call that sends wakes nobody.
                std::thread::sleep(GATHER);
            }
            let missing = lost.swap(0, Ordering::Relaxed);
            let mut lines = Vec::new();
            if missing > 0 {
                lines.extend_from_slice(format!("{{\"lost\":{missing}}}\n").as_bytes());
            }
            let (mut count, mut waiting) = (0, Vec::new());
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        lines.extend_from_slice(&line);
                        lines.push(b'\n');
                        count += 1;
                    }
                    Message::Written(sender) => waiting.push(sender),
                }
                next = if lines.len() < BATCH { receiver.try_recv().ok() } else { None };
            }
            if !lines.is_empty()
                && let Err(error) = self.write(&lines)
            {
                lost.fetch_add(missing + count, Ordering::Relaxed);
                tracing::error!(%error, "records of calls could not be kept");
            }
            for sender in waiting {
                // Whoever waited may have given up.
                let _ = sender.try_send(());
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > FILE_BYTES {
            for at in (0..FILES - 1).rev() {
                match fs::rename(path(&self.folder, at), path(&self.folder, at + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            *self = Self::open(&self.folder)?;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_files_are_kept_and_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("audit");
        let lines = |journal: &Journal| {
            let mut lines = Vec::new();
            journal.read(|line| lines.push(line.get(..8).unwrap_or(line).to_owned())).unwrap();
            lines
        };
        {
            let journal = Journal::open(&inside).unwrap();
            journal.keep("00000000".to_owned());
            assert_eq!(lines(&journal), ["00000000"]);
        }
        let journal = Journal::open(&inside).unwrap();
        let long = "x".repeat(usize::try_from(FILE_BYTES).unwrap() / 2);
        for n in 1..40 {
            journal.keep(format!("{n:08}{long}"));
            // Each is written before the next is given.
            journal.read(|_| {}).unwrap();
        }
        journal.keep("00000040".to_owned());
        let files: Vec<_> = fs::read_dir(&inside).unwrap().collect();
        assert_eq!(files.len(), FILES);
        // Long lines are no records of ours, and are passed over.
        assert_eq!(lines(&journal), ["00000040"]);
    }
}
