//! Sessions of chat sockets (SPEC 4). A session handles the frames of one connection in a room. `join` admits the
//! connection, and `reads` reads messages for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::throttle::{ONLINE_COST, REQUEST_COST, TokenBucket};
use super::{ReadReadiness, Sessions, Work, run};
use crate::accounts::limits::HostBudget;
use crate::backend::broker::Submission;
use crate::chat::hub::Connection;
use crate::chat::metrics::MessageResult;
use crate::domain::{Host, HostUuid, MessageId, RoomChange, Side, WallClock};
use crate::protocol::Close;
use crate::protocol::chat::{Before, InboundChat, Notice, message_head, read_frame, typing_frame};
use crate::protocol::frame;
use crate::protocol::status::status_frame;

mod guard;
mod join;
mod reads;

use guard::RoomGuard;
use reads::LogRead;

/// Minimum interval between two relayed `typing` notices of a socket.
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before a socket is read again while the partition of its room is at its limit of unacknowledged bytes.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Session of a guest or a host in a room.
pub struct ChatSession {
    context: Arc<Sessions>,
    guard: RoomGuard,
    host: HostUuid,
    throttle: TokenBucket,
    budget: Option<HostBudget>,
    /// Requested page that has not been read yet. Only one page per socket is in memory at a time.
    wanted: Option<Before>,
    work: Option<Work>,
    reading: Option<LogRead>,
    /// Whether a reconnected client is still receiving the messages that it missed. These messages are sent in history
    /// frames. Messages that the socket misses later are sent one per frame.
    replaying: bool,
    typed_at: Option<Instant>,
}

impl std::fmt::Debug for ChatSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatSession").field("room", &self.guard.key().name).finish_non_exhaustive()
    }
}

impl ChatSession {
    fn new(context: Arc<Sessions>, guard: RoomGuard, host: &Host, replaying: bool) -> Self {
        let throttle = TokenBucket::new(context.limits.rate, Instant::now());
        let budget = context.budgets.of(host.id, guard.connection.side());
        guard.note_visit();
        Self {
            throttle,
            budget,
            wanted: None,
            context,
            guard,
            host: host.uuid,
            work: None,
            reading: None,
            replaying,
            typed_at: None,
        }
    }

