//! Tests of the accept loop over real TCP connections.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;
use crate::http::testing::with_a_server;

/// Size of a response that exceeds the kernel buffers.
const LARGE: usize = 8 * 1024 * 1024;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

/// Returns settings with limits that a test reaches only if it changes them.
fn serving(keep_alive: Duration) -> ListenerSettings {
    let slots = Slots::new(65_536, None, Arc::new(|_| false));
    ListenerSettings { slots, keep_alive, draining: CancellationToken::new() }
}

async fn serve_hello(head_timeout: Duration) -> Running {
    serve_with(head_timeout, serving(Duration::from_secs(80))).await
}

async fn serve_with(head_timeout: Duration, serving: ListenerSettings) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let hello = warp::any().and(warp::path::full()).and(warp::ext::get::<Peer>()).and(warp::body::bytes()).then(
        async |path: warp::path::FullPath, Peer(peer), _: bytes::Bytes| {
            match path.as_str() {
                "/large" => return reply::text(StatusCode::OK, "text/plain", vec![b'a'; LARGE].into()),
                "/slow" => tokio::time::sleep(Duration::from_millis(500)).await,
                _ => {}
            }
            reply::text(StatusCode::OK, "text/plain", format!("hello {}", SocketAddr::ip(&peer)).into())
        },
    );
    tracker.spawn(run(
        listener,
        hello,
        PreRouting::default(),
        serving,
        head_timeout,
        shutdown.clone(),
        tracker.clone(),
    ));
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
async fn request_has_peer_address_and_head_response_has_no_body() {
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
async fn silent_or_stalled_connection_is_dropped() {
    let running = serve_hello(Duration::from_millis(200)).await;
    for beginning in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{beginning:?}");
    }
}

/// Sends a request on a new connection. Returns the response, and whether the server then closed the connection.
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
async fn ambiguous_request_is_rejected_and_its_connection_closed() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    for head in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nhost:",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b",
        "GET / HTTP/1.1\r\nhost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nhost: a, b",
        "GET / HTTP/1.1\r\nhost: a/x",
        "GET http://b/ HTTP/1.1\r\nhost: a",
        "GET a:1 HTTP/1.1\r\nhost: a:1",
        "CONNECT a:1 HTTP/1.1\r\nhost: a:1",
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
async fn nothing_is_read_after_a_chunked_request() {
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
    // The server keeps the connection open after an unambiguous request.
    let plain = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    let (answer, is_closed) = once(&running, &plain.repeat(2)).await;
    assert_eq!((answer.matches("HTTP/1.1 200").count(), is_closed), (2, false));
}

/// Reads until the peer closes the connection. A reset is an error.
async fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.expect("an end in time").map(|_| rest)
}

