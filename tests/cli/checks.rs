//! Tests `pintalk check`.

use std::path::Path;

use pintalk_kit::database::Database;
use pintalk_kit::database_server::{OwnServer, Root};
use pintalk_kit::redis::{Kind, Servers};

use crate::{data_dir, pintalk, run, stdout};

#[test]
fn check_of_an_embedded_node_succeeds_until_a_server_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir(dir.path());
    let output = run(&["check", "--data-dir", &data_dir]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).lines().all(|line| line.starts_with("ok ")), "{}", stdout(&output));
    let output = run(&["check", "--data-dir", &data_dir, "--smtp-url", "smtp://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().filter(|line| line.starts_with("WRONG  smtp")).count(), 1);
}

#[test]
fn check_of_a_cluster_reports_settings_of_redis() {
    let redis = std::env::var("PINTALK_TEST_REDIS_URL").expect("PINTALK_TEST_REDIS_URL, as tests/run sets it");
    let dir = tempfile::tempdir().unwrap();
    let output = run(&[
        "check",
        "--data-dir",
        &data_dir(dir.path()),
        "--redis-url",
        &redis,
        "--database-url",
        "mysql://root@127.0.0.1:1/pintalk",
        "--jwt-secret",
        "0123456789abcdef0123456789abcdef",
    ]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let has = |start: &str, part: &str| shown.lines().any(|line| line.starts_with(start) && line.contains(part));
    assert!(has("WRONG", "sql: "), "{shown}");
    assert!(has("ok", "does not evict") && has("risky", "appendonly") && has("risky", "--trusted-proxies"), "{shown}");
    assert!(has("risky", "--media-url"), "{shown}");
}

#[test]
fn check_writes_reads_and_deletes_an_image() {
    // `tests/run` serves an S3 bucket on this machine.
    let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("AWS_ENDPOINT_URL, as tests/run sets it");
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (url, found) in [
        ("s3://pintalk-tests/check".to_owned(), "ok   "),
        ("s3://pintalk-elsewhere".to_owned(), "WRONG"),
        (format!("file://{}/images", dir.path().display()), "ok   "),
        (format!("file://{}/images", file.display()), "WRONG"),
    ] {
        let output = run(&["check", "--data-dir", &data_dir(dir.path()), "--media-url", &url]);
        let shown = stdout(&output);
        let reported = shown.lines().filter(|line| line.starts_with(&format!("{found}  media: ")));
        assert_eq!(reported.count(), 1, "{url}: {shown}");
        assert_eq!(output.status.code(), Some(i32::from(found == "WRONG")), "{url}: {shown}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 0);
}

/// Returns the report of `pintalk check` on a deployment. `more` contains additional environment variables.
fn check_of(redis: &Servers, more: &[(&str, &Path)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["check", "--data-dir", &data_dir(dir.path()), "--redis-url", &redis.url()]);
    command.args(["--database-url", "mysql://root@127.0.0.1:1/pintalk"]);
    command.args(["--jwt-secret", "0123456789abcdef0123456789abcdef"]);
    stdout(&command.envs(more.iter().copied()).output().unwrap())
}

#[test]
fn check_reads_every_primary_of_any_deployment() {
    for (kind, primaries) in [(Kind::Redis8, 1), (Kind::Valkey8, 1), (Kind::Cluster, 3), (Kind::Sentinel, 1)] {
        let shown = check_of(&Servers::start(kind), &[]);
        let recent = shown.lines().filter(|line| line.starts_with("ok") && line.contains(": version "));
        assert_eq!(recent.count(), primaries, "{kind:?}: {shown}");
    }
}

#[test]
fn ssl_cert_file_adds_a_private_certificate_authority() {
    let redis = Servers::start(Kind::Tls);
    let answers = |shown: &str| shown.lines().any(|line| line.starts_with("ok") && line.ends_with(" answers"));
    let untrusted = check_of(&redis, &[]);
    assert!(!answers(&untrusted) && untrusted.contains("UnknownIssuer"), "{untrusted}");
    let shown = check_of(&redis, &[("SSL_CERT_FILE", &redis.ca())]);
    assert!(answers(&shown), "{shown}");
    assert!(!shown.contains("a-password-of-tests"), "{shown}");
}

/// Returns the report of `pintalk check` on a database, with `more` as additional flags.
fn check_sql(url: &str, more: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["check", "--data-dir", &data_dir(dir.path()), "--database-url", url]);
    stdout(&command.args(more).output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_privileges_that_the_database_user_lacks() {
    for on in [Database::MySql, Database::MariaDb] {
        let server = on.server();
        let mut root = Root::connect(&server).await;
        let (name, user) = root.create_database().await;
        let url = server.replace("root@", &format!("{user}:p@")) + "/" + &name;
        let output = run(&["migrate", "up", "--database-url", &url]);
        assert!(output.status.success(), "{output:?}");
        let shown = check_sql(&url, &["--auto-migrate"]);
        assert!(shown.contains("ok     sql: the user has the required privileges"), "{shown}");
        let product = if on == Database::MySql { "ok     sql: MySQL " } else { "ok     sql: MariaDB " };
        assert!(shown.contains(product) && shown.contains("sql: max_allowed_packet is "), "{shown}");
        root.run(&format!("REVOKE DELETE, CREATE, INDEX ON {name}.* FROM {user}@'%'")).await;
        let shown = check_sql(&url, &[]);
        assert!(shown.contains("WRONG  sql: the user lacks the privileges DELETE\n"), "{shown}");
        let shown = check_sql(&url, &["--auto-migrate"]);
        assert!(shown.contains("lacks the privileges DELETE, CREATE"), "{shown}");
        root.drop_database(&(name, user)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_a_read_only_server_and_a_small_packet() {
    let server = OwnServer::start(Database::MariaDb).await;
    let mut root = Root::connect(&server.url()).await;
    let (name, user) = root.create_database().await;
    let url = server.url().replace("root@", &format!("{user}:p@")) + "/" + &name;
    assert!(run(&["migrate", "up", "--database-url", &url]).status.success());
    root.run("SET GLOBAL max_allowed_packet = 65536").await;
    root.run("SET GLOBAL max_connections = 30").await;
    root.run("SET GLOBAL read_only = 1").await;
    let shown = check_sql(&url, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let has = |severity: &str, part: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().any(|found| found["severity"] == severity && found["text"].as_str().unwrap().contains(part))
    };
    assert!(has("wrong", "sql: read_only is on"), "{shown}");
    assert!(has("wrong", "sql: write failed: read-only"), "{shown}");
    assert!(has("wrong", "sql: max_allowed_packet is 65536 bytes"), "{shown}");
    assert!(has("risky", "sql: max_connections is 30"), "{shown}");
    assert!(has("ok", "sql: the user has the required privileges"), "{shown}");
    assert!(has("ok", "clocks: this machine and SQL agree within 1 s"), "{shown}");
}

#[test]
fn check_reports_denied_commands_and_memory_of_redis() {
    let redis = Servers::start(Kind::Redis8);
    let ask = |command: &str| assert!(redis.ask_one(0, command).unwrap().starts_with("+OK"), "{command}");
    let shown = check_of(&redis, &[]);
    assert!(shown.contains("ok     redis: the user may execute every command of a node"), "{shown}");
    assert!(shown.contains("maxmemory is 0"), "{shown}");
    // The database is unreachable, so its clock cannot agree.
    assert!(shown.contains("risky  clocks: the clock of SQL could not be read"), "{shown}");
    ask("ACL SETUSER default -xadd -evalsha");
    ask("CONFIG SET maxmemory 100kb");
    ask("CONFIG SET maxmemory-policy noeviction");
    let shown = check_of(&redis, &[]);
    assert!(shown.contains("WRONG  redis: the user may not execute EVALSHA, XADD on pt:*: NOPERM"), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("WRONG") && line.contains("out of memory")), "{shown}");
    assert_eq!(redis.ask_one(0, "DBSIZE").unwrap().trim(), ":0", "the check leaves no key");
}

#[test]
fn check_does_not_claim_that_the_clock_of_an_unreachable_redis_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["check", "--data-dir", &data_dir(dir.path()), "--redis-url", "redis://127.0.0.1:1"]);
    let database = Database::MySql.server() + "/mysql";
    command.args(["--database-url", &database, "--jwt-secret", "0123456789abcdef0123456789abcdef"]);
    let shown = stdout(&command.output().unwrap());
    assert!(!shown.contains("agree within"), "{shown}");
    assert!(shown.contains("clocks: ") && !shown.contains("ok     clocks"), "{shown}");
}
