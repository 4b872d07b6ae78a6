//! The README's commands for Kubernetes, as they stand there: Helm is asked what it would put up, and nobody puts it up.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

use crate::chart::HELMS;
use crate::tools::{documents, installed, path, said, text};

/// What an operator's shell has in place of a cluster.
const NO_CLUSTER: &str = r#"
helm() {
    case $1 in
    upgrade) shift 2 && "$HELM" template "$@" ;;
    test) echo "tested: $2" >&2 ;;
    *) return 64 ;;
    esac
}
kubectl() { echo "kubectl: $*" >&2; }
"#;

fn blocks() -> Vec<String> {
    let readme = text("README.md");
    let fenced = readme.split("```bash\n").skip(1).filter_map(|rest| rest.split("```").next());
    let blocks: Vec<String> = fenced.filter(|block| block.contains("helm ")).map(str::to_owned).collect();
    assert_eq!(blocks.len(), 2, "one to look around, one for people");
    blocks
}

fn run(program: &str, block: &str) -> (Output, Vec<Value>) {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &format!("{NO_CLUSTER}{block}")]).current_dir(path(""));
    let output = shell.env("HELM", installed("bin").join(program)).output().expect("bash");
    assert!(output.status.success(), "{program}: {}", said(&output));
    let documents = documents(&String::from_utf8_lossy(&output.stdout));
    (output, documents)
}

fn kinds(documents: &[Value]) -> BTreeSet<&str> {
    documents.iter().filter_map(|document| document["kind"].as_str()).collect()
}

#[test]
fn the_commands_to_look_around_bring_stores_along() {
    for program in HELMS {
        let (_, documents) = run(program, &blocks()[0]);
        let kinds = kinds(&documents);
        assert!(["Deployment", "StatefulSet", "Job"].iter().all(|kind| kinds.contains(kind)), "{program}: {kinds:?}");
        let node = documents.iter().find(|document| document["kind"] == "Deployment").expect("nodes");
        let image = &node["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("registry.example/pintalk:{}", env!("CARGO_PKG_VERSION")), "{program}");
    }
}

#[test]
fn the_commands_for_people_make_the_secret_that_nodes_read() {
    for program in HELMS {
        let (output, documents) = run(program, &blocks()[1]);
        let kinds = kinds(&documents);
        let all =
            ["Ingress", "HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"];
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
