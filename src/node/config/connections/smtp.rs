//! Connection to the mail server.

use clap::Args;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use url::Url;

use super::{PARTS, first_set, lacks, secret_url, set_password};
use crate::node::config::secrets::{FILES, Hidden, Secret, SecretFile};
use crate::node::config::{ConfigError, InvalidValue};

/// Options of the connection to the mail server.
#[derive(Args, Clone, Debug)]
pub struct SmtpArgs {
    /// Mail server: smtp://user:password@host:port?tls=required (STARTTLS) or smtps://…; without it, e-mails are logged
    /// without their bodies.
    #[arg(long, env = "PINTALK_SMTP_URL", value_name = "URL", hide_env_values = true, group = "smtp")]
    pub smtp_url: Option<Hidden>,
    /// File that contains --smtp-url.
    #[arg(long, env = "PINTALK_SMTP_URL_FILE", value_name = "FILE", group = "smtp", help_heading = FILES)]
    pub smtp_url_file: Option<SecretFile>,
    /// Password of the user in --smtp-url, if the URL contains none.
    #[arg(long, env = "PINTALK_SMTP_PASSWORD", value_name = "PASSWORD", help_heading = PARTS, hide_env_values = true)]
    pub smtp_password: Option<Hidden>,
    /// File that contains --smtp-password.
    #[arg(long, env = "PINTALK_SMTP_PASSWORD_FILE", value_name = "FILE", help_heading = FILES,
          conflicts_with = "smtp_password")]
    pub smtp_password_file: Option<SecretFile>,
}

impl SmtpArgs {
    /// Returns the URL of the mail server. `None`: no option names a mail server.
    pub(in crate::node::config) fn url(&self) -> Result<Option<SmtpUrl>, ConfigError> {
        let flags = ["smtp-url", "smtp-url-file"];
        let Some(given) = Secret::of(flags, self.smtp_url.as_ref(), self.smtp_url_file.as_ref()) else {
            let options = [
                ("smtp-password", self.smtp_password.is_some()),
                ("smtp-password-file", self.smtp_password_file.is_some()),
            ];
            return first_set(&options).map_or(Ok(None), |flag| Err(lacks(flag, "--smtp-url")));
        };
        let invalid = |error: InvalidValue| ConfigError::new(given.flag, error);
        let url = SmtpUrl::parse(given.text).map_err(invalid)?;
        let flags = ["smtp-password", "smtp-password-file"];
        let Some(password) = Secret::of(flags, self.smtp_password.as_ref(), self.smtp_password_file.as_ref()) else {
            return Ok(Some(url));
        };
        let mut url = Url::parse(url.expose()).map_err(|error| ConfigError::new(given.flag, error))?;
        if url.username().is_empty() {
            return Err(lacks(password.flag, "a user in --smtp-url: smtp://user@host"));
        }
        set_password(&mut url, &password, "--smtp-url")?;
        SmtpUrl::parse(url.as_str()).map_err(invalid).map(Some)
    }
}

secret_url! {
    /// URL of the mail server: `smtp://` or `smtps://`, in the format of lettre.
    SmtpUrl
}

impl SmtpUrl {
    /// Parses a URL and checks its format. Does not connect.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("expected smtp://user:password@host:port or smtps://…");
        if !["smtp://", "smtps://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(invalid());
        }
        AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| invalid())?;
        Ok(Self(text.to_owned()))
    }
}
