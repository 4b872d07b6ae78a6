//! Tests of the guarantees of the image storage, on a folder and on a bucket.

use super::*;

/// Opens the bucket that `tests/run` serves on this machine. Panics unless `AWS_ENDPOINT_URL` names a server on this
/// machine.
fn bucket() -> Media {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    assert!(
        endpoint.starts_with("http://127.0.0.1:"),
        "AWS_ENDPOINT_URL must name a server of this machine, as tests/run does"
    );
    let url = format!("s3://pintalk-tests/{:032x}", u128::from_ne_bytes(Rng::from_entropy().bytes()));
    Media::open(&MediaLocation::parse(&url, || S3Settings::among(std::env::vars())).unwrap()).unwrap()
}

macro_rules! on_folder_and_bucket {
    ($($name:ident),* $(,)?) => {
        mod folder {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::Media::open(&super::MediaLocation::Folder(folder.path().join("a b"))).unwrap()).await;
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

on_folder_and_bucket!(image_exists_until_it_is_deleted, missing_image_is_not_an_error, try_out_leaves_nothing_behind,);

fn key(byte: u8) -> ImageKey {
    ImageKey::from_random([byte; 16], ImageType::Png)
}

async fn image_exists_until_it_is_deleted(media: Media) {
    let bytes = Bytes::from(vec![7; 300_000]);
    media.put(&key(1), bytes.clone()).await.unwrap();
    media.put(&key(2), Bytes::new()).await.unwrap();
    assert_eq!(media.get(&key(1)).await, Ok(Some(bytes)));
    assert_eq!(media.get(&key(2)).await, Ok(Some(Bytes::new())));
    media.delete(&key(1)).await.unwrap();
    assert_eq!((media.get(&key(1)).await, media.has(&key(1)).await), (Ok(None), Ok(false)));
    assert_eq!(media.has(&key(2)).await, Ok(true));
}

async fn missing_image_is_not_an_error(media: Media) {
    assert_eq!((media.get(&key(3)).await, media.has(&key(3)).await), (Ok(None), Ok(false)));
    media.delete(&key(3)).await.unwrap();
}

async fn try_out_leaves_nothing_behind(media: Media) {
    let rng = Rng::from_seed(1);
    media.try_out(&rng).await.unwrap();
    let probe = ImageKey::from_random(Rng::from_seed(1).bytes(), ImageType::Png);
    assert_eq!(media.has(&probe).await, Ok(false), "the probe was deleted");
}

#[tokio::test]
async fn oversized_object_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let media = Media::open(&MediaLocation::Folder(folder.path().to_owned())).unwrap();
    std::fs::write(folder.path().join(key(1).as_str()), vec![0; 4 * 1024 * 1024 + 1]).unwrap();
    assert!(media.get(&key(1)).await.is_err());
}

#[tokio::test]
async fn unusable_folder_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Media::open(&MediaLocation::Folder("/proc/nowhere".into())).is_err());
    let media = Media::open(&MediaLocation::Folder(folder.path().join("images"))).unwrap();
    std::fs::remove_dir(folder.path().join("images")).unwrap();
    std::fs::write(folder.path().join("images"), b"a file now").unwrap();
    assert!(media.try_out(&Rng::from_seed(1)).await.is_err());
}

#[tokio::test]
async fn unreachable_bucket_is_reported_with_the_cause() {
    let settings = || {
        let variables =
            [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")];
        S3Settings::among(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let media = Media::open(&MediaLocation::parse("s3://bucket", settings).unwrap()).unwrap();
    let error = media.put(&key(1), Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
