//! Paginates lists by page number or by offset. Both forms have the same response envelope (SPEC 1).

use crate::protocol::api::Paginated;

use super::reply::ApiError;
use super::request::Request;

/// Default number of rows per page.
pub(super) const DEFAULT_SIZE: u64 = 20;

/// Maximum number of rows per page.
pub(super) const MAX_PAGE_SIZE: u64 = 100;

/// Maximum `limit` of a request by offset. A page of messages ends earlier if it would exceed 1 MiB.
pub(super) const MAX_LIMIT: u64 = 1_000;

/// Maximum offset. It exceeds the length of any list and is small enough that sums do not overflow.
const MAX_OFFSET: u64 = u32::MAX as u64;

/// Requested part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// `?page=&page_size=`.
    Page { page: u64, size: u64 },
    /// `?limit=&offset=`.
    Offset { offset: u64, limit: u64 },
}

impl Cut {
    /// Parses `?page=&page_size=`.
    pub(super) fn by_page(request: &Request) -> Result<Self, ApiError> {
        let page = number(request, &["page"], "page", 1)?.unwrap_or(1);
        let size = number(request, &["page_size", "pageSize"], "page_size", 1)?.unwrap_or(DEFAULT_SIZE);
        Ok(Self::Page { page, size: size.min(MAX_PAGE_SIZE) })
    }

    /// Parses `?limit=&offset=`.
    pub(super) fn by_offset(request: &Request) -> Result<Self, ApiError> {
        let limit = number(request, &["limit"], "limit", 1)?.unwrap_or(DEFAULT_SIZE);
        let offset = number(request, &["offset"], "offset", 0)?.unwrap_or(0);
        Ok(Self::Offset { offset: offset.min(MAX_OFFSET), limit: limit.min(MAX_LIMIT) })
    }

    /// Returns the number of rows that precede this part.
    pub(super) fn offset(self) -> u64 {
        match self {
            Self::Page { page, size } => (page - 1).saturating_mul(size).min(MAX_OFFSET),
            Self::Offset { offset, .. } => offset,
        }
    }

    /// Returns the maximum number of rows of this part.
    pub(super) fn limit(self) -> u64 {
        match self {
            Self::Page { size, .. } => size,
            Self::Offset { limit, .. } => limit,
        }
    }

    /// Wraps rows in the response envelope. `url` is the absolute URL of the list, and `filters` contains its other
    /// parameters. Returns 404 for a page after the last one; the first page of an empty list is valid.
    pub(super) fn envelope<T>(
        self,
        url: &str,
        filters: &[(&str, String)],
        count: u64,
        results: Vec<T>,
    ) -> Result<Paginated<T>, ApiError> {
        if matches!(self, Self::Page { page, .. } if page > 1) && self.offset() >= count {
            return Err(ApiError::NotFound);
        }
        let link = |cut: Self| {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(filters);
            match cut {
                Self::Page { page, size } => {
                    query.append_pair("page", &page.to_string());
                    if size != DEFAULT_SIZE {
                        query.append_pair("page_size", &size.to_string());
                    }
                }
                Self::Offset { offset, limit } => {
                    query.append_pair("limit", &limit.to_string()).append_pair("offset", &offset.to_string());
                }
            }
            format!("{url}?{}", query.finish())
        };
        // A page may end early because of its size limit. The next offset is then the one after its last row.
        let shown = if results.is_empty() { self.limit() } else { self.limit().min(results.len() as u64) };
        let more = self.offset().saturating_add(shown) < count;
        let (next, previous) = match self {
            Self::Page { page, size } => (
                more.then_some(Self::Page { page: page + 1, size }),
                (page > 1).then_some(Self::Page { page: page - 1, size }),
            ),
            Self::Offset { offset, limit } => (
                more.then_some(Self::Offset { offset: offset + shown, limit }),
                (offset > 0).then_some(Self::Offset { offset: offset.saturating_sub(limit), limit }),
            ),
        };
        Ok(Paginated { count, next: next.map(link), previous: previous.map(link), results })
    }
}

fn number(request: &Request, names: &[&str], field: &'static str, least: u64) -> Result<Option<u64>, ApiError> {
    let Some(text) = request.parameter(names) else { return Ok(None) };
    // A number above `MAX_OFFSET`, even above the range of `u64`, is valid and is clamped.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits { text.parse().unwrap_or(u64::MAX) } else { 0 };
    if digits && value >= least {
        Ok(Some(value.min(MAX_OFFSET)))
    } else {
        Err(ApiError::field(field, &format!("must be a whole number from {least}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://chat.example/api/chat/chatrooms/";

    fn links(cut: Cut, count: u64) -> (Option<String>, Option<String>) {
        let page = cut.envelope::<()>(URL, &[], count, vec![]).unwrap();
        let query = |url: Option<String>| url.map(|url| url.strip_prefix(URL).unwrap().to_owned());
        (query(page.previous), query(page.next))
    }

    #[test]
    fn pages_link_to_the_previous_and_next_page() {
        let page = |page| Cut::Page { page, size: 20 };
        assert_eq!(links(page(1), 20), (None, None));
        assert_eq!(links(page(1), 21), (None, Some("?page=2".into())));
        assert_eq!(links(page(2), 41), (Some("?page=1".into()), Some("?page=3".into())));
        assert_eq!(links(Cut::Page { page: 1, size: 5 }, 6), (None, Some("?page=2&page_size=5".into())));
    }

    #[test]
    fn page_past_the_end_is_not_found_but_the_first_always_exists() {
        assert!(Cut::Page { page: 1, size: 20 }.envelope::<()>(URL, &[], 0, vec![]).is_ok());
        let past = Cut::Page { page: 2, size: 20 }.envelope::<()>(URL, &[], 20, vec![]);
        assert!(matches!(past, Err(ApiError::NotFound)));
    }

    #[test]
    fn offsets_step_by_the_limit_and_stay_at_least_zero() {
        let cut = |offset| Cut::Offset { offset, limit: 10 };
        assert_eq!(links(cut(0), 11), (None, Some("?limit=10&offset=10".into())));
        assert_eq!(links(cut(5), 15), (Some("?limit=10&offset=0".into()), None));
        assert_eq!(links(cut(MAX_OFFSET), 3).1, None);
    }

    #[test]
    fn page_that_ended_early_is_followed_by_the_rest() {
        let cut = Cut::Offset { offset: 5, limit: 10 };
        let page = cut.envelope(URL, &[], 30, vec![(), (), ()]).unwrap();
        assert_eq!(page.next.unwrap(), format!("{URL}?limit=10&offset=8"));
        let last = Cut::Offset { offset: 27, limit: 10 };
        assert_eq!(last.envelope(URL, &[], 30, vec![(), (), ()]).unwrap().next, None);
    }

    #[test]
    fn links_keep_filters_encoded() {
        let filters = [("search", "용감한 곰&".to_owned()), ("is_closed", "true".to_owned())];
        let page = Cut::Page { page: 1, size: 20 }.envelope::<()>(URL, &filters, 50, vec![]).unwrap();
        assert_eq!(
            page.next.unwrap(),
            format!("{URL}?search=%EC%9A%A9%EA%B0%90%ED%95%9C+%EA%B3%B0%26&is_closed=true&page=2")
        );
    }
}