#[tokio::test]
async fn idle_connection_outlives_the_head_timeout() {
    let running = serve_with(Duration::from_millis(200), serving(Duration::from_millis(1_500))).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
    // The timeout for a request head starts at its first byte.
    let began = std::time::Instant::now();
    stream.write_all(b"GET / HT").await.unwrap();
    assert!(rest(&mut stream).await.is_ok_and(|rest| rest.is_empty()));
    assert!(began.elapsed() < Duration::from_millis(1_000), "{:?}", began.elapsed());
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    ask(&mut idle, GET).await;
    let began = std::time::Instant::now();
    assert!(rest(&mut idle).await.is_ok_and(|rest| rest.is_empty()), "closed, not reset");
    assert!(began.elapsed() >= Duration::from_millis(1_300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn requests_in_flight_survive_a_shutdown_and_close_their_connections() {
    let serving = serving(Duration::from_secs(80));
    let (draining, running) = (serving.draining.clone(), serve_with(HEAD_TIMEOUT, serving).await);
    let mut kept = TcpStream::connect(running.address).await.unwrap();
    assert!(!ask(&mut kept, GET).await.contains("connection: close"));
    draining.cancel();
    let last = ask(&mut kept, GET).await;
    assert!(last.contains("connection: close") && rest(&mut kept).await.is_ok(), "{last}");
    // One call is in flight. The head of another request has been sent, and its body follows after the shutdown has
    // begun.
    let mut calling = TcpStream::connect(running.address).await.unwrap();
    calling.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.shutdown.cancel();
    half.write_all(b"abc").await.unwrap();
    for stream in [&mut calling, &mut half] {
        let answer = String::from_utf8(rest(stream).await.unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
    running.tracker.close();
    timeout(Duration::from_secs(5), running.tracker.wait()).await.unwrap();
}

#[tokio::test]
async fn peer_that_sends_more_than_was_read_is_not_reset() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // The connection ends after the first request. Two more requests follow in the same write, and one later.
        let last = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{last}{GET}{GET}").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await.expect("no reset");
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_reads_slowly_gets_the_response_and_one_that_does_not_read_is_dropped() {
    let running = serve_hello(HEAD_TIMEOUT).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut deaf = TcpStream::connect(running.address).await.unwrap();
    deaf.write_all(request).await.unwrap();
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(request).await.unwrap();
    let reading = tokio::spawn(async move {
        let (mut read, mut buffer) = (0, vec![0; 128 * 1024]);
        loop {
            match slow.read(&mut buffer).await.expect("no reset") {
                0 => return read,
                more => read += more,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    let began = std::time::Instant::now();
    let read = reading.await.unwrap();
    assert!(read > LARGE && began.elapsed() > Duration::from_secs(10), "{read} in {:?}", began.elapsed());
    tokio::time::sleep((stream::PROGRESS_WINDOW + Duration::from_secs(3)).saturating_sub(began.elapsed())).await;
    running.shutdown.cancel();
    running.tracker.close();
    timeout(Duration::from_secs(2), running.tracker.wait()).await.expect("no connection is left");
    let cut = rest(&mut deaf).await.map_or(0, |rest| rest.len());
    assert!(cut < LARGE, "{cut}");
}

#[tokio::test]
async fn connections_above_the_limit_of_an_address_are_refused_but_health_checks_are_not() {
    let slots = Slots::new(65_536, Some(20), Arc::new(|_| false));
    let serving = ListenerSettings { slots, ..serving(Duration::from_secs(80)) };
    let running = serve_with(HEAD_TIMEOUT, serving).await;
    let mut open = Vec::new();
    for _ in 0..30 {
        // Later connections replace idle ones.
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    open.drain(..10);
    for stream in &mut open {
        // Each connection has a response that the client does not read.
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
    }
    for (path, status) in [("/", "429"), ("/api/x", "429"), ("/health/live", "200"), ("/metrics", "200")] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        rest(&mut stream).await.unwrap();
    }
    // The timeout of reserved slots closes connections that send nothing, so they do not accumulate.
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let began = std::time::Instant::now();
    for stream in &mut silent {
        // The server may have reset a connection that had no slot.
        assert!(rest(stream).await.map_or(true, |rest| rest.is_empty()));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    open.pop();
    let mut again = TcpStream::connect(running.address).await.unwrap();
    let admitted = async {
        while !ask(&mut again, GET).await.starts_with("HTTP/1.1 200") {
            again = TcpStream::connect(running.address).await.unwrap();
        }
    };
    timeout(Duration::from_secs(5), admitted).await.expect("a closed connection makes room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_page_can_read_a_refusal_that_comes_before_routing() {
    with_a_server(|mut server| async move {
        Arc::get_mut(&mut server.app).unwrap().settings.public_url = "https://shop.example/chat".into();
        let slots = Slots::new(65_536, Some(1), Arc::new(|_| false));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let serving = ListenerSettings { slots, ..serving(Duration::from_secs(80)) };
        let (app, pre_routing) = (filter(server.app.clone()), PreRouting::new(server.app.clone()));
        tracker.spawn(run(listener, app, pre_routing, serving, HEAD_TIMEOUT, shutdown.clone(), tracker.clone()));
        let ask_once = async |head: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream, &format!("{head}\r\nhost: x\r\norigin: https://shop.example\r\n\r\n")).await
        };

        // The only connection that this address may have waits for the body of its request.
        let mut busy = TcpStream::connect(address).await.unwrap();
        let head = "POST /api/auth/login/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 2\r\nexpect: 100-continue\r\n\r\n";
        assert!(ask(&mut busy, head).await.starts_with("HTTP/1.1 100"));
        for path in ["/api/users/client/", "/chat/api/users/client/"] {
            let refused = ask_once(&format!("GET {path} HTTP/1.1")).await;
            assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
            for header in [
                "retry-after: 10",
                "access-control-allow-origin: https://shop.example",
                "access-control-expose-headers: content-disposition, retry-after",
                "cache-control: no-store",
            ] {
                assert!(refused.contains(&format!("{header}\r\n")), "{header}: {refused}");
            }
        }
        let preflight = ask_once("OPTIONS /chat/api/chat/ HTTP/1.1\r\naccess-control-request-headers: baggage").await;
        assert!(preflight.starts_with("HTTP/1.1 204") && preflight.contains(", baggage\r\n"), "{preflight}");
        assert!(preflight.contains("connection: close\r\n"), "{preflight}");
        assert!(ask_once("GET /chat/health/live HTTP/1.1").await.starts_with("HTTP/1.1 200"));

        // The body completes the call, which frees the slot of the address. The next request has two `Origin` headers,
        // as if a proxy had added one, and is therefore ambiguous.
        busy.write_all(b"{}").await.unwrap();
        let twice = "GET /chat/api/users/client/ HTTP/1.1\r\norigin: https://shop.example";
        let refused = timeout(Duration::from_secs(5), async {
            loop {
                let refused = ask_once(twice).await;
                if !refused.starts_with("HTTP/1.1 429") {
                    break refused;
                }
            }
        });
        let refused = refused.await.expect("the slot is free once its call has ended");
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        assert!(refused.contains("access-control-allow-origin: https://shop.example\r\n"), "{refused}");
        shutdown.cancel();
    })
    .await;
}

#[tokio::test]
async fn idle_connections_give_way_to_new_ones_when_descriptors_are_short() {
    // Of the 182 descriptors, 22 are available to connections and 160 are reserved.
    let slots = Slots::new(182, None, Arc::new(|_| true));
    let serving = ListenerSettings { slots, ..serving(Duration::from_secs(80)) };
    let running = serve_with(HEAD_TIMEOUT, serving).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    let mut closed = 0;
    for stream in &mut idle {
        if let Ok(read) = timeout(Duration::from_millis(20), stream.read(&mut [0; 8])).await {
            assert_eq!(read.unwrap(), 0, "closed, not reset");
            closed += 1;
        }
    }
    assert!((78..100).contains(&closed), "{closed}");
    assert!(ask(idle.last_mut().unwrap(), GET).await.starts_with("HTTP/1.1 200"), "the newest is kept");
}
