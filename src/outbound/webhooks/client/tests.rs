use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pintalk_kit::webhook_receiver::{Receiver, Reply};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::*;
use crate::outbound::webhooks::url::MAX_URL;

fn loopback() -> Option<IsAllowed> {
    Some(Arc::new(|address: IpAddr| address == IpAddr::from([127, 0, 0, 1])))
}

fn public_only() -> WebhookClient {
    WebhookClient::new(None).unwrap()
}

/// Creates a client that resolves names with `find`. The client calls `find` for each lookup.
fn resolving_to(
    allowed: Option<IsAllowed>,
    find: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static,
) -> WebhookClient {
    let lookup: Lookup = Arc::new(move |name| Box::pin(std::future::ready(Ok(find(&name)))));
    WebhookClient::with(allowed, lookup, tls::client_config().unwrap())
}

#[test]
fn url_must_be_https_and_public_or_allowed() {
    use UrlProblem::{Insecure, NotAUrl, Private, TooLong, Userinfo};
    let client = public_only();
    for good in [
        "https://shop.example/hooks",
        " https://shop.example:8443/hooks?a=b ",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        // A name passes this check, because its addresses are checked after it is resolved.
        "https://localhost/",
    ] {
        assert!(client.check_url(good).is_ok(), "{good}");
    }
    let long = format!("https://shop.example/{}", "x".repeat(MAX_URL));
    for (bad, why) in [
        ("", NotAUrl),
        ("shop.example", NotAUrl),
        ("ftp://shop.example/", NotAUrl),
        ("file:///etc/passwd", NotAUrl),
        ("https://", NotAUrl),
        (long.as_str(), TooLong),
        ("http://shop.example/", Insecure),
        ("http://127.0.0.1/", Insecure),
        ("https://me@shop.example/", Userinfo),
        ("https://me:secret@shop.example/", Userinfo),
        ("https://shop.example/#part", Userinfo),
        ("https://127.0.0.1/", Private),
        // The following four URLs contain alternative notations of 127.0.0.1. Browsers and older resolvers accept them.
        ("https://127.1/", Private),
        ("https://0x7f000001/", Private),
        ("https://2130706433/", Private),
        ("https://0177.0.0.1/", Private),
        ("https://10.1.2.3/", Private),
        ("https://169.254.169.254/latest/meta-data/", Private),
        ("https://[::1]/", Private),
        ("https://[::ffff:10.0.0.1]/", Private),
        ("https://[64:ff9b::a9fe:a9fe]/", Private),
        ("https://[fd00::1]/", Private),
    ] {
        assert_eq!(client.check_url(bad), Err(why), "{bad}");
    }
    let with_loopback = WebhookClient::new(loopback()).unwrap();
    assert!(
        with_loopback.check_url("http://127.0.0.1:9/").is_ok()
            && with_loopback.check_url("https://127.0.0.1:9/").is_ok()
    );
    assert_eq!(with_loopback.check_url("http://127.0.0.2:9/"), Err(Private));
    assert_eq!(with_loopback.check_url("http://8.8.8.8/"), Err(Insecure), "public addresses only with TLS");
}

