//! The program as an operator meets it: its output, its exit codes, its end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // this crate is a test

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use servers::{Kind, Servers};

#[allow(dead_code, reason = "the crate's own tests use it all")]
#[path = "../src/redis/testing/servers.rs"]
mod servers;

/// The program with nothing of this test's own environment that it would listen to.
fn pintalk(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintalk"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PINTALK_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn run(args: &[&str]) -> Output {
    pintalk(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn data_dir(dir: &Path) -> String {
    dir.join("data").to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [vec!["--help"], vec!["--version"], vec!["serve", "--help"], vec!["help", "migrate"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    assert!(stdout(&run(&["serve", "--help"])).contains("PINTALK_TRUSTED_PROXIES"));
}

#[test]
fn bad_configuration_ends_with_64_and_one_sentence_that_names_the_flag() {
    for (flag, args) in [
        ("--listen", vec!["serve", "--listen", "8080"]),
        ("--nonsense", vec!["serve", "--nonsense"]),
        ("--redis-url", vec!["serve", "--redis-url", "redis://127.0.0.1:1"]),
        ("--log-format", vec!["check", "--log-format", "xml"]),
        ("--steps", vec!["migrate", "down", "-n", "0"]),
        ("--service-name", vec!["user", "create", "--email", "a@b.example"]),
        ("--help", vec![]),
    ] {
        let output = run(&args);
        let sentence = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {sentence}");
        assert!(sentence.contains(flag) && sentence.lines().count() == 1, "{args:?}: {sentence}");
    }
}

#[test]
fn a_variable_is_read_where_no_flag_is_given_and_an_empty_one_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["migrate", "status"]);
    command.env("PINTALK_DATA_DIR", data_dir(dir.path())).env("PINTALK_DATABASE_URL", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = pintalk(&["serve"]).env("PINTALK_DRAIN", "soon").output().unwrap();
    assert!(stderr(&output).contains("--drain"), "{}", stderr(&output));
}

#[test]
fn a_secret_is_not_repeated_by_the_sentence_that_refuses_it() {
    let cluster =
        ["--database-url", "mysql://pin:s3cret@127.0.0.1:1/pintalk", "--redis-url", "redis://:s3cret@127.0.0.1:1"];
    for wrong in [
        ["--jwt-secret", "s3cret"],
        ["--smtp-url", "imap://pin:s3cret@mail.example"],
        ["--media-url", "s3://key:s3cret@bucket"],
    ] {
        let output = run(&[&["serve"], cluster.as_slice(), &wrong].concat());
        assert_eq!(output.status.code(), Some(64));
        assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
    }
}

#[test]
fn the_schema_goes_up_and_down_and_tells_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let migrate = |to: &str| {
        let output = run(&["migrate", to, "--data-dir", &data_dir(dir.path())]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let words = |shown: String| {
        shown.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let before = words(migrate("status"));
    assert!(!before.is_empty() && before.iter().all(|word| word == "pending"));
    assert!(words(migrate("up")).iter().all(|word| word == "applied"));
    let down = words(migrate("down"));
    assert_eq!(down.iter().filter(|word| *word == "pending").count(), 1);
    assert!(words(migrate("up")).iter().all(|word| word == "applied"));
}

#[test]
fn a_host_is_made_from_the_command_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir(dir.path());
    let args = [
        "user",
        "create",
        "--email",
        "dev@shop.example",
        "--password",
        "-",
        "--service-name",
        "Shop",
        "--service-domain",
        "https://Shop.example/",
        "--json",
        "--data-dir",
        &data_dir,
    ];
    let mut create = pintalk(&args);
    let mut child = create.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let user: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(user["email"], "dev@shop.example");
    assert_eq!(user["serviceDomain"], "shop.example");
    assert_eq!(user["accessKey"].as_str().unwrap().len(), 22);
    assert_eq!(user["secretKey"].as_str().unwrap().len(), 64);
    assert!(!stdout(&output).contains("correct horse") && user.get("password").is_none());

    let again = pintalk(&args).arg("--password=correct horse").output().unwrap();
    assert_eq!(again.status.code(), Some(64), "a password twice is a mistake");
    let twice = args.map(|arg| if arg == "-" { "correct horse" } else { arg });
    let output = run(&twice);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--email"), "{}", stderr(&output));
}

#[test]
fn a_host_that_breaks_a_rule_is_refused_by_flag() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir(dir.path());
    let args = ["user", "create", "--email", "dev", "--service-name", "Shop", "--service-domain", "a b", "--data-dir"];
    let output = pintalk(&args).arg(&data_dir).env("PINTALK_USER_PASSWORD", "s3cret").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let sentence = stderr(&output);
    for flag in ["--email", "--password", "--service-domain"] {
        assert!(sentence.contains(flag), "{sentence}");
    }
    assert!(!sentence.contains("s3cret"), "{sentence}");
}

#[test]
fn a_check_of_an_embedded_node_finds_nothing_wrong_until_something_does_not_answer() {
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
fn a_check_of_a_cluster_tells_what_its_redis_lacks() {
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
}

/// What a check of a deployment says; `more` is its environment.
fn check_of(redis: &Servers, more: &[(&str, &Path)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["check", "--data-dir", &data_dir(dir.path()), "--redis-url", &redis.url()]);
    command.args(["--database-url", "mysql://root@127.0.0.1:1/pintalk"]);
    command.args(["--jwt-secret", "0123456789abcdef0123456789abcdef"]);
    stdout(&command.envs(more.iter().copied()).output().unwrap())
}

#[test]
fn a_check_asks_every_primary_of_any_deployment() {
    for (kind, primaries) in [(Kind::Redis8, 1), (Kind::Valkey8, 1), (Kind::Cluster, 3), (Kind::Sentinel, 1)] {
        let shown = check_of(&Servers::start(kind), &[]);
        let recent = shown.lines().filter(|line| line.starts_with("ok") && line.contains(": version "));
        assert_eq!(recent.count(), primaries, "{kind:?}: {shown}");
    }
}

#[test]
fn an_authority_of_ones_own_is_known_by_ssl_cert_file() {
    let redis = Servers::start(Kind::Tls);
    let answers = |shown: &str| shown.lines().any(|line| line.starts_with("ok") && line.ends_with(" answers"));
    let stranger = check_of(&redis, &[]);
    assert!(!answers(&stranger) && stranger.contains("UnknownIssuer"), "{stranger}");
    let shown = check_of(&redis, &[("SSL_CERT_FILE", &redis.ca())]);
    assert!(answers(&shown), "{shown}");
    assert!(!shown.contains("a-password-of-tests"), "{shown}");
}

#[test]
fn a_demo_prints_how_to_reach_it_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["demo", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temp.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let shown: Vec<String> = lines.by_ref().map(Result::unwrap).take_while(|line| !line.contains("uuid")).collect();
    assert!(shown.iter().any(|line| line.contains("http://127.0.0.1:") && line.ends_with("/demo")), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("demo@pintalk.local")), "{shown:?}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    // Once drains, twice ends: with nobody connected the first may already be enough.
    let patience = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < patience, "two signals and it still runs");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
