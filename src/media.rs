//! Profile images, kept where every node finds them: a folder, or a bucket of an S3 API ([`Place`]).
//!
//! `profile_images` puts what [`Picture`] made of an upload, `http` shows it, `pintalk check` tries all of it.
//!
//! **Invariant:** an object is named by chance ([`ImageKey`]) and never changes: it is put once, whole or not at all, and
//! deleted. Nothing that a person wrote is part of a name, and no name leads out of the place.

mod key;
mod picture;
mod place;
mod wire;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

use crate::clock::Chance;

pub use key::{ImageKey, ImageType};
pub use picture::{MAX_PIXELS, MAX_SIDE, Picture, Refusal};
pub use place::{InvalidPlace, Place, Settings};

/// How long a place may take for anything. A call over HTTP has 30 s, and uses up to two of these.
const PATIENCE: Duration = Duration::from_secs(8);

/// The largest object that is read, in bytes: more than any picture of [`MAX_SIDE`] comes to.
const MAX_OBJECT: u64 = 4 * 1024 * 1024;

/// The place does not do what it should: come back. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MediaError(String);

impl From<object_store::Error> for MediaError {
    /// With all the causes that the error itself does not tell.
    fn from(error: object_store::Error) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        Self(causes.map(ToString::to_string).fold(error.to_string(), |told, cause| {
            if told.contains(&cause) { told } else { format!("{told}: {cause}") }
        }))
    }
}

/// The images. Clones share their connections.
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
    /// At a place: a folder is made if it is not there; a bucket is not asked yet.
    ///
    /// # Errors
    /// A folder that cannot be made, or settings of a bucket that make no sense.
    pub fn open(place: &Place) -> Result<Self, MediaError> {
        let (objects, prefix) = place.open()?;
        Ok(Self { objects, prefix })
    }

    /// Keeps an image. When this returns it is there, also after a loss of power.
    ///
    /// # Errors
    /// It may be there or not.
    pub async fn put(&self, key: &ImageKey, bytes: Bytes) -> Result<(), MediaError> {
        let path = self.path(key);
        in_time(self.objects.put(&path, PutPayload::from_bytes(bytes))).await??;
        Ok(())
    }

    /// An image, if there is one.
    ///
    /// # Errors
    /// The place does not answer.
    pub async fn get(&self, key: &ImageKey) -> Result<Option<Bytes>, MediaError> {
        let path = self.path(key);
        let reading = async {
            let Some(found) = present(self.objects.get(&path).await)? else { return Ok(None) };
            if found.meta.size > MAX_OBJECT {
                return Err(MediaError(format!("{path} is larger than any image of ours")));
            }
            present(found.bytes().await)
        };
        in_time(reading).await?
    }

    /// Whether there is such an image.
    ///
    /// # Errors
    /// The place does not answer.
    pub async fn has(&self, key: &ImageKey) -> Result<bool, MediaError> {
        let path = self.path(key);
        Ok(present(in_time(self.objects.head(&path)).await?)?.is_some())
    }

    /// Deletes an image. Deleting it twice is no error.
    ///
    /// # Errors
    /// It may be there or not.
    pub async fn delete(&self, key: &ImageKey) -> Result<(), MediaError> {
        match in_time(self.objects.delete(&self.path(key))).await? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts, reads and deletes an object, as `pintalk check` does.
    ///
    /// # Errors
    /// What does not work.
    pub async fn try_out(&self, chance: &Chance) -> Result<(), MediaError> {
        let key = ImageKey::from_random(chance.bytes(), ImageType::Png);
        let probe = Bytes::from_static(b"pintalk check");
        self.put(&key, probe.clone()).await?;
        let found = self.get(&key).await;
        self.delete(&key).await?;
        match found? {
            Some(found) if found == probe => Ok(()),
            Some(_) | None => Err(MediaError("what was put there cannot be read".to_owned())),
        }
    }

    fn path(&self, key: &ImageKey) -> Path {
        self.prefix.clone().join(key.as_str())
    }
}

/// What cannot be read because it is absent is no error. Who may not list a bucket is told 403 about what is absent in it.
fn present<T>(found: object_store::Result<T>) -> Result<Option<T>, MediaError> {
    use object_store::Error::{NotFound, PermissionDenied};
    match found {
        Ok(found) => Ok(Some(found)),
        Err(NotFound { .. }) => Ok(None),
        Err(error @ PermissionDenied { .. }) => {
            tracing::debug!(%error, "media store failed, treated as absent");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, MediaError> {
    let late = |_| MediaError(format!("no answer in {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.map_err(late)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
