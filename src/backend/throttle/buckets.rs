//! Token buckets in memory. They implement the limits of a single-node server, and limits that each node of a cluster
//! applies separately.
//!
//! **Invariant:** the number of buckets per kind is bounded, regardless of the number of addresses. When the bound is
//! reached, the fullest buckets are removed. They belong to the clients with the fewest recent calls, so clients that
//! are rate limited remain rate limited.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{Kind, Quota, Verdict, Who};

/// Maximum number of buckets per kind. This number of buckets uses about 5 MB.
const MOST: usize = 100_000;

/// Buckets of all kinds. A bucket is stored as the instant at which it will be full, in µs since 1970.
#[derive(Debug)]
pub struct Buckets {
    tables: [Mutex<HashMap<Who, i64>>; Kind::COUNT],
    most: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::with_most(MOST)
    }
}

impl Buckets {
    fn with_most(most: usize) -> Self {
        Self { tables: Default::default(), most }
    }

    /// Takes a token from a bucket, if the bucket has one. Creates a full bucket if there is none for `who`.
    pub fn take(&self, kind: Kind, who: &Who, quota: Quota, now: DateTime<Utc>) -> Verdict {
        let now = now.timestamp_micros();
        let mut table = self.tables[kind as usize].lock();
        if let Some(full_at) = table.get_mut(who) {
            let (next, verdict) = quota.take(*full_at, now);
            *full_at = next;
            return verdict;
        }
        if table.len() >= self.most {
            forget(&mut table, now, self.most);
        }
        let (full_at, verdict) = quota.take(now, now);
        table.insert(who.clone(), full_at);
        verdict
    }
}

impl Buckets {
    /// Puts a token back into a bucket. Has no effect if the bucket has been removed.
    pub fn refund(&self, kind: Kind, who: &Who, quota: Quota, now: DateTime<Utc>) {
        if let Some(full_at) = self.tables[kind as usize].lock().get_mut(who) {
            *full_at = quota.refund(*full_at, now.timestamp_micros());
        }
    }
}

/// Removes all full buckets, and then the fullest of the other buckets until at most three quarters of `most` remain.
/// The scan is rarely repeated, because each scan removes many buckets.
fn forget(table: &mut HashMap<Who, i64>, now: i64, most: usize) {
    table.retain(|_, full_at| *full_at > now);
    let mut surplus = table.len().saturating_sub(most - most.div_ceil(4));
    if surplus == 0 {
        return;
    }
    let mut instants: Vec<i64> = table.values().copied().collect();
    let (_, last, _) = instants.select_nth_unstable(surplus - 1);
    let last = *last;
    table.retain(|_, full_at| {
        let is_removed = *full_at <= last && surplus > 0;
        surplus -= usize::from(is_removed);
        !is_removed
    });
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;
    use crate::domain::clock::{Clock as _, ManualClock, SystemClock};

    fn address(number: u32) -> Who {
        Who::address(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn len(buckets: &Buckets) -> usize {
        buckets.tables.iter().map(|table| table.lock().len()).sum()
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_than_a_fixed_number_of_them() {
        let (buckets, now) = (Buckets::default(), SystemClock.now());
        let quota = Quota::new(600, Duration::from_secs(60));
        for number in 0..300_000_u128 {
            let network = Ipv6Addr::from_bits(number << 64);
            assert!(buckets.take(Kind::Handshake, &Who::address(network.into()), quota, now).passes);
        }
        assert!((MOST / 2..=MOST).contains(&len(&buckets)));
        // Addresses of one network share a bucket, so these calls add no buckets.
        let before = len(&buckets);
        for host in 0..1_000 {
            let address = Ipv6Addr::from_bits(299_999 << 64 | host);
            buckets.take(Kind::Handshake, &Who::address(address.into()), quota, now);
        }
        assert_eq!(len(&buckets), before);
    }

    #[test]
    fn a_rejected_client_stays_rejected_through_a_flood_of_others() {
        let (buckets, now) = (Buckets::with_most(100), SystemClock.now());
        let quota = Quota::new(3, Duration::from_secs(60));
        let loud = address(0);
        assert_eq!((0..5).filter(|_| buckets.take(Kind::Mail, &loud, quota, now).passes).count(), 3);
        for number in 1..10_000 {
            assert!(buckets.take(Kind::Mail, &address(number), quota, now).passes);
            assert!(len(&buckets) <= 100);
        }
        assert!(!buckets.take(Kind::Mail, &loud, quota, now).passes);
    }

    #[test]
    fn a_flood_of_one_kind_does_not_affect_another() {
        let (buckets, now) = (Buckets::with_most(10), SystemClock.now());
        let quota = Quota::new(1, Duration::from_secs(60));
        assert!(buckets.take(Kind::Mail, &address(0), quota, now).passes);
        (0..1_000).for_each(|number| _ = buckets.take(Kind::Handshake, &address(number), quota, now));
        assert!(!buckets.take(Kind::Mail, &address(0), quota, now).passes);
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_rejection() {
        let (buckets, now) = (Buckets::default(), SystemClock.now());
        let hour = Duration::from_secs(3_600);
        let quota = Quota::new(6, hour);
        let passes = |now| buckets.take(Kind::Mail, &address(0), quota, now).passes;
        assert_eq!((0..10).filter(|_| passes(now + 1_000 * hour)).count(), 6);
        assert!(!passes(now));
        assert!(passes(now + hour / 6) && !passes(now + hour / 6));
    }

    #[test]
    fn full_buckets_are_removed_first() {
        let (buckets, clock) = (Buckets::with_most(10), ManualClock::new(SystemClock.now()));
        let quota = Quota::new(60, Duration::from_secs(60));
        (0..10).for_each(|number| _ = buckets.take(Kind::Room, &address(number), quota, clock.now()));
        clock.advance(Duration::from_secs(1));
        buckets.take(Kind::Room, &address(10), quota, clock.now());
        assert_eq!(len(&buckets), 1);
    }
}
