//! Addresses that are being confirmed, one row an attempt to sign up. All is decided here, so that no node remembers anything.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, QueryFilter};

use super::entity::email_verification;
use super::hosts::{email_key, insert_host};
use super::outbox::insert_mail;
use super::{NewHost, OutgoingMail, Store, StoreError, millis};
use crate::domain::Host;

/// How often a code may be guessed.
const MAX_ATTEMPTS: i64 = 5;

/// An address whose code is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Names the attempt; nobody else knows it.
    pub ticket: String,
    /// The address.
    pub email: String,
    /// SHA-256 of ticket and code, in hex.
    pub code_hash: String,
    /// When the code ends.
    pub expires_at: DateTime<Utc>,
}

/// What a code did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// The address is confirmed.
    Right,
    /// Try again.
    Wrong,
    /// No code can be right any more: it has ended, or was guessed at too often.
    Over,
}

impl Store {
    /// Begins to confirm an address, and sends its mail.
    pub async fn begin_verification(
        &self,
        verification: &Verification,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let now = millis(now);
        self.run(|| self.begin_verification_once(verification, mail, now)).await
    }

    async fn begin_verification_once(
        &self,
        verification: &Verification,
        mail: &OutgoingMail,
        now: DateTime<Utc>,
    ) -> Result<(), DbErr> {
        let tx = self.begin().await?;
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

    /// Tries a code. Each try counts before it is looked at, whoever tries at the same time.
    pub async fn try_code(&self, ticket: &str, code_hash: &str, now: DateTime<Utc>) -> Result<CodeOutcome, StoreError> {
        let now = millis(now);
        self.run(|| self.try_code_once(ticket, code_hash, now)).await
    }

    async fn try_code_once(&self, ticket: &str, code_hash: &str, now: DateTime<Utc>) -> Result<CodeOutcome, DbErr> {
        let counted = email_verification::Entity::update_many()
            .col_expr(email_verification::Column::Attempts, Expr::col(email_verification::Column::Attempts).add(1))
            .filter(email_verification::Column::Ticket.eq(ticket))
            .filter(email_verification::Column::Attempts.lt(MAX_ATTEMPTS))
            .filter(email_verification::Column::ExpiresAt.gt(now))
            .exec(&self.writer)
            .await?;
        if counted.rows_affected == 0 {
            return Ok(CodeOutcome::Over);
        }
        let confirmed = email_verification::Entity::update_many()
            // A right code that comes twice, as from a double click, is still right, and no later.
            .col_expr(
                email_verification::Column::ConfirmedAt,
                Expr::col(email_verification::Column::ConfirmedAt).if_null(now),
            )
            .filter(email_verification::Column::Ticket.eq(ticket))
            .filter(email_verification::Column::CodeHash.eq(code_hash))
            .exec(&self.writer)
            .await?;
        // MySQL counts rows that match, also those that stay as they are.
        Ok(if confirmed.rows_affected > 0 { CodeOutcome::Right } else { CodeOutcome::Wrong })
    }

    /// Whether an address was confirmed under this ticket after `since`.
    pub async fn is_confirmed(&self, ticket: &str, email: &str, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let is_confirmed = confirmed(ticket, email, since);
        let row =
            self.run(|| email_verification::Entity::find().filter(is_confirmed.clone()).one(&self.reader)).await?;
        Ok(row.is_some())
    }

    /// Makes a host of a confirmed address, once. `None`: it is confirmed no more.
    ///
    /// # Errors
    /// `Conflict` when the address is taken, in whatever case.
    pub async fn create_confirmed_host(
        &self,
        new: &NewHost,
        ticket: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<Host>, StoreError> {
        let now = millis(now);
        self.run(|| async {
            let tx = self.begin().await?;
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
