//! The chat socket (SPEC 4): admission to a room, and the frames of a connection in it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::throttle::{ONLINE_COST, REQUEST_COST, Throttle};
use super::{Appetite, Handshake, Refusal, Sessions, Work, run};
use crate::accounts::limits::HostBudget;
use crate::backend::broker::{RoomStatus, Submission};
use crate::chat::history::{Greeting, HistoryError, PAGE, RoomKey, Step};
use crate::chat::hub::{Connection, Identity, Place, Registration};
use crate::chat::metrics::MessageResult;
use crate::chat::rooms::{RoomError, RoomOwner};
use crate::domain::{Host, HostUuid, RoomChange, RoomName, RoomState, Seq, Side, WallClock};
use crate::protocol::chat::{
    Before, Inbound, Notice, closed_frame, history_frame, message_head, read_frame, typing_frame,
};
use crate::protocol::status::status_frame;
use crate::protocol::{Close, frame};

/// Minimum interval between two relayed `typing` notices of a socket.
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before the log is read again while the broker is unavailable.
const READ_RETRY: Duration = Duration::from_millis(500);

/// How long a socket is not read when too many messages wait for the broker.
const FULL_PAUSE: Duration = Duration::from_millis(100);

type Reading = std::pin::Pin<Box<dyn Future<Output = Result<(Step, Seq), HistoryError>> + Send>>;

/// Session of a guest or a host in a room.
pub struct ChatSession {
    context: Arc<Sessions>,
    guard: RoomGuard,
    host: HostUuid,
    throttle: Throttle,
    budget: Option<HostBudget>,
    /// Requested page that is not read yet. At most one page per socket is in memory.
    wanted: Option<Before>,
    work: Option<Work>,
    reading: Option<Reading>,
    /// Whether a reconnecting client still receives missed messages. They are sent as history frames; messages of later
    /// gaps are sent as single frames.
    replaying: bool,
    typed_at: Option<Instant>,
}

