//! Guarantees of the image storage, tested on a folder and on a bucket.

use super::*;

/// Opens the bucket that `tests/run` serves on this machine. Never uses a public bucket.
fn bucket() -> Media {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    assert!(
        endpoint.starts_with("http://127.0.0.1:"),
        "AWS_ENDPOINT_URL must name a server of this machine, as tests/run sees to"
    );
    let url = format!("s3://pintalk-tests/{:032x}", u128::from_ne_bytes(Chance::from_entropy().bytes()));
    Media::open(&Place::parse(&url, || Settings::among(std::env::vars())).unwrap()).unwrap()
}

macro_rules! at_every_place {
    ($($name:ident),* $(,)?) => {
        mod folder {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::Media::open(&super::Place::Folder(folder.path().join("a b"))).unwrap()).await;
            })*
        }
        mod bucket {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::bucket()).await;
            })*
        }
    };
}

at_every_place!(an_image_is_there_until_it_is_deleted, what_is_absent_is_no_error, a_place_that_works_can_be_tried_out,);

fn key(byte: u8) -> ImageKey {
    ImageKey::from_random([byte; 16], ImageType::Png)
}

async fn an_image_is_there_until_it_is_deleted(media: Media) {
    let bytes = Bytes::from(vec![7; 300_000]);
    media.put(&key(1), bytes.clone()).await.unwrap();
    media.put(&key(2), Bytes::new()).await.unwrap();
    assert_eq!(media.get(&key(1)).await, Ok(Some(bytes)));
    assert_eq!(media.get(&key(2)).await, Ok(Some(Bytes::new())));
    media.delete(&key(1)).await.unwrap();
    assert_eq!((media.get(&key(1)).await, media.has(&key(1)).await), (Ok(None), Ok(false)));
    assert_eq!(media.has(&key(2)).await, Ok(true));
}

async fn what_is_absent_is_no_error(media: Media) {
    assert_eq!((media.get(&key(3)).await, media.has(&key(3)).await), (Ok(None), Ok(false)));
    media.delete(&key(3)).await.unwrap();
}

async fn a_place_that_works_can_be_tried_out(media: Media) {
    let chance = Chance::from_seed(1);
    media.try_out(&chance).await.unwrap();
    let probe = ImageKey::from_random(Chance::from_seed(1).bytes(), ImageType::Png);
    assert_eq!(media.has(&probe).await, Ok(false), "nothing is left of it");
}

#[tokio::test]
async fn what_is_larger_than_any_image_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let media = Media::open(&Place::Folder(folder.path().to_owned())).unwrap();
    std::fs::write(folder.path().join(key(1).as_str()), vec![0; 4 * 1024 * 1024 + 1]).unwrap();
    assert!(media.get(&key(1)).await.is_err());
}

#[tokio::test]
async fn a_folder_that_goes_away_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Media::open(&Place::Folder("/proc/nowhere".into())).is_err());
    let media = Media::open(&Place::Folder(folder.path().join("images"))).unwrap();
    std::fs::remove_dir(folder.path().join("images")).unwrap();
    std::fs::write(folder.path().join("images"), b"a file now").unwrap();
    assert!(media.try_out(&Chance::from_seed(1)).await.is_err());
}

#[tokio::test]
async fn a_bucket_that_nobody_serves_is_told_in_time() {
    let settings = || {
        let variables =
            [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")];
        Settings::among(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let media = Media::open(&Place::parse("s3://bucket", settings).unwrap()).unwrap();
    let error = media.put(&key(1), Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "the cause is told: {error}");
}
