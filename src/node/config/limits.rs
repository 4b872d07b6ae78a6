//! Limits per client (DESIGN "Limits"). Each limit is a number or `off`; `--limits off` disables all limits that can be
//! off.

use std::str::FromStr;

use clap::Args;

use super::values::{InvalidValue, Switch};

/// Optional upper limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(Option<u32>);

impl Cap {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// Creates the limit `max`.
    pub const fn at(max: u32) -> Self {
        Self(Some(max))
    }

    /// Returns the limit; `None` if there is no limit.
    pub fn get(self) -> Option<u32> {
        self.0
    }

    /// Returns whether `count` is at or above the limit. In that case, no further item is permitted.
    pub fn is_reached_by(self, count: u64) -> bool {
        self.0.is_some_and(|max| count >= u64::from(max))
    }
}

impl FromStr for Cap {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match (text, text.parse()) {
            ("off", _) => Ok(Self::OFF),
            (_, Ok(max @ 1..)) => Ok(Self::at(max)),
            _ => Err(InvalidValue::new("expected a number from 1, or off")),
        }
    }
}

/// Flags of limits.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Limit clients; off is for load tests.
    #[arg(long, env = "PINTALK_LIMITS", value_enum, default_value = "on")]
    pub limits: Switch,
    /// Messages per second from one socket; a request for older messages counts as 4, a guest's online notice as 20.
    #[arg(long, env = "PINTALK_LIMIT_MESSAGES_PER_SECOND", value_name = "N", default_value = "20")]
    pub limit_messages_per_second: Cap,
    /// Messages that one socket may send at once.
    #[arg(long, env = "PINTALK_LIMIT_MESSAGE_BURST", value_name = "N", default_value = "100")]
    pub limit_message_burst: Cap,
    /// Bytes per second from one socket; over the limit, it is read at this rate.
    #[arg(long, env = "PINTALK_LIMIT_SOCKET_BYTES_PER_SECOND", value_name = "N", default_value = "16384")]
    pub limit_socket_bytes_per_second: Cap,
    /// Bytes that one socket may send at once.
    #[arg(long, env = "PINTALK_LIMIT_SOCKET_BURST_BYTES", value_name = "N", default_value = "262144")]
    pub limit_socket_burst_bytes: Cap,
    /// Bytes per second from all sockets of an address, per node; over the limit, they are read at this rate.
    #[arg(long, env = "PINTALK_LIMIT_ADDRESS_BYTES_PER_SECOND", value_name = "N", default_value = "1048576")]
    pub limit_address_bytes_per_second: Cap,
    /// MiB per day from all sockets of an address, per node; over the limit, they are read at this average rate.
    #[arg(long, env = "PINTALK_LIMIT_ADDRESS_MIB_PER_DAY", value_name = "MIB", default_value = "50")]
    pub limit_address_mib_per_day: Cap,
    /// MiB of messages per day in all rooms of a host, from guests and from the host each; over the limit, senders are closed with
    /// 1013.
    #[arg(long, env = "PINTALK_LIMIT_HOST_MIB_PER_DAY", value_name = "N", default_value = "500")]
    pub limit_host_mib_per_day: Cap,
    /// Bytes of a frame from a client; over the limit, 1009. Not affected by --limits off.
    #[arg(long, env = "PINTALK_LIMIT_FRAME_BYTES", value_name = "BYTES", default_value_t = 32 * 1024,
          value_parser = clap::value_parser!(u32).range(1024..=1024 * 1024))]
    pub limit_frame_bytes: u32,
    /// TCP connections of an address, and sockets of an address behind a trusted proxy; over the limit, 4029 for sockets and 429 for
    /// requests.
    #[arg(long, env = "PINTALK_LIMIT_SOCKETS_PER_ADDRESS", value_name = "N", default_value = "1000")]
    pub limit_sockets_per_address: Cap,
    /// Sockets in a room, of guests and of the host each; over the limit, 4029.
    #[arg(long, env = "PINTALK_LIMIT_SOCKETS_PER_ROOM", value_name = "N", default_value = "64")]
    pub limit_sockets_per_room: Cap,
    /// WebSocket handshakes per minute from an address, per node; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_HANDSHAKES_PER_MINUTE", value_name = "N", default_value = "600")]
    pub limit_handshakes_per_minute: Cap,
    /// Joins that wait on a node while 256 others run; over the limit, or if a join would wait for 3 s, 1013. Not affected by
    /// --limits off.
    #[arg(long, env = "PINTALK_LIMIT_JOINS_WAITING", value_name = "N", default_value_t = 4096,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit_joins_waiting: u32,
    /// Rooms per minute from an address, and ten times as many per host for calls without Origin; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_ROOMS_PER_MINUTE", value_name = "N", default_value = "60")]
    pub limit_rooms_per_minute: Cap,
    /// Logins per minute from an address, failed or not; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_LOGINS_PER_ADDRESS", value_name = "N", default_value = "20")]
    pub limit_logins_per_address: Cap,
    /// Failed logins per minute for an account from an address, whether the account exists or not; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_LOGINS_PER_ACCOUNT", value_name = "N", default_value = "10")]
    pub limit_logins_per_account: Cap,
    /// Failed logins per hour for an account, half as many from one address; over the limit, only devices that send a refresh cookie
    /// of the account, expired or not, may log in.
    #[arg(long, env = "PINTALK_LIMIT_LOGIN_FAILURES_PER_HOUR", value_name = "N", default_value = "100")]
    pub limit_login_failures_per_hour: Cap,
    /// Calls per minute from an address with unknown keys, as many steps of signing up, and ten times as many profile
    /// images, per node; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_LOOKUPS_PER_MINUTE", value_name = "N", default_value = "60")]
    pub limit_lookups_per_minute: Cap,
    /// E-mails per hour that requests from an address cause, and twice as many to one mailbox; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_MAILS_PER_HOUR", value_name = "N", default_value = "5")]
    pub limit_mails_per_hour: Cap,
    /// E-mails per hour and class (account, host, guest) to one mailbox; over the limit, they are delayed.
    #[arg(long, env = "PINTALK_LIMIT_MAILS_PER_MAILBOX", value_name = "N", default_value = "10")]
    pub limit_mails_per_mailbox: Cap,
    /// E-mails per hour and class on behalf of one host; over the limit, they are delayed.
    #[arg(long, env = "PINTALK_LIMIT_MAILS_PER_HOST", value_name = "N", default_value = "100")]
    pub limit_mails_per_host: Cap,
    /// E-mails per hour and class in the whole installation; over the limit, they are delayed.
    #[arg(long, env = "PINTALK_LIMIT_MAILS_PER_INSTALLATION", value_name = "N", default_value = "1000")]
    pub limit_mails_per_installation: Cap,
    /// Webhook tests per minute of one host; over the limit, 429.
    #[arg(long, env = "PINTALK_LIMIT_WEBHOOK_TESTS_PER_MINUTE", value_name = "N", default_value = "10")]
    pub limit_webhook_tests_per_minute: Cap,
}

