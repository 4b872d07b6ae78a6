//! Lua scripts of the broker driver.

use crate::backend::redis::{HOLD_LEASE, RELEASE_LEASE, Script};

/// All Lua scripts of the broker driver, loaded once per driver.
#[derive(Debug)]
pub(super) struct BrokerScripts {
    pub(super) accept: Script,
    pub(super) apply: Script,
    pub(super) begin_epoch: Script,
    pub(super) begin_seed: Script,
    pub(super) delete_if_empty: Script,
    pub(super) dead_letter: Script,
    pub(super) delete_dead: Script,
    pub(super) finish: Script,
    pub(super) finish_seed: Script,
    pub(super) lease: Script,
    pub(super) epoch: Script,
    pub(super) remove_lost_room: Script,
    pub(super) mark: Script,
    pub(super) members: Script,
    pub(super) publish: Script,
    pub(super) purge: Script,
    pub(super) reconcile: Script,
    pub(super) release: Script,
    pub(super) remove_idle: Script,
    pub(super) tail: Script,
    pub(super) unarchived: Script,
}

impl Default for BrokerScripts {
    fn default() -> Self {
        Self {
            accept: Script::new(include_str!("lua/accept.lua")),
            apply: Script::new(include_str!("lua/apply.lua")),
            begin_epoch: Script::new(include_str!("lua/begin_epoch.lua")),
            begin_seed: Script::new(include_str!("lua/begin_seed.lua")),
            delete_if_empty: Script::new(include_str!("lua/delete_if_empty.lua")),
            dead_letter: Script::new(include_str!("lua/dead_letter.lua")),
            delete_dead: Script::new(include_str!("lua/delete_dead.lua")),
            finish: Script::new(include_str!("lua/finish.lua")),
            finish_seed: Script::new(include_str!("lua/finish_seed.lua")),
            lease: Script::new(HOLD_LEASE),
            epoch: Script::new(include_str!("lua/epoch.lua")),
            remove_lost_room: Script::new(include_str!("lua/remove_lost_room.lua")),
            mark: Script::new(include_str!("lua/mark.lua")),
            members: Script::new(include_str!("lua/members.lua")),
            publish: Script::new(include_str!("lua/publish.lua")),
            purge: Script::new(include_str!("lua/purge.lua")),
            reconcile: Script::new(include_str!("lua/reconcile.lua")),
            release: Script::new(RELEASE_LEASE),
            remove_idle: Script::new(include_str!("lua/remove_idle.lua")),
            tail: Script::new(include_str!("lua/tail.lua")),
            unarchived: Script::new(include_str!("lua/unarchived.lua")),
        }
    }
}
