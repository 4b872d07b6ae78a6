//! Causes of store failures, in the words that logs, `/health/ready` and `pintalk check` use.

use std::borrow::Cow;
use std::fmt;

use crate::domain::metric::StoreKind;

/// Reason why a store rejects or does not answer a call. The store and the Redis driver each determine it from the errors
/// of their client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreCause {
    /// The host name of the URL cannot be resolved.
    UnknownHost,
    /// No server listens at the address.
    ConnectionRefused,
    /// No route leads to the address.
    NoRoute,
    /// The server did not answer in time.
    NoResponse,
    /// The server or the network closed the connection.
    ConnectionLost,
    /// The server accepts only TLS, and the URL does not enable it.
    TlsRequired,
    /// The URL enables TLS, and the server does not support it.
    TlsUnsupported,
    /// The certificate of the server has expired.
    CertificateExpired,
    /// The certificate of the server is not accepted for the given reason.
    CertificateRejected(&'static str),
    /// A file of the TLS options does not exist or cannot be read.
    UnreadableFile,
    /// The server rejects the user name or the password.
    WrongPassword,
    /// The server requires a password, and the URL contains none.
    PasswordMissing,
    /// The account is locked, or its password has expired.
    AccountLocked,
    /// The user lacks a permission. The text names it, for example `the command "spublish"`.
    PermissionMissing(String),
    /// The server blocks this client address.
    HostBlocked,
    /// The database does not exist.
    UnknownDatabase,
    /// The server has reached its limit of connections.
    TooManyConnections,
    /// The server is a replica or a demoted primary, or its file system is read-only.
    ReadOnly,
    /// The server is out of memory.
    OutOfMemory,
    /// The disk, the tablespace or the file is full.
    Full,
    /// Another session holds a lock, for example `LOCK TABLES`.
    Locked,
    /// The server is starting and loads its data.
    Loading,
    /// The server is shutting down.
    Stopping,
    /// Redis cannot write its snapshot or its append-only file to disk.
    NotPersisting,
    /// Too few replicas of Redis are connected.
    TooFewReplicas,
    /// The Redis Cluster does not serve all slots.
    ClusterDown,
    /// No Sentinel answers or knows the master.
    NoSentinel,
    /// The topology of the URL differs from that of the server, for example a Cluster URL for a standalone server.
    WrongTopology,
    /// The SQLite files were deleted, moved, replaced or truncated. The process must be restarted.
    FilesLost,
    /// Any other error.
    Other,
}

impl StoreCause {
    /// Determines the cause of a failed connection from the `Debug` text of an [`std::io::Error`] or of a TLS error.
    /// Returns `None` if the text names no known cause.
    pub(crate) fn of_connection(text: &str) -> Option<Self> {
        let causes: [(&[&str], Self); 14] = [
            (&["failed to lookup address", "dns error"], Self::UnknownHost),
            (&["ConnectionRefused"], Self::ConnectionRefused),
            (&["HostUnreachable", "NetworkUnreachable", "NetworkDown"], Self::NoRoute),
            (&["TimedOut"], Self::NoResponse),
            (&["InvalidCertificate(Expired"], Self::CertificateExpired),
            (&["InvalidCertificate(NotValidYet"], Self::CertificateRejected("it is not valid yet")),
            (&["InvalidCertificate(NotValidForName"], Self::CertificateRejected("it is not valid for this host name")),
            (&["InvalidCertificate(UnknownIssuer"], Self::CertificateRejected("its issuer is not trusted")),
            (&["InvalidCertificate(Revoked"], Self::CertificateRejected("it is revoked")),
            (&["InvalidCertificate("], Self::CertificateRejected("it is invalid")),
            (&["InvalidMessage(", "does not support TLS"], Self::TlsUnsupported),
            (&["ConnectionReset", "ConnectionAborted", "BrokenPipe", "UnexpectedEof"], Self::ConnectionLost),
            (&["kind: NotFound", "kind: PermissionDenied"], Self::UnreadableFile),
            (&["AlertReceived(ProtocolVersion"], Self::TlsUnsupported),
        ];
        causes.into_iter().find_map(|(parts, cause)| parts.iter().any(|part| text.contains(part)).then_some(cause))
    }

    /// Returns whether the cause hides a more specific one, which a new connection may reveal.
    pub(crate) fn is_vague(&self) -> bool {
        matches!(self, Self::NoResponse | Self::ConnectionLost | Self::NoSentinel | Self::Other)
    }