#[tokio::test]
async fn connection_to_a_name_with_a_private_address_is_rejected() {
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    // The system's resolver resolves this host name to a loopback address.
    let url = format!("https://localhost:{port}/");
    assert_eq!(public_only().post(&url, &[], "{}").await, Err(DeliveryError::Unresolved));
    for hidden in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"]
    {
        let address: IpAddr = hidden.parse().unwrap();
        let client = resolving_to(None, move |_| vec![address]);
        let url = format!("https://shop.example:{port}/");
        assert_eq!(client.post(&url, &[], "{}").await, Err(DeliveryError::Unresolved), "{hidden}");
    }
    // Allowing one address does not allow its whole network.
    let client = resolving_to(loopback(), |_| vec![IpAddr::from([127, 0, 0, 2])]);
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://shop.example:{port}/");
        assert_eq!(client.post(&url, &[], "{}").await, Err(DeliveryError::Unresolved), "{scheme}");
    }
    // Connections to public addresses require TLS.
    let client = resolving_to(loopback(), |_| vec![IpAddr::from([8, 8, 8, 8])]);
    let url = format!("http://shop.example:{port}/");
    assert_eq!(client.post(&url, &[], "{}").await, Err(DeliveryError::Unresolved));
    assert_eq!(receiver.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn resolver_returns_only_allowed_addresses() {
    let found: Vec<IpAddr> =
        ["10.0.0.1", "8.8.8.8", "::1", "127.0.0.1", "2606:4700::1"].map(|ip| ip.parse().unwrap()).into();
    let resolved = async |with_public, is_allowed| {
        let found = found.clone();
        let lookup: Lookup = Arc::new(move |_| Box::pin(std::future::ready(Ok(found.clone()))));
        let addresses = resolver(lookup, with_public, is_allowed).call("shop.example".parse().unwrap()).await;
        addresses.map(|all| all.map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")).ok()
    };
    assert_eq!(resolved(true, None).await.as_deref(), Some("8.8.8.8 2606:4700::1"));
    assert_eq!(resolved(true, loopback()).await.as_deref(), Some("8.8.8.8 127.0.0.1 2606:4700::1"));
    assert_eq!(resolved(false, loopback()).await.as_deref(), Some("127.0.0.1"));
    assert_eq!(resolved(false, None).await, None);
}

#[tokio::test]
async fn name_is_resolved_and_checked_again_for_each_connection() {
    let receiver = Receiver::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let times = asked.clone();
    // The first lookup returns an allowed address, and all later lookups return a forbidden one.
    let client = resolving_to(loopback(), move |_| {
        let last = if times.fetch_add(1, SeqCst) == 0 { 1 } else { 9 };
        vec![IpAddr::from([127, 0, 0, last])]
    });
    let url = format!("http://shop.example:{}/", receiver.address.port());
    // A connection cannot be reused after an endless response, so the second request needs another lookup.
    receiver.reply(Reply::Endless);
    assert_eq!(client.post(&url, &[], "{}").await, Ok(200));
    assert_eq!(client.post(&url, &[], "{}").await, Err(DeliveryError::Unresolved));
    assert_eq!((asked.load(SeqCst), receiver.received().len()), (2, 1));
}

#[tokio::test]
async fn connections_are_reused_and_errors_are_classified() {
    let receiver = Receiver::start().await;
    let mut client = WebhookClient::new(loopback()).unwrap();
    for _ in 0..5 {
        assert_eq!(client.post(&receiver.url(), &[("webhook-id", "evt_1".into())], "{}").await, Ok(200));
    }
    assert_eq!(receiver.connections.load(SeqCst), 1);
    let request = receiver.received().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str(), request.id()), ("POST", "/hooks?of=shop", "evt_1"));
    client.set_timeout(Duration::from_secs(1));
    receiver.reply(Reply::Silence);
    assert_eq!(client.post(&receiver.url(), &[], "{}").await, Err(DeliveryError::TimedOut(1)));
    // No process listens on port 1.
    let refused = client.post("http://127.0.0.1:1/", &[], "{}").await;
    assert!(matches!(&refused, Err(DeliveryError::Unreachable(why)) if why.contains("refused")), "{refused:?}");
    client.set_timeout(REQUEST_TIMEOUT);
    assert_eq!(client.post("https://unknown.invalid/", &[], "{}").await, Err(DeliveryError::Unresolved));
}

#[tokio::test(start_paused = true)]
async fn private_unknown_and_slow_names_are_indistinguishable() {
    let lookup: Lookup = Arc::new(|name: String| {
        Box::pin(async move {
            match name.as_str() {
                "private.example" => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
                "empty.example" => Ok(Vec::new()),
                "slow.example" => std::future::pending().await,
                _ => Err(io::Error::other("Name or service not known")),
            }
        })
    });
    let client = WebhookClient::with(None, lookup, tls::client_config().unwrap());
    let mut seen = HashSet::new();
    for name in ["private.example", "unknown.example", "empty.example", "slow.example"] {
        let began = Instant::now();
        let problem = client.post(&format!("https://{name}/"), &[], "{}").await.unwrap_err();
        // Durations are compared in units of 10 ms, because timers have a resolution of 1 ms.
        seen.insert((problem.to_string(), began.elapsed().as_millis() / 10));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

/// Creates a self-signed certificate for 127.0.0.1.
fn certificate(folder: &Path) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=shop.example", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output();
    assert!(made.is_ok_and(|made| made.status.success()), "openssl");
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    (certificate, PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap())
}

#[tokio::test]
async fn receiver_without_trusted_certificate_receives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let receiver = Receiver::start_with(Some(TlsAcceptor::from(Arc::new(server)))).await;
    let url = format!("https://{}/hooks", receiver.address);
    let refused = WebhookClient::new(loopback()).unwrap().post(&url, &[], "{}").await;
    assert!(matches!(&refused, Err(DeliveryError::Unreachable(why)) if why.contains("certificate")), "{refused:?}");
    assert_eq!(receiver.received().len(), 0);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_root_certificates(roots).with_no_client_auth();
    let client = WebhookClient::with(loopback(), system_lookup(), tls);
    assert_eq!(client.post(&url, &[], "{}").await, Ok(200));
    assert_eq!(receiver.received().len(), 1);
}