/// Limits per client, after `--limits` has been applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// Maximum number of messages per second from one socket. A socket above the limit is read at this rate.
    pub messages_per_second: Cap,
    /// Maximum number of messages that one socket may send in a burst.
    pub message_burst: Cap,
    /// Maximum number of bytes per second from one socket. A socket above the limit is read at this rate.
    pub socket_bytes_per_second: Cap,
    /// Maximum number of bytes that one socket may send in a burst.
    pub socket_burst_bytes: Cap,
    /// Maximum number of bytes per second from all sockets of an address on one node. Sockets above the limit are read
    /// at this rate.
    pub address_bytes_per_second: Cap,
    /// Maximum MiB per day from all sockets of an address on one node. Sockets above the limit are read at this average
    /// rate.
    pub address_mib_per_day: Cap,
    /// Maximum MiB of messages per day and side in all rooms of a host. Sockets above the limit are closed with 1013.
    pub host_mib_per_day: Cap,
    /// Maximum size of a frame from a client, in bytes. A larger frame closes the socket with 1009. The limit bounds
    /// the memory of the node, so it cannot be off.
    pub frame_bytes: usize,
    /// Maximum number of open connections of one address. Sockets above the limit are closed with 4029, and requests
    /// receive 429.
    pub sockets_per_address: Cap,
    /// Maximum number of open sockets per side in one room. Sockets above the limit are closed with 4029.
    pub sockets_per_room: Cap,
    /// Maximum number of WebSocket handshakes per minute from one address. Handshakes above the limit receive 429.
    pub handshakes_per_minute: Cap,
    /// Maximum number of joins that wait on this node. Sockets above the limit are closed with 1013. The limit bounds
    /// the memory of the node, so it cannot be off.
    pub joins_waiting: usize,
    /// Maximum number of rooms created per minute from one address. Requests above the limit receive 429.
    pub rooms_per_minute: Cap,
    /// Maximum number of logins per minute from one address. Requests above the limit receive 429.
    pub logins_per_address: Cap,
    /// Maximum number of failed logins per minute for one account from one address. Requests above the limit receive
    /// 429.
    pub logins_per_account: Cap,
    /// Maximum number of failed logins per hour for one account. Above the limit, only devices that send a refresh
    /// cookie of the account may log in; others receive 429.
    pub login_failures_per_hour: Cap,
    /// Maximum number per minute of calls with unknown keys, and of sign-up steps, from one address. The limit on
    /// requests for profile images is ten times as high. Requests above the limit receive 429.
    pub lookups_per_minute: Cap,
    /// Maximum number of e-mails per hour that requests from one address cause. Requests above the limit receive 429.
    pub mails_per_hour: Cap,
    /// Maximum number of e-mails per hour and class to one mailbox. E-mails above the limit are delayed.
    pub mails_per_mailbox: Cap,
    /// Maximum number of e-mails per hour and class on behalf of one host. E-mails above the limit are delayed.
    pub mails_per_host: Cap,
    /// Maximum number of e-mails per hour and class in the whole installation. E-mails above the limit are delayed.
    pub mails_per_installation: Cap,
    /// Maximum number of webhook tests per minute of one host. Requests above the limit receive 429.
    pub webhook_tests_per_minute: Cap,
}

