//! Detects that the files of a SQLite database were deleted, moved, replaced or truncated while they are open.
//!
//! SQLite continues to write to a file that was deleted or moved: each commit succeeds and is lost when the process
//! ends. Before and after each operation, this module therefore compares the files at the known paths with the opened
//! files. A comparison takes three calls to `stat` of about 1 µs each. An operation whose commit may have been written
//! to a lost file is not acknowledged.
//!
//! **Invariant:** this module opens no file that SQLite has open. Closing any descriptor of a file releases all POSIX
//! locks that the process holds on it, including the locks of SQLite.

use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

/// Problem that a comparison of the files has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum FileProblem {
    /// The files at the paths are not those that were opened. This is permanent.
    Lost(String),
    /// The files cannot be examined now.
    Unknown(String),
    /// A file is shorter than before. It was truncated, or SQLite shortened it (`VACUUM`, a checkpoint of another
    /// program).
    Shorter,
}

/// File mode that permits only the owner to read and write.
const PRIVATE: u32 = 0o600;

/// Sets the mode of a file to [`PRIVATE`]. The file is accessed by path, because a file that SQLite has open must not
/// be opened again.
fn private_file(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(file) if file.mode() & 0o077 != 0 => std::fs::set_permissions(path, Permissions::from_mode(PRIVATE)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Device and inode number, which identify a file.
type FileIdentity = (u64, u64);

#[derive(Debug)]
pub(in crate::store) struct Files {
    database: PathBuf,
    /// Paths of the WAL and of its index.
    beside: [PathBuf; 2],
    opened: Mutex<Opened>,
    lost: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Opened {
    database: Option<FileIdentity>,
    /// Identities of the WAL and its index. `None` until the writer is connected, because SQLite creates these files at
    /// that time and deletes them when its last connection closes.
    beside: Option<[FileIdentity; 2]>,
    /// Sizes of the database and its WAL at the last successful check, in bytes.
    sizes: [u64; 2],
    is_closed: bool,
}

impl Files {
    pub(in crate::store) fn of(database: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = OsString::from(database);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            database: database.to_owned(),
            beside: [with("-wal"), with("-shm")],
            opened: Mutex::default(),
            lost: OnceLock::new(),
        }
    }

    /// Creates the database file before it is opened for the first time. Connections do not create it. Otherwise, if
    /// the file disappeared later, a connection would create an empty one in its place.
    pub(in crate::store) fn create(&self) -> io::Result<()> {
        if self.opened.lock().database.is_some() {
            return Ok(());
        }
        match File::options().write(true).create_new(true).mode(PRIVATE).open(&self.database) {
            // The mode is set again, because the umask may have removed bits of it.
            Ok(_) => std::fs::set_permissions(&self.database, Permissions::from_mode(PRIVATE))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.restrict(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Restricts the permissions of files that an earlier release made readable for other users. SQLite creates the
    /// `-wal` and `-shm` files with the mode of the database.
    fn restrict(&self) {
        for path in std::iter::once(&self.database).chain(&self.beside) {
            if let Err(error) = private_file(path) {
                tracing::warn!(path = %path.display(), %error, "failed to restrict permissions of sqlite file");
            }
        }
    }

    /// Records the files that a new connection has opened. Returns an error if the database file was replaced.
    pub(in crate::store) fn connected(&self, is_writer: bool) -> Result<(), FileProblem> {
        let found = identity(&self.stat(&self.database)?);
        let mut opened = self.opened.lock();
        if *opened.database.get_or_insert(found) != found {
            drop(opened);
            return Err(self.mark_lost(&self.database, "was replaced"));
        }
        if is_writer {
            let [log, index] = &self.beside;
            opened.beside = match (std::fs::metadata(log), std::fs::metadata(index)) {
                (Ok(log), Ok(index)) => Some([identity(&log), identity(&index)]),
                _ => None,
            };
            opened.sizes[1] = 0;
        }
        Ok(())
    }

    /// Forgets the identities of the WAL and its index. Must be called before the writer connection is closed, because
    /// SQLite deletes these files when the last connection is closed.
    pub(in crate::store) fn writer_closes(&self) {
        self.opened.lock().beside = None;
    }

    /// Disables all further comparisons, because the store is closed and its files may be deleted.
    pub(in crate::store) fn close(&self) {
        self.opened.lock().is_closed = true;
    }

    /// Compares the files with those that were opened.
    pub(in crate::store) fn check(&self) -> Result<(), FileProblem> {
        if let Some(reason) = self.lost.get() {
            return Err(FileProblem::Lost(reason.clone()));
        }
        let mut opened = self.opened.lock();
        let (Some(known), false) = (opened.database, opened.is_closed) else { return Ok(()) };
        let database = self.stat(&self.database)?;
        if identity(&database) != known {
            return Err(self.mark_lost(&self.database, "was replaced"));
        }
        if database.len() == 0 && opened.sizes[0] > 0 {
            return Err(self.mark_lost(&self.database, "was truncated"));
        }
        let mut sizes = [database.len(), opened.sizes[1]];
        if let Some(known) = opened.beside {
            for (at, (path, known)) in self.beside.iter().zip(known).enumerate() {
                let found = self.stat(path)?;
                if identity(&found) != known {
                    return Err(self.mark_lost(path, "was replaced"));
                }
                if at == 0 {
                    sizes[1] = found.len();
                }
            }
        }
        if sizes.iter().zip(opened.sizes).any(|(now, before)| *now < before) {
            return Err(FileProblem::Shorter);
        }
        opened.sizes = sizes;
        Ok(())
    }

    /// Checks files that are shorter than at the last check. `database` and `log` are the minimum sizes in bytes that
    /// SQLite expects of the database and the WAL. A file below its minimum is marked as lost.
    pub(in crate::store) fn check_sizes(&self, database: u64, log: u64) -> Result<(), FileProblem> {
        let sizes = [self.stat(&self.database)?.len(), std::fs::metadata(&self.beside[0]).map_or(0, |log| log.len())];
        if sizes[1] < log {
            return Err(self.mark_lost(&self.beside[0], "was truncated"));
        }
        if sizes[0] < database {
            return Err(self.mark_lost(&self.database, "was truncated"));
        }
        self.opened.lock().sizes = sizes;
        Ok(())
    }

    /// Marks the database as lost and returns the problem. Called if a file is shorter than before and SQLite cannot
    /// read the database.
    pub(in crate::store) fn mark_shorter_lost(&self) -> FileProblem {
        self.mark_lost(&self.database, "was truncated")
    }

    fn stat(&self, path: &Path) -> Result<Metadata, FileProblem> {
        std::fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => self.mark_lost(path, "was deleted or moved"),
            _ => FileProblem::Unknown(format!("{}: {error}", path.display())),
        })
    }

    /// Marks a file as lost and returns the problem. The mark is permanent, even if the path refers to the opened file
    /// again later. Another process may have written to a different file at that path in between.
    fn mark_lost(&self, path: &Path, what: &str) -> FileProblem {
        let reason = self.lost.get_or_init(|| {
            let reason = format!("{} {what} while it was open", path.display());
            tracing::error!(
                file = %path.display(),
                error = what,
                pid = std::process::id(),
                "sqlite file lost while open, rejecting all operations: recover deleted files from /proc/<pid>/fd, \
                 then restart"
            );
            reason
        });
        FileProblem::Lost(reason.clone())
    }
}

fn identity(file: &Metadata) -> FileIdentity {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Files, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sqlite");
        let files = Files::of(&path);
        files.create().unwrap();
        for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
            std::fs::write(folder.path().join(name), "12345678").unwrap();
        }
        files.connected(true).unwrap();
        files.check().unwrap();
        (folder, files, path)
    }

    #[test]
    fn files_that_were_never_opened_are_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Files::of(&folder.path().join("db.sqlite")).check(), Ok(()));
    }

    #[test]
    fn lost_file_stays_lost_when_it_is_restored() {
        let (folder, files, path) = opened();
        let aside = folder.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        assert!(matches!(files.check(), Err(FileProblem::Lost(_))));
        std::fs::rename(&aside, &path).unwrap();
        assert!(matches!(files.check(), Err(FileProblem::Lost(_))));
    }

    #[test]
    fn shorter_file_is_lost_only_below_the_size_that_sqlite_expects() {
        let (folder, files, path) = opened();
        File::options().write(true).open(&path).unwrap().set_len(4).unwrap();
        assert_eq!(files.check(), Err(FileProblem::Shorter));
        assert_eq!(files.check_sizes(4, 0), Ok(()), "shortened by sqlite");
        assert_eq!(files.check(), Ok(()));
        File::options().write(true).open(folder.path().join("db.sqlite-wal")).unwrap().set_len(0).unwrap();
        assert_eq!(files.check(), Err(FileProblem::Shorter));
        assert!(matches!(files.check_sizes(4, 8), Err(FileProblem::Lost(_))));
    }
}
