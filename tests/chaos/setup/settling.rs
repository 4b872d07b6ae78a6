//! Ends a test case: stops the clients and compares the acknowledged, delivered and stored messages.

use std::time::{Duration, Instant};

use super::Setup;
use crate::client::Mode;
use crate::eventually;
use crate::figures::Figures;
use crate::ledger::{Record, Verdict};

/// Maximum time after the last repair until every message is stored and all clients have received it.
const SETTLE: Duration = Duration::from_secs(60);

impl Setup {
    async fn verdict(&self) -> (Verdict, usize) {
        let (mut all, mut rows) = (Verdict::default(), 0);
        let mut stored = Vec::new();
        for room in 0..self.rooms.len() {
            stored.push(self.stored(room).await);
        }
        // The records are locked, so that they do not change while they are compared.
        let records = self.ledger.records();
        let records: Vec<_> = records.iter().map(|record| record.lock()).collect();
        for (room, stored) in stored.iter().enumerate() {
            let of_room: Vec<&Record> =
                records.iter().filter(|record| record.room == room).map(|record| &**record).collect();
            let verdict = Verdict::of(&of_room, stored);
            rows += stored.len();
            all.delivered += verdict.delivered;
            all.lost.extend(verdict.lost);
            all.doubled.extend(verdict.doubled);
            all.faults.extend(verdict.faults);
        }
        (all, rows)
    }

    fn pending(&self) -> usize {
        self.ledger.sum(|record| if record.over.is_none() { record.pending.len() } else { 0 })
    }

    /// Stops sending new messages and waits until all messages are acknowledged.
    pub async fn pause(&mut self) {
        self.mode.send_replace(Mode::Finish);
        eventually("all is acknowledged", SETTLE, async || (self.pending() == 0).then_some(())).await;
    }

    /// Resumes sending messages after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.mode.send_replace(Mode::Talk);
    }

    /// Stops sending new messages. Waits until all messages are acknowledged, stored and received by all clients, for
    /// at most [`SETTLE`]. Returns the figures and the remaining violations.
    pub async fn settle(&mut self) -> (Figures, Verdict) {
        self.settle_but_for(|_| 0).await
    }

    /// Like [`settle`](Self::settle), but first applies `forgive`. This function removes permitted losses from the
    /// verdict and returns their number.
    pub async fn settle_but_for(&mut self, forgive: impl Fn(&mut Verdict) -> usize) -> (Figures, Verdict) {
        self.mode.send_replace(Mode::Finish);
        let (began, mut last, mut forgiven) = (Instant::now(), (Verdict::default(), 0), 0);
        while began.elapsed() < SETTLE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.pending() > 0 {
                continue;
            }
            last = self.verdict().await;
            forgiven = forgive(&mut last.0);
            if last.0.is_clean() {
                break;
            }
        }
        let left = self.pending();
        let (mut verdict, stored) = if left > 0 { self.verdict().await } else { last };
        if left > 0 {
            verdict.faults.push(format!("{left} messages were never acknowledged"));
        }
        let figures = Figures {
            sent: self.ledger.sum(|record| record.sent),
            acknowledged: self.ledger.sum(|record| record.acknowledged.len()),
            delivered: verdict.delivered,
            stored,
            lost: verdict.lost.len() + forgiven,
            doubled: verdict.doubled.len(),
            ..Figures::default()
        };
        (figures, verdict)
    }

    /// Calls [`settle`](Self::settle) and prints the figures. Panics unless the acknowledged, delivered and stored
    /// messages are the same.
    pub async fn finish(mut self, note: impl FnOnce(&Self, &mut Figures)) {
        let (mut figures, verdict) = self.settle().await;
        note(&self, &mut figures);
        figures.show(&self.case);
        self.complain(&verdict);
        self.stop().await;
    }

    pub fn complain(&self, verdict: &Verdict) {
        let sample = |all: &[String]| all.iter().take(8).cloned().collect::<Vec<_>>().join("\n  ");
        let lost: Vec<String> = verdict.lost.iter().map(|loss| loss.text.clone()).collect();
        assert!(
            verdict.is_clean(),
            "{}: lost {}, doubled {}, faults {}\n  {}\n  {}\n  {}",
            self.case,
            verdict.lost.len(),
            verdict.doubled.len(),
            verdict.faults.len(),
            sample(&lost),
            sample(&verdict.doubled),
            sample(&verdict.faults)
        );
    }
}
