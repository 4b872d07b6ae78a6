//! Checks that the user of Redis may execute each command that nodes execute, on the keys and channels of PinTalk.
//!
//! Redis checks the permissions of a command before it executes the command. Each trial is a form of the command that
//! changes nothing, or that only writes a key of its own, which the last trial deletes.

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::super::Finding;
use crate::domain::Rng;

/// Trials, in the order of execution. `KEY` is replaced by a key, and `CHANNEL` by a channel. Commands of subscriptions
/// are not tried, because a connection that has subscribed accepts no other commands.
const TRIALS: &[&str] = &[
    "PING",
    "TIME",
    "EVAL return 1 0",
    "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
    "EXISTS KEY",
    "GET KEY",
    "SET KEY 1 XX",
    "EXPIRE KEY 1",
    "PERSIST KEY",
    "PTTL KEY",
    "TYPE KEY",
    "HDEL KEY field",
    "HEXISTS KEY field",
    "HGET KEY field",
    "HGETALL KEY",
    "HKEYS KEY",
    "HMGET KEY field",
    "HSETNX KEY field 1",
    "HSET KEY field 1",
    "HINCRBY KEY field 1",
    "DEL KEY",
    "SADD KEY member",
    "SREM KEY member",
    "SRANDMEMBER KEY",
    "DEL KEY",
    "XADD KEY NOMKSTREAM * field 1",
    "XDEL KEY 0-1",
    "XLEN KEY",
    "XRANGE KEY - + COUNT 1",
    "XREVRANGE KEY + - COUNT 1",
    "XTRIM KEY MAXLEN 0",
    "ZADD KEY XX 1 member",
    "ZCARD KEY",
    "ZCOUNT KEY 0 1",
    "ZRANGEBYSCORE KEY 0 1",
    "ZREM KEY member",
    "ZREVRANGE KEY 0 0",
    "ZSCAN KEY 0",
    "ZSCORE KEY member",
    "SCAN 0 COUNT 1",
    "PUBLISH CHANNEL 1",
    "SPUBLISH KEY 1",
    "WAIT 0 1",
    "DEL KEY",
];

pub(super) async fn check(client: &Client) -> Vec<Finding> {
    // Commands without a key are sent to the server of the key as well.
    let key = format!("pt:check:{}", hex::encode(Rng::from_entropy().bytes::<8>()));
    let slot = fred::util::redis_keyslot(key.as_bytes());
    let mut denied = Vec::new();
    for trial in TRIALS {
        let mut words = trial.split(' ');
        let name = words.next().unwrap_or_default();
        let args = words.map(|word| match word {
            "KEY" | "CHANNEL" => key.as_str().into(),
            word => word.into(),
        });
        let args: Vec<Value> = if name == "EVAL" { vec!["return 1".into(), 0.into()] } else { args.collect() };
        let command = CustomCommand::new_static(name, ClusterHash::Custom(slot), false);
        match client.custom::<Value, Value>(command, args).await {
            // The text names the command, the key or the channel: "NOPERM User a has no permissions to run the 'get' command".
            Err(error) if error.details().starts_with("NOPERM") => denied.push((name, error.details().to_owned())),
            // Other errors, such as READONLY or NOSCRIPT, are answers to a command that the user may execute.
            Ok(_) | Err(_) => {}
        }
    }
    assess(&denied)
}

fn assess(denied: &[(&str, String)]) -> Vec<Finding> {
    let Some((_, why)) = denied.first() else {
        return vec![Finding::good("redis: the user may execute every command of a node")];
    };
    let mut names: Vec<&str> = denied.iter().map(|(name, _)| *name).collect();
    names.dedup();
    vec![Finding::wrong(format!("redis: the user may not execute {} on pt:*: {why}", names.join(", ")))]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Collects the commands that the Lua scripts in a folder execute.
    fn commands_of_scripts(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                commands_of_scripts(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "lua") {
                let text = std::fs::read_to_string(&path).unwrap();
                let calls = text.split("redis.call('").skip(1).chain(text.split("redis.pcall('").skip(1));
                found.extend(calls.filter_map(|call| Some(call.split_once('\'')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let mut commands = Vec::new();
        commands_of_scripts(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/backend/redis")), &mut commands);
        assert!(commands.len() > 100, "{}", commands.len());
        commands.sort_unstable();
        commands.dedup();
        // `INFO` is executed by the check of the server.
        commands.retain(|command| command != "INFO");
        for command in commands {
            assert!(TRIALS.iter().any(|trial| trial.split(' ').next() == Some(&command)), "{command} is not tried");
        }
    }
}
