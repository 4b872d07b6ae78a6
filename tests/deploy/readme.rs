//! Runs the commands of the chart's README exactly as written. Helm renders the objects but does not install them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::chart::HELMS;
use crate::tools::{blocks, documents, installed, path, said, text, yaml};

/// Shell functions that replace commands that need a cluster. `helm template` has no `--timeout` and does not wait.
const NO_CLUSTER: &str = r#"
helm() {
    local arguments=() wait=5m
    case $1 in
    upgrade)
        shift
        while [ $# -gt 0 ]; do
            case $1 in
            --timeout) wait=$2 && shift ;;
            --install) ;;
            *) arguments+=("$1") ;;
            esac
            shift
        done
        echo "waits: $wait" >&2
        "$HELM" template "${arguments[@]}"
        ;;
    test) echo "tested: $2" >&2 ;;
    *) return 64 ;;
    esac
}
kubectl() { echo "kubectl: $*" >&2; }
"#;

/// Returns the code blocks of the README in order: values for an evaluation, its installation, an installation for
/// production, and an upgrade.
fn commands() -> [String; 4] {
    let commands = blocks("helm/pintalk/README.md", "bash");
    commands.try_into().unwrap_or_else(|commands| panic!("other commands than these: {commands:?}"))
}

/// Creates a folder that contains the chart at the same path as the repository.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(path("helm"), folder.path().join("helm")).expect("the chart");
    folder
}

fn run(program: &str, at: &Path, block: &str) -> (Output, Vec<Value>) {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &format!("{NO_CLUSTER}{block}")]).current_dir(at);
    let output = shell.env("HELM", installed("bin").join(program)).output().expect("bash");
    assert!(output.status.success(), "{program}: {}", said(&output));
    let documents = documents(&String::from_utf8_lossy(&output.stdout));
    (output, documents)
}

fn kinds(documents: &[Value]) -> BTreeSet<&str> {
    documents.iter().filter_map(|document| document["kind"].as_str()).collect()
}

fn image(documents: &[Value]) -> &Value {
    let node = documents.iter().find(|document| document["kind"] == "Deployment").expect("nodes");
    &node["spec"]["template"]["spec"]["containers"][0]["image"]
}

#[test]
fn evaluation_commands_install_stores_and_keep_their_passwords() {
    let [values, install, ..] = commands();
    for program in HELMS {
        let place = place();
        run(program, place.path(), &values);
        let (_, documents) = run(program, place.path(), &install);
        let kinds = kinds(&documents);
        assert!(["Deployment", "StatefulSet", "Job"].iter().all(|kind| kinds.contains(kind)), "{program}: {kinds:?}");
        assert_eq!(*image(&documents), format!("registry.example/pintalk:{}", env!("CARGO_PKG_VERSION")), "{program}");
        assert_eq!(run(program, place.path(), &install).1, documents, "{program}: another time");
    }
}

/// Returns the time that Helm waits for a hook, in seconds.
fn hook_timeout(output: &Output) -> u64 {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let minutes = said.lines().find_map(|line| line.strip_prefix("waits: ")?.strip_suffix('m')?.parse::<u64>().ok());
    60 * minutes.unwrap_or_else(|| panic!("no minutes: {said}"))
}

#[test]
fn production_commands_create_the_secret_that_nodes_read() {
    let [_, _, install, _] = commands();
    for program in HELMS {
        let place = place();
        let (output, documents) = run(program, place.path(), &install);
        let kinds = kinds(&documents);
        let all =
            ["HTTPRoute", "HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"];
        assert!(all.iter().all(|kind| kinds.contains(kind)) && !kinds.contains("Secret"), "{program}: {kinds:?}");
        let asked = String::from_utf8_lossy(&output.stderr);
        let created =
            asked.lines().find(|line| line.contains("create secret generic pintalk-secrets")).expect("a Secret");
        let workloads =
            documents.iter().filter(|document| ["Deployment", "Job"].iter().any(|kind| document["kind"] == *kind));
        let variables =
            workloads.flat_map(|workload| workload["spec"]["template"]["spec"]["containers"][0]["env"].as_array());
        let mut required = 0;
        for reference in variables.flatten().map(|variable| &variable["valueFrom"]["secretKeyRef"]) {
            if reference["key"].is_string() && reference["optional"] != true {
                let key = format!("--from-literal={}=", reference["key"].as_str().expect("a key"));
                assert!(reference["name"] == "pintalk-secrets" && created.contains(&key), "{program}: {reference}");
                required += 1;
            }
        }
        assert!(required >= 4, "{program}: three of the nodes, and the Job's");
        assert!(asked.contains("tested: pintalk"));
    }
}

#[test]
fn mapping_of_secrets_is_used_by_every_pod() {
    let [mapping] = blocks("helm/pintalk/README.md", "yaml").try_into().expect("one block of values");
    let mapped = yaml(&mapping)["secrets"]["existingSecrets"].clone();
    let place = place();
    std::fs::write(place.path().join("mapping.yaml"), mapping).expect("a file");
    for program in HELMS {
        let (_, documents) = run(program, place.path(), "\"$HELM\" template release helm/pintalk -f mapping.yaml");
        let mut found = BTreeSet::new();
        for document in &documents {
            let pod = if document["kind"] == "Pod" { &document["spec"] } else { &document["spec"]["template"]["spec"] };
            for variable in pod["containers"][0]["env"].as_array().into_iter().flatten() {
                let option = variable["name"].as_str().expect("a name").trim_start_matches("PINTALK_");
                let reference = &variable["valueFrom"]["secretKeyRef"];
                if !reference.is_null() {
                    let option = option.to_lowercase().replace('_', "-");
                    assert_eq!(*reference, mapped[&option], "{program}: {variable}");
                    found.insert(format!("{} {option}", document["kind"].as_str().expect("a kind")));
                }
            }
        }
        let mut expected = BTreeSet::new();
        for option in mapped.as_object().expect("options").keys() {
            expected.extend(["Deployment", "Pod"].map(|kind| format!("{kind} {option}")));
            // The migration needs the database only.
            expected.extend(option.starts_with("database-").then(|| format!("Job {option}")));
        }
        assert_eq!(found, expected, "{program}");
        assert!(!kinds(&documents).contains("Secret"), "{program}: all secrets exist already");
    }
}

#[test]
fn upgrade_changes_only_the_image_and_waits_as_long_as_a_migration_may_take() {
    let [_, _, install, upgrade] = commands();
    let deadline = yaml(&text("helm/pintalk/values.yaml"))["migrations"]["activeDeadlineSeconds"].as_u64();
    for program in HELMS {
        let place = place();
        let [(first, before), (second, after)] =
            [&install, &upgrade].map(|commands| run(program, place.path(), commands));
        assert!(
            Some(hook_timeout(&first)) > deadline && Some(hook_timeout(&second)) > deadline,
            "{program}: Helm gives up first"
        );
        assert_eq!(*image(&after), "registry.example/pintalk:0.2.0", "{program}");
        let [before, after] = [before, after].map(|documents| Value::from(documents).to_string());
        assert_eq!(
            after,
            before.replace("registry.example/pintalk:0.1.0", "registry.example/pintalk:0.2.0"),
            "{program}"
        );
    }
}
