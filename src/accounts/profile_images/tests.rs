use std::path::Path;

use super::*;
use crate::domain::clock::SystemClock;
use crate::domain::{Host, HostUuid};
use crate::outbound::media::MediaLocation;
use crate::outbound::media::testing::png;
use crate::store::testing::on_fresh;
use crate::store::{Dialect, NewHost};

struct Setup {
    images: ProfileImages,
    store: Store,
    host: Host,
    folder: tempfile::TempDir,
}

async fn setup(store: Store) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let media = Media::open(&MediaLocation::Folder(folder.path().to_owned())).unwrap();
    let images = ProfileImages::new(media, store.clone(), Arc::new(SystemClock), Rng::from_seed(1));
    let host = NewHost {
        email: "dev@shop.example".into(),
        uuid: HostUuid::from_random([1; 16]),
        password_hash: String::new(),
        access_key: "a".repeat(22),
        secret_key: "5".repeat(64),
        service_name: "Shop".into(),
        service_expl: String::new(),
        service_domain: None,
    };
    let host = store.hosts().create(host, SystemClock.now()).await.unwrap();
    Setup { images, store, host, folder }
}

impl Setup {
    async fn upload(&self, side: u32) -> Result<bool, Fault> {
        let picture = self.images.prepare(png(side, side).into()).await.unwrap();
        self.images.replace(self.host.id, Some(picture)).await
    }

    /// Returns the image key in the row of the test's host. Returns an empty list if the host has no image.
    async fn referred(&self) -> Vec<String> {
        self.store.hosts().get(self.host.id).await.unwrap().unwrap().profile_image.into_iter().collect()
    }
}

fn kept(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn with_setup<F>(test: impl FnOnce(Setup) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move { test(setup(store).await).await }).await;
}

#[tokio::test]
async fn new_image_or_removal_replaces_the_previous_image() {
    with_setup(|setup| async move {
        assert_eq!(setup.upload(10).await, Ok(true));
        let first = setup.referred().await;
        assert_eq!((first.len(), &first), (1, &kept(setup.folder.path())));
        setup.upload(20).await.unwrap();
        let second = setup.referred().await;
        assert_ne!(first, second);
        assert_eq!(second, kept(setup.folder.path()));
        for _ in 0..2 {
            setup.images.replace(setup.host.id, None).await.unwrap();
            assert_eq!((setup.referred().await.len(), kept(setup.folder.path()).len()), (0, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_concurrent_uploads_is_kept() {
    with_setup(|setup| async move {
        let uploads = (1..=8).map(|side| setup.upload(side));
        for outcome in futures_util::future::join_all(uploads).await {
            outcome.unwrap();
        }
        assert_eq!(setup.referred().await, kept(setup.folder.path()));
    })
    .await;
}

#[tokio::test]
async fn rejected_upload_and_upload_without_host_leave_no_file() {
    with_setup(|mut setup| async move {
        let refused = setup.images.prepare(Bytes::from_static(b"<html>")).await;
        assert_eq!(refused, Err(ProfileImageError::Refused(ImageRejection::Unknown)));
        setup.host.id = HostId(999);
        assert_eq!(setup.upload(10).await, Ok(false));
        assert_eq!(kept(setup.folder.path()).len(), 0);
    })
    .await;
}

#[tokio::test]
async fn no_image_is_deleted_while_sql_is_unavailable() {
    with_setup(|setup| async move {
        setup.upload(10).await.unwrap();
        let before = kept(setup.folder.path());
        setup.store.clone().close().await;
        assert!(setup.upload(20).await.is_err());
        let after = kept(setup.folder.path());
        assert!(before.iter().all(|name| after.contains(name)), "every image that SQL refers to exists");
    })
    .await;
}

#[tokio::test]
async fn concurrent_uploads_are_bounded() {
    with_setup(|setup| async move {
        let places: Vec<_> = (0..100)
            .filter_map(|at| setup.images.try_upload(HostId(at), IpAddr::from([192, 0, 2, at as u8])).ok())
            .collect();
        assert_eq!(places.len(), UPLOADS);
        drop(places);
        assert!(setup.images.try_upload(HostId(1), IpAddr::from([192, 0, 2, 1])).is_ok());
    })
    .await;
}

#[test]
fn one_host_or_address_cannot_use_all_upload_slots() {
    let uploads = Uploads::default();
    let enter = |host, last: u8| uploads.try_enter(HostId(host), IpAddr::from([192, 0, 2, last]));
    let refused = |host, last| enter(host, last).err();
    let mut places: Vec<_> = (0..40).filter_map(|at| enter(1, at).ok()).collect();
    assert_eq!((places.len(), refused(1, 99)), (UPLOADS_OF_HOST, Some(NoUploadPlace::Own)));
    places.extend((2..40).filter_map(|host| enter(host, 200).ok()));
    assert_eq!(places.len(), UPLOADS_OF_HOST + UPLOADS_FROM_ADDRESS);
    assert_eq!(refused(50, 200), Some(NoUploadPlace::Own));
    let others: Vec<_> = (100..140).filter_map(|at| enter(i64::from(at), at).ok()).collect();
    assert_eq!(places.len() + others.len(), UPLOADS);
    assert_eq!(refused(99, 99), Some(NoUploadPlace::All));
    drop((places, others));
    assert!(uploads.0.lock().is_empty() && enter(1, 1).is_ok());
}
