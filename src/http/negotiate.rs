//! `Accept`: any that admits JSON will do; a `version` other than 1 will not (SPEC 1).

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether our JSON is welcome.
pub(super) fn admits_json(headers: &HeaderMap) -> bool {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_none() || ranges.any(range_admits_json)
}

fn range_admits_json(range: &str) -> bool {
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
    matches!(media.as_str(), "*/*" | "application/*" | "application/json") && parameters_fit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(accept: &str) -> bool {
        admits_json(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn any_accept_that_admits_json_is_fine() {
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
    fn another_version_or_another_type_is_not() {
        for bad in ["application/json; version=2", "text/html", "application/json;q=0", "application/json; version=1.0"]
        {
            assert!(!admits(bad), "{bad}");
        }
    }
}
