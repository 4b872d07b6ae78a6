//! Files in the data directory of a node.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::domain::Rng;
use crate::store::restrict;

/// Number of random bytes in a generated key.
const KEY_BYTES: usize = 32;

/// Names of the files and folders that the program creates in the data directory, and `lost+found`, which file systems
/// create. The names of temporary files and of additional SQLite files begin with one of these names.
const OWN_FILES: [&str; 6] = ["pintalk.sqlite", "pintalk.lock", "jwt-secret", "demo-password", "media", "lost+found"];

/// Creates a directory that only its owner can access, regardless of the umask. Restricts the permissions of an existing
/// directory only if it is not sticky and contains only files of this program, because other programs may use it.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    let exists = path.exists();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.mode() & 0o7777;
    if mode & 0o077 == 0 && mode & 0o700 == 0o700 {
        return Ok(());
    }
    if exists && (mode & STICKY != 0 || !holds_only_own(path)?) {
        tracing::warn!(path = %path.display(), "data directory may be shared with other programs, permissions not restricted");
        return Ok(());
    }
    restrict(path, 0o700);
    Ok(())
}

/// Sticky bit. Shared directories such as `/tmp` have it, and their permissions are not restricted.
const STICKY: u32 = 0o1000;

/// Returns whether a directory contains only files of this program.
fn holds_only_own(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !OWN_FILES.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the content of a file. If the file does not exist, creates it atomically with the result of `make`. Only its
/// owner can read it. If two processes start at the same time, only one of them creates the file.
pub(crate) fn read_or_create(path: &Path, rng: &Rng, make: impl FnOnce() -> String) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => {
            restrict(path, 0o600);
            return found;
        }
    }
    let draft = path.with_extension(format!("{}.new", hex::encode(rng.bytes::<8>())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(make().as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link does not replace a file that another process has created.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read_to_string(path),
    }
}

/// Generates a key of 64 hexadecimal digits.
pub(crate) fn new_key(rng: &Rng) -> String {
    hex::encode(rng.bytes::<KEY_BYTES>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn own_data_directory_is_restricted_and_shared_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, mode| {
            let path = dir.path().join(name);
            private_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let own = at("own", 0o755);
        for name in ["pintalk.sqlite", "pintalk.sqlite-wal", "jwt-secret", "media"] {
            fs::write(own.join(name), "x").unwrap();
        }
        private_dir(&own).unwrap();
        assert_eq!(mode(&own), 0o700);
        let rng = Rng::from_seed(1);
        fs::set_permissions(own.join("jwt-secret"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_or_create(&own.join("jwt-secret"), &rng, || unreachable!("the file exists")).unwrap(), "x");
        assert_eq!(mode(&own.join("jwt-secret")), 0o600);

        let shared = at("shared", 0o755);
        fs::write(shared.join("index.html"), "x").unwrap();
        let sticky = at("sticky", 0o1777);
        for (path, expected) in [(shared, 0o755), (sticky, 0o1777)] {
            private_dir(&path).unwrap();
            assert_eq!(mode(&path), expected);
        }
    }

    #[test]
    fn key_is_created_once_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data/jwt-secret");
        private_dir(path.parent().unwrap()).unwrap();
        let rng = Rng::from_seed(1);
        let first = read_or_create(&path, &rng, || new_key(&rng)).unwrap();
        let second = read_or_create(&path, &rng, || new_key(&rng)).unwrap();
        assert_eq!((first.len(), &first), (64, &second));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
