//! Tests that the programs in `compose.yaml` accept their configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tools::{blocks, fed, options, path, pintalk, printed, python, said, text, yaml};

/// Python script that reads a Compose file and rejects unknown keys.
const READ: &str = "
import sys, compose_spec as c
c.PyCompose(c._PyOptions(apply_merge=True).from_yaml(sys.stdin.read())).validate()
";

fn compose() -> Value {
    yaml(&text("compose.yaml"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}"))
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Replaces variables as Compose does. All of them have the same value, a secret.
fn interpolated(text: &str) -> String {
    let mut pieces = text.split("${");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (asked, rest) = piece.split_once('}').expect("a closing brace");
        assert!(asked.ends_with(":?set it in .env"), "{asked} has a default, which is public");
        whole += "0123456789abcdef0123456789abcdef";
        whole += rest;
    }
    whole.replace("$$", "$")
}

/// Returns the environment of a service.
fn environment(compose: &Value, service: &str) -> BTreeMap<String, String> {
    let all = entries(&compose["services"][service]["environment"]);
    all.map(|(name, value)| (name.clone(), interpolated(word(value)))).collect()
}

/// Returns the content of a file that Compose writes.
fn content(compose: &Value, config: &str) -> String {
    interpolated(word(&compose["configs"][config]["content"]))
}

#[test]
fn compose_file_has_valid_keys_and_existing_files() {
    let file = text("compose.yaml");
    let read = |file: &str| fed(&mut python("compose", READ), file);
    let output = read(&file);
    assert!(output.status.success(), "{}", said(&output));
    for (right, wrong) in [("cap_drop:", "cap_dorp:"), ("{source: nginx,", "{source: ngnix,")] {
        let misspelt = file.replacen(right, wrong, 1);
        assert!(misspelt != file && !read(&misspelt).status.success(), "{wrong} is taken");
    }
    let compose = compose();
    let services: BTreeSet<&String> = entries(&compose["services"]).map(|(name, _)| name).collect();
    let (mut volumes, mut configs) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in entries(&compose["services"]) {
        let after = entries(&service["depends_on"]).map(|(other, condition)| {
            let healthy = condition["condition"] == "service_healthy";
            assert!(
                !healthy || compose["services"][other]["healthcheck"].is_object(),
                "{name}: {other} has no health check"
            );
            other.as_str()
        });
        let after: Vec<&str> = after.chain(list(&service["depends_on"]).map(word)).collect();
        assert!(after.iter().all(|other| services.iter().any(|known| known == other)), "{name}: {after:?}");
        volumes.extend(list(&service["volumes"]).map(|volume| word(volume).split_once(':').expect("a volume").0));
        configs.extend(list(&service["configs"]).map(|config| word(&config["source"])));
        let mut published = list(&service["ports"]).map(word);
        assert!(published.all(|port| port.starts_with("127.0.0.1:")), "{name} is open to the world");
    }
    let known = |part: &str| -> BTreeSet<String> { entries(&compose[part]).map(|(name, _)| name.clone()).collect() };
    let named = |all: BTreeSet<&str>| -> BTreeSet<String> { all.into_iter().map(str::to_owned).collect() };
    assert_eq!((named(volumes), named(configs)), (known("volumes"), known("configs")));
    for file in entries(&compose["configs"]).filter_map(|(_, config)| config["file"].as_str()) {
        assert!(path(file).is_file(), "{file}");
    }
    for store in ["redis", "mysql"] {
        assert!(list(&compose["services"][store]["volumes"]).next().is_some(), "{store} forgets");
    }
}

#[test]
fn nodes_accept_their_configuration() {
    let (compose, known) = (compose(), options());
    let environment = environment(&compose, "node-1");
    let unknown: Vec<_> = environment.keys().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(compose["services"]["node-1"], compose["services"]["node-2"]);
    let data = tempfile::tempdir().expect("a folder");
    let mut check = pintalk(&["check"]);
    // The host names of the stores do not resolve on this machine, so they are replaced.
    check.envs(environment.iter().map(|(name, value)| (name, value.replace("@mysql:3306", "@127.0.0.1:1"))));
    check.env("PINTALK_REDIS_URL", environment["PINTALK_REDIS_URL"].replace("@redis:6379", "@127.0.0.1:1"));
    check.env("PINTALK_DATA_DIR", data.path());
    check.env("PINTALK_MEDIA_URL", format!("file://{}/media", data.path().display()));
    let output = check.output().expect("the program");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("a node of a cluster on mysql://pintalk:"), "{}", said(&output));
    // Docker kills the container after this time. The program exits earlier, at the latest after its drain delay plus
    // twice its drain period.
    assert_eq!(compose["services"]["node-1"]["stop_grace_period"], "50s");
}

