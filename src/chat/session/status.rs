//! Sessions of status sockets (SPEC 5). A guest's status socket watches whether a host is online. A host's own status
//! socket makes the host online.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::throttle::{ONLINE_COST, TokenBucket};
use super::{Handshake, ReadReadiness, Refusal, Sessions, Work, run};
use crate::chat::hub::{Connection, Identity};
use crate::chat::statuses::StatusGuard;
use crate::domain::{HostUuid, Side};
use crate::protocol::Close;
use crate::protocol::status::{InboundStatus, guest_frame};

/// Session of a status socket, either of a host or of a guest who watches a host.
pub struct StatusSession {
    context: Arc<Sessions>,
    connection: Arc<Connection>,
    host: HostUuid,
    throttle: TokenBucket,
    work: Option<Work>,
    _guard: StatusGuard,
}

impl std::fmt::Debug for StatusSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusSession").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Admits a connection as a status socket of a host.
    ///
    /// # Errors
    /// Returns the [`Refusal`] with the close code of SPEC 5.
    pub async fn open_status(self: &Arc<Self>, uuid: &str, handshake: &Handshake) -> Result<StatusSession, Refusal> {
        let uuid: HostUuid = uuid.parse().map_err(|_| Close::NotFound)?;
        let found = self.hosts.by_uuid(uuid).await.map_err(|error| {
            tracing::warn!(%error, "status socket rejected, client retries later");
            self.try_later()
        })?;
        let host = found.filter(|host| !host.is_deleted).ok_or(Close::NotFound)?;
        let identity = self.identify(handshake, &host).await?;
        if matches!(&identity, Identity::Host { host: own, .. } if *own != host.id) {
            return Err(Close::NotFound.into());
        }
        if !host.config.use_online_status {
            return Err(Close::Unavailable.into());
        }
        let connection = self.hub.connection_with(identity, handshake.extras);
        let guard = self.statuses.register(uuid, connection.clone());
        let throttle = TokenBucket::new(self.limits.rate, Instant::now());
        let mut session =
            StatusSession { context: self.clone(), connection, host: uuid, throttle, work: None, _guard: guard };
        if session.connection.side() == Side::Guest {
            // SPEC 5, case 1: a guest receives `online` at once if the host is online.
            session.work = Some(session.answer(false));
        }
        Ok(session)
    }
}

impl StatusSession {
    /// Returns the handle of the socket.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn read_readiness(&self) -> ReadReadiness {
        match (&self.work, self.throttle.next(Instant::now())) {
            (Some(_), _) => ReadReadiness::Busy,
            (None, Some(next)) => ReadReadiness::Until(next),
            (None, None) => ReadReadiness::Ready,
        }
    }

    pub(super) fn receive(&mut self, text: &str) -> Result<(), Close> {
        self.throttle.take(Instant::now());
        match InboundStatus::parse(self.connection.side(), text).map_err(Close::BadForm)? {
            InboundStatus::Online => {
                self.throttle.take_many(Instant::now(), ONLINE_COST - 1);
                self.work = Some(self.answer(true));
            }
            InboundStatus::Ping if self.connection.wants_extras() => self.connection.push(self.context.pong()),
            InboundStatus::Ping | InboundStatus::Ignored => {}
        }
        Ok(())
    }

    pub(super) async fn drive(&mut self) -> Result<(), Close> {
        run(&mut self.work).await
    }

    /// Sends `online` to this guest if the host is online. If `publishes` is `true`, also notifies the host that
    /// a guest is present.
    fn answer(&self, publishes: bool) -> Work {
        let (context, host, connection) = (self.context.clone(), self.host, self.connection.clone());
        async move {
            let answer = async {
                if publishes {
                    let now = context.wire.wall_clock(context.clock.now());
                    context.statuses.publish_guest(host, guest_frame(&now)).await?;
                }
                context.statuses.watch().answer(host, &connection).await
            };
            if let Err(error) = answer.await {
                tracing::debug!(%error, "failed to read host presence");
            }
            Ok(())
        }
        .boxed()
    }
}
