//! Pages of a room's messages, located by offset.

use sea_orm::sea_query::Order;
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{Message, Seq};
use crate::store::entity::chat_message;
use crate::store::messages::visible_through;
use crate::store::{MessageRepository, RoomRow, StoreError, from_column, to_column};

/// Minimum offset at which a page is located by sequence number instead of by skipping rows. Skipping 1,000 rows takes
/// about 1 ms.
const FAR: u64 = 1_000;

/// Maximum number of messages that one query of a page reads: 2 MiB at the maximum message length.
const ONE_READ: u64 = 100;

impl MessageRepository<'_> {
    /// Returns a page of a room's messages up to and including `through`, newest first. The page ends early if its text
    /// would exceed `bytes`, but contains at least one message if there is any.
    ///
    /// For a page far from the newest message, no rows are skipped. If the room has no gap in its sequence numbers, the
    /// first number of the page is computed. Otherwise, the number is found by skipping sequence numbers from the
    /// nearer end.
    pub async fn page(
        self,
        room: impl Into<RoomRow>,
        through: Option<Seq>,
        offset: u64,
        limit: u64,
        bytes: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let room = room.into();
        let messages = visible_through(room, through).order_by_desc(chat_message::Column::Seq);
        let mut page = if offset < FAR {
            self.read(messages.offset(offset).limit(Ord::min(limit, ONE_READ))).await?
        } else {
            let Some(first) = self.seq_at(room, through, offset).await? else { return Ok(Vec::new()) };
            self.read(messages.filter(chat_message::Column::Seq.lte(first)).limit(Ord::min(limit, ONE_READ))).await?
        };
        let mut size: usize = page.iter().map(|message| message.text.len()).sum();
        while (page.len() as u64).is_multiple_of(ONE_READ) && (page.len() as u64) < limit && size < bytes {
            let Some(last) = page.last() else { break };
            let wanted = Ord::min(limit - page.len() as u64, ONE_READ);
            let read = self.before(room, Some(last.seq), wanted).await?;
            if read.is_empty() {
                break;
            }
            size += read.iter().map(|message| message.text.len()).sum::<usize>();
            page.extend(read);
        }
        while size > bytes && page.len() > 1 {
            size -= page.pop().map_or(0, |message| message.text.len());
        }
        Ok(page)
    }

    /// Returns the sequence number of the message at `offset` from the newest one up to `through`, or `None` if there
    /// are fewer messages.
    async fn seq_at(self, room: RoomRow, through: Option<Seq>, offset: u64) -> Result<Option<i64>, StoreError> {
        let count = self.store.rooms().count_messages(room, through).await?;
        if offset >= count {
            return Ok(None);
        }
        let at = async |order, skip| {
            let numbers = visible_through(room, through).select_only().column(chat_message::Column::Seq);
            let number = numbers.order_by(chat_message::Column::Seq, order).offset(skip).limit(1);
            self.store.run("messages", || number.clone().into_tuple::<i64>().one(&self.store.reader)).await
        };
        let (oldest, newest) = (at(Order::Asc, 0).await?, at(Order::Desc, 0).await?);
        match oldest.zip(newest) {
            Some((oldest, newest)) if from_column(newest - oldest + 1) == count => Ok(Some(newest - to_column(offset))),
            _ if offset * 2 > count => at(Order::Asc, count - 1 - offset).await,
            _ => at(Order::Desc, offset).await,
        }
    }
}
