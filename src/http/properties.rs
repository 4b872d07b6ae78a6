//! Property tests for the parsers of untrusted input: forwarding headers, cookies, forms and `Host` headers. The tests
//! use random inputs (`PROPTEST_CASES`) and, except for `Host`, a stored corpus of difficult inputs.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;

use super::cookie::{HOST_REFRESH_COOKIE, REFRESH_COOKIE, refresh_tokens};
use super::multipart::{self, Form};
use super::peer::{IsTrustedProxy, client};
use super::request::{Body, Request};
use super::testing::{FORM_TYPE, form};
use super::{HttpSettings, authority};

/// Generates fewer than `most` bytes that a header may contain. Most of the bytes are taken from `special`.
fn text(special: &'static [u8], most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => proptest::sample::select(special),
        1 => b' '..=b'~',
        1 => 128..=u8::MAX,
    ];
    vec(byte, 0..most)
}

fn lines(name: HeaderName, lines: &[Vec<u8>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name.clone(), HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn trusted() -> IsTrustedProxy {
    Arc::new(|address| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10))
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const FORWARDED: &[&[u8]] = &[
    b"",
    b",",
    b"\xff",
    b"unknown",
    b"\"",
    b"[",
    b"]",
    b"[]:1",
    b"[::1]:99999",
    b"::ffff:10.0.0.9",
    b"10.0.0.9, 10.0.0.8",
    b"1.2.3.4:80, 10.0.0.9",
    b"fe80::1%\xc3\xa9",
    b"1.2.3.4%",
    b"\t1.2.3.4\t",
];

/// Checks that bytes to the left of the address added by a trusted proxy have no effect, and that the headers of an
/// untrusted peer are ignored.
fn check_forwarded(left: &[Vec<u8>], real: IpAddr) {
    let mut all = left.to_vec();
    all.push(format!("{real}, 10.0.0.2").into_bytes());
    let proxy: IpAddr = "10.0.0.1".parse().unwrap();
    assert_eq!(client(proxy, &lines(FORWARDED_FOR, &all), &trusted()), real);
    let stranger: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(client(stranger, &lines(FORWARDED_FOR, &all), &trusted()), stranger);
    // If the proxy adds no address, the result may be any address, but parsing must not panic.
    client(proxy, &lines(FORWARDED_FOR, left), &trusted());
}

fn https() -> HttpSettings {
    HttpSettings { public_url: "https://chat.example".into(), ..HttpSettings::default() }
}

const COOKIES: &[&[u8]] = &[
    b"",
    b"=",
    b";;",
    b"a=\xe9",
    b"pintalk_refresh_token",
    b"pintalk_refresh_token=\"",
    b"__host-pintalk_refresh_token=evil",
    b"__Secure-pintalk_refresh_token=evil",
    b" __Host-pintalk_refresh_token =evil",
    b"=__Host-pintalk_refresh_token",
    b"$Version=1; pintalk_refresh_token=evil; $Path=/",
];

/// Checks that the result contains only the server's own cookie, for any cookies that other sites have set.
fn check_cookies(beside: &[Vec<u8>], at: usize) {
    let own = format!("{HOST_REFRESH_COOKIE}=own");
    let is_own_name =
        |line: &Vec<u8>| line.windows(HOST_REFRESH_COOKIE.len()).any(|at| at == HOST_REFRESH_COOKIE.as_bytes());
    let mut all = beside.to_vec();
    all.retain(|line| !is_own_name(line));
    let plain: Vec<String> = refresh_tokens(&lines(COOKIE, &all), &https()).into_iter().map(str::to_owned).collect();
    assert!(plain.iter().all(|token| !token.is_empty() && !token.contains(';')));
    all.insert(at % (all.len() + 1), own.into_bytes());
    assert_eq!(refresh_tokens(&lines(COOKIE, &all), &https()), ["own"]);
    // The request contains the same cookies in a single header line.
    let line = all.join(&b"; "[..]);
    assert_eq!(refresh_tokens(&lines(COOKIE, &[line]), &https()), ["own"]);
}

/// Reads a body that arrives in pieces of the given sizes.
fn read(body: &[u8], pieces: &[usize]) -> Result<Form, String> {
    let mut rest = body;
    let mut sizes = pieces.iter().copied().cycle();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        chunks.push(Ok(Bytes::copy_from_slice(piece)));
        rest = more;
    }
    let mut request = Request {
        method: Method::PATCH,
        path: String::new(),
        query: String::new(),
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(FORM_TYPE))]),
        peer: None,
        client: "127.0.0.1".parse().unwrap(),
        on_upgrade: None,
        body: Body::new(stream::iter(chunks)),
    };
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(multipart::read(&mut request))).map_err(|error| error.to_string())
}

