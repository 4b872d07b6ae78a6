use std::path::Path;

use super::*;
use crate::domain::clock::SystemClock;
use crate::domain::{Host, HostUuid};
use crate::outbound::media::Place;
use crate::outbound::media::testing::png;
use crate::store::testing::on_fresh;
use crate::store::{Dialect, NewHost};

struct World {
    images: ProfileImages,
    store: Store,
    host: Host,
    folder: tempfile::TempDir,
}

async fn world(store: Store) -> World {
    let folder = tempfile::tempdir().unwrap();
    let media = Media::open(&Place::Folder(folder.path().to_owned())).unwrap();
    let images = ProfileImages::new(media, store.clone(), Arc::new(SystemClock), Chance::from_seed(1));
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
    World { images, store, host, folder }
}

impl World {
    async fn upload(&self, side: u32) -> Result<(), ProfileImageError> {
        let picture = self.images.prepare(png(side, side).into()).await?;
        self.images.replace(self.host.id, Some(picture)).await
    }

    /// What SQL refers to.
    async fn referred(&self) -> Vec<String> {
        self.store.hosts().get(self.host.id).await.unwrap().unwrap().profile_image.into_iter().collect()
    }
}

fn kept(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn with_a_world<F>(test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move { test(world(store).await).await }).await;
}

#[tokio::test]
async fn a_new_image_replaces_the_one_before_and_none_replaces_it_as_well() {
    with_a_world(|world| async move {
        world.upload(10).await.unwrap();
        let first = world.referred().await;
        assert_eq!((first.len(), &first), (1, &kept(world.folder.path())));
        world.upload(20).await.unwrap();
        let second = world.referred().await;
        assert_ne!(first, second);
        assert_eq!(second, kept(world.folder.path()));
        for _ in 0..2 {
            world.images.replace(world.host.id, None).await.unwrap();
            assert_eq!((world.referred().await.len(), kept(world.folder.path()).len()), (0, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uploads_at_once_one_is_kept() {
    with_a_world(|world| async move {
        let uploads = (1..=8).map(|side| world.upload(side));
        for outcome in futures_util::future::join_all(uploads).await {
            outcome.unwrap();
        }
        assert_eq!(world.referred().await, kept(world.folder.path()));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_no_image_or_nobodys() {
    with_a_world(|mut world| async move {
        let refused = world.images.prepare(Bytes::from_static(b"<html>")).await;
        assert_eq!(refused, Err(ProfileImageError::Refused(Refusal::Unknown)));
        world.host.id = HostId(999);
        assert_eq!(world.upload(10).await, Err(ProfileImageError::NoHost));
        assert_eq!(kept(world.folder.path()).len(), 0);
    })
    .await;
}

#[tokio::test]
async fn while_sql_is_away_no_image_is_deleted() {
    with_a_world(|world| async move {
        world.upload(10).await.unwrap();
        let before = kept(world.folder.path());
        world.store.clone().close().await;
        assert!(matches!(world.upload(20).await, Err(ProfileImageError::Fault(_))));
        let after = kept(world.folder.path());
        assert!(before.iter().all(|name| after.contains(name)), "what SQL refers to is there");
    })
    .await;
}

#[tokio::test]
async fn only_so_many_uploads_are_in_memory() {
    with_a_world(|world| async move {
        let places: Vec<_> = (0..100)
            .filter_map(|at| world.images.try_upload(HostId(at), IpAddr::from([192, 0, 2, at as u8])).ok())
            .collect();
        assert_eq!(places.len(), UPLOADS);
        drop(places);
        assert!(world.images.try_upload(HostId(1), IpAddr::from([192, 0, 2, 1])).is_ok());
    })
    .await;
}

#[test]
fn one_host_or_address_does_not_take_all_the_room_for_uploads() {
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
