//! Tests of connections with TLS and passwords. The suites of the ports also run over TLS with a password.

use super::testing::{self, Kind, Servers};
use super::*;
use crate::domain::Rng;

/// Returns whether a client with this configuration can use the server.
async fn answers(config: Config) -> bool {
    let redis = Redis::with_config(config, NodeId::from_random(Rng::from_entropy().bytes())).unwrap();
    redis.install(testing::INSTALLED.parse().unwrap());
    let answer = redis.verify().await;
    redis.quit().await;
    answer.is_ok()
}

#[tokio::test]
async fn a_server_requires_its_password_and_tls_with_a_trusted_authority() {
    let servers = Servers::of(Kind::Tls).await;
    let (mut guessing, mut in_the_clear) = (servers.config(), servers.config());
    guessing.password = Some("a guess".into());
    in_the_clear.tls = None;
    // This client trusts only the certificate authorities of the machine. None of them has signed the certificate of
    // the server.
    let of_the_machine = Config::from_url(&servers.url()).unwrap();
    let answers =
        tokio::join!(answers(servers.config()), answers(guessing), answers(in_the_clear), answers(of_the_machine));
    assert_eq!(answers, (true, false, false, false));
}
