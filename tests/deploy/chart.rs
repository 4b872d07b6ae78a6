//! Tests that Helm and Kubernetes accept the chart, and that the program accepts the configuration in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::tools::{documents, fed, installed, options, path, pintalk, printed, python, said, text, yaml};

pub const CHART: &str = "helm/pintalk";
pub const HELMS: [&str; 2] = ["helm3", "helm4"];

/// Options that the chart sets itself. Values must not set them.
const OWNED: [&str; 7] = [
    "PINTALK_LISTEN",
    "PINTALK_METRICS_LISTEN",
    "PINTALK_DATA_DIR",
    "PINTALK_AUTO_MIGRATE",
    "PINTALK_DRAIN_DELAY",
    "PINTALK_DRAIN",
    "PINTALK_MEDIA_URL",
];

/// Returns a Helm command that does not use the configuration of this machine.
pub fn helm(program: &str) -> Command {
    let mut helm = Command::new(installed("bin").join(program));
    helm.current_dir(path("")).env_clear().env("HOME", std::env::temp_dir());
    helm
}

/// Returns the paths of the values files that the chart is tested with.
pub fn sets() -> Vec<String> {
    let folder = std::fs::read_dir(path(CHART).join("ci")).expect("sets of values");
    let mut sets: Vec<String> = folder
        .map(|entry| entry.expect("a file").path().display().to_string())
        .filter(|set| set.ends_with("-values.yaml"))
        .collect();
    sets.sort();
    assert!(sets.len() >= 4, "{sets:?}");
    sets
}

/// Renders the chart with a values file.
pub fn rendered(program: &str, chart: &str, set: &str) -> Vec<Value> {
    documents(&stream(program, chart, set))
}

fn stream(program: &str, chart: &str, set: &str) -> String {
    printed(helm(program).args(["template", "release", chart, "--namespace", "chat", "--values", set]))
}

/// Renders the chart with values from the command line.
pub fn given(program: &str, values: &[&str]) -> Vec<Value> {
    let mut helm = helm(program);
    helm.args(["template", "release", CHART, "--namespace", "chat"]);
    documents(&printed(helm.args(values.iter().flat_map(|value| ["--set", *value]))))
}

/// Returns the error message of Helm for invalid values from the command line.
pub fn refused(values: &[&str]) -> String {
    let mut helm = helm("helm4");
    helm.args(["template", "release", CHART]);
    let output = helm.args(values.iter().flat_map(|value| ["--set", *value])).output().expect("helm");
    assert!(!output.status.success(), "{values:?} is taken");
    said(&output)
}

/// Returns the kind and the name of a document.
pub fn title(document: &Value) -> (String, String) {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    (word(&document["kind"]), word(&document["metadata"]["name"]))
}

fn by_title(documents: Vec<Value>) -> BTreeMap<(String, String), Value> {
    let (before, all) = (documents.len(), documents.into_iter().map(|document| (title(&document), document)));
    let all: BTreeMap<_, _> = all.collect();
    assert_eq!(all.len(), before, "two of a name");
    all
}

#[test]
fn both_helm_versions_accept_the_chart_and_render_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().display().to_string();
    let package = printed(helm("helm3").args(["package", CHART, "--destination", &destination]));
    let package = package.rsplit(' ').next().expect("a path").trim();
    for set in sets() {
        let [old, new] = HELMS.map(|program| {
            printed(helm(program).args(["lint", "--strict", CHART, "--values", &set]));
            by_title(rendered(program, CHART, &set))
        });
        assert_eq!(old, new, "{set}");
        assert_eq!(by_title(rendered("helm4", package, &set)), new, "{set}, packaged");
    }
    let inside = printed(Command::new("tar").args(["-tzf", package]));
    for file in ["files/alerts.yaml", "files/dashboard.json", "LICENSE", "README.md", "VALUES.md", "values.schema.json"]
    {
        assert!(inside.contains(&format!("pintalk/{file}\n")), "{file}: {inside}");
    }
    assert!(!inside.contains("/ci/"), "{inside}");
}

#[test]
fn license_of_the_chart_is_that_of_the_repository() {
    assert_eq!(text("helm/pintalk/LICENSE"), text("LICENSE"));
    let chart = yaml(&text("helm/pintalk/Chart.yaml"));
    assert!(text("LICENSE").starts_with(&format!("{} License", word(&chart["annotations"]["artifacthub.io/license"]))));
    assert!(text("Cargo.toml").contains("license = \"MIT\""));
}

