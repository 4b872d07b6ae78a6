//! Limits on the cost of an operation, by path and unit.

use crate::Costs;

/// Path of a client's request through a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    /// A message that is accepted, delivered to two sockets and archived before the next one is sent.
    Message,
    /// One of many messages in a room that are sent at once: accepted, delivered to one socket and archived in batches.
    Burst,
    /// A delivery of a message to one of many sockets.
    Delivery,
    /// A new room and its first socket.
    FirstVisit,
    /// A socket of an existing room, which receives 50 messages.
    Rejoin,
}

impl Path {
    /// All paths, in the order in which they run.
    pub(crate) const ALL: [Self; 5] = [Self::Message, Self::Burst, Self::Delivery, Self::FirstVisit, Self::Rejoin];

    /// Number of operations in one run of the path: messages, deliveries or joins.
    pub(crate) const fn operations(self) -> usize {
        match self {
            Self::Message | Self::FirstVisit | Self::Rejoin => 32,
            Self::Burst => 256,
            Self::Delivery => 1024,
        }
    }
}

/// Unit in which costs are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Commands that Redis executes, also within scripts.
    RedisCommands,
    /// Statements of the node's database user.
    SqlStatements,
    /// Calls to the allocator on the node's thread.
    Allocations,
    /// Instructions of the node's thread, compiled with the test profile. They are not comparable with those of other
    /// profiles.
    Instructions,
}

impl Unit {
    pub(crate) const ALL: [Self; 4] = [Self::RedisCommands, Self::SqlStatements, Self::Allocations, Self::Instructions];
}

/// Maximum costs per operation. Each is about 1.5 times the measured cost, or more where background work dominates
/// (costs below 0.1). To measure again, run `tests/run -E 'binary(cost)' --no-capture`. Costs vary by 4 % between runs.
pub(crate) const LIMITS: [(Path, Unit, f64); 20] = [
    (Path::Message, Unit::RedisCommands, 36.0),
    (Path::Message, Unit::SqlStatements, 9.9),
    (Path::Message, Unit::Allocations, 1_290.0),
    (Path::Message, Unit::Instructions, 8_000_000.0),
    (Path::Burst, Unit::RedisCommands, 5.5),
    (Path::Burst, Unit::SqlStatements, 0.1),
    (Path::Burst, Unit::Allocations, 77.0),
    (Path::Burst, Unit::Instructions, 820_000.0),
    (Path::Delivery, Unit::RedisCommands, 0.2),
    (Path::Delivery, Unit::SqlStatements, 0.05),
    (Path::Delivery, Unit::Allocations, 2.9),
    (Path::Delivery, Unit::Instructions, 29_000.0),
    (Path::FirstVisit, Unit::RedisCommands, 22.5),
    (Path::FirstVisit, Unit::SqlStatements, 1.5),
    (Path::FirstVisit, Unit::Allocations, 460.0),
    (Path::FirstVisit, Unit::Instructions, 6_900_000.0),
    (Path::Rejoin, Unit::RedisCommands, 4.5),
    (Path::Rejoin, Unit::SqlStatements, 0.5),
    (Path::Rejoin, Unit::Allocations, 200.0),
    (Path::Rejoin, Unit::Instructions, 3_000_000.0),
];

/// Returns the costs above their limits.
pub(crate) fn exceeded(costs: &Costs, units: &[Unit]) -> Vec<(Path, Unit)> {
    let limits = LIMITS.iter().filter(|limit| units.contains(&limit.1));
    let exceeded = limits.filter(|(path, unit, limit)| costs[&(*path, *unit)] > *limit);
    exceeded.map(|(path, unit, _)| (*path, *unit)).collect()
}
