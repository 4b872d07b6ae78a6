//! Paths of the sockets.

use super::metrics::HandshakeKind;

/// Endpoint of a socket, with the name of the room or the identifier of the host from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat(String),
    Status(String),
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["ws", "chat", name] => Some(Self::Chat((*name).to_owned())),
            ["ws", "chat", host, "status"] | ["ws", "status", host] => Some(Self::Status((*host).to_owned())),
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> HandshakeKind {
        match self {
            Self::Chat(_) => HandshakeKind::Chat,
            Self::Status(_) => HandshakeKind::Status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_two_paths_and_a_room_one() {
        assert_eq!(Endpoint::of("/ws/chat/abc"), Some(Endpoint::Chat("abc".into())));
        assert_eq!(Endpoint::of("/ws/chat/abc/"), Some(Endpoint::Chat("abc".into())));
        assert_eq!(Endpoint::of("/ws/chat/abc/status"), Some(Endpoint::Status("abc".into())));
        assert_eq!(Endpoint::of("/ws/status/abc"), Some(Endpoint::Status("abc".into())));
        for nothing in ["/ws", "/ws/chat", "/ws/chat/a/b", "/ws/other/a"] {
            assert_eq!(Endpoint::of(nothing), None, "{nothing}");
        }
    }
}
