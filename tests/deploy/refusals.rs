//! Tests that the chart rejects invalid values before anything is installed. Its error messages must not contain
//! passwords.

use serde_json::Value;

use crate::chart::{CHART, HELMS, environment, given, helm, refused, rendered, sets};
use crate::tools::said;

#[test]
fn invalid_combination_is_rejected_with_a_message() {
    let secret = "secrets.jwtSecret=a-secret-of-the-tests-that-is-long-enough";
    let database = "secrets.databaseUrl=mysql://pintalk@127.0.0.1/pintalk";
    let redis = "secrets.redisUrl=redis://127.0.0.1";
    let theirs = "secrets.existingSecret=mine";
    for (sentence, values) in [
        ("secrets.jwtSecret must have 32 bytes", vec![]),
        ("secrets.jwtSecret must have 32 bytes", vec!["secrets.jwtSecret=short", database, redis]),
        ("secrets.databaseUrl must name a MySQL", vec![secret, redis]),
        ("secrets.redisUrl must name a Redis", vec![secret, database]),
        ("mysql.enabled needs mysql.password", vec![secret, redis, "mysql.enabled=true"]),
        ("redis.enabled needs redis.password", vec![secret, database, "redis.enabled=true"]),
        (
            "the URL and the host of the database are both set",
            vec![secret, database, redis, "mysql.enabled=true", "mysql.password=x"],
        ),
        ("the URL and the host of the database are both set", vec![secret, database, redis, "config.database-host=db"]),
        ("the URL and the host of Redis are both set", vec![secret, database, redis, "config.redis-host=r"]),
        (
            "config.database-name is required with database-host",
            vec![theirs, "config.database-host=db", "config.database-user=u"],
        ),
        (
            "config.database-host and mysql.enabled: set only one",
            vec![secret, redis, "config.database-host=db", "mysql.enabled=true", "mysql.password=x"],
        ),
        (
            "secrets.files.redis-password and secrets.redisPassword: set only one",
            vec![secret, database, redis, "secrets.redisPassword=x", "secrets.files.redis-password=/x"],
        ),
        ("secrets.redisUrl is not read with secrets.existingSecret", vec![theirs, redis]),
        ("cannot be combined with secrets.existingSecret", vec![theirs, "redis.enabled=true", "redis.password=x"]),
        ("media.bucketUrl and media.existingClaim", vec![theirs, "media.bucketUrl=s3://a", "media.existingClaim=b"]),
        (
            "secrets.existingSecrets.redis-url and secrets.redisUrl: set only one",
            vec![
                secret,
                database,
                redis,
                "secrets.existingSecrets.redis-url.name=a",
                "secrets.existingSecrets.redis-url.key=b",
            ],
        ),
        (
            "would scrape every node twice",
            vec![theirs, "metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"],
        ),
        (
            "extraEnv: PINTALK_REDIS_URL is set by the chart",
            vec![secret, database, redis, "extraEnv[0].name=PINTALK_REDIS_URL_FILE"],
        ),
        ("podDisruptionBudget.minAvailable is a number", vec![theirs, "podDisruptionBudget.minAvailable=few"]),
        ("httpRoute.parentRefs must name a Gateway", vec![theirs, "httpRoute.enabled=true"]),
        ("minReplicas is above maxReplicas", vec![theirs, "autoscaling.enabled=true", "autoscaling.minReplicas=20"]),
        ("config holds options", vec![theirs, "config=null"]),
        ("listenAddress \"::\": write an IPv6 address in brackets", vec![theirs, "listenAddress=::"]),
        ("listenAddress \"0.0.0.0:80\"", vec![theirs, "listenAddress=0.0.0.0:80"]),
        ("ingress.hosts: \"https://a\" is not a host name", vec![theirs, "ingress.hosts={https://a}"]),
        ("ingress.hosts: \"a/chat\" is not a host name", vec![theirs, "ingress.hosts={b,a/chat}"]),
        ("httpRoute.hostnames: \"http://a\" is not", vec![theirs, "httpRoute.hostnames={http://a}"]),
        ("config.public-url must begin with https://", vec![theirs, "config.public-url=chat.shop.example"]),
        ("config.public-url \"https://a/b//c\": each segment", vec![theirs, "config.public-url=https://a/b//c"]),
        ("config.public-url \"https://a/%41\": each segment", vec![theirs, "config.public-url=https://a/%41"]),
        ("config.otlp-endpoint must begin with https://", vec![theirs, "config.otlp-endpoint=collector:4318"]),
        ("podDisruptionBudget.maxUnavailable is a number", vec![theirs, "podDisruptionBudget.maxUnavailable=-1"]),
        ("podDisruptionBudget.maxUnavailable is a number", vec![theirs, "podDisruptionBudget.maxUnavailable=few"]),
    ] {
        let said = refused(&values);
        assert!(said.contains(sentence), "{values:?}: {said}");
    }
}

