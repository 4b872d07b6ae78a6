//! Classification of errors of the Redis client by their cause.

use fred::error::{Error, ErrorKind};

use crate::domain::StoreCause;

impl StoreCause {
    /// Returns the cause of an error that the Redis client or the server reports.
    pub(in crate::backend) fn of_redis(error: &Error) -> Self {
        let details = error.details();
        match error.kind() {
            ErrorKind::Timeout => Self::NoResponse,
            ErrorKind::IO | ErrorKind::Tls => Self::of_connection(details).unwrap_or(Self::ConnectionLost),
            ErrorKind::Canceled => Self::ConnectionLost,
            ErrorKind::Sentinel if details.contains("unknown command") => Self::WrongTopology,
            ErrorKind::Sentinel => Self::of_reply(details).unwrap_or(Self::NoSentinel),
            _ => Self::of_reply(details).unwrap_or(Self::Other),
        }
    }

    /// Returns the cause that an error reply of the server names. A reply of a script starts with the reply of the
    /// command that failed. Returns `None` if the reply names no known cause.
    fn of_reply(reply: &str) -> Option<Self> {
        let reply = reply.strip_prefix("ERR Error running script").map_or(reply, |rest| {
            // Redis 6 puts the reply of the command after the position in the script.
            rest.rsplit_once("@user_script: ").map_or(rest, |(_, rest)| rest)
        });
        Some(match reply.split(' ').next().unwrap_or_default() {
            "WRONGPASS" => Self::WrongPassword,
            "NOAUTH" => Self::PasswordMissing,
            "NOPERM" => Self::PermissionMissing(permission(reply)),
            "OOM" => Self::OutOfMemory,
            "READONLY" => Self::ReadOnly,
            "LOADING" => Self::Loading,
            "MISCONF" => Self::NotPersisting,
            "NOREPLICAS" => Self::TooFewReplicas,
            "CLUSTERDOWN" | "MASTERDOWN" => Self::ClusterDown,
            "BUSY" => Self::Locked,
            _ if reply.contains("max number of clients") => Self::TooManyConnections,
            _ if reply.contains("invalid password") => Self::WrongPassword,
            _ if reply.contains("without any password configured") => Self::WrongPassword,
            _ if reply.contains("cluster support disabled") => Self::WrongTopology,
            _ if reply.contains("ACL failure in script") => Self::PermissionMissing(permission(reply)),
            _ => return None,
        })
    }
}

/// Returns what an ACL error denies: a command, keys or channels.
fn permission(reply: &str) -> String {
    let quoted = reply.split_once('\'').and_then(|(_, rest)| rest.split_once('\'')).map(|(command, _)| command);
    if let Some(command) = quoted.filter(|_| reply.contains("command")) {
        format!("the command {command:?}")
    } else if reply.contains("channel") {
        "the channels of this installation".to_owned()
    } else if reply.contains("key") {
        "the keys of this installation".to_owned()
    } else {
        "a command of a script".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_has_its_cause() {
        let permission = |text: &str| StoreCause::PermissionMissing(text.to_owned());
        for (reply, cause) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", StoreCause::WrongPassword),
            ("NOAUTH Authentication required.", StoreCause::PasswordMissing),
            ("ERR max number of clients reached", StoreCause::TooManyConnections),
            ("OOM command not allowed when used memory > 'maxmemory'.", StoreCause::OutOfMemory),
            ("READONLY You can't write against a read only replica.", StoreCause::ReadOnly),
            ("NOPERM this user has no permissions to run the 'set' command", permission("the command \"set\"")),
            (
                "NOPERM User pintalk has no permissions to run the 'evalsha' command",
                permission("the command \"evalsha\""),
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                permission("the keys of this installation"),
            ),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                permission("the channels of this installation"),
            ),
            (
                "ERR ACL failure in script: User u has no permissions to run the 'spublish' command",
                permission("the command \"spublish\""),
            ),
            ("ERR This instance has cluster support disabled", StoreCause::WrongTopology),
        ] {
            assert_eq!(StoreCause::of_reply(reply), Some(cause), "{reply}");
        }
        assert_eq!(StoreCause::of_reply("ERR unknown"), None);
    }
}
