//! What the chart refuses, and how: with a sentence, before anything is put up.

use crate::chart::refused;

#[test]
fn what_cannot_work_is_refused_with_a_sentence() {
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
            "mysql.enabled and secrets.databaseUrl",
            vec![secret, database, redis, "mysql.enabled=true", "mysql.password=x"],
        ),
        ("secrets.redisUrl is not read with secrets.existingSecret", vec![theirs, redis]),
        ("do not go with secrets.existingSecret", vec![theirs, "redis.enabled=true", "redis.password=x"]),
        ("media.bucketUrl and media.existingClaim", vec![theirs, "media.bucketUrl=s3://a", "media.existingClaim=b"]),
        ("httpRoute.parentRefs must name a Gateway", vec![theirs, "httpRoute.enabled=true"]),
        ("minReplicas is above maxReplicas", vec![theirs, "autoscaling.enabled=true", "autoscaling.minReplicas=20"]),
    ] {
        let said = refused(&values);
        assert!(said.contains(sentence), "{values:?}: {said}");
    }
}