#[test]
fn invalid_address_is_rejected_without_its_password() {
    let secret = "secrets.jwtSecret=a-secret-of-the-tests-that-is-long-enough";
    let database = "secrets.databaseUrl=mysql://pintalk@127.0.0.1/pintalk";
    let redis = "secrets.redisUrl=redis://127.0.0.1";
    for (sentence, values) in [
        (
            "secrets.databaseUrl must begin with mysql://",
            vec![secret, redis, "secrets.databaseUrl=postgres://u:hunter2@db"],
        ),
        ("secrets.redisUrl must begin with redis://", vec![secret, database, "secrets.redisUrl=http://:hunter2@r"]),
        (
            "secrets.smtpUrl must begin with smtp://",
            vec![secret, database, redis, "secrets.smtpUrl=mail.example:hunter2"],
        ),
        (
            "mysql.password must not begin with --",
            vec![secret, redis, "mysql.enabled=true", "mysql.password=--hunter2"],
        ),
        (
            "redis.password must not begin with --",
            vec![secret, database, "redis.enabled=true", "redis.password=--hunter2"],
        ),
    ] {
        let said = refused(&values);
        assert!(said.contains(sentence) && !said.contains("hunter2"), "{values:?}: {said}");
    }
}

#[test]
fn value_that_the_chart_sets_cannot_be_set_twice() {
    let theirs = "secrets.existingSecret=mine";
    let own = ["name", "instance", "component", "version", "managed-by"].map(|key| format!("app.kubernetes.io/{key}"));
    let places = [
        "commonLabels",
        "podLabels",
        "service.labels",
        "ingress.labels",
        "httpRoute.labels",
        "metrics.serviceMonitor.labels",
        "metrics.podMonitor.labels",
        "metrics.dashboard.labels",
    ];
    for key in own.iter().map(String::as_str).chain(["helm.sh/chart"]) {
        for place in places {
            let said = refused(&[theirs, &format!("{place}.{}=x", key.replace('.', "\\."))]);
            assert!(said.contains(&format!("{place}: {key} is set by the chart")), "{said}");
        }
    }
    let set = sets().into_iter().find(|set| set.contains("everything")).expect("a set with everything");
    let variables = environment(&rendered("helm4", CHART, &set));
    assert!(variables.contains_key("PINTALK_DATABASE_URL") && variables.contains_key("AWS_REGION"), "{variables:?}");
    for name in variables.keys().filter(|name| *name != "SSL_CERT_FILE") {
        let mut helm = helm("helm4");
        helm.args(["template", "release", CHART, "--values", &set, "--set", &format!("extraEnv[0].name={name}")]);
        let output = helm.output().expect("helm");
        let said = said(&output);
        assert!(!output.status.success() && said.contains(&format!("extraEnv: {name} is set by the chart")), "{said}");
    }
    let mut helm = helm("helm4");
    helm.args(["template", "release", CHART, "--values", &set, "--set", "podAnnotations.checksum/secret=x"]);
    assert!(said(&helm.output().expect("helm")).contains("podAnnotations: checksum/secret is set by the chart"));
    // A pod label takes precedence over a common label.
    for program in HELMS {
        let values = ["commonLabels.team=a", "podLabels.team=b", theirs, "podAnnotations.checksum/secret=x"];
        let documents = given(program, &values);
        let pods =
            &documents.iter().find(|document| document["kind"] == "Deployment").expect("nodes")["spec"]["template"];
        assert_eq!(
            (&pods["metadata"]["labels"]["team"], &pods["metadata"]["annotations"]["checksum/secret"]),
            (&Value::from("b"), &Value::from("x")),
            "{program}"
        );
    }
}
