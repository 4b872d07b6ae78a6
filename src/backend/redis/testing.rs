//! Redis servers for tests, in every supported deployment. The clients have direct access to keys and servers.

use std::ops::{Deref, DerefMut};

use fred::prelude::*;
use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject as _;
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::config::TlsConnector;
use fred::types::{ClusterHash, CustomCommand};

use super::Redis;
use crate::domain::NodeId;
use crate::domain::Rng;

pub(crate) use pintalk_kit::redis::Kind;

/// Redis servers of one test.
#[derive(Debug)]
pub(crate) struct Servers(pintalk_kit::redis::Servers);

impl Deref for Servers {
    type Target = pintalk_kit::redis::Servers;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Servers {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Id of the installation that tests use.
pub(crate) const INSTALLED: &str = "test-installation-0001";
pub(crate) const PT: &str = "pt:test-installation-0001:";

/// Generates one test per function and Redis deployment. `$on` runs the function on that deployment.
macro_rules! on_every_redis {
    ($on:path: $($name:ident),* $(,)?) => {
        $crate::backend::redis::testing::on_redis!(redis7, Redis7, $on: $($name),*);
        $crate::backend::redis::testing::on_redis!(redis8, Redis8, $on: $($name),*);
        $crate::backend::redis::testing::on_redis!(valkey8, Valkey8, $on: $($name),*);
        $crate::backend::redis::testing::on_redis!(redis_cluster, Cluster, $on: $($name),*);
        $crate::backend::redis::testing::on_redis!(redis_sentinel, Sentinel, $on: $($name),*);
        $crate::backend::redis::testing::on_redis!(redis_tls, Tls, $on: $($name),*);
    };
}
macro_rules! on_redis {
    ($module:ident, $kind:ident, $on:path: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $on($crate::backend::redis::testing::Kind::$kind, super::$name).await;
            })*
        }
    };
}
pub(crate) use {on_every_redis, on_redis};

impl Servers {
    /// Starts a deployment without blocking the runtime.
    pub(crate) async fn of(kind: Kind) -> Self {
        let start = move || Self(pintalk_kit::redis::Servers::start(kind));
        tokio::task::spawn_blocking(start).await.expect("the servers are started")
    }

    /// Returns the client configuration. The CA certificate is part of it, because an environment variable would be
    /// shared by all tests.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::from_url(&self.url()).expect("a URL");
        if self.kind() == Kind::Tls {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.ca()).expect("a certificate")).expect("a certificate");
            let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            config.tls = Some(TlsConnector::from(tls).into());
        }
        config
    }

    /// Returns the clients of a new node that is connected and has a lease.
    pub(crate) async fn node(&self) -> Redis {
        let redis = self.unknown_node().await;
        redis.heartbeat().await.expect("redis answers");
        redis
    }

    /// Returns the clients of a new node that is connected and belongs to the installation, but has no lease.
    pub(crate) async fn unknown_node(&self) -> Redis {
        let redis = self.uninstalled_node().await;
        redis.install(INSTALLED.parse().expect("an id"));
        assert_eq!(redis.verify().await, Ok(super::Owner::Ours));
        redis
    }

    /// Returns the clients of a new node that is connected, but belongs to no installation.
    pub(crate) async fn uninstalled_node(&self) -> Redis {
        let node = NodeId::from_random(Rng::from_entropy().bytes());
        let redis = Redis::with_config(self.config(), node).expect("a configuration");
        redis.client().wait_for_connect().await.expect("redis answers");
        redis.subscriber().wait_for_connect().await.expect("redis answers");
        redis
    }
}

impl Redis {
    /// Runs a command whose first argument is a key.
    pub(crate) async fn raw<T: FromValue>(&self, command: &'static str, args: &[&str]) -> T {
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.client().custom(command, owned(args)).await.expect("redis runs the command")
    }

    /// Sends a PING. Returns an error if the server does not answer in time.
    pub(crate) async fn ping_server(&self) -> Result<(), crate::backend::Unavailable> {
        super::call(|| self.client().ping::<()>(None)).await
    }

    /// Restores a key to a value that the command `DUMP` returned.
    pub(crate) async fn restore(&self, key: &str, value: bytes::Bytes) {
        let restore = CustomCommand::new_static("RESTORE", ClusterHash::FirstKey, false);
        let args: Vec<Value> = vec![key.into(), 0.into(), Value::Bytes(value), "REPLACE".into()];
        let _: String = self.client().custom(restore, args).await.expect("redis runs the command");
    }

    /// Runs a command on every master. Returns one answer per master.
    pub(crate) async fn everywhere<T: FromValue>(&self, command: &'static str, args: &[&str]) -> Vec<T> {
        let mut answers = Vec::new();
        for server in self.client().active_connections() {
            let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
            let node = self.client().with_cluster_node(server);
            answers.push(node.custom(command, owned(args)).await.expect("redis runs the command"));
        }
        answers
    }

    /// Returns the sorted names of the keys that contain `part`.
    pub(crate) async fn keys_with(&self, part: &str) -> Vec<String> {
        let keys = self.everywhere::<Vec<String>>("KEYS", &[&format!("*{part}*")]).await;
        let mut keys: Vec<String> = keys.into_iter().flatten().collect();
        keys.sort();
        keys
    }

    /// Waits until all replicas have this client's writes to the master of a slot. Any replica may become the next
    /// master.
    pub(crate) async fn wait_for_replicas(&self, servers: &Servers, slot: u16) {
        let wait = CustomCommand::new_static("WAIT", ClusterHash::Custom(slot), false);
        let all = servers.replicas_of_each();
        let have: usize =
            self.client().custom(wait, owned(&[&all.to_string(), "5000"])).await.expect("redis runs the command");
        assert_eq!(have, all);
    }

    /// Closes the connections of all pub/sub clients.
    pub(crate) async fn kill_listeners(&self) {
        let killed: Vec<i64> = self.everywhere("CLIENT", &["KILL", "TYPE", "pubsub"]).await;
        assert!(killed.iter().sum::<i64>() > 0);
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