#[test]
fn nginx_accepts_its_configuration_which_is_that_of_the_document() {
    let content = content(&compose(), "nginx");
    let [block] = <[String; 1]>::try_from(blocks("helm/README.md", "nginx")).expect("one block");
    let block = block
        .replace("127.0.0.1:8081", "node-1:8080 resolve")
        .replace("127.0.0.1:8082", "node-2:8080 resolve")
        .replace(
            "upstream pintalk",
            "# A recreated container may have another address.\nresolver 127.0.0.11 valid=5s;\nupstream pintalk",
        )
        .replace("server_name chat.shop.example", "server_name _")
        .replace("/var/log/nginx/pintalk.log", "/dev/stdout")
        .replace("/var/log/nginx/pintalk-error.log", "/dev/stderr");
    let lines = |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let (here, there) = (lines(&content), lines(&block));
    assert!(here.windows(there.len()).any(|part| part == there), "not that of helm/README.md:\n{content}");

    let folder = tempfile::tempdir().expect("a folder");
    // nginx supports `resolve` for servers since version 1.27.3. The version on this machine may be older.
    let local = content.replace(" resolve ", " ");
    let local = local.replace("node-1:", "127.0.0.1:").replace("node-2:", "127.0.0.1:");
    let local = local.replace("http {\n", &format!("pid {0}/pid;\nhttp {{\n", folder.path().display()));
    // A user other than root may not be able to write to these devices.
    let local = local.replace("/dev/std", &format!("{}/std", folder.path().display()));
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, local).expect("a file");
    let mut nginx = Command::new("nginx");
    nginx.args(["-t", "-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&file);
    let output = nginx.output().expect("nginx is installed: see tests/run");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn prometheus_accepts_its_configuration_and_finds_the_nodes() {
    let compose = compose();
    let content = content(&compose, "prometheus");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(Path::new(name).file_name().expect("a name"));
    for config in list(&compose["services"]["prometheus"]["configs"]) {
        let source = &compose["configs"][word(&config["source"])];
        let whole = source["file"].as_str().map_or_else(|| content.clone(), text);
        std::fs::write(file(word(&config["target"])), whole).expect("a file");
    }
    let checked = printed(Command::new("promtool").args(["check", "config"]).arg(file("prometheus.yml")));
    assert!(checked.contains("1 rule files found"), "{checked}");
    let config = yaml(&content);
    let targets = list(&config["scrape_configs"][0]["static_configs"][0]["targets"]).map(word);
    let port = environment(&compose, "node-1")["PINTALK_METRICS_LISTEN"].rsplit_once(':').expect("a port").1.to_owned();
    let nodes = ["node-1", "node-2"].map(|node| format!("{node}:{port}"));
    assert_eq!(targets.collect::<Vec<_>>(), nodes);
}

#[test]
fn grafana_finds_prometheus_and_the_dashboard() {
    let compose = compose();
    let source = yaml(&content(&compose, "grafana-source"));
    let url = word(&source["datasources"][0]["url"]);
    let (name, port) = url.strip_prefix("http://").and_then(|rest| rest.split_once(':')).expect("an address");
    let mut published = list(&compose["services"][name]["ports"]).map(word);
    assert!(published.any(|published| published.ends_with(&format!(":{port}"))), "{url}");
    let folder = yaml(&content(&compose, "grafana-folder"));
    let folder = word(&folder["providers"][0]["options"]["path"]);
    let mut shown = list(&compose["services"]["grafana"]["configs"]).filter(|config| config["source"] == "dashboard");
    assert!(shown.any(|config| word(&config["target"]).starts_with(folder)));
    assert_eq!(compose["configs"]["dashboard"]["file"], "grafana/dashboard.json");
}
