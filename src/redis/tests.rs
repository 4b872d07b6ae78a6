//! Whom a node trusts, and who trusts it. The suites of the ports run over TLS with a password, too.

use super::testing::{self, Kind, Servers};
use super::*;
use crate::clock::Chance;

/// Whether clients of a configuration get an answer.
async fn answers(config: Config) -> bool {
    let redis = Redis::with_config(config, NodeId::from_random(Chance::from_entropy().bytes())).unwrap();
    redis.install(testing::INSTALLED.parse().unwrap());
    let answer = redis.verify().await;
    redis.quit().await;
    answer.is_ok()
}

#[tokio::test]
async fn a_server_is_reached_with_its_password_and_over_tls_from_whom_its_authority_is_known() {
    let servers = Servers::of(Kind::Tls).await;
    let (mut guessing, mut in_the_clear) = (servers.config(), servers.config());
    guessing.password = Some("a guess".into());
    in_the_clear.tls = None;
    // Of the authorities of this machine none knows that server.
    let of_the_machine = Config::from_url(&servers.url()).unwrap();
    let answers =
        tokio::join!(answers(servers.config()), answers(guessing), answers(in_the_clear), answers(of_the_machine));
    assert_eq!(answers, (true, false, false, false));
}
