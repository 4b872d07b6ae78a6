//! Tests `pintalk check`.

use std::path::Path;

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
