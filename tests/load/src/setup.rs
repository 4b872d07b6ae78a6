//! Setup that all scenarios share: the login of the host, the rooms, and sockets that are distributed over the nodes.

use std::thread::{self, ScopedJoinHandle};

use crate::Failure;
use crate::args::TargetArgs;
use crate::node::{Api, Login, Node};
use crate::progress::Bar;
use crate::queues::Queues;
use crate::socket::{self, Credential, OpenError, Opened, Target};
use crate::talk::Talk;

/// Number of files that the process opens in addition to the sockets under load.
const OTHER_FILES: u64 = 128;
/// Number of rooms that are created at the same time when their cost is not measured.
const OPENERS: usize = 8;

pub(crate) struct Setup {
    pub(crate) nodes: Vec<Node>,
    pub(crate) guest: Credential,
    pub(crate) host: Credential,
    login: Login,
    /// Whether the messages of the server have a `seq`.
    numbered: bool,
}

impl Setup {
    /// Logs the host in, and raises the limit on open files for `sockets` sockets.
    pub(crate) fn new(args: &TargetArgs, sockets: u32) -> Result<Self, Failure> {
        socket::allow_files(u64::from(sockets) + OTHER_FILES).map_err(Failure::usage)?;
        let first = args.nodes.first().ok_or_else(|| Failure::usage("--nodes: at least one is required"))?;
        let login = Api::new().log_in(first, &args.email, &args.password)?;
        let origin = args.origin.clone().map_or_else(|| login.origin(), Ok)?;
        let guest = Credential::Origin(origin);
        let host = Credential::Token(login.access_token.clone());
        Ok(Self { nodes: args.nodes.clone(), guest, host, login, numbered: !args.relay })
    }

    /// Returns the node with the index `at`, modulo the number of nodes.
    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.nodes[at % self.nodes.len()]
    }

    /// Creates a talk for the messages of this server.
    pub(crate) fn new_talk(&self) -> Result<Talk, Failure> {
        Talk::new(self.numbered)
    }

    /// Creates rooms, several at the same time, and returns their names.
    pub(crate) fn open_rooms(&self, count: u32) -> Result<Vec<String>, Failure> {
        self.open_rooms_in(count, OPENERS)
    }

    /// Creates rooms on all nodes in turn, and returns their names. `openers` is the number of threads.
    pub(crate) fn open_rooms_in(&self, count: u32, openers: usize) -> Result<Vec<String>, Failure> {
        let bar = Bar::of("open rooms", count as usize);
        let open = |first: usize| {
            let api = Api::new();
            let each = (first..count as usize).step_by(openers).map(|at| {
                bar.tick();
                api.open_room(self.node(at), &self.login)
            });
            each.collect::<Result<Vec<_>, _>>()
        };
        let parts = thread::scope(|scope| {
            let openers: Vec<_> = (0..openers).map(|first| scope.spawn(move || open(first))).collect();
            openers.into_iter().map(joined).collect::<Result<Vec<_>, _>>()
        });
        Ok(parts?.into_iter().flatten().collect())
    }

    /// Returns a guest's socket in a room.
    pub(crate) fn guest_in(&self, room: &str, node: usize, index: usize) -> Target<'_> {
        Target { node: self.node(node), path: socket::chat(room), credential: &self.guest, index }
    }

    /// Returns the host's socket in a room.
    pub(crate) fn host_in(&self, room: &str, node: usize, index: usize) -> Target<'_> {
        Target { node: self.node(node), path: socket::chat(room), credential: &self.host, index }
    }

    /// Returns a guest's socket that receives the presence of the host.
    pub(crate) fn status(&self, node: usize, index: usize) -> Target<'_> {
        Target { node: self.node(node), path: socket::status(&self.login.uuid), credential: &self.guest, index }
    }

    /// Opens a socket. An error ends the run.
    pub(crate) fn open(&self, target: &Target<'_>) -> Result<Opened, Failure> {
        target.open().map_err(|error| failure(target, &error))
    }
}

/// Returns the failure of a run that needs this socket.
pub(crate) fn failure(target: &Target<'_>, error: &OpenError) -> Failure {
    Failure::new(format!("socket {} on {}: {error}", target.index, target.node))
}

/// Returns the result of a thread. If the thread has panicked, this function panics as well.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Connects to the Redis with the archive queues. Returns `None` if no address is given.
pub(crate) fn queues(redis: Option<&str>) -> Result<Option<Queues>, Failure> {
    redis.map(Queues::connect).transpose()
}
