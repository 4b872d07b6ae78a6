//! The registered user: the developer who put PinTalk on his site.

use chrono::{DateTime, Utc};

use super::{HostId, HostUuid};

/// A registered user as SQL has him. Its password hash stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Row id.
    pub id: HostId,
    /// Address he logs in with, as he wrote it.
    pub email: String,
    /// Public name.
    pub uuid: HostUuid,
    /// What guests see; starts as `service_name`.
    pub profile_name: String,
    /// Free text about him.
    pub description: String,
    /// Identifies his service in guest-side calls: 22 characters.
    pub access_key: String,
    /// The other half of it: 64 hex characters.
    pub secret_key: String,
    /// At most 50 characters.
    pub service_name: String,
    /// At most 200 characters.
    pub service_expl: String,
    /// Comma-separated domains, normalised by [`normalize_domains`](super::normalize_domains).
    pub service_domain: Option<String>,
    /// The name of his image, if he has one.
    pub profile_image: Option<String>,
    /// Deactivated by "leave".
    pub is_deleted: bool,
    /// When.
    pub deleted_at: Option<DateTime<Utc>>,
    /// When he signed up.
    pub created_at: DateTime<Utc>,
    /// When anything above last changed.
    pub updated_at: DateTime<Utc>,
    /// His settings.
    pub config: HostConfig,
}

/// A host's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Whether guests see if he is online; off closes status sockets with 4009 (SPEC 2).
    pub use_online_status: bool,
    /// Whether he is mailed about messages that came while he was away (SPEC 8).
    pub email_notifications: bool,
}
