//! Profile images of hosts: upload, processing, storage and delivery (SPEC 2).
//!
//! **Invariant:** the database never refers to a missing image. An image is stored before the database refers to it,
//! and deleted after the reference is removed. A crash or an unknown result between these steps may leave an image
//! without a reference.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::accounts::Fault;
use crate::backend::throttle::network;
use crate::domain::HostId;
use crate::domain::Rng;
use crate::domain::clock::Clock;
use crate::outbound::media::{ImageKey, ImageRejection, ImageType, Media, MediaError, Picture};
use crate::store::{ImageSwap, Store};

/// Maximum numbers of concurrent uploads in total, per host and per address. Each upload occupies up to 5 MiB of
/// memory.
const UPLOADS: usize = 16;
const UPLOADS_OF_HOST: usize = 2;
const UPLOADS_FROM_ADDRESS: usize = 4;

/// Maximum number of images that are decoded concurrently. Each decoding uses up to 200 MB. The limit leaves memory and
/// CPU time for the rest of the node.
const DECODERS: usize = 2;

/// Size in bytes and time to live of the image cache. All responses with an image share one copy of it.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const CACHE_TTL: Duration = Duration::from_secs(60);

/// Maximum time for which an upload waits for a decoder.
const DECODER_TIMEOUT: Duration = Duration::from_secs(5);

/// Service for profile images.
#[derive(Clone)]
pub struct ProfileImages {
    media: Media,
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Rng,
    uploads: Uploads,
    decoders: Arc<Semaphore>,
    cache: Cache<ImageKey, Bytes>,
}

/// Numbers of concurrent uploads. Clones share them.
#[derive(Clone, Default)]
struct Uploads(Arc<Mutex<HashMap<Counted, usize>>>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    All,
    Host(HostId),
    Address(IpAddr),
}

/// Slot of one upload. Dropping it releases the slot.
pub struct UploadPlace {
    uploads: Uploads,
    counted: [Counted; 3],
}

/// Reason why no slot is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUploadPlace {
    /// The host or the address has reached its limit.
    #[error("too many uploads by this host or from this address")]
    Own,
    /// All slots of the node are in use.
    #[error("too many uploads")]
    All,
}

impl Uploads {
    fn try_enter(&self, host: HostId, address: IpAddr) -> Result<UploadPlace, NoUploadPlace> {
        let counted = [Counted::Host(host), Counted::Address(network(address)), Counted::All];
        let bounds = [UPLOADS_OF_HOST, UPLOADS_FROM_ADDRESS, UPLOADS];
        let mut counts = self.0.lock();
        for (counted, bound) in counted.iter().zip(bounds) {
            if counts.get(counted).is_some_and(|count| *count >= bound) {
                return Err(if *counted == Counted::All { NoUploadPlace::All } else { NoUploadPlace::Own });
            }
        }
        for counted in counted {
            *counts.entry(counted).or_default() += 1;
        }
        Ok(UploadPlace { uploads: self.clone(), counted })
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        let mut counts = self.uploads.0.lock();
        for counted in self.counted {
            if let Entry::Occupied(mut count) = counts.entry(counted) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// An image to send to clients.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Format of the image.
    pub image_type: ImageType,
    /// Content of the file.
    pub bytes: Bytes,
}

/// Reason why an upload was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileImageError {
    /// The upload is not an acceptable image.
    #[error("the image {0}")]
    Refused(#[from] ImageRejection),
    /// Too many uploads wait for a decoder. See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<MediaError> for Fault {
    fn from(error: MediaError) -> Self {
        Fault::Unavailable(format!("media store: {error}"))
    }
}

impl ProfileImages {
    /// Creates the service. `media` stores the images, `store` stores the references to them, and `rng` generates their
    /// names.
    pub fn new(media: Media, store: Store, clock: Arc<dyn Clock>, rng: Rng) -> Self {
        let decoders = Arc::new(Semaphore::new(DECODERS));
        let weight = |_: &ImageKey, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().weigher(weight).max_capacity(CACHE_BYTES).time_to_live(CACHE_TTL).build();
        Self { media, store, clock, rng, uploads: Uploads::default(), decoders, cache }
    }

    /// Acquires a slot for an upload of a host from an address. The caller holds it until the upload has been
    /// processed.
    ///
    /// # Errors
    /// Returns [`NoUploadPlace`] if a limit is reached.
    pub fn try_upload(&self, host: HostId, address: IpAddr) -> Result<UploadPlace, NoUploadPlace> {
        self.uploads.try_enter(host, address)
    }

    /// Decodes and re-encodes an upload. Nothing is stored yet.
    ///
    /// # Errors
    /// Returns [`ProfileImageError::Refused`] if the upload is not an acceptable image, and
    /// [`ProfileImageError::Fault`] if too many uploads wait for a decoder.
    pub async fn prepare(&self, upload: Bytes) -> Result<Picture, ProfileImageError> {
        let busy = || Fault::Unavailable("too many images are waiting to be decoded".to_owned());
        let waiting = tokio::time::timeout(DECODER_TIMEOUT, self.decoders.clone().acquire_owned()).await;
        let permit = waiting.map_err(|_| busy())?.map_err(|_| busy())?;
        // The permit moves into the task, so that cancelling the caller does not free a decoder that is still in use.
        let decoding = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Picture::of(&upload)
        });
        match decoding.await {
            Ok(made) => Ok(made?),
            Err(error) => {
                tracing::error!(%error, "image decoding task failed");
                Err(ImageRejection::Damaged.into())
            }
        }
    }

    /// Sets or removes the image of a host, and deletes the previous one. Returns `false` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a store fails. It is then unknown whether the new image is set.
    pub(super) async fn replace(&self, host: HostId, picture: Option<Picture>) -> Result<bool, Fault> {
        let key = match picture {
            Some(picture) => {
                let key = ImageKey::from_random(self.rng.bytes(), picture.image_type);
                self.media.put(&key, picture.bytes).await?;
                Some(key)
            }
            None => None,
        };
        let swap =
            self.store.hosts().swap_profile_image(host, key.as_ref().map(ImageKey::as_str), self.clock.now()).await;
        match swap? {
            ImageSwap::Swapped(before) => {
                self.delete_unused(before.as_deref().and_then(|before| before.parse().ok())).await;
                Ok(true)
            }
            ImageSwap::NoHost => {
                self.delete_unused(key).await;
                Ok(false)
            }
        }
    }

    /// Returns an image by key, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns a [`Fault`] if the image could not be read.
    pub async fn show(&self, key: &ImageKey) -> Result<Option<Shown>, Fault> {
        let image_type = key.image_type();
        let bytes = match self.cache.get(key).await {
            Some(bytes) => bytes,
            None => {
                let Some(bytes) = self.media.get(key).await? else { return Ok(None) };
                self.cache.insert(key.clone(), bytes.clone()).await;
                bytes
            }
        };
        Ok(Some(Shown { image_type, bytes }))
    }

    /// Returns whether an image with this key exists.
    ///
    /// # Errors
    /// Returns a [`Fault`] if the media storage cannot be queried.
    pub async fn has(&self, key: &ImageKey) -> Result<bool, Fault> {
        Ok(self.media.has(key).await?)
    }

    /// Deletes an image without references. A failure is only logged, and the image then stays in the storage.
    async fn delete_unused(&self, key: Option<ImageKey>) {
        let Some(key) = key else { return };
        self.cache.invalidate(&key).await;
        if let Err(error) = self.media.delete(&key).await {
            tracing::warn!(%error, %key, "failed to delete unused profile image");
        }
    }
}

#[cfg(test)]
mod tests;
