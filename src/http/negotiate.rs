//! Evaluates the `Accept` header (SPEC 1). A value is accepted if it includes JSON and its `version`, if any, is 1.
//! Calls that return plain text also accept values that include plain text.

use http::HeaderMap;
use http::header::ACCEPT;

/// Returns whether the caller accepts JSON.
pub(super) fn admits_json(headers: &HeaderMap) -> bool {
    admits(headers, ["*/*", "application/*", "application/json"])
}

/// Returns whether the caller accepts plain text.
pub(super) fn admits_text(headers: &HeaderMap) -> bool {
    admits(headers, ["*/*", "text/*", "text/plain"])
}

fn admits(headers: &HeaderMap, media: [&str; 3]) -> bool {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_none() || ranges.any(|range| range_admits(range, media))
}

fn range_admits(range: &str, wanted: [&str; 3]) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters_fit = parts.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => value == "1",
            "q" => value.parse::<f32>().map_or(true, |q| q > 0.0),
            _ => true,
        }
    });
    wanted.contains(&media.as_str()) && parameters_fit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(accept: &str) -> bool {
        admits_json(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn any_accept_that_admits_json_is_accepted() {
        assert!(admits_json(&HeaderMap::new()));
        for fine in [
            "application/json; version=1",
            "application/json;version=\"1\"",
            "application/json, text/plain, */*",
            "text/html, application/*;q=0.5",
            "APPLICATION/JSON",
            "",
        ] {
            assert!(admits(fine), "{fine}");
        }
    }

    #[test]
    fn file_may_be_requested_as_text() {
        let admits = |accept: &str| admits_text(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect());
        assert!(admits("text/plain") && admits("text/html, text/*") && !admits("image/png"));
    }

    #[test]
    fn other_versions_and_types_are_not_accepted() {
        for bad in ["application/json; version=2", "text/html", "application/json;q=0", "application/json; version=1.0"]
        {
            assert!(!admits(bad), "{bad}");
        }
    }
}