impl std::fmt::Debug for ChatSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatSession").field("room", &self.guard.key.name).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Admits a connection to a room.
    ///
    /// # Errors
    /// The refusal, with the close code of SPEC 4.
    pub async fn open_chat(self: &Arc<Self>, name: &str, handshake: &Handshake) -> Result<ChatSession, Refusal> {
        let name: RoomName = name.parse().map_err(|_| Close::NotFound)?;
        let after = handshake.after.as_deref().map(read_after).transpose()?;
        let owner = self.rooms.owner(name).await.map_err(|error| self.refusal_of(&error))?.ok_or(Close::NotFound)?;
        let host = self.active_host(owner.host).await?;
        let identity = self.identify(handshake, &host).await?;
        if matches!(&identity, Identity::Host { host, .. } if *host != owner.host) {
            return Err(Close::Forbidden.into());
        }
        let connection = self.hub.connection_with(identity, handshake.extras);
        // Registered before the history is read, so that messages published meanwhile raise the target.
        connection.start_after(0);
        let guard = RoomGuard::enter(self.clone(), owner, connection.clone());
        // A fresh join receives the newest messages, which may be cached. A reconnection receives those that it missed.
        let known = if after.is_none() { self.history.known_greeting(name).await } else { None };
        let reads = after.is_none() && known.is_none();
        let entered = self.members.tell_and_read(name, if reads { PAGE } else { 0 }).await;
        let (status, log) = entered.map_err(|error| self.refusal_of(&error))?;
        // Counted per side, so that guests cannot keep the host out.
        let side = match connection.side() {
            Side::Guest => status.guests,
            Side::Host => status.hosts + status.away,
        };
        if self.limits.room_sockets.is_some_and(|limit| side > limit) {
            return Err(Close::TooMany.into());
        }
        self.admit_to_state(owner.key, &status, connection.side(), after.is_some()).await?;
        match after {
            Some(after) => self.replay(owner.key, &status, &connection, after).await?,
            None => {
                let greeting = match known.filter(|known| known.newest == status.seq) {
                    Some(known) => Ok(known),
                    None => self.history.greeting(owner.key, status.seq, reads.then_some(log)).await,
                };
                greet(&connection, &*greeting.map_err(|error| self.refusal_of(&error.into()))?, status.seq);
            }
        }
        Ok(ChatSession::new(self.clone(), guard, &host, after.is_some()))
    }

    /// Checks the state of the room. A closed room rejects hosts and reconnecting guests; a fresh guest resumes it.
    async fn admit_to_state(
        &self,
        room: RoomKey,
        status: &RoomStatus,
        side: Side,
        comes_back: bool,
    ) -> Result<(), Refusal> {
        match (status.state, side) {
            (RoomState::Open, _) => Ok(()),
            (RoomState::Deleted, _) => Err(Close::NotFound.into()),
            (RoomState::Closed, Side::Host) => Err(Close::Unavailable.into()),
            (RoomState::Closed, Side::Guest) if comes_back => {
                // A background tab must not undo the host's decision.
                let notice = self.rooms.closed_notice(room.name).await;
                let notice = notice.unwrap_or_else(|| closed_frame(&self.wire.wall_clock(self.clock.now())));
                Err(Refusal { frame: Some(frame::text(&notice)), close: Close::Normal })
            }
            (RoomState::Closed, Side::Guest) => {
                self.rooms.change(room.name, RoomChange::Resume).await.map_err(|error| self.refusal_of(&error))?;
                Ok(())
            }
        }
    }

    /// Starts to catch up after the number that the client has, limited to the highest that exists.
    async fn replay(
        &self,
        room: RoomKey,
        status: &RoomStatus,
        connection: &Connection,
        after: Seq,
    ) -> Result<(), Refusal> {
        let mut known = status.seq;
        if after > known {
            // After a failover, SQL may have a higher number than the broker.
            known = known.max(self.rooms.stored_seq(room).await.map_err(|error| self.refusal_of(&error))?);
        }
        connection.start_after(after.min(known));
        Ok(())
    }

    fn refusal_of(&self, error: &RoomError) -> Close {
        match error {
            RoomError::NotFound => Close::NotFound,
            RoomError::NotYours => Close::Forbidden,
            RoomError::TooManyPinned | RoomError::Closed => Close::Unavailable,
            RoomError::Unavailable(why) => {
                tracing::warn!(why, "socket refused, client retries later");
                self.try_later()
            }
        }
    }
}

/// Queues the newest messages for a fresh join. `seq` was the room's highest number shortly before.
fn greet(connection: &Connection, greeting: &Greeting, seq: Seq) {
    if let Some(framed) = &greeting.framed {
        connection.caught(framed.clone(), greeting.first, greeting.newest);
    }
    connection.level(greeting.newest, greeting.newest);
    if greeting.newest < seq {
        // A message was accepted during the read; or retention removed all messages, and the next read finds none.
        connection.fall_behind(seq);
    }
}

/// Parses `after`: digits only. A number that overflows is beyond the end.
fn read_after(text: &str) -> Result<Seq, Close> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(text.parse().unwrap_or(Seq::MAX)) } else { Err(Close::BadForm("after is not a number")) }
}

