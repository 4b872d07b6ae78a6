//! Profile fields that hosts edit (SPEC 2).

use super::profile_images::ProfileImages;
use super::rules::{NO_LINE, NO_PROSE, is_a_line, is_prose};
use super::{Accounts, Fault};
use crate::domain::{Host, HostConfig, HostId, normalize_domains};
use crate::outbound::media::Picture;
use crate::protocol::api::{ConfigsPatch, FieldErrors, ProfilePatch};
use crate::store::ProfileChange;

/// Maximum length of the description in characters.
const MAX_DESCRIPTION: usize = 1_000;

/// Reason why a change to a profile failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileChangeError {
    /// One or more fields are invalid.
    #[error("invalid: {0:?}")]
    Invalid(FieldErrors),
    /// A dependency failed; see [`Fault`]. Parts of the profile may have been changed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Service that changes the text fields and images of profiles. Clones share the caches.
#[derive(Clone)]
pub struct Profiles {
    accounts: Accounts,
    images: ProfileImages,
}

impl Profiles {
    /// Creates the service for the profiles of `accounts`, with images in `images`.
    pub fn new(accounts: Accounts, images: ProfileImages) -> Self {
        Self { accounts, images }
    }

    /// Returns the service for profile images.
    pub fn images(&self) -> &ProfileImages {
        &self.images
    }

    /// Changes the given fields and the image of a host, and publishes the change. An `image` of `Some(None)` removes
    /// the image, and `None` keeps it. Returns the changed host, or `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`ProfileChangeError`] if a field is invalid or a dependency fails.
    pub async fn change(
        &self,
        id: HostId,
        patch: ProfilePatch,
        image: Option<Option<Picture>>,
    ) -> Result<Option<Host>, ProfileChangeError> {
        let Accounts { store, clock, .. } = &self.accounts;
        let change = check(patch).map_err(ProfileChangeError::Invalid)?;
        if change != ProfileChange::default() {
            store.hosts().change_profile(id, &change, clock.now()).await.map_err(Fault::from)?;
        }
        if self.accounts.read_host(id).await?.is_none() {
            return Ok(None);
        }
        if let Some(image) = image
            && !self.images.replace(id, image).await?
        {
            return Ok(None);
        }
        self.accounts.host_changed(id).await;
        Ok(self.accounts.read_host(id).await?)
    }
}

impl Accounts {
    /// Changes the given settings of a host. If a value differs from the current one, publishes the change. Returns the
    /// settings, or `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn change_config(&self, id: HostId, patch: ConfigsPatch) -> Result<Option<HostConfig>, Fault> {
        let Some(host) = self.read_host(id).await? else { return Ok(None) };
        let config = HostConfig {
            use_online_status: patch.use_online_status.unwrap_or(host.config.use_online_status),
            email_notifications: patch.email_notifications.unwrap_or(host.config.email_notifications),
        };
        if config != host.config {
            self.store.hosts().set_config(id, config).await?;
            self.host_changed(id).await;
        }
        Ok(Some(config))
    }
}

fn check(patch: ProfilePatch) -> Result<ProfileChange, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut within = |field: &'static str, text: Option<String>, least: usize, most: usize| {
        let text = text?.trim().to_owned();
        // A required field is a single-line name. An optional field may have several lines.
        let (is_fine, why) = if least > 0 { (is_a_line(&text), NO_LINE) } else { (is_prose(&text), NO_PROSE) };
        if !is_fine {
            errors.insert(field, why.to_owned());
            return None;
        }
        if (least..=most).contains(&text.chars().count()) {
            return Some(text);
        }
        let bounds = if least == 0 { format!("may have at most {most}") } else { format!("needs {least} to {most}") };
        errors.insert(field, format!("{bounds} characters"));
        None
    };
    let mut change = ProfileChange {
        profile_name: within("profileName", patch.profile_name, 1, 100),
        description: within("description", patch.description, 0, MAX_DESCRIPTION),
        service_name: within("serviceName", patch.service_name, 1, 50),
        service_expl: within("serviceExpl", patch.service_expl, 0, 200),
        service_domain: None,
    };
    if let Some(domains) = patch.service_domain {
        match normalize_domains(&domains.unwrap_or_default()) {
            Ok(domains) => change.service_domain = Some(domains),
            Err(error) => drop(errors.insert("serviceDomain", error.to_string())),
        }
    }
    if errors.is_empty() { Ok(change) } else { Err(errors) }
}
