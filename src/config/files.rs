//! What a node keeps in its data directory from one run to the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::clock::Chance;

/// Bytes of randomness in a key that a node makes for itself.
const KEY_BYTES: usize = 32;

/// Makes a directory that only its owner may look into; one that is there stays as it is.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What stands in the file, which is written first when it is not there: readable by its owner alone, whole or not
/// at all, and by one process even if two start at once.
pub(crate) fn keep(path: &Path, chance: &Chance, make: impl FnOnce() -> String) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
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
