//! Limits of logins, and of every other call that checks a password.
//!
//! Failures are counted by account and address, and by account alone over an hour. A device that carries a refresh cookie of the
//! account is counted by its login instead: strangers cannot keep the account's owner out. An account that does not exist is
//! counted like one that does.
//!
//! **Invariant:** a password is checked only after its failure was counted, so that calls at the same time cannot pass a limit
//! together; what was no failure is given back.

use std::net::IpAddr;
use std::time::Duration;

use super::{Limits, TooMany};
use crate::store::email_key;
use crate::throttle::{Kind, Quota, Who};

/// A login whose address may try it.
#[derive(Debug)]
#[must_use = "its account is counted, too"]
pub struct Attempt<'a> {
    limits: &'a Limits,
    address: IpAddr,
    /// When its address may try the next one.
    next_in: Duration,
}

/// A password that may be checked. Unless it [passes](Trial::passed), it stays counted as a failure.
#[derive(Debug)]
#[must_use = "a password that is right is no failure"]
pub struct Trial<'a> {
    limits: &'a Limits,
    counted: Vec<(Kind, Who, Quota)>,
}

impl Limits {
    /// A login, of whom it is not known yet.
    ///
    /// # Errors
    /// [`TooMany`]; the time is the address's, and the account may ask for more.
    pub async fn login(&self, address: IpAddr) -> Result<Attempt<'_>, TooMany> {
        let next_in = self.count(Kind::LoginAddress, Who::address(address), self.quotas.logins_per_address).await?;
        Ok(Attempt { limits: self, address, next_in })
    }
}

impl<'a> Attempt<'a> {
    /// Now it is known for which account, and from which device of it: the login that a refresh cookie of that account names.
    ///
    /// # Errors
    /// [`TooMany`]; the time is one at which the address may try again as well.
    pub async fn at(self, email: &str, device: Option<&str>) -> Result<Trial<'a>, TooMany> {
        let (quotas, key) = (&self.limits.quotas, email_key(email));
        let (pair, account) = match device {
            Some(sid) => (Who::device(sid), Who::device(sid)),
            None => (Who::account_from(&key, self.address), Who::account(&key)),
        };
        let wanted = [
            (Kind::LoginPair, pair.clone(), quotas.login_failures_per_pair),
            (Kind::LoginPairHour, pair, quotas.login_failures_per_pair_hour),
            (Kind::LoginAccount, account, quotas.login_failures_per_account),
        ];
        let mut trial = Trial { limits: self.limits, counted: Vec::with_capacity(wanted.len()) };
        for (kind, who, quota) in wanted {
            let Some(quota) = quota else { continue };
            if let Err(above) = self.limits.count(kind, who.clone(), Some(quota)).await {
                // No password is checked, so nothing has failed.
                trial.passed().await;
                return Err(above.or_later(self.next_in));
            }
            trial.counted.push((kind, who, quota));
        }
        Ok(trial)
    }
}

impl Trial<'_> {
    /// The password was right, or was not checked: it is no failure.
    pub async fn passed(self) {
        for (kind, who, quota) in &self.counted {
            self.limits.give_back(*kind, who, *quota).await;
        }
    }
}
