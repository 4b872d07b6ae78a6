//! Tests of the store's guarantees on SQLite, MySQL and MariaDB.

mod activation;
mod counts;
mod expired;
mod faults;
mod files;
mod full_disk;
mod hosts;
mod idle;
mod keys;
mod mail;
mod messages;
mod migrating;
mod notifications;
mod operations;
mod retention;
mod rooms;
mod schema;
mod webhooks;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Append, NewHost, NewRoom, Store};
use crate::domain::Rng;
use crate::domain::{ChatroomId, Host, HostUuid, Message, Room, RoomName, Seq, Side};

/// Generates one test per function and database system. A function receives the store and its URL.
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        crate::store::tests::on_database!(sqlite, Sqlite: $($name),*);
        crate::store::tests::on_database!(mysql, MySql: $($name),*);
        crate::store::tests::on_database!(mariadb, MariaDb: $($name),*);
    };
}
macro_rules! on_database {
    ($module:ident, $database:ident: $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::store::testing::on_fresh(crate::store::testing::Database::$database, super::$name).await;
            })*
        }
    };
}
use {on_database, on_every_database};

/// Returns a fixed time that is not a whole second.
fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_679_370_000_178).unwrap()
}

fn later(millis: i64) -> DateTime<Utc> {
    noon() + TimeDelta::milliseconds(millis)
}

fn random_name() -> RoomName {
    RoomName::from_random(Rng::from_entropy().bytes())
}

fn new_host(email: &str) -> NewHost {
    let rng = Rng::from_entropy();
    NewHost {
        email: email.to_owned(),
        uuid: HostUuid::from_random(rng.bytes()),
        password_hash: "$argon2id$".to_owned(),
        access_key: HostUuid::from_random(rng.bytes()).to_string(),
        secret_key: "5e".repeat(32),
        service_name: "가게".to_owned(),
        service_expl: "🛒 shop".to_owned(),
        service_domain: Some("shop.example".to_owned()),
    }
}

async fn a_host(store: &Store) -> Host {
    store.hosts().create(new_host("host@shop.example"), noon()).await.unwrap()
}

fn new_room(host: &Host) -> NewRoom {
    NewRoom {
        host: host.id,
        guest: "용감한 고양이".to_owned(),
        name: random_name(),
        idempotency_key: None,
        life: Some("life-1".to_owned()),
    }
}

async fn a_room(store: &Store, host: &Host) -> Room {
    store.rooms().create(new_room(host), noon()).await.unwrap()
}

fn message(room: ChatroomId, seq: Seq, text: &str) -> Message {
    Message {
        chatroom: room,
        seq,
        side: Side::Guest,
        text: text.to_owned(),
        datetime: "2023-03-23T08:15:07.123".parse().unwrap(),
        id: format!("id-{seq}").parse().unwrap(),
        accepted_at: later(i64::try_from(seq).unwrap() * 1_000),
    }
}

fn append(room: &Room, id: &str) -> Append {
    Append {
        room: room.name,
        side: Side::Guest,
        id: id.parse().unwrap(),
        text: format!("text of {id} 🙂"),
        datetime: "2023-03-23T08:15:07".parse().unwrap(),
        unattended: false,
    }
}
