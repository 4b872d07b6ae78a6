//! Storage of profile images, shared by all nodes: a folder, or a bucket of an S3 API ([`MediaLocation`]).
//!
//! `profile_images` stores the [`Picture`] of an upload, `http` serves it, and `pintalk check` tests the storage.
//!
//! **Invariant:** an object has a random name ([`ImageKey`]) and never changes: it is written once, atomically, and
//! later deleted. Names contain no user input and cannot refer to a path outside the storage.

mod key;
mod location;
mod picture;
mod s3_http;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

use crate::domain::Rng;

pub use key::{ImageKey, ImageType};
pub use location::{InvalidMediaLocation, MediaLocation, S3Settings};
pub use picture::{ImageRejection, MAX_PIXELS, MAX_SIDE, Picture};

/// Timeout of one storage operation. An HTTP request has 30 s and needs up to two operations.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);

/// Maximum size in bytes of an object that is read. Every picture with sides of at most [`MAX_SIDE`] is smaller.
const MAX_OBJECT: u64 = 4 * 1024 * 1024;

/// Error of the storage. The caller may retry later. The text is intended for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MediaError(String);

impl From<object_store::Error> for MediaError {
    /// Converts an error. The text includes the causes that the message of the error omits.
    fn from(error: object_store::Error) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        Self(causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
            if text.contains(&cause) { text } else { format!("{text}: {cause}") }
        }))
    }
}

/// Storage of images. Clones share their connections.
#[derive(Clone)]
pub struct Media {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Media({})", self.objects)
    }
}

impl Media {
    /// Opens a storage. A missing folder is created. A bucket is not contacted yet.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created, or the settings of the bucket are invalid.
    pub fn open(location: &MediaLocation) -> Result<Self, MediaError> {
        let (objects, prefix) = location.open()?;
        Ok(Self { objects, prefix })
    }

    /// Stores an image durably: once this method has returned, the image survives a power failure.
    ///
    /// # Errors
    /// Returns an error if the storage fails. It is then unknown whether the image is stored.
    pub async fn put(&self, key: &ImageKey, bytes: Bytes) -> Result<(), MediaError> {
        let path = self.path(key);
        within_timeout(self.objects.put(&path, PutPayload::from_bytes(bytes))).await?;
        Ok(())
    }

    /// Returns an image, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the storage could not be read, or the object is larger than any image.
    pub async fn get(&self, key: &ImageKey) -> Result<Option<Bytes>, MediaError> {
        let path = self.path(key);
        let reading = async {
            let Some(found) = present(self.objects.get(&path).await)? else { return Ok::<_, MediaError>(None) };
            if found.meta.size > MAX_OBJECT {
                return Err(MediaError(format!("{path} is larger than any stored image")));
            }
            present(found.bytes().await)
        };
        within_timeout(reading).await
    }

    /// Returns whether an image exists.
    ///
    /// # Errors
    /// Returns an error if the storage could not be read.
    pub async fn has(&self, key: &ImageKey) -> Result<bool, MediaError> {
        let path = self.path(key);
        within_timeout(async { Ok::<_, MediaError>(present(self.objects.head(&path).await)?.is_some()) }).await
    }

    /// Deletes an image. Deleting a missing image is not an error.
    ///
    /// # Errors
    /// Returns an error if the storage fails. It is then unknown whether the image exists.
    pub async fn delete(&self, key: &ImageKey) -> Result<(), MediaError> {
        let path = self.path(key);
        let deleting = async {
            match self.objects.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                result => result,
            }
        };
        within_timeout(deleting).await
    }

    /// Stores, reads and deletes an object. `pintalk check` calls this method.
    ///
    /// # Errors
    /// Returns the error of the first operation that fails.
    pub async fn try_out(&self, rng: &Rng) -> Result<(), MediaError> {
        let key = ImageKey::from_random(rng.bytes(), ImageType::Png);
        let probe = Bytes::from_static(b"pintalk check");
        self.put(&key, probe.clone()).await?;
        let found = self.get(&key).await;
        self.delete(&key).await?;
        match found? {
            Some(found) if found == probe => Ok(()),
            Some(_) | None => Err(MediaError("the object that was stored cannot be read".to_owned())),
        }
    }

    fn path(&self, key: &ImageKey) -> Path {
        self.prefix.clone().join(key.as_str())
    }
}

/// Maps errors about missing objects to `None`. A denied access counts as a missing object: S3 returns 403 for a
/// missing object if the credentials do not allow listing the bucket.
fn present<T>(found: object_store::Result<T>) -> Result<Option<T>, MediaError> {
    use object_store::Error::{NotFound, PermissionDenied};
    match found {
        Ok(found) => Ok(Some(found)),
        Err(NotFound { .. }) => Ok(None),
        Err(error @ PermissionDenied { .. }) => {
            tracing::debug!(%error, "media store denied access, treating image as missing");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs an operation with the timeout [`OPERATION_TIMEOUT`].
async fn within_timeout<T, E>(operation: impl Future<Output = Result<T, E>>) -> Result<T, MediaError>
where
    MediaError: From<E>,
{
    match tokio::time::timeout(OPERATION_TIMEOUT, operation).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(MediaError(format!("no response within {} s", OPERATION_TIMEOUT.as_secs()))),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
