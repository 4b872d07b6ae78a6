//! The list of a host's rooms: filter, order, pages and length.

use std::sync::Arc;

use sea_orm::sea_query::{Expr, LikeExpr};
use sea_orm::{ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::domain::{ChatroomId, HostId, Room, RoomName};
use crate::store::entity::chatroom;
use crate::store::{RoomRepository, StoreError, from_column};

/// Filter for the list of a host's rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoomFilter {
    /// Substring of the guest's nickname.
    pub search: Option<String>,
    /// `true` for closed rooms only, `false` for open rooms only.
    pub is_closed: Option<bool>,
}

impl RoomRepository<'_> {
    /// Returns the total number of rooms and one page of a host's list. Pinned rooms are first, with the latest pin on
    /// top. The other rooms are ordered by `updated_at`, newest first. A total above [`COUNTED`] is cached for a
    /// minute.
    pub async fn list(
        self,
        host: HostId,
        filter: RoomFilter,
        offset: u64,
        limit: u64,
    ) -> Result<(u64, Vec<Room>), StoreError> {
        self.list_except(host, filter, &[], offset, limit).await
    }

    /// Returns a list like [`list`](Self::list), but omits the rooms `others` from the page. The total includes these
    /// rooms.
    pub async fn list_except(
        self,
        host: HostId,
        filter: RoomFilter,
        others: &[ChatroomId],
        offset: u64,
        limit: u64,
    ) -> Result<(u64, Vec<Room>), StoreError> {
        let listed = ListFilter::of(host, &filter);
        let mut page = listed.clone();
        let count = match self.few(&listed, filter.search.is_some()).await? {
            Some(few) => {
                let count = few.len() as u64;
                page = ListFilter(Condition::all().add(chatroom::Column::Id.is_in(few)));
                count
            }
            None => self.count_rooms(host, &filter, &listed).await?,
        };
        if count <= offset {
            return Ok((count, Vec::new()));
        }
        if !others.is_empty() {
            page.0 = page.0.add(chatroom::Column::Id.is_not_in(others.iter().map(|room| room.0)));
        }
        let ids = page.ids().offset(offset).limit(limit);
        let ids: Vec<i64> = self.store.run("rooms", || ids.clone().into_tuple().all(&self.store.reader)).await?;
        let mut rooms = self.rooms_where(chatroom::Column::Id.is_in(ids.clone())).await?;
        rooms.sort_by_key(|room| ids.iter().position(|id| *id == room.id.0));
        Ok((count, rooms))
    }

    /// Returns the rooms of a host that have one of these names and match the filter.
    pub async fn list_named(
        self,
        host: HostId,
        filter: &RoomFilter,
        names: &[RoomName],
    ) -> Result<Vec<Room>, StoreError> {
        let ListFilter(wanted) = ListFilter::of(host, filter);
        let named = chatroom::Column::Name.is_in(names.iter().map(|name| name.as_str()));
        self.rooms_where(wanted.add(named)).await
    }

    /// Returns the ids of all rooms that match a search. Returns `None` if there are more than [`FEW`] or there is no
    /// search. Sorting few ids is cheaper than finding the rooms of a page by scanning the whole list in order.
    async fn few(self, listed: &ListFilter, is_search: bool) -> Result<Option<Vec<i64>>, StoreError> {
        if !is_search {
            return Ok(None);
        }
        let matches = listed.select().column(chatroom::Column::Id).limit(FEW + 1);
        let few: Vec<i64> = self.store.run("rooms", || matches.clone().into_tuple().all(&self.store.reader)).await?;
        Ok((few.len() as u64 <= FEW).then_some(few))
    }

    async fn count_rooms(self, host: HostId, filter: &RoomFilter, listed: &ListFilter) -> Result<u64, StoreError> {
        let all = listed.select().column_as(chatroom::Column::Id.count(), "rooms");
        let count = async {
            let counted: Option<i64> =
                self.store.run("rooms", || all.clone().into_tuple().one(&self.store.reader)).await?;
            Ok(counted.map_or(0, from_column))
        };
        let beyond = listed.select().column(chatroom::Column::Id).offset(COUNTED);
        if self.store.run("rooms", || beyond.clone().into_tuple::<i64>().one(&self.store.reader)).await?.is_none() {
            return count.await;
        }
        let counted = self.store.shared.room_counts.try_get_with((host, filter.clone()), count).await;
        counted.map_err(|error: Arc<StoreError>| (*error).clone())
    }
}

/// Maximum length of a list whose rooms are counted at each call.
const COUNTED: u64 = 10_000;

/// Maximum number of matches of a search that are sorted. If there are more matches, the list is scanned in order.
const FEW: u64 = 1_000;

/// Condition for the rooms of a host's list. All its columns are in the index `chatroom_listed`, so that the database
/// reads only the index.
#[derive(Clone)]
pub(in crate::store) struct ListFilter(Condition);

impl ListFilter {
    pub(in crate::store) fn of(host: HostId, filter: &RoomFilter) -> Self {
        let mut wanted = Condition::all().add(chatroom::Column::HostId.eq(host.0));
        if let Some(is_closed) = filter.is_closed {
            wanted = wanted.add(chatroom::Column::IsClosed.eq(is_closed));
        }
        if let Some(search) = filter.search.as_ref().filter(|search| !search.is_empty()) {
            wanted = if search.contains(char::is_control) {
                // Nicknames contain no control characters, so nothing matches. The pattern must not reach SQLite, which
                // ends a pattern at a NUL: the remaining pattern could match every nickname.
                wanted.add(Expr::cust("1 = 0"))
            } else {
                wanted.add(Expr::col(chatroom::Column::Guest).like(containing(search)))
            };
        }
        Self(wanted)
    }

    fn select(&self) -> Select<chatroom::Entity> {
        chatroom::Entity::find().select_only().filter(self.0.clone())
    }

    /// Selects the ids in the order of the list, which is also the order of the index.
    pub(in crate::store) fn ids(&self) -> Select<chatroom::Entity> {
        use chatroom::Column::{FixedAt, Guest, Id, IsClosed, IsFixed, UpdatedAt};
        let ids = self.select().column(Id);
        [IsFixed, FixedAt, UpdatedAt, IsClosed, Guest, Id].into_iter().fold(ids, QueryOrder::order_by_desc)
    }
}

/// Builds a pattern that matches strings containing `part`. Its escape character is not a backslash, because a
/// backslash is already special in MySQL string literals.
fn containing(part: &str) -> LikeExpr {
    let mut pattern = String::with_capacity(part.len() + 2);
    pattern.push('%');
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('!')
}
