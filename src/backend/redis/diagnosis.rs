//! Finds out why the Redis client cannot connect. The client reports some causes only as a timeout or a closed connection.

use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use fred::types::config::{Config, Server};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::Unavailable;
use crate::domain::{StoreCause, StoreFault};

/// Timeout of each step of a diagnosis.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);

/// Types of the first TLS record of a server: an alert, or a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// Servers and Sentinels that the URL names, and whether it enables TLS.
#[derive(Clone, Debug)]
pub(super) struct DiagnosisTarget {
    servers: Vec<Server>,
    is_tls: bool,
}

impl DiagnosisTarget {
    pub(super) fn of(config: &Config) -> Self {
        Self { servers: config.server.hosts(), is_tls: config.tls.is_some() }
    }

    /// Connects to each server until a cause is found. Returns `None` if all servers accept the connection and their
    /// answers fit the URL.
    pub(super) async fn diagnose(&self) -> Option<StoreCause> {
        for server in &self.servers {
            if let Some(cause) = self.diagnose_one(server).await {
                return Some(cause);
            }
        }
        None
    }

    async fn diagnose_one(&self, server: &Server) -> Option<StoreCause> {
        let connect = TcpStream::connect((&*server.host, server.port));
        let stream = match tokio::time::timeout(STEP_TIMEOUT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return StoreCause::of_connection(&format!("{error:?}")),
            Err(_) => return Some(StoreCause::NoResponse),
        };
        let greeting = if self.is_tls { b"PING\r\n".to_vec() } else { client_hello()? };
        let first = tokio::time::timeout(STEP_TIMEOUT, first_byte(stream, &greeting)).await.ok()??;
        match (self.is_tls, first) {
            (true, b'+' | b'-' | b'$') => Some(StoreCause::TlsUnsupported),
            (false, first) if TLS_RECORDS.contains(&first) => Some(StoreCause::TlsRequired),
            _ => None,
        }
    }
}

/// Returns the fault that an error of a client with this configuration means.
pub async fn fault_of(config: &Config, error: Error) -> StoreFault {
    let Unavailable(mut fault) = error.into();
    if fault.cause.is_vague()
        && let Some(cause) = DiagnosisTarget::of(config).diagnose().await
    {
        fault.cause = cause;
    }
    fault
}

/// Sends a greeting. Returns the first byte of the answer, or `None` if the server closes the connection.
async fn first_byte(mut stream: TcpStream, greeting: &[u8]) -> Option<u8> {
    stream.write_all(greeting).await.ok()?;
    stream.read_u8().await.ok()
}

/// Returns the first record of a TLS handshake.
fn client_hello() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("redis.invalid").ok()?).ok()?;
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}
