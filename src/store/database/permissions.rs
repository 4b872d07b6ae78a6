//! Permissions of files in the data directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Sets the mode of a file or directory if it belongs to the user of this process. A file of another user, such as a
/// mounted volume, is not changed.
pub(crate) fn restrict(path: &Path, mode: u32) {
    let change = || {
        let found = fs::metadata(path)?;
        if found.mode() & 0o7777 == mode || found.uid() != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    if let Err(error) = change() {
        tracing::warn!(path = %path.display(), %error, "failed to restrict file permissions");
    }
}
