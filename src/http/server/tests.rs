//! The accept loop over a real socket: what only a connection can show.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

async fn serve_hello(head_timeout: Duration) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let hello = warp::any()
        .and(warp::ext::get::<Peer>())
        .map(|Peer(peer)| reply::text(StatusCode::OK, "text/plain", format!("hello {}", SocketAddr::ip(&peer)).into()));
    tracker.spawn(run(listener, hello, head_timeout, shutdown.clone(), tracker.clone()));
    Running { address, shutdown, tracker }
}

async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
    answer.truncate(read);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_know_their_peer_and_head_has_no_body() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let got = ask(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("hello 127.0.0.1"), "{got}");
    let head = ask(&mut stream, "HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.contains("content-length: 15\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_head_past_the_limit_is_refused() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    assert!(ask(&mut stream, &long).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_shutdown_frees_idle_connections_and_the_port() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    let mut used = TcpStream::connect(running.address).await.unwrap();
    ask(&mut used, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    running.shutdown.cancel();
    running.tracker.close();
    timeout(Duration::from_secs(5), running.tracker.wait()).await.unwrap();
    assert_eq!(used.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn who_says_nothing_or_half_a_request_is_dropped() {
    let running = serve_hello(Duration::from_millis(200)).await;
    for beginning in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{beginning:?}");
    }
}

/// What is answered to a request on a connection of its own, and whether the connection is closed behind it.
async fn once(running: &Running, request: &str) -> (String, bool) {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match timeout(Duration::from_secs(1), stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8(answer).unwrap(), true),
            Ok(Ok(read)) => answer.extend_from_slice(&piece[..read]),
            Err(_) => return (String::from_utf8(answer).unwrap(), false),
        }
    }
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    for head in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nhost:",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b",
        "GET / HTTP/1.1\r\nhost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nhost: a, b",
        "GET / HTTP/1.1\r\nhost: a/x",
        "GET http://b/ HTTP/1.1\r\nhost: a",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked",
    ] {
        let (answer, is_closed) = once(&running, &format!("{head}\r\n\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{head:?}: {answer}");
        assert!(is_closed, "{head:?}");
    }
}

#[tokio::test]
async fn nothing_is_read_behind_a_chunked_request() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    for head in [
        "host: a\r\ntransfer-encoding: chunked",
        "host: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
        "host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let (answer, is_closed) =
            once(&running, &format!("POST / HTTP/1.1\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}")).await;
        assert_eq!((answer.matches("HTTP/1.1").count(), is_closed), (1, true), "{head:?}: {answer}");
    }
    // One whose end is plain goes on.
    let plain = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let (answer, is_closed) = once(&running, &plain.repeat(2)).await;
    assert_eq!((answer.matches("HTTP/1.1 200").count(), is_closed), (2, false));
}
