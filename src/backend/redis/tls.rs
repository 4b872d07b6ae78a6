//! Client configuration from the URL of a Redis.

use std::path::Path;
use std::sync::Arc;

use fred::types::config::{Config, TlsConnector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

/// Parameter of a URL: path of a PEM file with the certificate authorities that sign the certificates of Redis.
/// Without it, the certificate authorities of the system apply.
pub const TLS_CA: &str = "tls-ca";

/// Returns the client configuration for a URL. Reads the file of [`TLS_CA`].
///
/// # Errors
/// Returns an error if the URL is invalid or the file cannot be used. The message may contain the URL.
pub fn client_config(url: &str) -> Result<Config, fred::error::Error> {
    let invalid = |problem: String| fred::error::Error::new(fred::error::ErrorKind::Tls, problem);
    let mut config = Config::from_url(url)?;
    let ca = Url::parse(url)?.query_pairs().find(|(name, _)| name == TLS_CA).map(|(_, path)| path.into_owned());
    if let (Some(path), Some(_)) = (ca, &config.tls) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?
            .with_root_certificates(roots(Path::new(&path)).map_err(invalid)?)
            .with_no_client_auth();
        config.tls = Some(TlsConnector::from(client).into());
    }
    Ok(config)
}

/// Returns the certificate authorities in a PEM file.
///
/// # Errors
/// Returns a description of the problem with the path.
pub fn roots(file: &Path) -> Result<RootCertStore, String> {
    let invalid = |problem: &dyn std::fmt::Display| format!("{}: {problem}", file.display());
    let text = std::fs::read(file).map_err(|error| invalid(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    if roots.is_empty() { Err(invalid(&"contains no certificate")) } else { Ok(roots) }
}
