//! Tests the program as operators use it: its output, exit codes and shutdown.

#![allow(clippy::unwrap_used, clippy::expect_used)] // this crate is a test
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod checks;
mod connections;
mod installation;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use chrono::DateTime;
use pintalk::domain::{HostId, RoomChange, RoomName, Side};
use pintalk::store::{Append, NewRoom, Store};
use pintalk_kit::database::{Database, TestDatabase};

/// Returns a command of the program. Environment variables of the test run that the program would read are removed.
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
fn startup_failure_is_logged_in_the_format_of_the_log() {
    let (dir, taken) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--log-format", "json", "--listen", &address, "--data-dir", &data_dir(dir.path())]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<serde_json::Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["code"]), (&"ERROR".into(), &1.into()));
    assert!(last["error"].as_str().unwrap().contains(&address), "{last}");
}

#[test]
fn help_and_version_succeed() {
    for args in [vec!["--help"], vec!["--version"], vec!["serve", "--help"], vec!["help", "migrate"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    assert!(stdout(&run(&["serve", "--help"])).contains("PINTALK_TRUSTED_PROXIES"));
}

#[test]
fn invalid_configuration_exits_with_64_and_one_line_that_names_the_flag() {
    for (flag, args) in [
        ("--listen", vec!["serve", "--listen", "8080"]),
        ("--nonsense", vec!["serve", "--nonsense"]),
        ("--redis-url", vec!["serve", "--redis-url", "redis://127.0.0.1:1"]),
        ("--log-format", vec!["check", "--log-format", "xml"]),
        ("--steps", vec!["migrate", "down", "-n", "0"]),
        ("--service-name", vec!["user", "create", "--email", "a@b.example"]),
        ("<HOST>", vec!["user", "disable"]),
        ("<HOST>", vec!["user", "enable", "dev"]),
        ("--password", vec!["user", "reset-password", "a@b.example"]),
        ("--generate", vec!["user", "reset-password", "1", "--generate", "--password", "correct horse"]),
        ("--key-grace", vec!["user", "rotate-keys", "1", "--key-grace", "500d"]),
        ("--redis-url", vec!["user", "disable", "1", "--redis-url", "redis://127.0.0.1:1"]),
        ("--help", vec![]),
    ] {
        let output = run(&args);
        let sentence = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {sentence}");
        assert!(sentence.contains(flag) && sentence.lines().count() == 1, "{args:?}: {sentence}");
    }
}

#[test]
fn environment_variable_applies_without_a_flag_and_an_empty_one_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["migrate", "status"]);
    command.env("PINTALK_DATA_DIR", data_dir(dir.path())).env("PINTALK_DATABASE_URL", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = pintalk(&["serve"]).env("PINTALK_DRAIN", "soon").output().unwrap();
    assert!(stderr(&output).contains("--drain"), "{}", stderr(&output));
}

#[test]
fn error_message_does_not_repeat_a_secret() {
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
fn schema_migrates_up_and_down_and_its_state_is_shown() {
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
fn host_is_created_once() {
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
fn invalid_host_is_rejected_with_the_names_of_the_flags() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir(dir.path());
    let service = "Shop\u{1b}[2J";
    let args = ["user", "create", "--email", "dev", "--service-name", service, "--service-domain", "a b", "--data-dir"];
    let output = pintalk(&args).arg(&data_dir).env("PINTALK_USER_PASSWORD", "s3cret").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let sentence = stderr(&output);
    for flag in ["--email", "--password", "--service-domain", "--service-name"] {
        assert!(sentence.contains(flag), "{sentence}");
    }
    assert!(!sentence.contains("s3cret"), "{sentence}");
}

/// Returns the command `pintalk user …` with a database in `dir`.
fn user(dir: &Path, args: &[&str]) -> Command {
    pintalk(&[&["user"], args, &["--data-dir", &data_dir(dir)]].concat())
}

/// Runs a command that must succeed, and returns its standard output.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn make_host(dir: &Path, email: &str, service_name: &str) -> serde_json::Value {
    let args = ["create", "--email", email, "--service-name", service_name, "--json"];
    let made = printed(user(dir, &args).env("PINTALK_USER_PASSWORD", "correct horse"));
    serde_json::from_str(&made).unwrap()
}

#[test]
fn hosts_are_listed_as_table_and_json_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(printed(&mut user(dir.path(), &["list"])).lines().count(), 1, "the columns' names");
    assert_eq!(printed(&mut user(dir.path(), &["list", "--json"])).trim(), "[]");
    let first = make_host(dir.path(), "dev@shop.example", "Shop");
    make_host(dir.path(), "a-longer-address@shop.example", "다른 가게");
    printed(&mut user(dir.path(), &["disable", "A-longer-address@Shop.example"]));

    let table = printed(&mut user(dir.path(), &["list"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    let has = |line: usize, parts: &[&str]| parts.iter().all(|part| lines[line].contains(part));
    assert!(has(0, &["ID", "STATE", "EMAIL", "SERVICE"]) && has(1, &["1 ", "active", "dev@shop.example"]), "{table}");
    assert!(has(2, &["2 ", "disabled", "a-longer-address@shop.example", "다른 가게"]), "{table}");
    let column = |line: usize, part: &str| lines[line].find(part).unwrap();
    assert_eq!(column(1, "dev@"), column(2, "a-longer"), "{table}");
    let json = printed(&mut user(dir.path(), &["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&listed[0]["accessKey"], &listed[1]["isDeleted"]), (&first["accessKey"], &serde_json::json!(true)));
    for secret in [first["secretKey"].as_str().unwrap(), "secretKey", "assword"] {
        assert!(!json.contains(secret) && !table.contains(secret), "{secret}");
    }
}

#[test]
fn host_is_disabled_and_enabled_by_address_or_id_and_repeatedly() {
    let dir = tempfile::tempdir().unwrap();
    make_host(dir.path(), "dev@shop.example", "Shop");
    for (task, who, state) in [
        ("disable", "dev@shop.example", "disabled"),
        ("disable", "1", "disabled"),
        ("enable", "1", "active"),
        ("enable", "DEV@shop.example", "active"),
    ] {
        let output = printed(&mut user(dir.path(), &[task, who]));
        assert!(output.starts_with("dev@shop.example is "), "{output}");
        assert!(printed(&mut user(dir.path(), &["list"])).contains(state), "{task} {who}");
    }
    for (task, who) in [("disable", "2"), ("enable", "who@shop.example"), ("rotate-keys", "who@shop.example")] {
        let output = user(dir.path(), &[task, who]).output().unwrap();
        let sentence = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{sentence}");
        assert!(sentence.contains("<HOST>") && sentence.lines().count() == 1, "{sentence}");
    }
}

#[test]
fn password_is_read_from_standard_input_or_the_environment_or_generated() {
    let dir = tempfile::tempdir().unwrap();
    make_host(dir.path(), "dev@shop.example", "Shop");
    let reset = |more: &[&str]| user(dir.path(), &[&["reset-password", "dev@shop.example"], more].concat());
    let mut child = reset(&["--password", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"another horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).contains("horse")), (Some(0), false));
    printed(reset(&[]).env("PINTALK_USER_PASSWORD", "yet another"));
    let made = [printed(&mut reset(&["--generate"])), printed(&mut reset(&["--generate"]))];
    assert!(
        made[0] != made[1] && made.iter().all(|line| line.trim().len() == 19 && line.lines().count() == 1),
        "{made:?}"
    );
    let output = reset(&[]).env("PINTALK_USER_PASSWORD", "s3cret").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--password") && !stderr(&output).contains("s3cret"), "{}", stderr(&output));
}

/// Returns the file modes of a directory and of everything in it.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut found = vec![(".".to_owned(), mode(folder))];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let more = if path.is_dir() { modes(&path) } else { vec![(String::new(), mode(&path))] };
        found.extend(more.into_iter().map(|(name, mode)| (format!("{}/{name}", path.display()), mode)));
    }
    found
}

#[test]
fn files_of_a_node_are_accessible_to_their_owner_only_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let secure = |found: &[(String, u32)]| {
        found.iter().all(|(name, mode)| *mode == if name.ends_with('.') { 0o700 } else { 0o600 })
    };
    for umask in ["000", "022", "777"] {
        let _ = std::fs::remove_dir_all(&data);
        // The first pass checks new files. The second checks files that have the modes of an earlier release.
        for is_old in [false, true] {
            if is_old {
                for (name, mode) in modes(&data).into_iter().filter(|(name, _)| !name.ends_with('.')) {
                    std::fs::set_permissions(name.trim_end_matches('/'), std::fs::Permissions::from_mode(mode | 0o066))
                        .unwrap();
                }
                std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let mut node = Command::new("sh");
            let script = format!("umask {umask}; exec \"$@\"");
            node.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_pintalk"), "serve", "--listen", "127.0.0.1:0"]);
            let data_dir = data.to_str().unwrap();
            let mut node =
                node.args(["--data-dir", data_dir]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let lines = std::io::BufReader::new(node.stderr.take().unwrap());
            let mut lines = std::io::BufRead::lines(lines);
            assert!(lines.any(|line| line.unwrap().contains("node started")), "umask {umask}");
            let found = modes(&data);
            assert!(found.len() >= 6 && secure(&found), "umask {umask}, old files {is_old}: {found:?}");
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }
}

#[test]
fn rotated_keys_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let first = make_host(dir.path(), "dev@shop.example", "Shop");
    let rotated = printed(&mut user(dir.path(), &["rotate-keys", "dev@shop.example", "--json"]));
    let rotated: serde_json::Value = serde_json::from_str(&rotated).unwrap();
    assert_eq!((&rotated["id"], rotated["secretKey"].as_str().map(str::len)), (&first["id"], Some(64)));
    assert_ne!(rotated["accessKey"], first["accessKey"]);
    let shown = printed(&mut user(dir.path(), &["rotate-keys", "1", "--revoke-old"]));
    assert!(shown.contains("access key") && !shown.contains(rotated["accessKey"].as_str().unwrap()), "{shown}");
}

#[test]
fn new_keys_are_printed_even_if_the_nodes_cannot_be_notified() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::create(Database::MariaDb));
    let url = database.url.clone();
    let on_it = |args: &[&str]| pintalk(&[args, &["--database-url", &url]].concat());
    printed(&mut on_it(&["migrate", "up"]));
    let create = ["user", "create", "--email", "dev@shop.example", "--service-name", "Shop"];
    printed(on_it(&create).env("PINTALK_USER_PASSWORD", "correct horse"));
    let mut rotate = on_it(&["user", "rotate-keys", "1", "--redis-url", "redis://127.0.0.1:1"]);
    let output = rotate.output().unwrap();
    runtime.block_on(database.drop_it());
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("secret key"), "{}", stdout(&output));
    assert!(stderr(&output).contains("--redis-url") && stderr(&output).lines().count() == 1, "{}", stderr(&output));
}

/// Creates an idle room with one message, a closed room with three messages, and an empty room. All dates are old.
async fn old_rooms(data_dir: &str) {
    let store = Store::connect(&format!("sqlite://{data_dir}/pintalk.sqlite")).await.unwrap();
    let then = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    for (name, messages) in [(1, 1), (2, 3), (3, 0)] {
        let name = RoomName::from_random([name; 16]);
        let new = NewRoom { host: HostId(1), guest: "고양이".into(), name, idempotency_key: None, life: None };
        let room = store.rooms().create(new, then).await.unwrap();
        for seq in 1..=messages {
            let (id, datetime) = (format!("id-{seq}").parse().unwrap(), "2023-11-15T08:00:00".parse().unwrap());
            let text = "hi".to_owned();
            store
                .messages()
                .append(&[Append { room: room.name, side: Side::Guest, id, text, datetime, unattended: false }], then)
                .await
                .unwrap();
        }
        if messages == 3 {
            store.rooms().change(room.name, RoomChange::Close, then).await.unwrap();
        }
    }
    store.close().await;
}

#[test]
fn cleanup_counts_due_rows_and_processes_them_once() {
    let dir = tempfile::tempdir().unwrap();
    make_host(dir.path(), "dev@shop.example", "Shop");
    let data_dir = data_dir(dir.path());
    tokio::runtime::Runtime::new().unwrap().block_on(old_rooms(&data_dir));
    let clean = |more: &[&str]| {
        let shown = printed(&mut pintalk(&[&["cleanup", "--data-dir", &data_dir], more].concat()));
        let words = shown.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        words.filter(|words| !words.ends_with(" 0")).collect::<Vec<_>>()
    };
    // The empty room is idle as well, but it is deleted before idle rooms are closed.
    let due = ["delete_empty_rooms 1", "close_idle_rooms 1", "purge_rooms 1", "delete_messages 3"];
    for _ in 0..2 {
        let counted = ["delete_empty_rooms 1", "close_idle_rooms 2", "purge_rooms 1", "delete_messages 3"];
        assert_eq!(clean(&["--dry-run"]), counted);
    }
    assert_eq!(clean(&["--dry-run", "--idle-close", "off", "--message-retention", "9000d"]), Vec::<String>::new());
    assert_eq!(clean(&[]), due);
    assert_eq!(clean(&[]), Vec::<String>::new());
    let nowhere = dir.path().join("nowhere").display().to_string();
    let output = run(&["cleanup", "--data-dir", &nowhere, "--dry-run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no database at"), "{}", stderr(&output));
    assert!(!std::path::Path::new(&nowhere).join("pintalk.sqlite").exists());
    let output = run(&["cleanup", "--data-dir", &data_dir, "--idle-close", "never"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--idle-close"), "{}", stderr(&output));
}

#[test]
fn demo_prints_its_address_and_deletes_its_files() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = pintalk(&["demo", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temp.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let shown: Vec<String> = lines.by_ref().map(Result::unwrap).take_while(|line| !line.contains("uuid")).collect();
    assert!(shown.iter().any(|line| line.contains("http://127.0.0.1:") && line.ends_with("/demo")), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("demo@pintalk.local")), "{shown:?}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    // The first signal starts a drain, and the second forces the exit. There are no connections, so the drain may end
    // before the second signal.
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still running after two signals");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
