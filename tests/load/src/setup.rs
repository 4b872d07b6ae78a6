//! Setup that all scenarios share: the login of the host, the rooms, and sockets that are distributed over the nodes.

use crate::Failure;
use crate::args::{MeasureArgs, TargetArgs};
use crate::node::{Api, Login, Node};
use crate::progress::Bar;
use crate::queues::Queues;
use crate::socket::{self, Credential, OpenError, Opened, Target};

/// Number of files that the process opens in addition to the sockets under load.
const OTHER_FILES: u64 = 64;

pub(crate) struct Setup {
    pub(crate) nodes: Vec<Node>,
    pub(crate) guest: Credential,
    pub(crate) host: Credential,
    api: Api,
    login: Login,
}

impl Setup {
    /// Logs the host in, and raises the limit on open files for `sockets` sockets.
    pub(crate) fn new(args: &TargetArgs, sockets: u32) -> Result<Self, Failure> {
        socket::allow_files(u64::from(sockets) + OTHER_FILES).map_err(Failure::usage)?;
        let api = Api::new();
        let first = args.nodes.first().ok_or_else(|| Failure::usage("--nodes: at least one is required"))?;
        let login = api.log_in(first, &args.email, &args.password)?;
        let origin = args.origin.clone().map_or_else(|| login.origin(), Ok)?;
        let guest = Credential::Origin(origin);
        let host = Credential::Token(login.access_token.clone());
        Ok(Self { nodes: args.nodes.clone(), guest, host, api, login })
    }

    /// Returns the node with the index `at`, modulo the number of nodes.
    pub(crate) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize % self.nodes.len()]
    }

    /// Creates rooms, on all nodes in turn, and returns their names.
    pub(crate) fn open_rooms(&self, count: u32) -> Result<Vec<String>, Failure> {
        let bar = Bar::of("open rooms", count as usize);
        let open = |at| {
            bar.tick();
            self.api.open_room(self.node(at), &self.login)
        };
        (0..count).map(open).collect()
    }

    /// Opens a socket. An error ends the run.
    pub(crate) fn open(&self, target: &Target<'_>) -> Result<Opened, Failure> {
        target.open().map_err(|error| self.failure(target, &error))
    }

    fn failure(&self, target: &Target<'_>, error: &OpenError) -> Failure {
        Failure::new(format!("socket {} on {}: {error}", target.index, target.node))
    }
}

/// Connects to the Redis that `--await-archive` names. Returns `None` without this flag.
pub(crate) fn queues(args: &MeasureArgs) -> Result<Option<Queues>, Failure> {
    args.await_archive.as_deref().map(Queues::connect).transpose()
}
