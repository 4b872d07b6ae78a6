//! Confirmation of e-mail addresses, one row per attempt to sign up. All state is stored in the database.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, QueryFilter};

use crate::domain::Host;
use crate::store::entity::email_verification;
use crate::store::hosts::{email_key, insert_host};
use crate::store::mails::mail::insert_mail;
use crate::store::{NewHost, OutgoingMail, StoreError, VerificationRepository, millis};

/// Maximum number of attempts per code.
const MAX_ATTEMPTS: i64 = 5;

/// Confirmation of an address whose code has been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingVerification {
    /// Secret id of the sign-up attempt.
    pub ticket: String,
    /// Address to confirm.
    pub email: String,
    /// SHA-256 of ticket and code, in hex.
    pub code_hash: String,
    /// Expiry time of the code.
    pub expires_at: DateTime<Utc>,
}

/// Result of entering a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// The address is confirmed.
    Right,
    /// The code is wrong, but another attempt is permitted.
    Wrong,
    /// The verification has expired, or its attempts are used up.
    Over,
}

impl VerificationRepository<'_> {
    /// Starts the confirmation of an address and writes the e-mail with the code.
    pub async fn begin(
        self,
        verification: &PendingVerification,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let now = millis(now);
        self.store.run("verifications", || self.begin_once(verification, mail, now)).await
    }

    async fn begin_once(
        self,
        verification: &PendingVerification,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), DbErr> {
        let tx = self.store.begin().await?;
        let row = email_verification::Model {
            ticket: verification.ticket.clone(),
            email_key: email_key(&verification.email),
            code_hash: verification.code_hash.clone(),
            attempts: 0,
            expires_at: millis(verification.expires_at),
            confirmed_at: None,
        };
        email_verification::Entity::insert(email_verification::ActiveModel::from(row))
            .exec_without_returning(&tx)
            .await?;
        insert_mail(&tx, mail, now).await?;
        tx.commit().await
    }

    /// Checks a code. Each attempt is counted before the code is compared, so that concurrent attempts cannot exceed
    /// the limit.
    pub async fn try_code(self, ticket: &str, code_hash: &str, now: DateTime<Utc>) -> Result<CodeOutcome, StoreError> {
        let now = millis(now);
        self.store.run("verifications", || self.try_code_once(ticket, code_hash, now)).await
    }

    async fn try_code_once(self, ticket: &str, code_hash: &str, now: DateTime<Utc>) -> Result<CodeOutcome, DbErr> {
        let counted = email_verification::Entity::update_many()
            .col_expr(email_verification::Column::Attempts, Expr::col(email_verification::Column::Attempts).add(1))
            .filter(email_verification::Column::Ticket.eq(ticket))
            .filter(email_verification::Column::Attempts.lt(MAX_ATTEMPTS))
            .filter(email_verification::Column::ExpiresAt.gt(now))
            .exec(&self.store.writer)
            .await?;
        if counted.rows_affected == 0 {
            return Ok(CodeOutcome::Over);
        }
        let confirmed = email_verification::Entity::update_many()
            // A right code that is entered twice, for example by a double click, is accepted again. The time of
            // confirmation does not change.
            .col_expr(
                email_verification::Column::ConfirmedAt,
                Expr::col(email_verification::Column::ConfirmedAt).if_null(now),
            )
            .filter(email_verification::Column::Ticket.eq(ticket))
            .filter(email_verification::Column::CodeHash.eq(code_hash))
            .exec(&self.store.writer)
            .await?;
        // MySQL also counts matched rows that do not change, so a repeated right code is accepted.
        Ok(if confirmed.rows_affected > 0 { CodeOutcome::Right } else { CodeOutcome::Wrong })
    }

    /// Returns whether an address was confirmed under this ticket after `since`.
    pub async fn is_confirmed(self, ticket: &str, email: &str, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let is_confirmed = confirmed(ticket, email, since);
        let row = self
            .store
            .run("verifications", || {
                email_verification::Entity::find().filter(is_confirmed.clone()).one(&self.store.reader)
            })
            .await?;
        Ok(row.is_some())
    }

    /// Creates a host with a confirmed address and consumes the confirmation. Returns `None` if the confirmation has
    /// expired or was already consumed.
    ///
    /// # Errors
    /// Returns `Conflict` if the address is taken. Addresses are compared case-insensitively.
    pub async fn create_host(
        self,
        new: &NewHost,
        ticket: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<Host>, StoreError> {
        let now = millis(now);
        self.store
            .run("verifications", || async {
                let tx = self.store.begin().await?;
                let spent = email_verification::Entity::delete_many()
                    .filter(confirmed(ticket, &new.email, since))
                    .exec(&tx)
                    .await?;
                if spent.rows_affected == 0 {
                    return Ok(None);
                }
                let host = insert_host(&tx, new, now).await?;
                tx.commit().await?;
                Ok(Some(host))
            })
            .await
    }
}

fn confirmed(ticket: &str, email: &str, since: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(email_verification::Column::Ticket.eq(ticket))
        .add(email_verification::Column::EmailKey.eq(email_key(email)))
        .add(email_verification::Column::ConfirmedAt.gt(millis(since)))
}
