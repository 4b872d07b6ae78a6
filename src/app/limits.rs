//! The limits of a node, as its operator set them.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::config::{Cap, Config};
use crate::limits::{ByteQuota, Limits, Quotas};
use crate::session::Rate;
use crate::throttle::memory::MemoryThrottle;
use crate::throttle::redis::RedisThrottle;
use crate::throttle::{Quota, Throttle};
use crate::ws::ByteRates;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Bytes per second that are read of a socket and of an address.
pub(super) fn byte_rates(config: &Config) -> ByteRates {
    let limits = &config.limits;
    let rate = |per_second: Cap, burst: Cap| {
        per_second.get().map(|per_second| Rate { per_second, burst: burst.get().unwrap_or(u32::MAX) })
    };
    ByteRates {
        socket: rate(limits.socket_bytes_per_second, limits.socket_burst_bytes),
        address: rate(limits.address_bytes_per_second, limits.address_bytes_per_second),
    }
}

pub(super) fn limits(app: &App) -> Arc<Limits> {
    let shared: Arc<dyn Throttle> = match &app.redis {
        Some(redis) => Arc::new(RedisThrottle::new(redis.clone())),
        None => Arc::new(MemoryThrottle::new(app.clock.clone())),
    };
    let every = |span: Duration, cap: Cap| cap.get().map(|count| Quota::new(count, span));
    let limits = &app.config.limits;
    let quotas = Quotas {
        handshakes: every(MINUTE, limits.handshakes_per_minute),
        rooms: every(MINUTE, limits.rooms_per_minute),
        logins_per_address: every(MINUTE, limits.logins_per_address),
        logins_per_account: every(MINUTE, limits.logins_per_account),
        mails: every(HOUR, limits.mails_per_hour),
        // Twice as many: whoever asks too often for somebody else leaves him some.
        mails_per_mailbox: limits.mails_per_hour.get().map(|count| Quota::new(count.saturating_mul(2), HOUR)),
        webhook_tests: every(MINUTE, limits.webhook_tests_per_minute),
        host_bytes: limits.host_mib_per_day.get().map(|mib| ByteQuota::per_day(u64::from(mib) * 1_048_576)),
    };
    Arc::new(Limits::new(quotas, shared, app.clock.clone()))
}