#[test]
fn metadata_for_artifact_hub_describes_this_release() {
    let chart = yaml(&text("helm/pintalk/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&Value::from(version), &Value::from(version)));
    let annotation = |name: &str| word(&chart["annotations"][&format!("artifacthub.io/{name}")]);
    assert_eq!(annotation("category"), "streaming-messaging");
    assert_eq!(annotation("prerelease"), if version.starts_with("0.") { "true" } else { "false" });
    let stores = yaml(&text("helm/pintalk/values.yaml"));
    let images: Vec<String> = yaml(annotation("images"))
        .as_array()
        .expect("images")
        .iter()
        .map(|image| word(&image["image"]).to_owned())
        .collect();
    let used = ["redis", "mysql", "tests"].map(|part| word(&stores[part]["image"]).to_owned());
    assert!(used.iter().all(|image| images.contains(image)), "{images:?}");
    assert!(images.contains(&format!("{}:{version}", word(&stores["image"]["repository"]))), "{images:?}");
    let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
    let changes = yaml(annotation("changes"));
    let changes = changes.as_array().expect("changes");
    assert!(!changes.is_empty());
    for change in changes {
        assert!(kinds.contains(&word(&change["kind"])) && !word(&change["description"]).is_empty(), "{change}");
    }
}

/// Python script that validates a stream of documents against the schemas of Kubernetes 1.28 to 1.37. It fails at the
/// first invalid document, and prints the kinds that have no schema.
const KUBERNETES: &str = "
import sys, yaml, kubernetes_validate as k
for document in filter(None, yaml.safe_load_all(sys.stdin)):
    for minor in range(28, 38):
        try:
            k.validate(document, f'1.{minor}', strict=True)
        except k.SchemaNotFoundError:
            print('unknown', document['kind'])
        except k.ValidationError as error:
            sys.exit(f'1.{minor} {document[\"kind\"]} {document[\"metadata\"]}: {error}')
";

#[test]
fn kubernetes_from_1_28_to_1_37_accepts_all_objects() {
    let said_of = |stream: &str| fed(&mut python("kubernetes", KUBERNETES), stream);
    // Loading the schemas takes long, so all sets are validated together.
    let all: Vec<String> = sets().iter().map(|set| stream("helm4", CHART, set)).collect();
    let output = said_of(&all.join("\n---\n"));
    assert!(output.status.success(), "{}", said(&output));
    let unknown: BTreeSet<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let known_elsewhere = ["HTTPRoute", "PodMonitor", "PrometheusRule", "ServiceMonitor"];
    assert_eq!(unknown, known_elsewhere.map(|kind| format!("unknown {kind}")).into());
    let misspelt = stream("helm4", CHART, &sets()[1]).replacen("maxUnavailable", "maxUnavailabel", 1);
    assert!(!said_of(&misspelt).status.success(), "schemas that take anything");
}

/// Python script that fails if a document has a field that is missing from the model of the Prometheus operator.
const OPERATOR: &str = "
import sys, yaml
from cloudcoil.models.prometheus_operator import v1
seen = 0
for document in filter(None, yaml.safe_load_all(sys.stdin)):
    if document['apiVersion'] == 'monitoring.coreos.com/v1':
        model = getattr(v1, document['kind']).model_validate(document)
        known = model.model_dump(by_alias=True, exclude_unset=True, mode='json')
        if known['spec'] != document['spec']:
            sys.exit(f'{document[\"kind\"]}: {known[\"spec\"]}')
        seen += 1
print(seen)
";

#[test]
fn prometheus_operator_accepts_every_field_of_monitors_and_rules() {
    let streams = ["everything", "platform"].map(|name| {
        let set = sets().into_iter().find(|set| set.contains(name)).expect("a set");
        stream("helm4", CHART, &set)
    });
    let stream = streams.join("\n---\n");
    let output = fed(&mut python("operator", OPERATOR), &stream);
    assert_eq!((output.status.success(), said(&output).trim()), (true, "3"));
    let misspelt = stream.replace("scrapeTimeout", "scrapeTimeuot");
    assert!(misspelt != stream && !fed(&mut python("operator", OPERATOR), &misspelt).status.success());
}

#[test]
fn ingress_and_route_publish_the_path_of_the_public_url() {
    let values = ["ingress.enabled=true", "httpRoute.enabled=true", "httpRoute.parentRefs[0].name=gateway"];
    let secret = "secrets.existingSecret=pintalk";
    for (url, path) in [
        ("", "/"),
        ("https://shop.example", "/"),
        ("https://shop.example/chat", "/chat"),
        ("https://shop.example/a/b/", "/a/b"),
    ] {
        let url = format!("config.public-url={url}");
        let all = given("helm4", &[&values[..], &[secret, &url]].concat());
        let of = |kind: &str| all.iter().find(|document| document["kind"] == kind).expect("a document");
        assert_eq!(of("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["path"], path, "{url}");
        assert_eq!(of("HTTPRoute")["spec"]["rules"][0]["matches"][0]["path"]["value"], path, "{url}");
        let probe = &of("Deployment")["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
        assert_eq!(probe["httpGet"]["path"], "/health/ready", "{url}");
    }
}

/// Returns the properties of a schema that accepts no other properties. `None` if it accepts any property.
fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    (schema["additionalProperties"] == false).then(|| schema["properties"].as_object().expect("properties"))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}"))
}

fn same_keys(at: &str, root: &Value, schema: &Value, values: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("a definition"),
        None => schema,
    };
    let (Some(known), Some(given)) = (properties(schema), values.as_object()) else { return };
    for key in given.keys() {
        assert!(known.contains_key(key), "{at}.{key} has a default, and the schema refuses it");
    }
    for (key, below) in known {
        // These values have no defaults: the program defines `config`, and Kubernetes defines `resources`.
        if ["config", "existingSecrets", "files", "resources"].iter().any(|open| at.ends_with(open))
            || (at.is_empty() && key == "global")
        {
            continue;
        }
        assert!(given.contains_key(key), "{at}.{key} is not in values.yaml");
        same_keys(&format!("{at}.{key}"), root, below, &values[key]);
    }
}

#[test]
fn every_value_has_a_default_and_an_unknown_one_is_rejected() {
    let schema: Value = serde_json::from_str(&text("helm/pintalk/values.schema.json")).expect("JSON");
    let values = text("helm/pintalk/values.yaml");
    same_keys("", &schema, &schema, &yaml(&values));
    for (value, key) in [
        ("replicaCuont=2", "replicaCuont"),
        ("secrets.jwtSekret=x", "jwtSekret"),
        ("config.public-ulr=https://chat.example.com", "public-ulr"),
        ("config.redis-url=redis://127.0.0.1", "redis-url"),
        ("ingress.tsl[0].secretName=x", "tsl"),
        ("metrics.serviceMonitor.enbaled=true", "enbaled"),
        ("networkPolicy.egress.redis.prots={6379}", "prots"),
        ("mysql.pasword=x", "pasword"),
        ("secrets.existingSecrets.redis-ulr.name=x", "redis-ulr"),
        ("secrets.files.database-host=/x", "database-host"),
        ("config.database-password=x", "database-password"),
        ("readinessProbe.periodSecond=1", "periodSecond"),
    ] {
        let sentence = refused(&[value]);
        assert!(sentence.contains(key) && sentence.contains("not allowed"), "{value}: {sentence}");
    }
    for wrong in [
        "replicaCount=0",
        "service.type=ClusterIp",
        "media.bucketUrl=gs://x",
        "image.digest=latest",
        "ingress.controller=apache",
        "secrets.existingSecrets.redis-url.name=x",
        "dnsPolicy=No",
    ] {
        let sentence = refused(&[wrong]);
        assert!(sentence.contains("schema"), "{wrong}: {sentence}");
    }
}

/// Returns the environment of the nodes, including the values in the chart's Secret.
pub fn environment(documents: &[Value]) -> BTreeMap<String, String> {
    let node = documents.iter().find(|document| document["kind"] == "Deployment").expect("nodes");
    let secrets = documents.iter().filter(|document| document["kind"] == "Secret");
    let secrets: BTreeMap<&str, &Value> =
        secrets.map(|secret| (secret["metadata"]["name"].as_str().expect("a name"), &secret["stringData"])).collect();
    let mut all = BTreeMap::new();
    for variable in node["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name").to_owned();
        let reference = &variable["valueFrom"]["secretKeyRef"];
        let value = match reference["name"].as_str() {
            None => variable["value"].as_str(),
            Some(secret) => secrets.get(secret).and_then(|secret| secret[reference["key"].as_str()?].as_str()),
        };
        all.extend(value.map(|value| (name, value.to_owned())));
    }
    all
}

/// Returns the value of a variable for a check on this machine. No server is reachable. Files of secrets are written to
/// `folder`, because no driver mounts them.
fn unreachable(name: &str, value: &str, folder: &Path) -> String {
    if name.ends_with("_FILE") && name != "SSL_CERT_FILE" {
        let file = folder.join(name);
        std::fs::write(&file, "p@ss:/?#%41 '\"\\é and the tests need thirty-two bytes\n").expect("a file");
        return file.display().to_string();
    }
    match value {
        "release-pintalk-mysql" => "127.0.0.1".to_owned(),
        "release-pintalk-redis:6379" => "127.0.0.1:1".to_owned(),
        "3306" => "1".to_owned(),
        value => value.to_owned(),
    }
}

#[test]
fn each_option_of_the_program_is_accepted_by_the_chart_and_the_program() {
    let (known, schema) = (options(), text("helm/pintalk/values.schema.json"));
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let variables = |options: &Value, end: &str| -> BTreeSet<String> {
        let variable = |option: &String| format!("PINTALK_{}{end}", option.to_uppercase().replace('-', "_"));
        let options = properties(options).expect("all options").keys();
        options.filter(|option| !option.starts_with("aws-")).map(variable).collect()
    };
    let config = &schema["properties"]["config"];
    let secrets = &schema["properties"]["secrets"]["properties"];
    let files = variables(&secrets["files"], "");
    let mut given = variables(config, "");
    assert!(OWNED.iter().all(|owned| !given.contains(*owned)) && files.is_disjoint(&given), "{given:?}");
    given.extend(OWNED.map(str::to_owned));
    given.extend(variables(&secrets["existingSecrets"], ""));
    given.extend(variables(&secrets["files"], "_FILE"));
    assert_eq!(given, known.iter().cloned().collect(), "what the chart knows, and what the program does");
    // Each secret may be a file, a key of an existing Secret or a value, and nothing else may be a file.
    assert!(files.is_subset(&variables(&secrets["existingSecrets"], "")), "{files:?}");
    let has_file = |variable: &&String| known.contains(&format!("{variable}_FILE"));
    assert_eq!(files, known.iter().filter(has_file).cloned().collect());
    let config = properties(config).expect("all options");
    let document = text("src/node/config/README.md");
    let undocumented: Vec<_> = config.keys().filter(|option| !document.contains(&format!("| `{option}` |"))).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");

    let mut checks = Vec::new();
    for set in sets().into_iter().filter(|set| !set.contains("own-secret")) {
        let environment = environment(&rendered("helm4", CHART, &set));
        let unknown: Vec<_> =
            environment.keys().filter(|name| name.starts_with("PINTALK_") && !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{set}: {unknown:?}");
        // The check cannot connect to these addresses. The test only checks that the configuration is valid.
        let data = tempfile::tempdir().expect("a folder");
        let mut check = pintalk(&["check"]);
        check.envs(environment.iter().map(|(name, value)| (name, unreachable(name, value, data.path()))));
        check.env("PINTALK_DATA_DIR", data.path());
        if environment["PINTALK_MEDIA_URL"].starts_with("file:") {
            check.env("PINTALK_MEDIA_URL", format!("file://{}/media", data.path().display()));
        }
        // Each check waits for its stores, so the checks run in parallel.
        let check = check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        checks.push((set, data, check));
    }
    for (set, _data, check) in checks {
        let output = check.wait_with_output().expect("the program");
        assert_eq!(output.status.code(), Some(1), "{set}: {}", said(&output));
        assert!(said(&output).contains("a node of a cluster on mysql://"), "{set}: {}", said(&output));
    }
}

#[test]
fn yaml_types_do_not_change_values_of_options() {
    let set = sets().into_iter().find(|set| set.contains("everything")).expect("a set with everything");
    for program in HELMS {
        let environment = environment(&rendered(program, CHART, &set));
        for (name, value) in [
            ("PINTALK_IDLE_CLOSE", "off"),
            ("PINTALK_LIMITS", "on"),
            ("PINTALK_LIMIT_QUEUE", "2000000"),
            ("PINTALK_WIRE_OFFSET", "+00:00"),
            ("PINTALK_LISTEN", "[::]:8080"),
            ("PINTALK_PUBLIC_URL", "https://chat.example.com"),
        ] {
            assert_eq!(environment[name], value, "{program}: {name}");
        }
    }
}

#[test]
fn grace_period_of_a_pod_covers_its_drain() {
    for set in sets() {
        let documents = rendered("helm4", CHART, &set);
        let node = documents.iter().find(|document| document["kind"] == "Deployment").expect("nodes");
        let seconds = |name: &str| -> u64 {
            let environment = environment(&documents);
            environment[name].strip_suffix('s').and_then(|span| span.parse().ok()).expect("seconds")
        };
        let grace = node["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
        // The program exits within this time at the latest. Kubernetes must not kill it earlier.
        let longest = seconds("PINTALK_DRAIN_DELAY") + 2 * seconds("PINTALK_DRAIN");
        assert!(grace > longest, "{set}: {grace} s, and a drain may take {longest} s");
        let strategy = &node["spec"]["strategy"];
        let rolls = strategy["type"] == "RollingUpdate" && strategy["rollingUpdate"]["maxUnavailable"] == 0;
        assert!(rolls || strategy["type"] == "Recreate", "{set}: {strategy:?}");
    }
}
