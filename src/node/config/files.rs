//! What a node keeps in its data directory from one run to the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::domain::clock::Chance;
use crate::store::restrict;

/// Bytes of randomness in a key that a node makes for itself.
const KEY_BYTES: usize = 32;

/// What a node puts into its data directory, and how the names of drafts and of SQLite's further files begin.
const OWN_FILES: [&str; 6] = ["pintalk.sqlite", "pintalk.lock", "jwt-secret", "demo-password", "media", "lost+found"];

/// Makes a directory that only its owner may look into, under any umask. One that exists is restricted if nothing else is in it:
/// an operator may have named one that other programs share.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    let exists = path.exists();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.mode() & 0o7777;
    if mode & 0o077 == 0 && mode & 0o700 == 0o700 {
        return Ok(());
    }
    if exists && (mode & STICKY != 0 || !holds_only_own(path)?) {
        tracing::warn!(path = %path.display(), "data directory readable by other users: it holds their files");
        return Ok(());
    }
    restrict(path, 0o700);
    Ok(())
}

/// Set on directories that everybody may write to.
const STICKY: u32 = 0o1000;

fn holds_only_own(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !OWN_FILES.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What stands in the file, which is written first when it is not there: readable by its owner alone, whole or not
/// at all, and by one process even if two start at once.
pub(crate) fn keep(path: &Path, chance: &Chance, make: impl FnOnce() -> String) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => {
            restrict(path, 0o600);
            return found;
        }
    }
    let draft = path.with_extension(format!("{}.new", hex(&chance.bytes::<8>())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(make().as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces what another process has written meanwhile.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read_to_string(path),
    }
}

/// A key for the node's own use: 64 hexadecimal digits.
pub(crate) fn new_key(chance: &Chance) -> String {
    hex(&chance.bytes::<KEY_BYTES>())
}

/// The bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_data_directory_of_an_earlier_release_is_restricted_and_one_that_others_share_is_not() {
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
        let chance = Chance::from_seed(1);
        fs::set_permissions(own.join("jwt-secret"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(keep(&own.join("jwt-secret"), &chance, || unreachable!("it is there")).unwrap(), "x");
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
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data/jwt-secret");
        private_dir(path.parent().unwrap()).unwrap();
        let chance = Chance::from_seed(1);
        let first = keep(&path, &chance, || new_key(&chance)).unwrap();
        let second = keep(&path, &chance, || new_key(&chance)).unwrap();
        assert_eq!((first.len(), &first), (64, &second));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
