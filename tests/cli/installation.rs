//! Tests `pintalk installation` and `pintalk migrate mode`.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::DateTime;
use pintalk::store::Store;
use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::redis::{Kind, Servers};

use crate::{data_dir, pintalk, printed, stderr, stdout};

/// Returns a command of the program that uses the given database and Redis.
fn on_stores(args: &[&str], database: &str, redis: Option<&str>) -> Command {
    let mut command = pintalk(args);
    command.env("PINTALK_DATABASE_URL", database).env("PINTALK_REDIS_URL", redis.unwrap_or_default());
    command
        .env("PINTALK_JWT_SECRET", "a-secret-of-the-tests-that-is-long-enough")
        .env("PINTALK_TRUSTED_PROXIES", "none");
    command
}

/// Returns whether the readiness endpoint of a node answers with status 200.
fn is_ready(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn assert_rejected(command: &mut Command, code: i32, why: &str) {
    let output = command.output().unwrap();
    let sentence = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{sentence}");
    assert!(sentence.contains(why), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_is_served_in_one_mode_and_a_redis_belongs_to_one_installation() {
    let redis = tokio::task::spawn_blocking(|| Servers::start(Kind::Redis7)).await.unwrap();
    let ask = |command: &str| redis.ask_one(0, command).unwrap();
    let database = TestDatabase::create(Database::MySql).await;
    let (url, redis_url) = (database.url.clone(), redis.url());
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(dir.path());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    printed(&mut on_stores(&["migrate", "up"], &url, None));
    ask("SET pt:installation installation-of-others");
    let check = on_stores(&["check"], &url, Some(&redis_url)).output().unwrap();
    assert!(
        stdout(&check).contains("WRONG  installation: redis belongs to another installation"),
        "{}",
        stdout(&check)
    );
    ask("DEL pt:installation");
    assert_rejected(&mut on_stores(&["installation", "show"], &url, Some(&redis_url)), 1, "no node has started");

    // Stores the installation in the same way as the first start of a cluster.
    let store = Store::connect(&url).await.unwrap();
    let id = "an-installation-of-own".parse().unwrap();
    let cluster = pintalk::store::InstallationMode::Cluster;
    store.installation().ensure(id, cluster, DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await.unwrap();
    assert!(printed(&mut on_stores(&["installation", "show"], &url, Some(&redis_url))).contains("no installation"));
    assert_rejected(
        &mut on_stores(&serve, &url, None),
        64,
        "--redis-url: is required, because a cluster uses this database",
    );

    // The Redis belongs to another installation, whose nodes are running.
    ask("SET pt:installation installation-of-others");
    // A lease is valid only if it ends within the next 15 s, the duration of a lease, by the clock of Redis.
    let lease = |key: &str, node: &str| {
        let end = "(redis.call('TIME')[1] + 14) * 1000";
        ask(&format!("EVAL \"return redis.call('ZADD', KEYS[1], {end}, ARGV[1])\" 1 {key} {node}"))
    };
    lease("pt:installation-of-others:nodes", "other.1");
    assert_rejected(&mut on_stores(&serve, &url, Some(&redis_url)), 1, "pintalk installation adopt");
    let check = on_stores(&["check"], &url, Some(&redis_url)).output().unwrap();
    assert!(
        stdout(&check).contains("WRONG  installation: redis belongs to another installation"),
        "{}",
        stdout(&check)
    );
    assert_rejected(&mut on_stores(&["installation", "adopt"], &url, Some(&redis_url)), 1, "1 nodes of installation");
    ask("DEL pt:installation-of-others:nodes");
    ask("SET pt:installation-of-others:kept 1");
    let adopted = printed(&mut on_stores(&["installation", "adopt"], &url, Some(&redis_url)));
    assert!(adopted.contains("redis belongs to installation an-installation-of-own"), "{adopted}");
    assert_eq!(ask("GET pt:installation-of-others:kept").trim(), "1");

    // Changes the mode from a cluster to a single node and back.
    let mode = |to: &'static str, redis: Option<&str>| on_stores(&["migrate", "mode", to], &url, redis);
    assert_rejected(&mut mode("single", None), 1, "--redis-url is required");
    lease("pt:an-installation-of-own:nodes", "own.1");
    assert_rejected(&mut mode("single", Some(&redis_url)), 1, "1 nodes of installation an-installation-of-own");
    ask("DEL pt:an-installation-of-own:nodes");
    ask("XADD pt:an-installation-of-own:{0}:queue * f waits");
    assert_rejected(&mut mode("single", Some(&redis_url)), 1, "1 messages are not in SQL yet");
    ask("DEL pt:an-installation-of-own:{0}:queue");
    ask("HSET pt:an-installation-of-own:{0}:life mark 5f");
    printed(&mut mode("single", Some(&redis_url)));
    // A suspended node of the cluster may resume now. It cannot accept messages, because Redis belongs to the new mode
    // and the field `mark` is deleted.
    assert_eq!(ask("GET pt:installation").trim(), "an-installation-of-own:single");
    assert_eq!(ask("HEXISTS pt:an-installation-of-own:{0}:life mark").trim(), ":0");
    assert_rejected(&mut on_stores(&serve, &url, Some(&redis_url)), 64, "--redis-url: must not be given");
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let serve_here = ["serve", "--listen", &listen, "--data-dir", &data];
    let mut single = on_stores(&serve_here, &url, None).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while !is_ready(&listen) {
        assert!(began.elapsed() < Duration::from_secs(20), "the single node is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_rejected(&mut mode("cluster", Some(&redis_url)), 1, "another process uses the database");
    single.kill().unwrap();
    single.wait().unwrap();
    let began = Instant::now();
    while !mode("cluster", None).output().unwrap().status.success() {
        assert!(began.elapsed() < Duration::from_secs(20), "mysql keeps the lock of a node that was killed");
    }
    assert_rejected(&mut on_stores(&serve, &url, None), 64, "--redis-url: is required");
    printed(on_stores(&["migrate", "mode", "single", "--redis-lost"], &url, None).env_remove("PINTALK_REDIS_URL"));
    assert_rejected(&mut on_stores(&["migrate", "mode"], &url, None), 64, "<SERVED_BY>");
    store.close().await;
    database.drop_it().await;
}
