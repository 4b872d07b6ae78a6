//! How much is not in SQL yet: the lengths of the archive's queues in Redis.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::Failure;
use crate::socket::PATIENCE;

/// Queues `pt:{0}:queue` to `pt:{15}:queue`.
const PARTITIONS: usize = 16;

/// A connection to Redis that asks one thing.
pub(crate) struct Queues {
    address: String,
    redis: BufReader<TcpStream>,
}

impl Queues {
    /// Connects to `host:port`.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("--await-archive: {address}: {error}"));
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { address: address.to_owned(), redis: BufReader::new(stream) })
    }

    /// Messages that wait for the archive.
    pub(crate) fn waiting(&mut self) -> Result<u64, Failure> {
        self.ask().map_err(|error| Failure::new(format!("--await-archive: {}: {error}", self.address)))
    }

    fn ask(&mut self) -> Result<u64, String> {
        let commands: String = (0..PARTITIONS).map(|partition| format!("XLEN pt:{{{partition}}}:queue\r\n")).collect();
        self.redis.get_mut().write_all(commands.as_bytes()).map_err(|error| error.to_string())?;
        let mut sum = 0;
        for _ in 0..PARTITIONS {
            let mut line = String::new();
            self.redis.read_line(&mut line).map_err(|error| error.to_string())?;
            let number = line.trim_end().strip_prefix(':').and_then(|number| number.parse::<u64>().ok());
            sum += number.ok_or_else(|| format!("Redis answers {:?}", line.trim_end()))?;
        }
        Ok(sum)
    }
}
