//! Limits of a node, created from its configuration.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::accounts::limits::{ByteQuota, Limits, Quotas};
use crate::backend::throttle::Quota;
use crate::chat::session::Rate;
use crate::node::config::{Cap, Config};
use crate::store::MailQuotas;
use crate::ws::ByteRates;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Ratio of the per-host limit on created rooms to the per-address limit. The per-host limit applies to requests
/// without an `Origin` header, such as those of the host's servers.
const ROOMS_OF_HOST: u32 = 10;

/// Ratio of the limit on image requests to the limit on lookups. A page shows several images.
const IMAGES: u32 = 10;

/// Returns the limits on bytes read per second, for a socket and for an address.
pub(super) fn byte_rates(config: &Config) -> ByteRates {
    let limits = &config.limits;
    let rate = |per_second: Cap, burst: Cap| {
        per_second.get().map(|per_second| Rate { per_second, burst: burst.get().unwrap_or(u32::MAX) })
    };
    ByteRates {
        socket: rate(limits.socket_bytes_per_second, limits.socket_burst_bytes),
        address: rate(limits.address_bytes_per_second, limits.address_bytes_per_second),
        address_daily: limits.address_mib_per_day.get().map(|mib| {
            let burst = mib.saturating_mul(1_048_576);
            Rate { per_second: burst.div_ceil(86_400), burst }
        }),
    }
}

pub(super) fn limits(app: &App) -> Arc<Limits> {
    let times = |factor: u32, span, cap: Cap| cap.get().map(|count| Quota::new(count.saturating_mul(factor), span));
    let every = |span, cap| times(1, span, cap);
    let limits = &app.config.limits;
    let quotas = Quotas {
        handshakes: every(MINUTE, limits.handshakes_per_minute),
        rooms: every(MINUTE, limits.rooms_per_minute),
        rooms_per_host: times(ROOMS_OF_HOST, MINUTE, limits.rooms_per_minute),
        logins_per_address: every(MINUTE, limits.logins_per_address),
        login_failures_per_pair: every(MINUTE, limits.logins_per_account),
        login_failures_per_pair_hour: limits.login_failures_per_hour.get().map(|count| Quota::new(count / 2, HOUR)),
        login_failures_per_account: every(HOUR, limits.login_failures_per_hour),
        mails: every(HOUR, limits.mails_per_hour),
        // The limit is twice the limit per address. Requests from one address then cannot use up the limit of the
        // mailbox.
        mails_per_mailbox: times(2, HOUR, limits.mails_per_hour),
        webhook_tests: every(MINUTE, limits.webhook_tests_per_minute),
        unknown_keys: every(MINUTE, limits.lookups_per_minute),
        sign_ups: every(MINUTE, limits.lookups_per_minute),
        images: times(IMAGES, MINUTE, limits.lookups_per_minute),
        host_bytes: limits.host_mib_per_day.get().map(|mib| ByteQuota::per_day(u64::from(mib) * 1_048_576)),
    };
    Arc::new(Limits::new(quotas, app.backend.throttle.clone(), app.clock.clone()))
}

/// Returns the limits on e-mails sent per hour.
pub(super) fn mail_quotas(config: &Config) -> MailQuotas {
    let limits = &config.limits;
    MailQuotas {
        per_mailbox: limits.mails_per_mailbox.get(),
        per_host: limits.mails_per_host.get(),
        total: limits.mails_per_installation.get(),
    }
}
