//! Runs the commands of README.md and tests/README.md. Only the addresses and flags that a test needs are changed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::people::NOW;
use crate::support::servers::{RedisServer, TestDatabase};
use crate::support::{Client, Topology, eventually};
use crate::with_topology;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the code blocks in `language` of a document, in order.
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(document)).expect("a document");
    let fence = format!("```{language}\n");
    let fenced = text.split(&fence).skip(1);
    fenced.filter_map(|rest| rest.split("```").next().map(str::to_owned)).collect()
}

fn shell_blocks() -> Vec<String> {
    blocks("README.md", "bash")
}

/// Shell process and the processes that it started. All of them are killed on drop.
struct Shell(Child);

impl Shell {
    fn run(script: &str, variables: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).current_dir(ROOT);
        // Cargo sets these variables for tests. A cargo command that inherits them repeats build scripts and compiles
        // crates again.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"]
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                shell.env_remove(name);
            }
        }
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).envs(variables.iter().copied());
        Self(shell.spawn().expect("bash"))
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().expect("its output")).lines().map_while(Result::ok)
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.0.id());
        let sent = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
        assert!(sent.is_ok());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.signal("-KILL");
        let _gone = self.0.wait();
    }
}

/// Creates a room through `opens`, sends a message through `joins` and receives it, as a page of the demo or of a shop
/// does.
async fn talk(http: &reqwest::Client, opens: &str, joins: &str, origin: &str, keys: (&str, &str)) {
    let request = http.post(format!("http://{opens}/api/chat/")).header("Origin", origin);
    let request = request.header("X-PinTalk-Access-Key", keys.0).header("X-PinTalk-Secret-Key", keys.1);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let room: Value = answer.json().await.expect("JSON");
    let path = format!("/ws/chat/{}/", room["name"].as_str().expect("a name"));
    let joins = joins.parse().expect("an address");
    let mut guest = Client::open_at(joins, &path, Some(origin)).await;
    guest.send(&json!({"type": "chat_message", "message": "hello", "datetime": NOW})).await;
    assert_eq!(guest.frame().await["seq"], 1);
}

