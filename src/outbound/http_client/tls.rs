//! TLS configuration of HTTP clients: system root certificates (or those in `SSL_CERT_FILE`), with ring as the crypto
//! provider.

use std::sync::Arc;

/// Returns the TLS configuration of clients. On a machine without root certificates, all TLS connections fail, but
/// connections without TLS still work.
pub(crate) fn client_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
