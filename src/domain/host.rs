//! Registered users: developers who embed PinTalk in their sites.

use chrono::{DateTime, Utc};

use super::{HostId, HostUuid};

/// Registered user as stored in the database, without the password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Row id.
    pub id: HostId,
    /// Login address, as entered at sign-up.
    pub email: String,
    /// Public identifier.
    pub uuid: HostUuid,
    /// Display name shown to guests. Initially equal to `service_name`.
    pub profile_name: String,
    /// Free-form description shown to guests.
    pub description: String,
    /// First half of the key pair that identifies the service in requests from guests: 22 characters.
    pub access_key: String,
    /// Second half of the key pair: 64 hexadecimal characters.
    pub secret_key: String,
    /// Name of the service, at most 50 characters.
    pub service_name: String,
    /// Description of the service, at most 200 characters.
    pub service_expl: String,
    /// Comma-separated domains, normalised by [`normalize_domains`](super::normalize_domains).
    pub service_domain: Option<String>,
    /// Object key of the profile image, if one was uploaded.
    pub profile_image: Option<String>,
    /// Whether the account is deactivated, by `leave/` or by an operator.
    pub is_deleted: bool,
    /// Time of the deactivation.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Time of the sign-up.
    pub created_at: DateTime<Utc>,
    /// Time of the last change to the row.
    pub updated_at: DateTime<Utc>,
    /// Settings of the host.
    pub config: HostConfig,
}

/// Settings of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Whether guests can see the host's online status. Switching it off closes status sockets with 4009 (SPEC 2).
    pub use_online_status: bool,
    /// Whether the host receives e-mails about messages that arrive while the host is not in the room (SPEC 8).
    pub email_notifications: bool,
}
