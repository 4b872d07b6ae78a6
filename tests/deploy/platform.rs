//! Tests that the chart meets the requirements of platforms, such as assigned user ids and network policies.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::chart::{CHART, HELMS, given, helm, rendered, sets};
use crate::tools::{printed, said};

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
        (
            vec!["config.database-host uses port 3307,", "config.redis-host uses port 7000,"],
            vec![
                secret,
                "config.database-host=db",
                "config.database-port=3307",
                "config.database-user=u",
                "config.database-name=n",
                "config.redis-host=r1\\,r2:7000",
            ],
        ),
        (vec![], vec![secret, database, "config.redis-host=s1\\,s2:26379", "config.redis-mode=sentinel"]),
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

/// Redis that ends with the test.
struct RunningRedis(Child);

impl Drop for RunningRedis {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn evaluation_redis_accepts_a_password_with_any_character() {
    let set = sets().into_iter().find(|set| set.contains("trying-out")).expect("a set with stores");
    let documents = rendered("helm4", CHART, &set);
    let named = |kind: &str| {
        let is_it =
            |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == "release-pintalk-redis";
        documents.iter().find(is_it).expect("an object of Redis")
    };
    let password = named("Secret")["stringData"]["password"].as_str().expect("a password");
    assert!(["@", ":", "/", "?", "#", "%", " ", "'", "\"", "\\", "$("].iter().all(|part| password.contains(part)));
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let container = &named("StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    let mut redis = Command::new(container["command"][0].as_str().expect("a program"));
    for argument in container["args"].as_array().expect("arguments") {
        // Kubernetes replaces the reference once and does not expand its value.
        redis.arg(match argument.as_str().expect("an argument") {
            "$(REDISCLI_AUTH)" => password,
            "/data" => folder.path().to_str().expect("a path"),
            argument => argument,
        });
    }
    redis.args(["--port", "0", "--unixsocket"]).arg(&socket).stdout(Stdio::piped());
    let mut running = RunningRedis(redis.spawn().expect("redis-server: see tests/run"));
    let log = BufReader::new(running.0.stdout.take().expect("its log"));
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.to_lowercase().contains("ready to accept connections")), "Redis did not start");
    for (given, answer) in [(password, "PONG"), ("hunter2", "NOAUTH")] {
        let mut client = Command::new("redis-cli");
        let client = client.arg("-s").arg(&socket).arg("ping").env("REDISCLI_AUTH", given);
        let said = said(&client.output().expect("redis-cli: see tests/run"));
        assert!(said.contains(answer), "{said}");
    }
}
