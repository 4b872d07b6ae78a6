//! An SMTP server that accepts and stores every e-mail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::eventually;

/// Maximum time for an e-mail to arrive, even on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct MailServer {
    pub address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = mails.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = taken.clone();
                tokio::spawn(async move { drop(converse(stream, &taken).await) });
            }
        });
        Self { address, mails, serving }
    }

    /// Waits for an e-mail with a line whose first word consists of `digits` digits, and returns this word.
    pub async fn code(&self, digits: usize) -> String {
        eventually("an e-mail with a code", TIMEOUT, async || {
            let mails = self.mails.lock();
            let mut words = mails.iter().flat_map(|mail| mail.lines()).filter_map(|line| line.split(' ').next());
            words.find(|word| word.len() == digits && word.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned)
        })
        .await
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one SMTP connection. Supports only the commands that a client needs to deliver e-mails.
async fn converse(stream: TcpStream, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = match line.trim_end().get(..4).unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") && stream.read_line(&mut mail).await? > 0 {}
                mails.lock().push(mail);
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 yes",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