    /// Returns the handle of the socket.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.guard.connection
    }

    pub(super) fn read_readiness(&self) -> ReadReadiness {
        if self.work.is_some() || self.wanted.is_some() || self.connection().window_is_full() {
            return ReadReadiness::Busy;
        }
        let now = Instant::now();
        if self.context.relay.is_full(self.guard.key().name) {
            return ReadReadiness::Until(now + FULL_PAUSE);
        }
        match self.throttle.next(now) {
            Some(next) => ReadReadiness::Until(next),
            None => ReadReadiness::Ready,
        }
    }

    pub(super) fn receive(&mut self, text: &str) -> Result<(), Close> {
        self.throttle.take(Instant::now());
        match InboundChat::parse(text).map_err(Close::BadForm)? {
            InboundChat::Message { text, datetime, id } => self.submit(text, datetime, id)?,
            InboundChat::Request(before) => {
                self.throttle.take_many(Instant::now(), REQUEST_COST - 1);
                self.wanted = Some(before);
            }
            InboundChat::Notice(notice) => return self.notice(notice),
        }
        Ok(())
    }

    fn submit(&self, text: String, datetime: WallClock, id: Option<MessageId>) -> Result<(), Close> {
        let datetime = self.repaired(datetime);
        let side = self.connection().side();
        let id = id.unwrap_or_else(|| MessageId::from_random(self.context.rng.bytes()));
        let head = Bytes::from(message_head(side, &text, &datetime, &id));
        if let Some(Err(retry)) = self.budget.as_ref().map(|budget| budget.take(head.len())) {
            self.context.hub.relay_metrics().messages.get(MessageResult::OverBudget).increment(1);
            return Err(Close::TryLater { retry });
        }
        let submission = Submission { room: self.guard.key().name, side, id, text, datetime, head, trace: None };
        self.context.relay.submit(self.connection(), submission);
        Ok(())
    }

    fn notice(&mut self, notice: Notice) -> Result<(), Close> {
        let side = self.connection().side();
        match notice {
            Notice::Close if side == Side::Guest => return Err(Close::Forbidden),
            Notice::Close => self.work = Some(self.close()),
            Notice::Typing(datetime) => {
                let datetime = self.repaired(datetime);
                let now = Instant::now();
                if self.typed_at.is_none_or(|before| now - before >= TYPING_INTERVAL) {
                    self.typed_at = Some(now);
                    self.work = Some(self.relay(typing_frame(side, &datetime)));
                }
            }
            Notice::Read { seq, datetime } => {
                if side == Side::Host {
                    self.guard.note_read(seq);
                }
                self.work = Some(self.relay(read_frame(side, seq, &self.repaired(datetime))));
            }
            Notice::Online if side == Side::Guest => {
                self.throttle.take_many(Instant::now(), ONLINE_COST - 1);
                self.work = Some(self.send_status());
            }
            Notice::Ping if self.connection().wants_extras() => self.connection().push(self.context.pong()),
            Notice::Away | Notice::Back if side == Side::Host && self.connection().wants_extras() => {
                self.set_away(notice == Notice::Away);
            }
            Notice::Online | Notice::Ping | Notice::Away | Notice::Back | Notice::Other => {}
        }
        Ok(())
    }

    /// Returns the wall-clock time of a client as it is relayed and stored.
    fn repaired(&self, datetime: WallClock) -> WallClock {
        self.context.wire.repaired(datetime, self.context.clock.now())
    }

    /// Sets whether the host's connection is away. On each change, all messages sent to the connection so far are
    /// recorded as read.
    fn set_away(&mut self, away: bool) {
        if self.connection().is_away() == away {
            return;
        }
        if away {
            self.guard.note_visit();
        }
        self.connection().set_away(away);
        if !away {
            self.guard.note_visit();
        }
        let (context, room) = (self.context.clone(), self.guard.key().name);
        self.work = Some(
            async move {
                if let Err(error) = context.members.report(room).await {
                    tracing::debug!(%error, %room, "failed to report connection count of room, retrying");
                    context.members.report_soon(room);
                }
                Ok(())
            }
            .boxed(),
        );
    }

    /// Executes one step of the pending work. Cancel safe: unfinished work remains in the session.
    pub(super) async fn drive(&mut self) -> Result<(), Close> {
        if self.work.is_none()
            && self.connection().has_capacity()
            && let Some(before) = self.wanted.take()
        {
            self.work = Some(self.older(before));
        }
        if self.reading.is_none()
            && let Some((sent, target)) = self.connection().next_read()
        {
            self.reading = Some(self.read_after(sent, target));
        }
        tokio::select! {
            done = run(&mut self.work) => done,
            step = run(&mut self.reading) => match step {
                Ok((step, target)) => {
                    self.push_step(&step, target);
                    Ok(())
                }
                Err(error) => {
                    tracing::warn!(%error, room = %self.guard.key().name, "failed to read missed messages for socket, closing socket");
                    Err(self.connection().try_later())
                }
            },
        }
    }

    fn close(&self) -> Work {
        let (context, room) = (self.context.clone(), self.guard.key());
        async move {
            match context.rooms.change(room.name, RoomChange::Close).await {
                Ok(_) => Ok(()),
                Err(error) => Err(context.refusal_of(&error)),
            }
        }
        .boxed()
    }

    /// Relays a notice. Failures are only logged, because no client depends on a single notice.
    fn relay(&self, notice: Bytes) -> Work {
        let (bus, room, side) = (self.context.bus.clone(), self.guard.key().name, self.connection().side());
        async move {
            if let Err(error) = bus.notify(room, side, notice).await {
                tracing::debug!(%error, "failed to publish notice");
            }
            Ok(())
        }
        .boxed()
    }

    fn send_status(&self) -> Work {
        let (context, host, connection) = (self.context.clone(), self.host, self.connection().clone());
        async move {
            // The setting is read again, because the host may have changed it since this guest joined.
            let shows =
                context.hosts.by_uuid(host).await.ok().flatten().is_some_and(|host| host.config.use_online_status);
            match context.statuses.presence().status(host).await {
                Ok(status) if status.online && shows => {
                    let now = context.wire.wall_clock(context.clock.now());
                    connection.push(frame::text(&status_frame(true, &now)));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "failed to read host presence"),
            }
            Ok(())
        }
        .boxed()
    }
}