impl LimitConfig {
    /// Returns limits that are all off, except for the two that cannot be off.
    pub fn off(frame_bytes: usize, joins_waiting: usize) -> Self {
        Self {
            messages_per_second: Cap::OFF,
            message_burst: Cap::OFF,
            socket_bytes_per_second: Cap::OFF,
            socket_burst_bytes: Cap::OFF,
            address_bytes_per_second: Cap::OFF,
            address_mib_per_day: Cap::OFF,
            host_mib_per_day: Cap::OFF,
            frame_bytes,
            sockets_per_address: Cap::OFF,
            sockets_per_room: Cap::OFF,
            handshakes_per_minute: Cap::OFF,
            joins_waiting,
            rooms_per_minute: Cap::OFF,
            logins_per_address: Cap::OFF,
            logins_per_account: Cap::OFF,
            login_failures_per_hour: Cap::OFF,
            lookups_per_minute: Cap::OFF,
            mails_per_hour: Cap::OFF,
            mails_per_mailbox: Cap::OFF,
            mails_per_host: Cap::OFF,
            mails_per_installation: Cap::OFF,
            webhook_tests_per_minute: Cap::OFF,
        }
    }
}

impl From<&LimitArgs> for LimitConfig {
    fn from(args: &LimitArgs) -> Self {
        let (frame_bytes, joins_waiting) = (args.limit_frame_bytes as usize, args.limit_joins_waiting as usize);
        if !args.limits.is_on() {
            return Self::off(frame_bytes, joins_waiting);
        }
        Self {
            messages_per_second: args.limit_messages_per_second,
            message_burst: args.limit_message_burst,
            socket_bytes_per_second: args.limit_socket_bytes_per_second,
            socket_burst_bytes: args.limit_socket_burst_bytes,
            address_bytes_per_second: args.limit_address_bytes_per_second,
            address_mib_per_day: args.limit_address_mib_per_day,
            host_mib_per_day: args.limit_host_mib_per_day,
            frame_bytes,
            sockets_per_address: args.limit_sockets_per_address,
            sockets_per_room: args.limit_sockets_per_room,
            handshakes_per_minute: args.limit_handshakes_per_minute,
            joins_waiting,
            rooms_per_minute: args.limit_rooms_per_minute,
            logins_per_address: args.limit_logins_per_address,
            logins_per_account: args.limit_logins_per_account,
            login_failures_per_hour: args.limit_login_failures_per_hour,
            lookups_per_minute: args.limit_lookups_per_minute,
            mails_per_hour: args.limit_mails_per_hour,
            mails_per_mailbox: args.limit_mails_per_mailbox,
            mails_per_host: args.limit_mails_per_host,
            mails_per_installation: args.limit_mails_per_installation,
            webhook_tests_per_minute: args.limit_webhook_tests_per_minute,
        }
    }
}
