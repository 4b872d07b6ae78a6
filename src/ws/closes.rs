//! Counts closed sockets by close code.

use crate::protocol::Close;

pub(super) fn count_close(close: Close) {
    metrics::counter!(crate::domain::metric::CLOSES, "code" => close.code().to_string()).increment(1);
}
