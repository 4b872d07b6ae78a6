//! Raises the file descriptor limit of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Upper bound of the raised limit. Some systems permit a thousand times as many file descriptors, which a node does
/// not need.
const MOST: u64 = 1_048_576;

/// Raises the soft limit to the hard limit, but not above `MOST`. Returns the resulting limit.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(MOST), limit.maximum.unwrap_or(MOST).min(MOST));
    if soft >= hard {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: limit.maximum }) {
        Ok(()) => {
            tracing::debug!(from = soft, to = hard, "raised file descriptor limit");
            hard
        }
        Err(error) => {
            tracing::warn!(%error, limit = soft, "failed to raise file descriptor limit");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: Some(256), maximum: limit.maximum };
        setrlimit(Resource::Nofile, lowered).unwrap();
        let raised = raise_descriptor_limit();
        assert_eq!(raised, limit.maximum.unwrap_or(MOST).min(MOST));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(raised));
    }
}
