//! Describes the calls for the chatrooms of a host.

use utoipa::openapi::{ObjectBuilder, Type};

use crate::http::chat::MAX_SEARCH_CHARS;
use crate::http::docs::call_doc::{CallDoc, Caller, Content, NamedSchema, integer, query};
use crate::http::paging::{DEFAULT_SIZE, MAX_LIMIT, MAX_PAGE_SIZE};
use crate::protocol::api::{ChatMessage, Chatroom, ChatroomDetail, ChatroomPatch};

pub(super) fn list_rooms() -> CallDoc {
    CallDoc::new("listChatrooms", Caller::Host, "List the chatrooms", "Pinned rooms first, then by newest message.")
        .parameter(integer("page", 1, Some(1), "Number of the page."))
        .parameter(integer("page_size", 1, Some(DEFAULT_SIZE), &format!("Rooms per page; at most {MAX_PAGE_SIZE}.")))
        .parameter(
            query("search", "Part of the guest's nickname.")
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_SEARCH_CHARS)))),
        )
        .parameter(
            query("is_closed", "`true`: only closed rooms; `false`: only open rooms.")
                .schema(Some(ObjectBuilder::new().schema_type(Type::Boolean))),
        )
        .ends(200, "A page of rooms.", Content::json(NamedSchema::page_of::<Chatroom<'_>>()))
        .refuses(404, "There is no such page.")
}

pub(super) fn show_room() -> CallDoc {
    CallDoc::new("showChatroom", Caller::Host, "Get a chatroom", "Returns the room as its guest sees it, with its id.")
        .answers::<ChatroomDetail<'_>>(200, "The room.")
}

pub(super) fn patch_room() -> CallDoc {
    CallDoc::new(
        "changeChatroom",
        Caller::Host,
        "Pin or close a chatroom",
        "Closing notifies all clients in the room and closes their sockets with 1000. Closing twice is not an error.",
    )
    .reads::<ChatroomPatch>()
    .answers::<Chatroom<'_>>(200, "The current room.")
    .refuses(422, "Five rooms are already pinned, or the room is closed.")
}

pub(super) fn delete_room() -> CallDoc {
    CallDoc::new(
        "leaveChatroom",
        Caller::Host,
        "Leave a chatroom",
        "Deletes the room and all its messages at once, for host and guest. Closes its sockets with 4004.",
    )
    .ends(204, "Deleted.", Content::Nothing)
}

pub(super) fn restore_room() -> CallDoc {
    CallDoc::new(
        "restoreChatroom",
        Caller::Host,
        "Reopen a closed chatroom",
        "Its messages are available again unless they were deleted meanwhile. Restoring twice is not an error.",
    )
    .answers::<Chatroom<'_>>(200, "The current room.")
}

pub(super) fn list_messages() -> CallDoc {
    CallDoc::new(
        "listMessages",
        Caller::Host,
        "List the messages of a chatroom",
        "Newest first, including every acknowledged message.",
    )
    .parameter(integer("limit", 1, Some(DEFAULT_SIZE), &format!("Number of messages; at most {MAX_LIMIT}.")))
    .parameter(integer("offset", 0, Some(0), "Number of newer messages to skip."))
    .ends(200, "A range of messages.", Content::json(NamedSchema::page_of::<ChatMessage<'_>>()))
}

pub(super) fn download() -> CallDoc {
    CallDoc::new(
        "downloadChatroom",
        Caller::Host,
        "Download the conversation",
        "UTF-8 text with one line per message, oldest first. `Content-Disposition` contains the file name.",
    )
    .ends(200, "The conversation.", Content::Text("text/plain"))
}
