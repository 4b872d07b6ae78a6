//! E-mails, and their rows in the outbox.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait};

use crate::domain::{ChatroomId, HostId, Seq};
use crate::store::entity::{mail_outbox, mail_part};
use crate::store::{mailbox_key, millis, to_column};

/// Purpose of an e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// A confirmation code or a temporary password.
    Account,
    /// Messages that a host missed.
    HostDigest,
    /// Messages that a guest missed.
    GuestDigest,
    /// A request for a guest's consent.
    Consent,
}

/// Class of e-mails. Limits count each class separately, so that no class delays another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailClass {
    /// E-mails that owners of accounts request, such as codes and temporary passwords.
    Account,
    /// Digests to hosts.
    Host,
    /// Digests and requests for consent to guests.
    Guest,
}

impl MailKind {
    const ALL: [Self; 4] = [Self::Account, Self::HostDigest, Self::GuestDigest, Self::Consent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::HostDigest => "host_digest",
            Self::GuestDigest => "guest_digest",
            Self::Consent => "consent",
        }
    }

    /// Returns the kind of an e-mail. A node of an earlier release leaves the column null. At-most-once e-mails of such
    /// a node are digests.
    fn of(row: &mail_outbox::Model) -> Self {
        let named = row.kind.as_deref().and_then(|kind| Self::ALL.into_iter().find(|known| known.as_str() == kind));
        named.unwrap_or(match (row.at_most_once, &row.unsubscribe_url) {
            (false, _) => Self::Account,
            (true, None) => Self::HostDigest,
            (true, Some(_)) => Self::GuestDigest,
        })
    }

    /// Returns the class under which limits count this kind.
    pub fn class(self) -> MailClass {
        match self {
            Self::Account => MailClass::Account,
            Self::HostDigest => MailClass::Host,
            Self::GuestDigest | Self::Consent => MailClass::Guest,
        }
    }
}

impl MailClass {
    /// Returns the name of the class in the database and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }

    /// Returns the names of the kinds in this class, as stored in the column.
    pub(in crate::store) fn kinds(self) -> impl Iterator<Item = &'static str> {
        MailKind::ALL.into_iter().filter(move |kind| kind.class() == self).map(MailKind::as_str)
    }
}

/// Text of one room in an e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailPart {
    /// Id of the room.
    pub room: ChatroomId,
    /// Sequence number of the newest message in the text.
    pub last_seq: Seq,
    /// Text of the room, as it appears in the body.
    pub text: String,
}

/// An e-mail to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMail {
    /// E-mail address of the only recipient.
    pub recipient: String,
    /// Subject line, which contains no text written by users.
    pub subject: String,
    /// Plain text. Contains the texts of [`parts`](Self::parts) one after another.
    pub body: String,
    /// Time after which the e-mail is not sent.
    pub expires_at: DateTime<Utc>,
    /// Whether the e-mail is sent at most once. If the node crashes during sending, such an e-mail is lost instead of
    /// being sent again.
    pub at_most_once: bool,
    /// One-click unsubscribe URL (RFC 8058).
    pub unsubscribe_url: Option<String>,
    /// Purpose of the e-mail.
    pub kind: MailKind,
    /// Host on whose behalf the e-mail is sent.
    pub host: Option<HostId>,
    /// Texts of the rooms, by ascending room id. Empty for e-mails read from the outbox.
    pub parts: Vec<MailPart>,
}

/// An e-mail that this node has claimed for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMail {
    /// Row id.
    pub id: i64,
    /// Number of earlier attempts.
    pub attempts: u32,
    /// Content of the e-mail.
    pub mail: OutgoingMail,
}

pub(super) fn to_due(row: mail_outbox::Model) -> DueMail {
    let kind = MailKind::of(&row);
    DueMail {
        id: row.id,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        mail: OutgoingMail {
            recipient: row.recipient,
            subject: row.subject,
            body: row.body,
            expires_at: row.expires_at,
            at_most_once: row.at_most_once,
            unsubscribe_url: row.unsubscribe_url,
            kind,
            host: row.host_id.map(HostId),
            parts: Vec::new(),
        },
    }
}

/// Writes an e-mail to the outbox, due at `now`.
pub(in crate::store) async fn insert_mail(
    tx: &DatabaseTransaction,
    mail: &OutgoingMail,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = mail_outbox::ActiveModel {
        id: NotSet,
        recipient: Set(mail.recipient.clone()),
        subject: Set(mail.subject.clone()),
        body: Set(mail.body.clone()),
        attempts: Set(0),
        due_at: Set(millis(now)),
        expires_at: Set(millis(mail.expires_at)),
        at_most_once: Set(mail.at_most_once),
        unsubscribe_url: Set(mail.unsubscribe_url.clone()),
        kind: Set(Some(mail.kind.as_str().to_owned())),
        host_id: Set(mail.host.map(|host| host.0)),
        mailbox: Set(Some(mailbox_key(&mail.recipient))),
    };
    let inserted = mail_outbox::Entity::insert(row).exec(tx).await?;
    if mail.parts.is_empty() {
        return Ok(());
    }
    let parts = mail.parts.iter().map(|part| {
        mail_part::ActiveModel::from(mail_part::Model {
            mail_id: inserted.last_insert_id,
            chatroom_id: part.room.0,
            last_seq: to_column(part.last_seq),
            text: part.text.clone(),
        })
    });
    mail_part::Entity::insert_many(parts).exec_without_returning(tx).await?;
    Ok(())
}
