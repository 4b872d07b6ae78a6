//! Certificates for the servers of a test.

use std::path::Path;
use std::process::Command;

const NEW: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";

/// Creates a CA and a server certificate that is signed by this CA, for the host 127.0.0.1: `ca.pem`, `server.pem` and
/// `server.key`.
pub fn create(folder: &Path) {
    create_authority(folder, "ca");
    openssl(
        folder,
        &format!(
            "{NEW} -subj /CN=server -keyout server.key -out server.pem -CA ca.pem -CAkey ca.key \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
        ),
    );
}

/// Creates a CA with a name: `NAME.pem` and `NAME.key`.
pub fn create_authority(folder: &Path, name: &str) {
    openssl(folder, &format!("{NEW} -subj /CN={name} -keyout {name}.key -out {name}.pem"));
}

fn openssl(folder: &Path, args: &str) {
    let output = Command::new("openssl").args(args.split_whitespace()).current_dir(folder).output();
    let output = output.expect("openssl must be in the path, as tests/run sees to");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
