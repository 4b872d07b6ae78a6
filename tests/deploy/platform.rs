//! What a platform asks of the chart: users of its own for the pods.

use serde_json::Value;

use crate::chart::{CHART, HELMS, given, rendered};

/// The pods of nodes, migration and test.
fn own_pods(documents: &[Value]) -> Vec<&Value> {
    let kinds = documents.iter().filter_map(|document| match document["kind"].as_str()? {
        "Pod" => Some(&document["spec"]),
        "Deployment" | "Job" => Some(&document["spec"]["template"]["spec"]),
        _ => None,
    });
    let pods: Vec<&Value> = kinds.collect();
    assert_eq!(pods.len(), 3, "nodes, migration and test");
    pods
}

#[test]
fn a_platform_that_assigns_users_is_left_to_do_so() {
    let theirs = "secrets.existingSecret=mine";
    for program in HELMS {
        let documents = given(program, &[theirs]);
        for pod in own_pods(&documents) {
            let security = &pod["securityContext"];
            assert_eq!((&security["runAsUser"], &security["fsGroup"]), (&Value::from(10001), &Value::from(10001)));
            assert_eq!(
                (&security["runAsNonRoot"], &security["seccompProfile"]["type"]),
                (&Value::from(true), &Value::from("RuntimeDefault"))
            );
        }
        let without = ["runAsUser", "runAsGroup", "fsGroup"].map(|key| format!("podSecurityContext.{key}=null"));
        let mut values = vec![theirs, "containerSecurityContext.privileged=false"];
        values.extend(without.iter().map(String::as_str));
        let documents = given(program, &values);
        for pod in own_pods(&documents) {
            let security = pod["securityContext"].as_object().expect("a context");
            assert!(
                ["runAsUser", "runAsGroup", "fsGroup"].iter().all(|key| !security.contains_key(*key)),
                "{security:?}"
            );
            assert_eq!(security["runAsNonRoot"], true, "{program}");
            for container in pod["containers"].as_array().expect("containers") {
                let security = &container["securityContext"];
                assert_eq!(
                    (&security["privileged"], &security["readOnlyRootFilesystem"]),
                    (&Value::from(false), &Value::from(true))
                );
            }
        }
    }
    // As users of such a platform are: a file's large number stays one.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("values.yaml").display().to_string();
    std::fs::write(&file, "secrets: {existingSecret: mine}\npodSecurityContext: {runAsUser: 1000660000}\n")
        .expect("a file");
    for program in HELMS {
        for pod in own_pods(&rendered(program, CHART, &file)) {
            assert_eq!(pod["securityContext"]["runAsUser"], 1_000_660_000, "{program}");
        }
    }
}
