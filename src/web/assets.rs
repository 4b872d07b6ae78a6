//! The pages of the console and the demo, and the modules they load: as they lie in `src/web/`, under a path that is the digest
//! of all of them. Imports are relative, so a page gets modules of one release only, and browsers keep them for good.

use bytes::Bytes;

use crate::config::SignUp;
use crate::http::{CSS, HTML, Page, SCRIPT, SVG, digest};

/// In a page, stands for the path of its modules.
const HERE: &str = "{{assets}}";

/// In the console's page, stands for whether sign-up is open.
const SIGN_UP: &str = "{{sign-up}}";

/// A file: its path below the assets, and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($path:literal)*) => { &[$(($path, include_bytes!($path))),*] };
}

const CONSOLE: &[File] = files! {
    "icon.svg"
    "shared/conversation.js"
    "shared/dom.js"
    "shared/line.js"
    "shared/rows.js"
    "shared/store.js"
    "shared/theme.css"
    "shared/time.js"
    "console/account.js"
    "console/api.js"
    "console/console.css"
    "console/conversation.js"
    "console/desk.js"
    "console/icons.js"
    "console/main.js"
    "console/parts.js"
    "console/roomlist.js"
    "console/rooms.js"
    "console/sentences.js"
    "console/settings.js"
    "console/signin.js"
    "console/talk.js"
    "console/thread.js"
    "console/webhook.js"
    "console/words.js"
};

const DEMO: &[File] = files! {
    "demo/demo.css"
    "demo/demo.js"
};

/// The pages and what they load; the demo's only if asked for.
pub(super) fn pages(with_demo: bool, sign_up: SignUp) -> Vec<Page> {
    let files: Vec<File> = CONSOLE.iter().chain(DEMO.iter().filter(|_| with_demo)).copied().collect();
    let here = format!("/assets/{}", digest(files.iter().map(|(_, bytes)| *bytes)));
    let sign_up = if sign_up.is_open() { "open" } else { "closed" };
    let page = |path, html: &str| Page::new(path, HTML, html.replace(HERE, &here).replace(SIGN_UP, sign_up).into());
    let mut pages = vec![page("/console/", include_str!("console/index.html"))];
    if with_demo {
        pages.push(page("/demo", include_str!("demo/index.html")));
    }
    pages.extend(files.into_iter().map(|(path, bytes)| {
        Page::immutable("/assets/", format!("{here}/{path}"), kind_of(path), Bytes::from_static(bytes))
    }));
    pages
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("js") => SCRIPT,
        Some("css") => CSS,
        _ => SVG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &Page) -> String {
        String::from_utf8(page.bytes().to_vec()).unwrap()
    }

    /// What stands between quotes after each of these words.
    fn quoted<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(word).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn everything_that_a_page_or_a_module_loads_is_there() {
        let pages = pages(true, SignUp::Open);
        let is_there = |path: &str| pages.iter().any(|page| page.path() == path);
        for page in &pages {
            let (path, text) = (page.path(), text(page));
            if path == "/console/" || path == "/demo" {
                let links: Vec<&str> = quoted(&text, "href=\"").chain(quoted(&text, "src=\"")).collect();
                assert!(links.len() >= 3, "{path}");
                let served = ["/console/", "/widget.js"];
                let bad = links.iter().find(|link| link.starts_with('/') && !is_there(link) && !served.contains(link));
                assert_eq!(bad, None, "{path}");
            }
            for import in quoted(&text, "from \"") {
                let folder = path.rsplit_once('/').unwrap().0;
                let target = match import.strip_prefix("../") {
                    Some(rest) => format!("{}/{rest}", folder.rsplit_once('/').unwrap().0),
                    None => format!("{folder}/{}", import.strip_prefix("./").unwrap()),
                };
                assert!(is_there(&target), "{path}: {import}");
            }
        }
    }

    #[test]
    fn no_page_has_anything_inline() {
        for page in pages(true, SignUp::Open).iter().filter(|page| page.path() == "/console/" || page.path() == "/demo")
        {
            let text = text(page);
            assert!(!text.contains(" style=") && !text.contains("<style") && !text.contains(" on"), "{}", page.path());
            assert!(text.split("<script").skip(1).all(|tag| tag.starts_with(" type=\"module\" src=")));
        }
    }

    #[test]
    fn the_console_knows_whether_sign_up_is_open() {
        for (sign_up, attribute) in
            [(SignUp::Open, "data-sign-up=\"open\""), (SignUp::Closed, "data-sign-up=\"closed\"")]
        {
            let pages = pages(false, sign_up);
            let console = pages.iter().find(|page| page.path() == "/console/").unwrap();
            assert!(text(console).contains(attribute), "{sign_up:?}");
        }
    }

    #[test]
    fn without_the_demo_nothing_of_it_is_served() {
        assert!(pages(false, SignUp::Open).iter().all(|page| !page.path().contains("demo")));
    }
}
