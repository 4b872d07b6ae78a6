//! The limits of a node, as its operator set them.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::config::{Cap, Config};
use crate::limits::{Limits, Quotas};
use crate::store::MailQuotas;
use crate::throttle::memory::MemoryThrottle;
use crate::throttle::redis::RedisThrottle;
use crate::throttle::{Quota, Throttle};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

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
    };
    Arc::new(Limits::new(quotas, shared, app.clock.clone()))
}

/// What may leave in an hour.
pub(super) fn mail_quotas(config: &Config) -> MailQuotas {
    let limits = &config.limits;
    MailQuotas {
        per_mailbox: limits.mails_per_mailbox.get(),
        per_host: limits.mails_per_host.get(),
        total: limits.mails_per_installation.get(),
    }
}
