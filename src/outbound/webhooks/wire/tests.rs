use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pintalk_kit::webhook_receiver::{Receiver, Reply};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

fn loopback() -> Option<IsAllowed> {
    Some(Arc::new(|address: IpAddr| address == IpAddr::from([127, 0, 0, 1])))
}

fn internet() -> Wire {
    Wire::new(None).unwrap()
}

/// Creates a client whose names resolve to the result of `find`, called for each lookup.
fn leading_to(allowed: Option<IsAllowed>, find: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Wire {
    let lookup: Lookup = Arc::new(move |name| Box::pin(std::future::ready(Ok(find(&name)))));
    Wire::with(allowed, lookup, tls::client_config().unwrap())
}

#[test]
fn a_url_is_of_the_internet_and_secure_or_it_is_allowed() {
    use UrlProblem::{Insecure, NotAUrl, Private, TooLong, Userinfo};
    let wire = internet();
    for good in [
        "https://shop.example/hooks",
        " https://shop.example:8443/hooks?a=b ",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        // Names are checked by the addresses that they resolve to.
        "https://localhost/",
    ] {
        assert!(wire.judge(good).is_ok(), "{good}");
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
        // Alternative notations of addresses that browsers and older resolvers accept.
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
        assert_eq!(wire.judge(bad), Err(why), "{bad}");
    }
    let own = Wire::new(loopback()).unwrap();
    assert!(own.judge("http://127.0.0.1:9/").is_ok() && own.judge("https://127.0.0.1:9/").is_ok());
    assert_eq!(own.judge("http://127.0.0.2:9/"), Err(Private));
    assert_eq!(own.judge("http://8.8.8.8/"), Err(Insecure), "the internet only with TLS");
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    // A real name with the system's resolver.
    let url = format!("https://localhost:{port}/");
    assert_eq!(internet().post(&url, &[], "{}").await, Err(Problem::Unresolved));
    for hidden in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"]
    {
        let address: IpAddr = hidden.parse().unwrap();
        let wire = leading_to(None, move |_| vec![address]);
        let url = format!("https://shop.example:{port}/");
        assert_eq!(wire.post(&url, &[], "{}").await, Err(Problem::Unresolved), "{hidden}");
    }
    // Allowing one address does not allow its whole network.
    let wire = leading_to(loopback(), |_| vec![IpAddr::from([127, 0, 0, 2])]);
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://shop.example:{port}/");
        assert_eq!(wire.post(&url, &[], "{}").await, Err(Problem::Unresolved), "{scheme}");
    }
    // Public addresses are not connected to without TLS.
    let wire = leading_to(loopback(), |_| vec![IpAddr::from([8, 8, 8, 8])]);
    let url = format!("http://shop.example:{port}/");
    assert_eq!(wire.post(&url, &[], "{}").await, Err(Problem::Unresolved));
    assert_eq!(receiver.connections.load(SeqCst), 0);
}

#[tokio::test]
async fn of_several_addresses_only_those_are_handed_out_that_may_be_connected_to() {
    let found: Vec<IpAddr> =
        ["10.0.0.1", "8.8.8.8", "::1", "127.0.0.1", "2606:4700::1"].map(|ip| ip.parse().unwrap()).into();
    let handed_out = async |with_internet, is_allowed| {
        let found = found.clone();
        let lookup: Lookup = Arc::new(move |_| Box::pin(std::future::ready(Ok(found.clone()))));
        let mut guard = Guard { lookup, with_internet, is_allowed };
        let addresses = guard.call("shop.example".parse().unwrap()).await;
        addresses.map(|all| all.map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")).ok()
    };
    assert_eq!(handed_out(true, None).await.as_deref(), Some("8.8.8.8 2606:4700::1"));
    assert_eq!(handed_out(true, loopback()).await.as_deref(), Some("8.8.8.8 127.0.0.1 2606:4700::1"));
    assert_eq!(handed_out(false, loopback()).await.as_deref(), Some("127.0.0.1"));
    assert_eq!(handed_out(false, None).await, None);
}

#[tokio::test]
async fn a_name_is_judged_again_at_each_connection() {
    let receiver = Receiver::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let times = asked.clone();
    // The first lookup returns an allowed address, all later ones a forbidden one.
    let wire = leading_to(loopback(), move |_| {
        let last = if times.fetch_add(1, SeqCst) == 0 { 1 } else { 9 };
        vec![IpAddr::from([127, 0, 0, last])]
    });
    let url = format!("http://shop.example:{}/", receiver.address.port());
    // After an endless response the connection cannot be reused.
    receiver.reply(Reply::Endless);
    assert_eq!(wire.post(&url, &[], "{}").await, Ok(200));
    assert_eq!(wire.post(&url, &[], "{}").await, Err(Problem::Unresolved));
    assert_eq!((asked.load(SeqCst), receiver.received().len()), (2, 1));
}

#[tokio::test]
async fn connections_are_used_again_and_failures_say_what_they_are() {
    let receiver = Receiver::start().await;
    let mut wire = Wire::new(loopback()).unwrap();
    for _ in 0..5 {
        assert_eq!(wire.post(&receiver.url(), &[("webhook-id", "evt_1".into())], "{}").await, Ok(200));
    }
    assert_eq!(receiver.connections.load(SeqCst), 1);
    let request = receiver.received().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str(), request.id()), ("POST", "/hooks?of=shop", "evt_1"));
    wire.time_limit = Duration::from_secs(1);
    receiver.reply(Reply::Silence);
    assert_eq!(wire.post(&receiver.url(), &[], "{}").await, Err(Problem::TimedOut(1)));
    // No process listens on port 1.
    let refused = wire.post("http://127.0.0.1:1/", &[], "{}").await;
    assert!(matches!(&refused, Err(Problem::Unreachable(why)) if why.contains("refused")), "{refused:?}");
    wire.time_limit = TIME_LIMIT;
    assert_eq!(wire.post("https://unknown.invalid/", &[], "{}").await, Err(Problem::Unresolved));
}

#[tokio::test(start_paused = true)]
async fn a_private_name_an_unknown_one_and_one_without_an_answer_look_the_same() {
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
    let wire = Wire::with(None, lookup, tls::client_config().unwrap());
    let mut seen = HashSet::new();
    for name in ["private.example", "unknown.example", "empty.example", "slow.example"] {
        let began = Instant::now();
        let problem = wire.post(&format!("https://{name}/"), &[], "{}").await.unwrap_err();
        // Timers have a resolution of one millisecond.
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
async fn over_tls_only_a_receiver_is_told_whom_an_authority_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let receiver = Receiver::start_with(Some(TlsAcceptor::from(Arc::new(server)))).await;
    let url = format!("https://{}/hooks", receiver.address);
    let refused = Wire::new(loopback()).unwrap().post(&url, &[], "{}").await;
    assert!(matches!(&refused, Err(Problem::Unreachable(why)) if why.contains("certificate")), "{refused:?}");
    assert_eq!(receiver.received().len(), 0);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let wire = Wire::with(loopback(), Arc::new(|name| Box::pin(lookup(name))), client);
    assert_eq!(wire.post(&url, &[], "{}").await, Ok(200));
    assert_eq!(receiver.received().len(), 1);
}