    /// Returns whether the store cannot be reached or accepts no connection.
    pub(crate) fn is_of_network(&self) -> bool {
        matches!(
            self,
            Self::UnknownHost
                | Self::ConnectionRefused
                | Self::NoRoute
                | Self::NoResponse
                | Self::ConnectionLost
                | Self::TlsRequired
                | Self::TlsUnsupported
                | Self::CertificateExpired
                | Self::CertificateRejected(_)
                | Self::UnreadableFile
                | Self::HostBlocked
                | Self::UnknownDatabase
                | Self::TooManyConnections
                | Self::Stopping
                | Self::Loading
        )
    }

    /// Returns whether the store denies access to the user.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::WrongPassword | Self::PasswordMissing | Self::AccountLocked | Self::PermissionMissing(_))
    }

    fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::UnknownHost => "unknown host name",
            Self::ConnectionRefused => "connection refused",
            Self::NoRoute => "no route to the host",
            Self::NoResponse => "no response",
            Self::ConnectionLost => "connection closed by the server",
            Self::TlsRequired => "the server requires TLS, which the URL does not enable",
            Self::TlsUnsupported => "the URL enables TLS, which the server does not support",
            Self::CertificateExpired => "the server certificate has expired",
            Self::CertificateRejected(reason) => {
                return Cow::Owned(format!("the server certificate is rejected: {reason}"));
            }
            Self::UnreadableFile => "a file of the TLS options cannot be read",
            Self::WrongPassword => "wrong user name or password",
            Self::PasswordMissing => "the server requires a password",
            Self::AccountLocked => "the account is locked or its password has expired",
            Self::PermissionMissing(what) => return Cow::Owned(format!("missing permission for {what}")),
            Self::HostBlocked => "the server blocks the address of this node",
            Self::UnknownDatabase => "the database does not exist",
            Self::TooManyConnections => "too many connections",
            Self::ReadOnly => "read-only",
            Self::OutOfMemory => "out of memory",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::Loading => "the server is loading its data",
            Self::Stopping => "the server is shutting down",
            Self::NotPersisting => "the server cannot write its data to disk",
            Self::TooFewReplicas => "too few replicas",
            Self::ClusterDown => "the cluster is down",
            Self::NoSentinel => "no sentinel answers",
            Self::WrongTopology => "the URL names another topology than that of the server",
            Self::FilesLost => "files lost",
            Self::Other => "error",
        })
    }
}

impl fmt::Display for StoreCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Failure of a call to a store: its cause, and the error of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFault {
    /// Store that failed. `None` if the call failed for a reason of this program.
    store: Option<StoreKind>,
    /// Cause of the failure.
    pub cause: StoreCause,
    detail: String,
}

impl StoreFault {
    pub(crate) fn sql(cause: StoreCause, detail: impl Into<String>) -> Self {
        Self { store: Some(StoreKind::Sql), cause, detail: detail.into() }
    }

    pub(crate) fn redis(cause: StoreCause, detail: impl Into<String>) -> Self {
        Self { store: Some(StoreKind::Redis), cause, detail: detail.into() }
    }

    /// Returns the cause and the original error without the name of the store.
    pub(crate) fn reason(&self) -> String {
        match (&self.cause, &*self.detail) {
            (StoreCause::Other, detail) => detail.to_owned(),
            (cause, "") => cause.to_string(),
            (cause, detail) => format!("{cause} ({detail})"),
        }
    }

    /// Returns the original error.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<String> for StoreFault {
    fn from(detail: String) -> Self {
        Self { store: None, cause: StoreCause::Other, detail }
    }
}

impl From<&str> for StoreFault {
    fn from(detail: &str) -> Self {
        Self::from(detail.to_owned())
    }
}

/// Writes the store, the cause and the error, for example `redis: connection refused (Os { … })`.
impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = match self.store {
            Some(StoreKind::Sql) => "sql: ",
            Some(StoreKind::Redis) => "redis: ",
            None => "",
        };
        write!(f, "{store}{}", self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_connection_has_its_cause() {
        for (text, cause) in [
            ("Os { code: 111, kind: ConnectionRefused, message: \"…\" }", StoreCause::ConnectionRefused),
            (
                "Custom { kind: Uncategorized, error: \"failed to lookup address information: …\" }",
                StoreCause::UnknownHost,
            ),
            ("Os { code: 104, kind: ConnectionReset, message: \"…\" }", StoreCause::ConnectionLost),
            (
                "Custom { kind: InvalidData, error: InvalidCertificate(ExpiredContext { … }) }",
                StoreCause::CertificateExpired,
            ),
            (
                "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }",
                StoreCause::CertificateRejected("its issuer is not trusted"),
            ),
            ("Custom { kind: InvalidData, error: InvalidMessage(InvalidContentType) }", StoreCause::TlsUnsupported),
        ] {
            assert_eq!(StoreCause::of_connection(text), Some(cause), "{text}");
        }
        assert_eq!(StoreCause::of_connection("Os { code: 5, kind: Uncategorized }"), None);
    }
}
