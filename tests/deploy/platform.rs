//! Tests that the chart meets the requirements of platforms, such as assigned user ids and network policies.

use serde_json::Value;

use crate::chart::{CHART, HELMS, given, helm, rendered};
use crate::tools::printed;

/// Returns the pod specifications of nodes, migration and chart test.
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
fn platform_may_assign_the_users_of_pods() {
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
    // Platforms may assign large user ids. Helm must not convert these ids to floating-point numbers.
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

/// Returns the notes that Helm prints after an installation. Only Helm 4 prints them without a cluster.
fn notes(values: &[&str]) -> String {
    let mut helm = helm("helm4");
    helm.args(["install", "release", CHART, "--namespace", "chat", "--dry-run=client"]);
    let said = printed(helm.args(values.iter().flat_map(|value| ["--set", *value])));
    said.split_once("\nNOTES:\n").expect("notes").1.to_owned()
}

#[test]
fn port_that_the_network_policy_blocks_is_reported_in_the_notes() {
    let secret = "secrets.jwtSecret=a-secret-of-the-tests-that-is-long-enough";
    let database = "secrets.databaseUrl=mysql://pintalk:hunter2@db.example/pintalk";
    let redis = "secrets.redisUrl=redis://:hunter2@redis.example";
    let bucket = "media.bucketUrl=s3://images";
    for (lines, values) in [
        (vec![], vec![secret, database, redis]),
        (vec![], vec![secret, database, redis, "secrets.smtpUrl=smtps://mail.example"]),
        (vec![], vec![secret, database, redis, "config.otlp-endpoint=http://collector:4318"]),
        // The network policy already permits HTTPS to every host, for webhooks. An HTTPS collector therefore needs no
        // rule.
        (vec![], vec![secret, database, redis, "config.otlp-endpoint=https://collector"]),
        (vec![], vec![secret, redis, "mysql.enabled=true", "mysql.password=x"]),
        (vec![], vec!["secrets.existingSecret=mine"]),
        (
            vec!["secrets.databaseUrl uses port 3307, which networkPolicy.egress.mysql.ports"],
            vec![secret, "secrets.databaseUrl=mysql://pintalk:hunter2@db.example:3307/pintalk", redis],
        ),
        (
            vec![],
            vec![secret, "secrets.databaseUrl=mysql://a@db:3307/b", redis, "networkPolicy.egress.mysql.ports={3307}"],
        ),
        (vec![], vec![secret, "secrets.databaseUrl=mysql://a@db:3307/b", redis, "networkPolicy.enabled=false"]),
        (
            vec!["secrets.redisUrl uses port 6380,", "secrets.redisUrl uses port 6381,"],
            vec![secret, database, "secrets.redisUrl=rediss-cluster://:6666@r1:6380?node=r2:6379&node=r3:6381"],
        ),
        (vec![], vec![secret, database, "secrets.redisUrl=redis-sentinel://s1/?sentinelServiceName=a&node=s2:26379"]),
        (vec!["secrets.smtpUrl uses port 25,"], vec![secret, database, redis, "secrets.smtpUrl=smtp://mail.example"]),
        (
            vec!["media.endpoint uses port 9000, which networkPolicy.egress.https.ports"],
            vec![secret, database, redis, bucket, "media.endpoint=http://minio:9000"],
        ),
        (
            vec!["config.otlp-endpoint uses port 80,"],
            vec![secret, database, redis, "config.otlp-endpoint=http://[fd00::1]/v1"],
        ),
    ] {
        let notes = notes(&values);
        let printed: Vec<&str> =
            notes.lines().filter(|line| line.starts_with("WARNING") && line.contains("uses port")).collect();
        assert_eq!(printed.len(), lines.len(), "{values:?}: {printed:?}");
        assert!(printed.iter().zip(&lines).all(|(printed, line)| printed.contains(line)), "{values:?}: {printed:?}");
        assert!(!notes.contains("hunter2"), "{notes}");
    }
}