const FORMS: &[&[u8]] = &[
    b"",
    b"--",
    b"------pintalk",
    b"------pintalk--",
    b"------pintalk\r\n",
    b"------pintalk\r\n\r\n\r\n------pintalk--",
    b"------pintalk\r\nContent-Disposition: form-data\r\n\r\nx\r\n------pintalk--\r\n",
    b"------pintalk\r\nContent-Disposition: form-data; name=\"profileImage\"\r\n\r\n\r\n------pintalk--\r\n",
    b"------pintalk\r\nContent-Disposition: form-data; name*=UTF-8''profileName\r\n\r\n\xff\r\n------pintalk--\r\n",
    b"------pintalk\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nx\r\n------pintalk--\r\n",
    b"preamble\r\n------pintalk\nContent-Disposition: form-data; name=description\n\nx\n------pintalk--",
];

/// Checks that the result of parsing a form does not depend on how its body is split.
fn check_form(body: &[u8], pieces: &[usize]) {
    let whole = read(body, &[body.len().max(1)]);
    assert_eq!(read(body, pieces).ok(), whole.ok());
}

#[test]
fn stored_corpora_pass() {
    for line in FORWARDED {
        check_forwarded(&[line.to_vec()], "203.0.113.9".parse().unwrap());
        check_forwarded(&[line.to_vec(), line.to_vec()], "2001:db8::1".parse().unwrap());
    }
    for line in COOKIES {
        check_cookies(&[line.to_vec(), b"pintalk_refresh_token=tossed".to_vec()], 1);
    }
    for body in FORMS {
        for size in 1..=body.len().max(1) {
            check_form(body, &[size]);
        }
    }
}

proptest! {
    #[test]
    fn forwarded_entries_of_the_client_are_ignored(
        left in vec(text(b"0123456789abcdef.:,[]\"% ", 40), 0..4),
        real in prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)],
    ) {
        let real = real.to_canonical();
        let real = if trusted()(real) { "203.0.113.9".parse().unwrap() } else { real };
        check_forwarded(&left, real);
    }

    #[test]
    fn no_other_cookie_hides_the_servers_cookie(
        beside in vec(
            prop_oneof![
                text(b"=;\" ,", 60),
                (proptest::sample::select(vec![REFRESH_COOKIE, "a", ""]), text(b"=\" ,", 20))
                    .prop_map(|(name, value)| [name.as_bytes(), b"=", &value].concat()),
            ],
            0..5,
        ),
        at in any::<usize>(),
    ) {
        check_cookies(&beside, at);
    }

    #[test]
    fn form_is_parsed_the_same_for_any_chunking(
        parts in vec((0..4_usize, vec(any::<u8>(), 0..30)), 0..4),
        noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        pieces in vec(1..40_usize, 1..4),
    ) {
        let names = ["profileImage", "profile_name", "description", "other"];
        let parts: Vec<_> = parts.iter().map(|(name, bytes)| (names[*name], None, bytes.as_slice())).collect();
        let mut body = form(&parts);
        for (at, byte) in noise {
            let at = at.index(body.len());
            body[at] = byte;
        }
        check_form(&body, &pieces);
    }

    #[test]
    fn any_host_header_is_parsed_or_rejected(host in text(b"abc.:[]@/0123456789", 30), target in "[a-z:/@.0-9]{0,20}") {
        let headers = lines(http::header::HOST, &[host]);
        authority::is_own_name(&headers, "https://chat.example");
        let request = http::Request::builder().uri(target);
        if let Ok(mut request) = request.body(()) {
            *request.headers_mut() = headers;
            authority::refusal(&request);
        }
    }
}
