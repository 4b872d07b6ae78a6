//! Default values that depend on other options or on the environment.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use lettre::Address;
use lettre::message::Mailbox;
use url::Url;

use super::ConfigError;
use super::files::{new_key, private_dir, read_or_create};
use super::mode::{Mode, unusable};
use super::secrets::{JwtSecrets, Secret};
use super::values::{OtlpEndpoint, PublicUrl};
use crate::domain::Rng;
use crate::outbound::media;

/// Returns the endpoint of the trace collector: the value of `--otlp-endpoint` or, without the flag, of the standard
/// OpenTelemetry environment variable.
pub(super) fn otlp_endpoint(given: Option<OtlpEndpoint>) -> Result<Option<OtlpEndpoint>, ConfigError> {
    let standard = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty());
    match given {
        Some(endpoint) => Ok(Some(endpoint)),
        None => standard()
            .map(|url| url.parse())
            .transpose()
            .map_err(|error| ConfigError::new("otlp-endpoint", format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))),
    }
}

/// Returns the keys for access tokens: those of the options or, for a single-node server without these options, the key
/// in the data directory.
pub(super) fn jwt_secrets(
    keys: Option<Secret<'_>>,
    mode: &Mode,
    data_dir: &Path,
    rng: &Rng,
) -> Result<JwtSecrets, ConfigError> {
    match (keys, mode) {
        (Some(keys), _) => JwtSecrets::parse(keys.text).map_err(|error| ConfigError::new(keys.flag, error)),
        (None, Mode::Cluster { .. }) => {
            Err(ConfigError::new("jwt-secret", "is required in a cluster and must be the same on every node"))
        }
        (None, Mode::Embedded { .. } | Mode::SingleOnDatabase { .. }) => stored_secret(data_dir, rng),
    }
}

/// Returns the token key in the data directory. Creates it if it does not exist.
fn stored_secret(data_dir: &Path, rng: &Rng) -> Result<JwtSecrets, ConfigError> {
    let path = data_dir.join("jwt-secret");
    let key = private_dir(data_dir).and_then(|()| read_or_create(&path, rng, || new_key(rng)));
    let key = key.map_err(|error| unusable(data_dir, &error))?;
    JwtSecrets::parse(key.trim())
        .map_err(|error| ConfigError::new("data-dir", format!("{} is invalid: {error}", path.display())))
}

/// Parses `--media-url`. The standard `AWS_…` variables set the endpoint, the region and the credentials of a bucket.
pub(super) fn media_location(url: &str) -> Result<media::MediaLocation, ConfigError> {
    let readable = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    media::MediaLocation::parse(url, || media::S3Settings::among(std::env::vars_os().filter_map(readable)))
        .map_err(|error| ConfigError::new("media-url", error))
}

/// Returns the default sender of e-mails: `no-reply` at the host name in the public URL.
pub(super) fn mail_from(public_url: &PublicUrl) -> Result<Mailbox, ConfigError> {
    let url = Url::parse(public_url.as_str()).ok();
    // The domain of an e-mail address must be a name; an IP address is not permitted.
    let host = url.as_ref().and_then(Url::domain).unwrap_or("localhost");
    let address = Address::new("no-reply", host).map_err(|error| ConfigError::new("mail-from", error))?;
    Ok(Mailbox::new(Some("PinTalk".to_owned()), address))
}

/// Returns `http://<listen>`. Replaces an unspecified address with the loopback address, because browsers cannot
/// connect to an unspecified address.
pub(super) fn public_url_of(listen: SocketAddr) -> Result<PublicUrl, ConfigError> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(ip, listen.port()));
    url.parse().map_err(|error| ConfigError::new("public-url", error))
}