impl ChatSession {
    fn new(context: Arc<Sessions>, guard: RoomGuard, host: &Host, replaying: bool) -> Self {
        let throttle = Throttle::new(context.limits.rate, Instant::now());
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

    pub(super) fn appetite(&self) -> Appetite {
        if self.work.is_some() || self.wanted.is_some() || self.connection().window_is_full() {
            return Appetite::Busy;
        }
        let now = Instant::now();
        if self.context.relay.is_full(self.guard.key.name) {
            return Appetite::Until(now + FULL_PAUSE);
        }
        match self.throttle.next(now) {
            Some(next) => Appetite::Until(next),
            None => Appetite::Hungry,
        }
    }

    pub(super) fn receive(&mut self, text: &str) -> Result<(), Close> {
        self.throttle.take(Instant::now());
        match Inbound::parse(text).map_err(Close::BadForm)? {
            Inbound::Message { text, datetime, id } => {
                let datetime = self.repaired(datetime);
                let side = self.connection().side();
                let id = id.unwrap_or_else(|| crate::domain::MessageId::from_random(self.context.chance.bytes()));
                let head = Bytes::from(message_head(side, &text, &datetime, &id));
                if let Some(Err(retry)) = self.budget.as_ref().map(|budget| budget.take(head.len())) {
                    self.context.hub.relay_metrics().messages.get(MessageResult::OverBudget).increment(1);
                    return Err(Close::TryLater { retry });
                }
                let submission = Submission { room: self.guard.key.name, side, id, text, datetime, head, trace: None };
                self.context.relay.submit(self.connection(), submission);
            }
            Inbound::Request(before) => {
                self.throttle.take_many(Instant::now(), REQUEST_COST - 1);
                self.wanted = Some(before);
            }
            Inbound::Notice(notice) => return self.notice(notice),
        }
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
                    self.work = Some(self.pass(typing_frame(side, &datetime)));
                }
            }
            Notice::Read { seq, datetime } => {
                if side == Side::Host {
                    self.guard.note_read(seq);
                }
                self.work = Some(self.pass(read_frame(side, seq, &self.repaired(datetime))));
            }
            Notice::Online if side == Side::Guest => {
                self.throttle.take_many(Instant::now(), ONLINE_COST - 1);
                self.work = Some(self.tell_status());
            }
            Notice::Ping if self.connection().wants_extras() => self.connection().push(self.context.pong()),
            Notice::Away | Notice::Back if side == Side::Host && self.connection().wants_extras() => {
                self.set_away(notice == Notice::Away);
            }
            Notice::Online | Notice::Ping | Notice::Away | Notice::Back | Notice::Other => {}
        }
        Ok(())
    }

    /// Returns a client's wall clock time in the form in which it is relayed and stored.
    fn repaired(&self, datetime: WallClock) -> WallClock {
        self.context.wire.repaired(datetime, self.context.clock.now())
    }

    /// Counts the host's connection as away, or as present. Messages sent to it while it was present count as read.
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
        let (context, room) = (self.context.clone(), self.guard.key.name);
        self.work = Some(
            async move {
                if let Err(error) = context.members.tell(room).await {
                    tracing::debug!(%error, %room, "failed to report host as away or back, retrying");
                    context.members.tell_soon(room);
                }
                Ok(())
            }
            .boxed(),
        );
    }

    /// Runs pending work. Cancel safe: unfinished work is kept in the session.
    pub(super) async fn drive(&mut self) -> Result<(), Close> {
        if self.work.is_none()
            && self.connection().has_room()
            && let Some(before) = self.wanted.take()
        {
            self.work = Some(self.older(before));
        }
        if self.reading.is_none()
            && let Some((sent, target)) = self.connection().must_read()
        {
            self.reading = Some(self.read_after(sent, target));
        }
        tokio::select! {
            done = run(&mut self.work) => done,
            step = run(&mut self.reading) => match step {
                Ok((step, target)) => {
                    self.caught_up(&step, target);
                    Ok(())
                }
                Err(error) => {
                    tracing::warn!(%error, room = %self.guard.key.name, "failed to catch up socket, closing it");
                    Err(self.connection().try_later())
                }
            },
        }
    }

    fn read_after(&self, sent: Seq, target: Seq) -> Reading {
        let (history, room) = (self.context.history.clone(), self.guard.key);
        Box::pin(async move {
            loop {
                match history.after(room, sent).await {
                    // The socket stays open while the broker is unavailable.
                    Err(HistoryError::Broker(error)) => {
                        tracing::debug!(%error, "failed to read log, retrying");
                        tokio::time::sleep(READ_RETRY).await;
                    }
                    step => return step.map(|step| (step, target)),
                }
            }
        })
    }

    fn caught_up(&mut self, step: &Step, target: Seq) {
        let connection = self.connection();
        let through = step.entries.last().map_or(0, |entry| entry.seq);
        if self.replaying {
            if let Some(first) = step.entries.first() {
                let json = history_frame(step.entries.iter().map(|entry| &*entry.frame), step.more);
                connection.caught(frame::text(&json), first.seq, through);
            }
        } else {
            for entry in &step.entries {
                connection.caught(frame::text(&entry.frame), entry.seq, entry.seq);
            }
        }
        if !step.more {
            connection.level(through, target);
            self.replaying = false;
        }
    }

    /// Reads a page of older messages for this socket only.
    fn older(&self, before: Before) -> Work {
        let (context, room, connection) = (self.context.clone(), self.guard.key, self.connection().clone());
        async move {
            let page = async {
                let before = match before {
                    Before::Seq(seq) => Some(seq),
                    Before::Datetime(shown) => {
                        let instant = context.wire.instant(&shown);
                        context.history.find(room, &shown, connection.first(), instant).await?
                    }
                };
                // Without a match, the requested time is later than every message: return the newest page.
                context.history.before(room, before.unwrap_or(Seq::MAX >> 1)).await
            };
            let entries = page.await.map_err(|error| context.refusal_of(&error.into()))?;
            if let Some(oldest) = entries.last() {
                connection.showed_older(oldest.seq);
            }
            connection.push(frame::text(&history_frame(entries.iter().map(|entry| &*entry.frame), false)));
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> Work {
        let (context, room) = (self.context.clone(), self.guard.key);
        async move {
            match context.rooms.change(room.name, RoomChange::Close).await {
                Ok(_) => Ok(()),
                Err(error) => Err(context.refusal_of(&error)),
            }
        }
        .boxed()
    }

    /// Relays a notice that is not stored. Errors are only logged, because a lost notice does no harm.
    fn pass(&self, notice: Bytes) -> Work {
        let (broker, room, side) = (self.context.broker.clone(), self.guard.key.name, self.connection().side());
        async move {
            if let Err(error) = broker.notify(room, side, notice).await {
                tracing::debug!(%error, "failed to relay notice");
            }
            Ok(())
        }
        .boxed()
    }

    fn tell_status(&self) -> Work {
        let (context, host, connection) = (self.context.clone(), self.host, self.connection().clone());
        async move {
            // The host may have switched the online status off or on since this guest joined.
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

/// Keeps a connection in a room until it is dropped.
struct RoomGuard {
    context: Arc<Sessions>,
    key: RoomKey,
    /// Whether the time of the guest's last visit must be stored, because the room has a contact.
    has_contact: bool,
    connection: Arc<Connection>,
    registration: Option<Registration>,
}

impl RoomGuard {
    fn enter(context: Arc<Sessions>, owner: RoomOwner, connection: Arc<Connection>) -> Self {
        let RoomOwner { key, has_contact, .. } = owner;
        let registration = Some(context.hub.register(Place::Room(key.name), connection.clone()));
        Self { context, key, has_contact, connection, registration }
    }

    /// Records in the background that a side has read everything that it was sent. Not for a host that is away.
    fn note_visit(&self) {
        if !self.connection.is_away() {
            self.note_seen(self.connection.sent());
        }
    }

    /// Records that the host has read up to a number. While the host is present, everything sent counts as read.
    fn note_read(&self, seq: Seq) {
        let sent = self.connection.sent();
        self.note_seen(if self.connection.is_away() { seq.min(sent) } else { sent });
    }

    fn note_seen(&self, through: Seq) {
        let (context, key, side) = (self.context.clone(), self.key, self.connection.side());
        if side == Side::Guest && !self.has_contact {
            return;
        }
        self.context.tracker.spawn(async move {
            let noted = match side {
                Side::Host => context.rooms.check(key, through).await,
                Side::Guest => context.rooms.see_guest(key, through).await,
            };
            if let Err(error) = noted {
                tracing::debug!(%error, room = %key.name, "failed to store time of last check");
            }
        });
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        drop(self.registration.take());
        self.note_visit();
        self.context.members.tell_soon(self.key.name);
    }
}
