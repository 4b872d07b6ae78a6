//! Limits of logins and other calls that check a password.
//!
//! Failures are counted per account and address, and per account over an hour. The failures of a device with a refresh
//! cookie of the account are counted per login instead. Attackers therefore cannot lock out the owner of an account.
//! Failures for accounts that do not exist are counted in the same way.
//!
//! **Invariant:** a password is checked only after a failure has been counted for it, so that concurrent calls cannot
//! exceed a limit together. If the password is right, the failure is refunded.

use std::net::IpAddr;
use std::time::Duration;

use super::{Limits, TooMany};
use crate::backend::throttle::{Kind, Quota, Who};
use crate::store::email_key;

/// Login attempt that passed the limit of its address.
#[derive(Debug)]
#[must_use = "its account is counted, too"]
pub struct LoginAttempt<'a> {
    limits: &'a Limits,
    address: IpAddr,
    /// Time until the limit of the address permits another attempt.
    next_in: Duration,
}

/// Login attempt whose password may be checked. Counts as a failure unless [`passed`](Trial::passed) is called.
#[derive(Debug)]
#[must_use = "a password that is right is no failure"]
pub struct Trial<'a> {
    limits: &'a Limits,
    counted: Vec<(Kind, Who, Quota)>,
}

impl Limits {
    /// Counts a login from an address, before the account is known.
    ///
    /// # Errors
    /// Returns [`TooMany`] above the limit of the address. The limits of the account may require a longer wait.
    pub async fn login(&self, address: IpAddr) -> Result<LoginAttempt<'_>, TooMany> {
        let next_in = self.count(Kind::LoginAddress, Who::address(address), self.quotas.logins_per_address).await?;
        Ok(LoginAttempt { limits: self, address, next_in })
    }
}

impl<'a> LoginAttempt<'a> {
    /// Counts a failure for the account, or for the device if `device` is given. `device` is the id of the login in a
    /// refresh cookie of that account.
    ///
    /// # Errors
    /// Returns [`TooMany`] above a limit, with the time after which that limit and the limit of the address both permit
    /// an attempt.
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
                // The password is not checked, so the failures counted so far are refunded.
                trial.passed().await;
                return Err(above.or_later(self.next_in));
            }
            trial.counted.push((kind, who, quota));
        }
        Ok(trial)
    }
}

impl Trial<'_> {
    /// Refunds the counted failures, because the password was right or was not checked.
    pub async fn passed(self) {
        for (kind, who, quota) in &self.counted {
            self.limits.refund(*kind, who, *quota).await;
        }
    }
}
