//! Tests connections in parts, secrets in files, and TLS to the stores.

use std::path::{Path, PathBuf};
use std::process::Command;

use pintalk_kit::certificates;
use pintalk_kit::database::Database;
use pintalk_kit::database_server::{OwnServer, Root, ServerTls};
use pintalk_kit::redis::{Kind, Servers};

use crate::{data_dir, pintalk, stderr, stdout};

/// Password in which each character would have a meaning in a URL.
const PASSWORD: &str = "p@:/?#[]%41&=+ \"é;,!$";

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Returns the exit code of a command and everything that it prints.
fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), format!("{}{}", stdout(&output), stderr(&output)))
}

fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Database server with a user who may only connect with TLS.
struct TlsDatabase {
    server: OwnServer,
    folder: tempfile::TempDir,
}

impl TlsDatabase {
    async fn start(of: Database, tls: ServerTls) -> Self {
        let server = OwnServer::start_with(of, tls).await;
        let mut root = Root::connect(&server.url()).await;
        let require = if tls == ServerTls::Off { "" } else { "REQUIRE SSL" };
        root.run("CREATE DATABASE pintalk").await;
        root.run(&format!("CREATE USER pin@'%' IDENTIFIED BY '{PASSWORD}' {require}")).await;
        root.run("GRANT ALL ON pintalk.* TO pin@'%'").await;
        Self { server, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs `pintalk migrate status` with the database in parts and its password in a file.
    fn status(&self, host: &str, more: &[(&str, &Path)]) -> (Option<i32>, String) {
        let password = file(self.folder.path(), "password", &format!("{PASSWORD}\n"));
        let mut command = pintalk(&["migrate", "status"]);
        command.env("PINTALK_DATABASE_HOST", host).env("PINTALK_DATABASE_PORT", self.server.address.port().to_string());
        command.env("PINTALK_DATABASE_USER", "pin").env("PINTALK_DATABASE_NAME", "pintalk");
        command.env("PINTALK_DATABASE_PASSWORD_FILE", password);
        outcome(command.envs(more.iter().copied()))
    }
}

async fn database_tls(of: Database) {
    let database = TlsDatabase::start(of, ServerTls::Signed).await;
    let ca = database.server.ca();
    certificates::create_authority(database.folder.path(), "other");
    let other = database.folder.path().join("other.pem");
    let tls = |mode: &'static str| ("PINTALK_DATABASE_TLS", Path::new(mode));
    let (ca, other) = (("PINTALK_DATABASE_CA", ca.as_path()), ("PINTALK_DATABASE_CA", other.as_path()));
    for (host, options, problem) in [
        ("127.0.0.1", vec![], None),
        ("127.0.0.1", vec![tls("required")], None),
        ("127.0.0.1", vec![ca], None),
        ("127.0.0.1", vec![ca, tls("verify-identity")], None),
        ("localhost", vec![ca, tls("verify-ca")], None),
        ("localhost", vec![ca], Some("not valid for name")),
        ("127.0.0.1", vec![other], Some("UnknownIssuer")),
        ("127.0.0.1", vec![other, tls("verify-ca")], Some("UnknownIssuer")),
        ("127.0.0.1", vec![tls("verify-identity")], Some("UnknownIssuer")),
        ("127.0.0.1", vec![tls("off")], Some("Access denied")),
    ] {
        let (code, printed) = database.status(host, &options);
        assert_eq!(code, Some(i32::from(problem.is_some())), "{of:?} {host} {options:?}: {printed}");
        assert!(problem.is_none_or(|problem| printed.contains(problem)), "{of:?} {host} {options:?}: {printed}");
        assert!(!printed.contains(PASSWORD), "{printed}");
    }
    let url = format!(
        "mysql://pin@{}/pintalk?ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
        database.server.address,
        database.server.ca().display()
    );
    let mut command = pintalk(&["migrate", "status", "--database-url", &url]);
    let (code, printed) = outcome(command.env("PINTALK_DATABASE_PASSWORD", PASSWORD));
    assert_eq!(code, Some(0), "{of:?}: {printed}");

    let database = TlsDatabase::start(of, ServerTls::Off).await;
    for (options, problem) in [
        (vec![], None),
        (vec![tls("off")], None),
        (vec![tls("required")], Some("server does not support TLS")),
        (vec![tls("verify-identity")], Some("server does not support TLS")),
    ] {
        let (code, printed) = database.status("127.0.0.1", &options);
        assert_eq!(code, Some(i32::from(problem.is_some())), "{of:?} without TLS {options:?}: {printed}");
        assert!(problem.is_none_or(|problem| printed.contains(problem)), "{of:?} {options:?}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_connection_checks_the_certificate() {
    database_tls(Database::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_connection_checks_the_certificate() {
    database_tls(Database::MariaDb).await;
}

#[test]
fn redis_in_parts_uses_its_own_certificate_authority() {
    let (redis, folder) = (Servers::start(Kind::Tls), tempfile::tempdir().unwrap());
    certificates::create_authority(folder.path(), "other");
    let (_, address) = redis.url().rsplit_once('@').map(|(start, end)| (start.to_owned(), end.to_owned())).unwrap();
    let password = redis.url().trim_start_matches("rediss://:").split('@').next().unwrap().to_owned();
    let password_file = file(folder.path(), "password", &format!("{password}\n"));
    let other = folder.path().join("other.pem");
    let database = format!("{}/missing", Database::MariaDb.server());
    let check = |name: &str, host: &str, ca: &Path| {
        let mut command = pintalk(&["check", "--data-dir", &data_dir(&folder.path().join(name))]);
        command.env("PINTALK_DATABASE_URL", &database).env("PINTALK_JWT_SECRET", SECRET);
        command.env("PINTALK_REDIS_HOST", host).env("PINTALK_REDIS_PASSWORD_FILE", &password_file);
        outcome(command.env("PINTALK_REDIS_CA", ca)).1
    };
    let localhost = address.replace("127.0.0.1", "localhost");
    // The checks run at the same time, because each waits for a connection that fails.
    let (trusted, untrusted, wrong_host) = std::thread::scope(|scope| {
        let untrusted = scope.spawn(|| check("untrusted", &address, &other));
        let wrong_host = scope.spawn(|| check("wrong-host", &localhost, &redis.ca()));
        (check("trusted", &address, &redis.ca()), untrusted.join().unwrap(), wrong_host.join().unwrap())
    });
    let answers = |shown: &str| shown.lines().any(|line| line.starts_with("ok") && line.ends_with(" answers"));
    assert!(answers(&trusted) && !trusted.contains(&password), "{trusted}");
    assert!(!answers(&untrusted) && untrusted.contains("UnknownIssuer"), "{untrusted}");
    assert!(!answers(&wrong_host) && wrong_host.contains("NotValidForName"), "{wrong_host}");
}

#[test]
fn secret_file_is_rejected_by_path_and_option_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let empty = file(folder.path(), "empty", "\n");
    let short = file(folder.path(), "short", "s3cret\n");
    for (variable, flag) in [
        ("PINTALK_JWT_SECRET_FILE", "--jwt-secret-file"),
        ("PINTALK_DATABASE_URL_FILE", "--database-url-file"),
        ("PINTALK_DATABASE_PASSWORD_FILE", "--database-password-file"),
        ("PINTALK_REDIS_URL_FILE", "--redis-url-file"),
        ("PINTALK_REDIS_PASSWORD_FILE", "--redis-password-file"),
        ("PINTALK_REDIS_SENTINEL_PASSWORD_FILE", "--redis-sentinel-password-file"),
        ("PINTALK_SMTP_URL_FILE", "--smtp-url-file"),
        ("PINTALK_SMTP_PASSWORD_FILE", "--smtp-password-file"),
    ] {
        for path in [missing.as_path(), &empty, folder.path()] {
            let (code, printed) = outcome(pintalk(&["serve"]).env(variable, path));
            assert_eq!(code, Some(64), "{variable}: {printed}");
            assert!(printed.contains(flag) && printed.contains(path.to_str().unwrap()), "{variable}: {printed}");
        }
        let (code, printed) = outcome(pintalk(&["serve"]).env(variable, &short));
        assert_eq!(code, Some(64), "{variable}: {printed}");
        assert!(printed.contains(flag) && !printed.contains("s3cret"), "{variable}: {printed}");
        if let Some(value) = variable.strip_suffix("_FILE") {
            let (code, printed) = outcome(pintalk(&["serve"]).env(variable, &short).env(value, "s3cret"));
            assert_eq!(code, Some(64), "{variable}: {printed}");
            let names = [flag, flag.trim_end_matches("-file")].map(|name| format!("'{name} <"));
            assert!(names.iter().all(|name| printed.contains(name.as_str())), "{variable}: {printed}");
            assert!(!printed.contains("s3cret"), "{variable}: {printed}");
        }
    }
}

#[test]
fn misspelt_variable_is_reported_and_a_variable_of_kubernetes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["migrate", "status", "--data-dir", &data_dir(folder.path())]);
    command.env("PINTALK_REDIS_ULR", "redis://:s3cret@a:1").env("PINTALK_SERVICE_HOST", "10.0.0.1");
    command.env("PINTALK_PORT", "tcp://10.0.0.1:8080").env("PINTALK_REDIS_PORT", "tcp://10.0.0.2:6379");
    let (code, printed) = outcome(&mut command);
    let warnings: Vec<&str> = printed.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!((code, warnings.len()), (Some(0), 1), "{printed}");
    assert!(warnings[0].contains("PINTALK_REDIS_ULR is not an option; did you mean PINTALK_REDIS_URL?"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn misspelt_flag_is_rejected_with_the_similar_flag() {
    for (args, tip) in [
        (["serve", "--redis-ulr=redis://:s3cret@a:1"], "'--redis-url'"),
        (["serve", "--log-format=jsn"], "'json'"),
        (["migrat", "up"], "'migrate'"),
    ] {
        let (code, printed) = outcome(&mut pintalk(&args));
        assert_eq!((code, printed.lines().count()), (Some(64), 1), "{printed}");
        assert!(printed.contains("; tip: a similar") && printed.contains(tip), "{printed}");
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let variables = ["JWT_SECRET", "DATABASE_URL", "DATABASE_PASSWORD", "REDIS_URL", "REDIS_PASSWORD"];
    let more = ["REDIS_SENTINEL_PASSWORD", "SMTP_URL", "SMTP_PASSWORD", "USER_PASSWORD"];
    for args in [&["serve", "--help"][..], &["user", "create", "--help"], &["migrate", "--help"]] {
        let mut command = pintalk(args);
        for name in variables.iter().chain(&more) {
            command.env(format!("PINTALK_{name}"), "s3cret");
        }
        let (code, printed) = outcome(&mut command);
        assert!(code == Some(0) && !printed.contains("s3cret"), "{printed}");
    }
}
