//! Reads messages for a chat session: missed messages while the socket catches up, and pages of older messages on
//! request.

use std::time::Duration;

use futures_util::FutureExt;

use super::super::Work;
use super::ChatSession;
use crate::chat::history::{HistoryError, Step};
use crate::domain::Seq;
use crate::protocol::chat::{Before, history_frame};
use crate::protocol::frame;

/// Delay before a read is retried while the broker is unavailable.
const READ_RETRY: Duration = Duration::from_millis(500);

/// Read of the log in progress. Resolves to the messages and to the target that the socket had when the read started.
pub(super) type LogRead = std::pin::Pin<Box<dyn Future<Output = Result<(Step, Seq), HistoryError>> + Send>>;

impl ChatSession {
    pub(super) fn read_after(&self, sent: Seq, target: Seq) -> LogRead {
        let (history, room) = (self.context.history.clone(), self.guard.key());
        Box::pin(async move {
            loop {
                match history.after(room, sent).await {
                    // The socket stays open while the broker is unavailable, and the read is retried.
                    Err(HistoryError::Broker(error)) => {
                        tracing::debug!(%error, "failed to read message log of room, retrying");
                        tokio::time::sleep(READ_RETRY).await;
                    }
                    step => return step.map(|step| (step, target)),
                }
            }
        })
    }

    pub(super) fn push_step(&mut self, step: &Step, target: Seq) {
        let connection = self.connection();
        let through = step.entries.last().map_or(0, |entry| entry.seq);
        if self.replaying {
            if let Some(first) = step.entries.first() {
                let json = history_frame(step.entries.iter().map(|entry| &*entry.frame), step.more);
                connection.push_from_log(frame::text(&json), first.seq, through);
            }
        } else {
            for entry in &step.entries {
                connection.push_from_log(frame::text(&entry.frame), entry.seq, entry.seq);
            }
        }
        if !step.more {
            connection.caught_up(through, target);
            self.replaying = false;
        }
    }

    /// Reads a page of older messages and queues it for this socket only.
    pub(super) fn older(&self, before: Before) -> Work {
        let (context, room, connection) = (self.context.clone(), self.guard.key(), self.connection().clone());
        async move {
            let page = async {
                let before = match before {
                    Before::Seq(seq) => Some(seq),
                    Before::Datetime(shown) => {
                        let instant = context.wire.instant(&shown);
                        context.history.find(room, &shown, connection.first_sent(), instant).await?
                    }
                };
                // `None` means that no message was found for the requested time. The result is then the newest page.
                context.history.before(room, before.unwrap_or(Seq::MAX >> 1)).await
            };
            let entries = page.await.map_err(|error| context.refusal_of(&error.into()))?;
            let framed = frame::text(&history_frame(entries.iter().map(|entry| &*entry.frame), false));
            connection.push_older(framed, entries.last().map(|entry| entry.seq));
            Ok(())
        }
        .boxed()
    }
}
