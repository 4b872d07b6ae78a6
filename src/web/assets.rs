//! The loader of the widget, the start page, the pages of the console and the demo, and the files that they load. The paths of these
//! files contain a digest of all files. A page therefore loads only files of one release, and browsers cache the files
//! without revalidation.

use bytes::Bytes;

use crate::http::{CSS, HTML, Page, SCRIPT, SVG, digest};

use super::WebSettings;

/// Name, content type and content of a file.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! dist {
    ($($name:literal: $kind:expr),* $(,)?) => { &[$(($name, $kind, include_bytes!(concat!("dist/", $name)))),*] };
}

const FILES: &[File] = dist! {
    "widget-main.js": SCRIPT,
    "widget-panel.js": SCRIPT,
    "console-check.js": SCRIPT,
    "console.js": SCRIPT,
    "console.css": CSS,
};

const DEMO_FILES: &[File] = dist! {
    "demo.js": SCRIPT,
    "demo.css": CSS,
};

const ICON: File = ("icon.svg", SVG, include_bytes!("icon.svg"));

/// Returns the loader, the pages and their files. Includes the demo only if `settings.demo` is set.
pub(super) fn pages(settings: &WebSettings<'_>) -> Vec<Page> {
    let demo = if settings.demo.is_some() { DEMO_FILES } else { &[] };
    let files: Vec<File> = FILES.iter().chain(demo).chain([&ICON]).copied().collect();
    let assets = format!("assets/{}", digest(files.iter().map(|(_, _, bytes)| *bytes)));
    let base = format!("{}/", settings.base);
    let fill = |text: &str, assets: &str| {
        text.replace("{{assets}}", assets)
            .replace("{{base}}", &base)
            .replace("{{sign-up}}", if settings.sign_up.is_open() { "open" } else { "closed" })
            .replace("{{wire-offset}}", &settings.wire_offset.minutes().to_string())
    };
    let page = |path, html: &str| Page::new(path, HTML, fill(html, &format!("{base}{assets}")).into());
    // The loader obtains the address of the server from its own URL.
    let loader = fill(include_str!("dist/widget.js"), &assets);
    let mut pages = vec![
        page("/", include_str!("index.html")),
        Page::new("/widget.js", SCRIPT, loader.into()),
        page("/console/", include_str!("console/index.html")),
    ];
    if settings.demo.is_some() {
        pages.push(page("/demo", include_str!("demo/index.html")));
    }
    pages.extend(files.into_iter().map(|(name, kind, bytes)| {
        Page::immutable("/assets/", format!("/{assets}/{name}"), kind, Bytes::from_static(bytes))
    }));
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::SignUp;
    use crate::domain::WireOffset;
    use crate::http::gzip;
    use crate::web::DemoHost;

    const SETTINGS: WebSettings<'_> =
        WebSettings { demo: None, sign_up: SignUp::Open, base: "/chat", wire_offset: WireOffset::KOREA };

    fn demo_host() -> DemoHost {
        let text = || "demo".to_owned();
        DemoHost { email: text(), password: text(), access_key: text(), secret_key: text(), uuid: text() }
    }

    fn text(pages: &[Page], path: &str) -> String {
        let page = pages.iter().find(|page| page.path() == path);
        String::from_utf8(page.unwrap().bytes().to_vec()).unwrap()
    }

    /// Returns all values of an attribute in `html`. `name` is the start of the attribute up to and including its
    /// opening quotation mark.
    fn attributes<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
        html.split(name).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn pages_load_files_below_the_public_url_that_are_served() {
        let host = demo_host();
        let pages = pages(&WebSettings { demo: Some(&host), ..SETTINGS });
        for (path, min_links) in [("/", 2), ("/console/", 3), ("/demo", 3)] {
            let html = text(&pages, path);
            let links: Vec<&str> = attributes(&html, " href=\"").chain(attributes(&html, " src=\"")).collect();
            assert!(links.len() >= min_links, "{path}");
            for link in links {
                let file = link.strip_prefix("/chat").unwrap_or_else(|| panic!("{path}: {link}"));
                assert!(pages.iter().any(|page| page.path() == file), "{path}: {link}");
            }
            let inline = html.split("<script").skip(1).find(|tag| !tag.contains("src=\""));
            assert!(inline.is_none() && !html.contains(" style=") && !html.contains("<style") && !html.contains(" on"));
        }
    }

    #[test]
    fn every_placeholder_is_filled() {
        let host = demo_host();
        let pages = pages(&WebSettings { demo: Some(&host), ..SETTINGS });
        for page in &pages {
            assert!(!String::from_utf8_lossy(page.bytes()).contains("{{"), "{}", page.path());
        }
        let main = pages.iter().find(|page| page.path().ends_with("/widget-main.js")).unwrap();
        let loader = text(&pages, "/widget.js");
        assert!(loader.contains(main.path().trim_start_matches('/').trim_end_matches("/widget-main.js")));
        assert!(loader.contains("\"540\"") || loader.contains(":540"), "{loader}");
    }

    #[test]
    fn console_gets_the_settings_of_the_server() {
        for (sign_up, attribute) in
            [(SignUp::Open, "data-sign-up=\"open\""), (SignUp::Closed, "data-sign-up=\"closed\"")]
        {
            let html = text(&pages(&WebSettings { sign_up, ..SETTINGS }), "/console/");
            assert!(html.contains(attribute) && html.contains("data-base=\"/chat/\""), "{html}");
        }
    }

    #[test]
    fn without_the_demo_none_of_its_files_is_served() {
        assert!(pages(&SETTINGS).iter().all(|page| !page.path().contains("demo")));
    }

    /// Maximum compressed size, in bytes, of the files that a visitor's browser loads before the panel is opened.
    const MAX_GZIPPED: usize = 12 * 1024;

    #[test]
    fn the_widget_is_small_until_it_is_opened() {
        let loader = gzip(text(&pages(&SETTINGS), "/widget.js").as_bytes()).unwrap();
        let main = gzip(include_bytes!("dist/widget-main.js")).unwrap();
        let size = loader.len() + main.len();
        assert!(size <= MAX_GZIPPED, "{size} bytes");
    }

    #[test]
    fn user_text_is_never_html() {
        for (name, _, bytes) in FILES.iter().chain(DEMO_FILES) {
            let script = String::from_utf8_lossy(bytes);
            for way in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "srcdoc"]
            {
                assert!(!script.contains(way), "{name}: {way}");
            }
        }
    }
}