/// Returns the environment variables that set the directories of cargo. Intermediate files are shared with this build.
/// Executables have a separate directory, because other tests use those of this build.
fn cargo_folders() -> [(&'static str, String); 2] {
    let target = Path::new(env!("CARGO_BIN_EXE_pintalk")).ancestors().nth(2).expect("a folder").display().to_string();
    [("CARGO_TARGET_DIR", format!("{target}/readme")), ("CARGO_BUILD_BUILD_DIR", target)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_command_runs_a_demo_with_a_working_conversation() {
    let commands = shell_blocks();
    assert!(commands[0].starts_with("cargo run -- demo "), "{}", commands[0]);
    assert!(commands[1].starts_with("tests/run "), "{}", commands[1]);
    let [target, build] = cargo_folders();
    let [target, build] = [(target.0, target.1.as_str()), (build.0, build.1.as_str())];
    let variables = [target, build, ("PINTALK_LISTEN", "127.0.0.1:0"), ("CARGO_TERM_QUIET", "true")];
    // Merges the log into standard output. The test checks that the demo prints its address before the first log line.
    let mut demo = Shell::run(&format!("exec 2>&1\n{}", commands[0]), &variables);
    let mut lines = demo.lines().filter(|line| !line.trim().is_empty());
    assert_eq!(lines.next().as_deref().map(str::trim), Some("PinTalk demo"), "the first line");
    let page = lines.next().and_then(|line| line.trim().strip_prefix("page").map(|url| url.trim().to_owned()));
    let page = page.expect("a page");
    let http = reqwest::Client::new();
    let shown = http.get(&page).send().await.expect("an answer");
    assert!(
        shown.headers()["content-security-policy"].to_str().is_ok_and(|policy| policy.contains("default-src 'self'"))
    );
    assert!(shown.status().is_success());
    let origin = page.trim_end_matches("/demo");
    let html = shown.text().await.expect("a page");
    let after = |word: &'static str| html.split(word).skip(1).filter_map(|rest| rest.split('"').next());
    let assets: Vec<&str> = after("href=\"").chain(after("src=\"")).filter(|path| path.starts_with('/')).collect();
    assert!(assets.contains(&"/widget.js") && assets.len() > 3, "{assets:?}");
    for asset in assets {
        assert!(
            http.get(format!("{origin}{asset}")).send().await.is_ok_and(|answer| answer.status() == 200),
            "{asset}"
        );
    }
    let facts: Value =
        http.get(format!("{page}/config.json")).send().await.expect("an answer").json().await.expect("JSON");
    let address = origin.trim_start_matches("http://");
    let keys = (facts["accessKey"].as_str().expect("a key"), facts["secretKey"].as_str().expect("a key"));
    talk(&http, address, address, origin, keys).await;
    let login = json!({"email": facts["email"], "password": facts["password"]});
    let login = http.post(format!("{origin}/api/auth/login/")).json(&login).send().await.expect("an answer");
    assert_eq!(login.status(), 200);
    demo.signal("-TERM");
    eventually("the demo ends after the signal", async || http.get(&page).send().await.is_err().then_some(())).await;
}

#[test]
fn first_picture_is_the_demo_and_all_pictures_are_small() {
    const MAX_BYTES: u64 = 300 * 1024;
    let documents =
        ["README.md", "src/web/README.md", "src/web/widget/README.md"].map(|document| Path::new(ROOT).join(document));
    let (mut pictures, mut bytes) = (Vec::new(), 0);
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a document");
        for picture in text.split(['(', '"', ')']).filter(|path| path.ends_with(".png")) {
            bytes += std::fs::metadata(document.with_file_name(picture)).expect("a picture").len();
            pictures.push(picture.to_owned());
        }
    }
    assert!(pictures[0].ends_with("/demo.png") && pictures.len() == 3, "{pictures:?}");
    assert!(bytes <= MAX_BYTES, "{bytes}");
}

with_topology! {
    #[clusters]
    async fn commands_for_two_nodes_start_a_cluster_that_shares_a_room(topology) {
        let commands = shell_blocks();
        let Topology::Cluster(database) = topology else { unreachable!("two nodes") };
        let (redis, database) = (RedisServer::start().await, TestDatabase::create(database).await);
        let ports = [free_port(), free_port()];
        let script = commands[2]
            .replace("mysql://root@127.0.0.1:3306/pintalk", &database.url)
            .replace("redis://127.0.0.1:6379", &redis.url())
            .replace(":8081", &format!(":{}", ports[0]))
            .replace(":8082", &format!(":{}", ports[1]))
            .replace("'a good one'", "'a good one' --json")
            // The check reports a risk, because Redis has no persistence.
            .replace("pintalk check\n", "pintalk check || [ $? = 1 ]\n");
        let program = Path::new(env!("CARGO_BIN_EXE_pintalk")).parent().expect("a folder");
        let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
        let mut cluster = Shell::run(&format!("{script}\necho all is up\nwait"), &[("PATH", &path)]);
        let mut printed = String::new();
        for line in cluster.lines() {
            if line.ends_with("all is up") {
                break;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        let account = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|json| json["accessKey"].is_string());
        let account = account.or_else(|| json_in(&printed)).unwrap_or_else(|| panic!("no account in {printed}"));
        let keys = (account["accessKey"].as_str().expect("a key"), account["secretKey"].as_str().expect("a key"));
        let [first, second] = ports.map(|port| format!("127.0.0.1:{port}"));
        talk(&reqwest::Client::new(), &first, &second, "https://shop.example", keys).await;
        // Runs the commands that open a room and its socket with plain HTTP requests.
        let call = Shell::run(
            &commands[3].replace(":8081", &format!(":{}", ports[0])).replace(":8082", &format!(":{}", ports[1])),
            &[("ACCESS_KEY", keys.0), ("SECRET_KEY", keys.1)],
        )
        .lines()
        .collect::<String>();
        assert!(call.starts_with("HTTP/1.1 101 "), "{call}");
        cluster.signal("-TERM");
        let http = reqwest::Client::new();
        eventually("both nodes end", async || {
            let mut gone = true;
            for node in [&first, &second] {
                gone &= http.get(format!("http://{node}/health/live")).send().await.is_err();
            }
            gone.then_some(())
        })
        .await;
        drop(cluster);
        database.drop_it().await;
    }
}

/// Returns the first cells of the tables in `lines`: one list per table, without header and delimiter row.
fn first_cells<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut tables = vec![Vec::new()];
    for line in lines.chain([""]) {
        match line.strip_prefix('|') {
            Some(row) => {
                tables.last_mut().expect("a table").extend(row.split('|').next().map(|cell| cell.trim().into()))
            }
            None => tables.push(Vec::new()),
        }
    }
    let rows = |table: Vec<String>| table.into_iter().skip(2).collect::<Vec<_>>();
    tables.into_iter().map(rows).filter(|table| !table.is_empty()).collect()
}

/// Returns the first cells of the first table below a heading of a document.
fn figures(document: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(document)).expect("a document");
    let section = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('#'));
    first_cells(section).into_iter().next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_benchmark_prints_its_table_and_finds_nothing_lost() {
    let [command] = &blocks("tests/README.md", "bash")[..] else { panic!("one block") };
    assert!(command.starts_with("tests/bench "), "{command}");
    let [target, build] = cargo_folders();
    let folders = [(target.0, target.1.as_str()), (build.0, build.1.as_str())];
    let mut cargo = Shell::run("cargo build --quiet --package pintalk --package pintalk-load", &folders);
    assert!(cargo.0.wait().is_ok_and(|status| status.success()), "the programs are built");
    let programs = format!("{}/debug", target.1);
    let variables = [("PINTALK_BENCH_BINARIES", programs.as_str())];
    let mut bench = Shell::run(&command.replacen("tests/bench", "tests/bench --check --scaling", 1), &variables);
    let lines: Vec<String> = bench.lines().collect();
    assert!(bench.0.wait().is_ok_and(|status| status.success()), "{lines:#?}");
    let documented = [figures("README.md", "## Cost"), figures("tests/README.md", "### Scaling")];
    assert_eq!(
        first_cells(lines.iter().map(String::as_str)),
        documented,
        "written by `tests/bench --scaling --readme`"
    );
    let lost = lines.iter().find(|line| line.contains("lost, duplicated")).expect("a row");
    assert!(lost.split('|').nth(2).is_some_and(|count| count.trim() == "0"), "{lost}");
}

/// Returns the JSON object in `text`, which may span several lines. Returns `None` if there is none.
fn json_in(text: &str) -> Option<Value> {
    let (from, to) = (text.find('{')?, text.rfind('}')?);
    serde_json::from_str(text.get(from..=to)?).ok()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}
