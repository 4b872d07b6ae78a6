use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const OPTIONS: ClientOptions = ClientOptions {
    connect_timeout: Duration::from_secs(5),
    request_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
    max_idle_connections: 4,
    max_head_bytes: 16 * 1024,
    schemes: Schemes::HttpsAndHttp,
};

/// Starts a server that sends `response` to the first request of each connection and keeps the connection open.
async fn server(response: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(response.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    address
}

async fn fetch(address: SocketAddr, options: ClientOptions) -> Result<Response<Bytes>, RequestError> {
    let request = Request::get(format!("http://{address}/")).body(Bytes::new()).unwrap();
    HttpClient::new(options).unwrap().fetch(request, 10).await
}

#[tokio::test]
async fn response_is_limited_in_head_body_and_time() {
    let response = |head: &str, length: usize| format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\n\r\n");
    let exact = server(response("", 10) + "0123456789").await;
    assert_eq!(fetch(exact, OPTIONS).await.unwrap().body().as_ref(), b"0123456789");
    let long_body = server(response("", 11) + "0123456789a").await;
    assert!(matches!(fetch(long_body, OPTIONS).await, Err(RequestError::Body(_))));
    let long_head = server(response(&format!("x-long: {}\r\n", "x".repeat(20_000)), 0)).await;
    assert!(matches!(fetch(long_head, OPTIONS).await, Err(RequestError::Interrupted(_))));
    let short = ClientOptions { request_timeout: Duration::from_millis(200), ..OPTIONS };
    for unfinished in [String::new(), response("", 10)] {
        let address = server(unfinished).await;
        assert!(matches!(fetch(address, short).await, Err(RequestError::TimedOut(_))));
    }
}

#[tokio::test]
async fn client_for_https_does_not_connect_without_tls() {
    let address = server("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    assert_eq!(fetch(address, OPTIONS).await.unwrap().status(), 204);
    let refused = fetch(address, ClientOptions { schemes: Schemes::Https, ..OPTIONS }).await;
    assert!(matches!(refused, Err(RequestError::Connect(_))), "{refused:?}");
}

#[tokio::test]
async fn failed_connection_is_reported_with_its_cause() {
    let refused = fetch(SocketAddr::from(([127, 0, 0, 1], 1)), OPTIONS).await.unwrap_err();
    let RequestError::Connect(error) = refused else { panic!("{refused:?}") };
    assert!(innermost(&error).to_string().contains("refused"), "{error:?}");
}
