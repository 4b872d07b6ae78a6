//! Profile images: from an upload to what guests are shown (SPEC 2).
//!
//! **Invariant:** SQL never refers to an image that is not there. An image is put before SQL knows of it, and deleted after SQL
//! has forgotten it; who dies in between, or does not learn what SQL did, leaves an image that nobody refers to.

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
use crate::clock::{Chance, Clock};
use crate::domain::HostId;
use crate::media::{ImageKey, ImageType, Media, MediaError, Picture, Refusal};
use crate::store::{ImageSwap, Store};
use crate::throttle::network;

/// Uploads that are in memory at a time, 5 MiB each; of one host, and from one address.
const UPLOADS: usize = 16;
const UPLOADS_OF_HOST: usize = 2;
const UPLOADS_FROM_ADDRESS: usize = 4;

/// Pictures that are decoded at a time, up to 200 MB each: whoever sends the worst leaves the node its memory and a core.
const DECODERS: usize = 2;

/// Bytes of images that are kept at hand, so that responses to many slow peers share one copy, and for how long.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const CACHE_TTL: Duration = Duration::from_secs(60);

/// How long an upload may wait for a decoder.
const WAIT: Duration = Duration::from_secs(5);

/// The images of hosts.
#[derive(Clone)]
pub struct ProfileImages {
    media: Media,
    store: Store,
    clock: Arc<dyn Clock>,
    chance: Chance,
    uploads: Uploads,
    decoders: Arc<Semaphore>,
    cache: Cache<ImageKey, Bytes>,
}

/// Uploads that are in memory, as they are counted. Clones share them.
#[derive(Clone, Default)]
struct Uploads(Arc<Mutex<HashMap<Counted, usize>>>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    All,
    Host(HostId),
    Address(IpAddr),
}

/// Room for one upload, until it is dropped.
pub struct UploadPlace {
    uploads: Uploads,
    counted: [Counted; 3],
}

/// Why there is no room for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUploadPlace {
    /// The host, or the address, has as many as it may have.
    #[error("too many uploads of this host or address")]
    Own,
    /// All are in use.
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

/// An image as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What it is.
    pub image_type: ImageType,
    /// The file.
    pub bytes: Bytes,
}

/// Why a host has no new image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileImageError {
    /// It is none.
    #[error("the image {0}")]
    Refused(#[from] Refusal),
    /// There is no such host any more.
    #[error("there is no such host")]
    NoHost,
    /// See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<MediaError> for Fault {
    fn from(error: MediaError) -> Self {
        Fault::Unavailable(format!("media: {error}"))
    }
}

impl ProfileImages {
    /// Images at `media`, referred to by `store`, named by `chance`.
    pub fn new(media: Media, store: Store, clock: Arc<dyn Clock>, chance: Chance) -> Self {
        let decoders = Arc::new(Semaphore::new(DECODERS));
        let weight = |_: &ImageKey, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder().weigher(weight).max_capacity(CACHE_BYTES).time_to_live(CACHE_TTL).build();
        Self { media, store, clock, chance, uploads: Uploads::default(), decoders, cache }
    }

    /// Room for an upload of a host from an address, to be held until the upload has been processed.
    ///
    /// # Errors
    /// [`NoUploadPlace`].
    pub fn try_upload(&self, host: HostId, address: IpAddr) -> Result<UploadPlace, NoUploadPlace> {
        self.uploads.try_enter(host, address)
    }

    /// Makes a picture of an upload; nothing is kept yet.
    ///
    /// # Errors
    /// [`ProfileImageError::Refused`], or too many others wait for the same.
    pub async fn prepare(&self, upload: Bytes) -> Result<Picture, ProfileImageError> {
        let busy = || Fault::Unavailable("too many images wait to be decoded".to_owned());
        let waiting = tokio::time::timeout(WAIT, self.decoders.clone().acquire_owned()).await;
        let permit = waiting.map_err(|_| busy())?.map_err(|_| busy())?;
        // The permit goes with the work: a caller that goes away does not free a decoder.
        let decoding = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Picture::of(&upload)
        });
        match decoding.await {
            Ok(made) => Ok(made?),
            Err(error) => {
                tracing::error!(%error, "image decoder failed");
                Err(Refusal::Damaged.into())
            }
        }
    }

    /// Gives a host another image, or none, and deletes the one he had.
    ///
    /// # Errors
    /// [`ProfileImageError`]; after a [`Fault`] it may be the new one.
    pub async fn replace(&self, host: HostId, picture: Option<Picture>) -> Result<(), ProfileImageError> {
        let key = match picture {
            Some(picture) => {
                let key = ImageKey::from_random(self.chance.bytes(), picture.image_type);
                self.media.put(&key, picture.bytes).await.map_err(Fault::from)?;
                Some(key)
            }
            None => None,
        };
        let swap = self.store.swap_profile_image(host, key.as_ref().map(ImageKey::as_str), self.clock.now()).await;
        match swap.map_err(Fault::from)? {
            ImageSwap::Swapped(before) => {
                self.forget(before.as_deref().and_then(|before| before.parse().ok())).await;
                Ok(())
            }
            ImageSwap::NoHost => {
                self.forget(key).await;
                Err(ProfileImageError::NoHost)
            }
        }
    }

    /// An image by its name.
    ///
    /// # Errors
    /// It could not be read.
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

    /// Whether an image of that name is there.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn has(&self, key: &ImageKey) -> Result<bool, Fault> {
        Ok(self.media.has(key).await?)
    }

    /// Deletes what nobody refers to. If it stays it takes room, and that is all.
    async fn forget(&self, key: Option<ImageKey>) {
        let Some(key) = key else { return };
        self.cache.invalidate(&key).await;
        if let Err(error) = self.media.delete(&key).await {
            tracing::warn!(%error, %key, "failed to delete unused profile image");
        }
    }
}

#[cfg(test)]
mod tests;
