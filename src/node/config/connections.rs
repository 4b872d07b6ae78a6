//! Options of the connections to the database, to Redis and to the mail server. A connection is given as a URL, or as
//! parts: host, port, user, password and so on. The parts are combined to the same typed URL here.
//!
//! **Invariant:** the output of `Debug` and `Display` of a URL contains no secret.

mod database;
mod hosts;
mod redis;
mod smtp;

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

pub use database::{DatabaseArgs, DatabaseTls, DatabaseUrl};
pub use hosts::RedisHosts;
pub use redis::{RedisArgs, RedisTopology, RedisUrl};
pub use smtp::{SmtpArgs, SmtpUrl};

use super::ConfigError;
use super::secrets::Secret;
use crate::backend::redis::roots;

/// Help heading of the options that replace a URL or add to it.
const PARTS: &str = "Connections in parts";

/// Returns the error that an option needs another one.
fn lacks(flag: &'static str, other: &str) -> ConfigError {
    ConfigError::new(flag, format!("needs {other}"))
}

/// Returns the first option that is set.
fn first_set(options: &[(&'static str, bool)]) -> Option<&'static str> {
    options.iter().find(|(_, is_set)| *is_set).map(|(flag, _)| *flag)
}

/// Percent-encodes a part of a URL.
fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

/// Sets the password of a URL. `url_flag` is the option of the URL. The password may contain any character.
fn set_password(url: &mut Url, password: &Secret<'_>, url_flag: &str) -> Result<(), ConfigError> {
    let refused = |problem: &str| ConfigError::new(password.flag, format!("{url_flag} {problem}"));
    if url.password().is_some() {
        return Err(refused("already contains a password"));
    }
    url.set_password(Some(&encoded(password.text))).map_err(|()| refused("contains no host"))
}

/// Returns the value of a query parameter.
fn parameter(url: &Url, names: &[&str]) -> Option<String> {
    url.query_pairs().find(|(name, _)| names.contains(&name.as_ref())).map(|(_, value)| value.into_owned())
}

/// Checks that a file contains certificates, and returns its path for a URL.
fn authorities(flag: &'static str, file: &Path) -> Result<String, ConfigError> {
    roots(file).map_err(|problem| ConfigError::new(flag, problem))?;
    file.to_str().map(str::to_owned).ok_or_else(|| ConfigError::new(flag, "the path is not UTF-8"))
}

/// Returns the URL with `***` in place of its password and of its query, which may contain another password.
fn masked(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "***".to_owned() };
    if url.password().is_some() {
        // The call fails only if the URL has no host. Such a URL has no password.
        let _ = url.set_password(Some("***"));
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}

macro_rules! secret_url {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// Returns the URL with its password, for the driver that connects to it. The result must not be logged.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&super::masked(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}
use secret_url;

#[cfg(test)]
mod tests;
