//! Profile fields that hosts edit (SPEC 2).

use super::rules::{NO_LINE, NO_PROSE, is_a_line, is_prose};
use super::{Accounts, CreateHostError, Fault};
use crate::domain::{Host, HostId, normalize_domains};
use crate::protocol::api::{FieldErrors, ProfilePatch};
use crate::store::ProfileChange;

/// Maximum length of the description in characters.
const MAX_DESCRIPTION: usize = 1_000;

impl Accounts {
    /// Updates the given fields of a host and returns the host; `None` if there is no such host.
    ///
    /// # Errors
    /// [`CreateHostError::Invalid`] lists the rejected fields; [`CreateHostError::Fault`] if SQL fails.
    pub async fn change_profile(&self, id: HostId, patch: ProfilePatch) -> Result<Option<Host>, CreateHostError> {
        let change = check(patch).map_err(CreateHostError::Invalid)?;
        if change != ProfileChange::default() {
            self.store.hosts().change_profile(id, &change, self.clock.now()).await.map_err(Fault::from)?;
        }
        Ok(self.store.hosts().get(id).await.map_err(Fault::from)?)
    }
}

fn check(patch: ProfilePatch) -> Result<ProfileChange, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut within = |field: &'static str, text: Option<String>, least: usize, most: usize| {
        let text = text?.trim().to_owned();
        // A required field is a single-line name; an optional one may have several lines.
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
