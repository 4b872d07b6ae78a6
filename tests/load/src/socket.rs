//! Opens a socket with blocking I/O: connects, sends the handshake, and waits until the server has admitted the socket.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::frame::{self, Decoder, Frame, Violation};
use crate::node::Node;

/// Maximum time for each step of opening a socket: the connect, each read and each write.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Key of the example in RFC 6455, section 1.3, and the response to it. Any key would be valid.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Number of sockets per local address. A local address has about 28,000 ports for connections to each node.
const SOCKETS_PER_ADDRESS: usize = 500;

/// Reason why a socket was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("upgrade rejected: {0}")]
    Refused(String),
    #[error("closed with {0}")]
    Closed(u16),
    #[error("{0}")]
    Violation(#[from] Violation),
}

/// Credential with which a socket is opened.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// Origin of a guest's page.
    Origin(String),
    /// Access token of a host.
    Token(String),
}

/// Node, path and credential of a socket that is to be opened.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    pub(crate) credential: &'a Credential,
    /// Number of the socket in this process. It determines the local address.
    pub(crate) index: usize,
}

/// Returns the path of a room's chat socket.
pub(crate) fn chat(room: &str) -> String {
    format!("/ws/chat/{room}/")
}

/// Returns the path of the status socket of a host's guests.
pub(crate) fn status(host: &str) -> String {
    format!("/ws/status/{host}/")
}

/// Socket whose handshake has succeeded.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) decoder: Decoder,
}

impl Target<'_> {
    /// Opens the socket and waits until the server has answered a ping. From then on, the socket receives all messages
    /// of its room. Frames before the answer are dropped, because they contain the history.
    pub(crate) fn open(&self) -> Result<Opened, OpenError> {
        let (mut stream, rest) = self.upgrade()?;
        stream.write_all(&frame::ping())?;
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 16 * 1024];
        let mut settled = Ok(false);
        let mut settle = |input: &[u8]| {
            decoder.read(input, |frame| match frame {
                Frame::Pong => settled = Ok(true),
                Frame::Close(code) => settled = Err(OpenError::Closed(code)),
                Frame::Text(_) | Frame::Ping(_) => {}
            })?;
            std::mem::replace(&mut settled, Ok(false))
        };
        let mut done = settle(&rest)?;
        while !done {
            let len = read_some(&mut stream, &mut buffer)?;
            done = settle(&buffer[..len])?;
        }
        stream.set_nonblocking(true)?;
        Ok(Opened { stream, decoder })
    }

    /// Opens the socket without waiting for its admission.
    pub(crate) fn open_unadmitted(&self) -> Result<Opened, OpenError> {
        let (stream, rest) = self.upgrade()?;
        let mut decoder = Decoder::default();
        let mut closed = None;
        decoder.read(&rest, |frame| match frame {
            Frame::Close(code) => closed = Some(OpenError::Closed(code)),
            Frame::Text(_) | Frame::Ping(_) | Frame::Pong => {}
        })?;
        stream.set_nonblocking(true)?;
        closed.map_or(Ok(Opened { stream, decoder }), Err)
    }

    /// Connects and sends the handshake. Returns a blocking stream, and the bytes received after the response.
    pub(crate) fn upgrade(&self) -> Result<(TcpStream, Vec<u8>), OpenError> {
        let mut stream = connect(self.node.address, self.index)?;
        let (query, origin) = match self.credential {
            Credential::Origin(origin) => (String::new(), format!("Origin: {origin}\r\n")),
            Credential::Token(token) => (format!("?token={token}"), String::new()),
        };
        let request = format!(
            "GET {}{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{origin}\r\n",
            self.path, self.node.authority
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let len = read_some(&mut stream, &mut buffer)?;
            answer.extend_from_slice(&buffer[..len]);
            if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
                let rest = answer.split_off(end + 4);
                if answer.starts_with(b"HTTP/1.1 101") && memchr::memmem::find(&answer, ACCEPT).is_some() {
                    return Ok((stream, rest));
                }
                let first = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
                return Err(OpenError::Refused(String::from_utf8_lossy(first).into_owned()));
            }
        }
    }
}

/// Reads into `buffer` and returns the number of bytes. The end of the stream is reported as close code 1006.
pub(crate) fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, OpenError> {
    match stream.read(buffer) {
        Ok(0) => Err(OpenError::Closed(1006)),
        Ok(len) => Ok(len),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        Err(error) => Err(error.into()),
    }
}

fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V4(to) = address.ip()
        && to.is_loopback()
    {
        socket.bind(&SocketAddr::from((source(index), 0)).into())?;
    }
    socket.connect_timeout(&address.into(), TIME_LIMIT)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    stream.set_write_timeout(Some(TIME_LIMIT))?;
    Ok(stream)
}

/// Returns the local address of a socket. It changes after every [`SOCKETS_PER_ADDRESS`] sockets.
fn source(index: usize) -> Ipv4Addr {
    let address = index / SOCKETS_PER_ADDRESS;
    Ipv4Addr::new(127, 0, 1 + (address / 250 % 250) as u8, 1 + (address % 250) as u8)
}

/// Raises the limit on open files to `files`.
pub(crate) fn allow_files(files: u64) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let maximum = limit.maximum.map_or(files, |maximum| maximum.max(files));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum })
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(maximum) }));
    raised.map_err(|_| {
        let hard = limit.maximum.unwrap_or_default();
        format!("{files} open files are required, but the limit is {hard}: raise `ulimit -n`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_spread_over_loopback_addresses() {
        assert_eq!(source(0), source(SOCKETS_PER_ADDRESS - 1));
        assert_eq!(source(SOCKETS_PER_ADDRESS), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(source(250 * SOCKETS_PER_ADDRESS), Ipv4Addr::new(127, 0, 2, 1));
    }
}
