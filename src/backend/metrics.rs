//! Metrics of the backend's ports and drivers.

use crate::domain::metric::{Counter, Family, Gauge, Histogram, label, metric_set};

metric_set! {
    /// Metrics of the Redis clients and of the installation check.
    pub(crate) struct RedisMetrics {
        /// 1 while the node does not use its Redis: it belongs to another installation, or the node's database is not
        /// the leader's.
        suspended: Gauge = "pintalk_suspended", Count;
        /// Duration of a Redis script, measured by the node.
        round_trip: Histogram = "pintalk_redis_round_trip_seconds", Seconds;
        /// Memory in use by Redis, read once a minute; with several Redis servers, that of the fullest.
        memory_used: Gauge = "pintalk_redis_memory_used_bytes", Bytes;
        /// `maxmemory` of the same Redis server; if it is 0, the memory of the server's machine.
        memory_max: Gauge = "pintalk_redis_memory_max_bytes", Bytes;
        /// Connections to Redis that replaced lost ones.
        reconnects: Family<Counter, RedisClient> = "pintalk_redis_reconnects_total", Count;
    }
}

label! {
    /// Redis client of a node.
    pub(crate) enum RedisClient = "client" {
        Commands = "commands",
        Subscriber = "subscriber",
    }
}

metric_set! {
    /// Metrics of the bus between nodes.
    pub(crate) struct BusMetrics {
        /// Age of the newest probe that the node received from itself, on the bus where it is oldest; a probe is
        /// published every 5 s.
        probe_age: Gauge = "pintalk_bus_probe_age_seconds", Seconds;
        /// Number of times the subscriber lagged behind the bus.
        lagged: Counter = "pintalk_bus_lagged_total", Count;
        /// Number of times the node did not receive its own probe on a bus and reconnected.
        silent: Counter = "pintalk_bus_deaf_total", Count;
        /// Number of times the node resubscribed to the buses.
        resubscribed: Counter = "pintalk_bus_resubscribed_total", Count;
    }
}

metric_set! {
    /// Metrics of the hosts' presence.
    pub(crate) struct PresenceMetrics {
        /// Hosts that this node reported online or offline.
        transitions: Family<Counter, Transition> = "pintalk_presence_transitions_total", Count;
        /// Dead nodes whose presence entries this node removed.
        claims: Counter = "pintalk_presence_claims_total", Count;
    }
}

impl PresenceMetrics {
    /// Counts a host that this node reported online or offline.
    pub(crate) fn count(&self, online: bool) {
        let to = if online { Transition::Online } else { Transition::Offline };
        self.transitions.get(to).increment(1);
    }
}

label! {
    /// New status of a host.
    pub(crate) enum Transition = "to" {
        Online = "online",
        Offline = "offline",
    }
}
