//! Describes the calls with which hosts read and change their accounts.

use crate::http::docs::call_doc::{CallDoc, Caller};
use crate::protocol::api::{Configs, ConfigsPatch, KeysRequest, ProfilePatch, User};

pub(super) fn show_user() -> CallDoc {
    CallDoc::new("showUser", Caller::Host, "Get the account", "Returns the account of the caller, including its keys.")
        .answers::<User<'_>>(200, "The user.")
}

pub(super) fn patch_user() -> CallDoc {
    CallDoc::new(
        "changeUser",
        Caller::Host,
        "Change the profile",
        "Omitted fields are unchanged. A form (`multipart/form-data`) may contain an image under `profileImage`: PNG, JPEG, \
         WebP or GIF, at most 5 MiB and 4096 x 4096 pixels. An empty image, or `null` in JSON, removes the image.",
    )
    .reads::<ProfilePatch>()
    .takes_image()
    .answers::<User<'_>>(200, "The changed user.")
    .refuses(429, "Too many simultaneous uploads by this host or from this address: retry after `Retry-After` seconds.")
}

pub(super) fn patch_configs() -> CallDoc {
    CallDoc::new(
        "changeConfigs",
        Caller::Host,
        "Change the settings",
        "Omitted fields are unchanged. Disabling the online status closes its sockets with 4009.",
    )
    .reads::<ConfigsPatch>()
    .answers::<Configs>(200, "The current settings.")
}

pub(super) fn rotate_keys() -> CallDoc {
    CallDoc::new(
        "rotateKeys",
        Caller::Host,
        "Change the keys",
        "Creates a new pair of keys. The old pair stays valid for a day by default, unless it is revoked.",
    )
    .reads::<KeysRequest>()
    .answers::<User<'_>>(200, "The user, with the new keys.")
}
