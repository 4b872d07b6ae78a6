//! Lengths of the archive queues in Redis, which contain the messages that are not in the database yet.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::Failure;
use crate::socket::TIME_LIMIT;

/// Connection to the Redis whose archive queues are read.
pub(crate) struct Queues {
    address: String,
    redis: BufReader<TcpStream>,
    /// Commands that each read the length of one queue.
    commands: Vec<String>,
}

impl Queues {
    /// Connects to a Redis at `host:port` and finds its queues.
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("--await-archive: {address}: {error}"));
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_read_timeout(Some(TIME_LIMIT)).map_err(failed)?;
        let mut queues = Self { address: address.to_owned(), redis: BufReader::new(stream), commands: Vec::new() };
        queues.commands =
            queues.find().map_err(|error| Failure::new(format!("--await-archive: {address}: {error}")))?;
        Ok(queues)
    }

    /// Returns the number of messages that wait for the archiver, summed over all queues.
    pub(crate) fn waiting(&mut self) -> Result<u64, Failure> {
        self.ask().map_err(|error| Failure::new(format!("--await-archive: {}: {error}", self.address)))
    }

    /// Returns one command for each queue of the installation that owns this Redis.
    fn find(&mut self) -> Result<Vec<String>, String> {
        let installation = self.get("pt:installation")?;
        let partitions = self.get(&format!("pt:{installation}:partitions"))?;
        let partitions: u16 = partitions.parse().map_err(|_| format!("{partitions:?} partitions"))?;
        Ok((0..partitions).map(|partition| format!("XLEN pt:{installation}:{{{partition}}}:queue\r\n")).collect())
    }

    fn get(&mut self, key: &str) -> Result<String, String> {
        self.redis.get_mut().write_all(format!("GET {key}\r\n").as_bytes()).map_err(|error| error.to_string())?;
        let length = self.line()?;
        if !length.starts_with('$') || length == "$-1" {
            return Err(format!("no node has started on this Redis: {key} is {length:?}"));
        }
        self.line()
    }

    fn ask(&mut self) -> Result<u64, String> {
        let commands = self.commands.concat();
        self.redis.get_mut().write_all(commands.as_bytes()).map_err(|error| error.to_string())?;
        let mut sum = 0;
        for _ in 0..self.commands.len() {
            let line = self.line()?;
            let number = line.strip_prefix(':').and_then(|number| number.parse::<u64>().ok());
            sum += number.ok_or_else(|| format!("Redis answers {line:?}"))?;
        }
        Ok(sum)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.redis.read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(line.trim_end().to_owned())
    }
}
