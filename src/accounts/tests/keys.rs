//! Tests of service key rotation.

use super::*;
use crate::store::ExpiringRows;

impl TestAccounts {
    async fn opens(&self, keys: &Host) -> bool {
        self.accounts.key_holder(&keys.access_key, &keys.secret_key).await.unwrap().is_some()
    }

    /// Deletes expired key pairs as the leader's cleanup job does. Returns the number of deleted pairs.
    async fn delete_ended_keys(&self) -> u64 {
        self.accounts.store.expired().delete(ExpiringRows::OldKey, self.clock.now(), 10).await.unwrap()
    }

    async fn rotate(&self, revoke_old: bool) -> Host {
        self.accounts.rotate_keys(self.host.id, revoke_old).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_replaced_pair_of_keys_is_valid_for_a_day() {
    with_a_host(|setup| async move {
        let hour = Duration::from_secs(3_600);
        let second = setup.rotate(false).await;
        assert!(second.access_key != setup.host.access_key && second.secret_key != setup.host.secret_key);
        assert_eq!((second.access_key.len(), second.secret_key.len()), (22, 64));
        setup.clock.advance(hour);
        let third = setup.rotate(false).await;
        setup.clock.advance(22 * hour);
        for keys in [&setup.host, &second, &third] {
            assert!(setup.opens(keys).await);
        }
        let mixed = Host { secret_key: third.secret_key.clone(), ..second.clone() };
        assert!(!setup.opens(&mixed).await, "a secret is valid only with its own access key");
        setup.clock.advance(hour);
        assert_eq!((setup.opens(&setup.host).await, setup.opens(&second).await), (false, true));
        assert_eq!(setup.delete_ended_keys().await, 1);
        setup.clock.advance(hour);
        assert_eq!((setup.opens(&second).await, setup.opens(&third).await), (false, true));
        assert_eq!(setup.delete_ended_keys().await, 1);
        let changed = Control::ConfigChanged { host: setup.host.id };
        assert_eq!(*setup.published.lock().unwrap(), [changed.clone(), changed]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_ends_all_old_keys_and_zero_grace_the_replaced_pair() {
    with_a_host(|setup| async move {
        let second = setup.rotate(false).await;
        let third = setup.rotate(true).await;
        for old in [&setup.host, &second] {
            assert!(!setup.opens(old).await);
        }
        assert!(setup.opens(&third).await);
        let hasty = setup.accounts.clone().with_key_grace(Duration::ZERO);
        let fourth = hasty.rotate_keys(setup.host.id, false).await.unwrap().unwrap();
        assert_eq!((setup.opens(&third).await, setup.opens(&fourth).await), (false, true));
        assert_eq!(setup.accounts.rotate_keys(HostId(999), true).await, Ok(None));
    })
    .await;
}
