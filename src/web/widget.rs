//! The widget's script: its modules as one, for a tag in any page.
//!
//! The modules import each other by name and nothing else, so leaving out `import` and `export` and putting one after the other
//! makes a script of them. Comments and indentation stay here.

/// A module before those that use it.
const MODULES: &[&str] = &[
    include_str!("shared/time.js"),
    include_str!("shared/line.js"),
    include_str!("shared/dom.js"),
    include_str!("shared/rows.js"),
    include_str!("shared/conversation.js"),
    include_str!("widget/words.js"),
    include_str!("shared/store.js"),
    include_str!("widget/service.js"),
    include_str!("widget/talk.js"),
    STYLE,
    include_str!("widget/panel.js"),
    include_str!("widget/widget.js"),
];

const STYLE: &str = include_str!("widget/style.js");

/// Where a style means the same without its blank.
const STYLE_BLANKS: [&str; 6] = [": ", " {", "{ ", ", ", "; ", " }"];

/// The script.
pub(super) fn script() -> String {
    let mut script = String::from("(() => {\n\"use strict\";\n");
    for module in MODULES {
        let (mut in_comment, mut literal) = (false, None);
        for line in module.lines().map(str::trim) {
            let is_comment = in_comment || line.starts_with("//") || line.starts_with("/**");
            in_comment = is_comment && !line.starts_with("//") && !line.ends_with("*/");
            if is_comment || line.is_empty() || line.starts_with("import ") {
                continue;
            }
            let mut line = line.strip_prefix("export ").unwrap_or(line).to_owned();
            if *module == STYLE {
                line = STYLE_BLANKS.iter().fold(line, |line, blank| line.replace(blank, blank.trim()));
            }
            push_tight(&mut script, &line, &mut literal);
            // Elsewhere it may be the end of what is said.
            if !line.ends_with(['{', ';', ',']) {
                script.push('\n');
            }
        }
    }
    script.push_str("})();\n");
    script
}

/// Adds a line without the blanks that mean nothing. `literal`: the quote of the text that it begins in, and then of what it ends in.
/// What stands in quotes stays as it is. A regular expression is not understood, so blanks beside parentheses stay, too.
fn push_tight(script: &mut String, line: &str, literal: &mut Option<char>) {
    const LONE: [char; 10] = ['{', '}', '=', '<', '>', '?', ':', '|', '&', ','];
    let mut before = '\n';
    for (at, letter) in line.char_indices() {
        let after = line[at + letter.len_utf8()..].chars().next().unwrap_or('\n');
        if letter == ' ' && literal.is_none() && (LONE.contains(&before) || LONE.contains(&after)) {
            continue;
        }
        match *literal {
            None if ['"', '`', '\''].contains(&letter) => *literal = Some(letter),
            Some(quote) if quote == letter && before != '\\' => *literal = None,
            _ => {}
        }
        script.push(letter);
        before = letter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_where_they_mean_nothing_and_stay_in_what_is_said() {
        let (mut script, mut literal) = (String::new(), None);
        for line in
            ["const say = (it) => it ? `a = ${it},", " b` : \"c, \\\" = d\" + 'e = f';", "return typeof x === \"g\""]
        {
            push_tight(&mut script, line, &mut literal);
        }
        assert_eq!(script, "const say=(it)=>it?`a = ${it}, b`:\"c, \\\" = d\" + 'e = f';return typeof x===\"g\"");
    }

    /// What a visitor's browser may have to fetch before it shows anything.
    const MAX_GZIPPED: usize = 12 * 1024;

    #[test]
    fn the_script_is_small() {
        let gzipped = crate::http::gzip(script().as_bytes()).unwrap();
        assert!(gzipped.len() <= MAX_GZIPPED, "{} bytes", gzipped.len());
    }

    #[test]
    fn the_script_is_one_and_asks_nobody_else_for_anything() {
        let script = script();
        for rest in ["import ", "export ", ";//", "{//", "\n//"] {
            assert!(!script.contains(rest), "{rest}");
        }
        // The namespace of SVG is a name, not a place; and a scheme alone is none.
        let mut urls = script.match_indices("http").map(|(at, _)| &script[at..]);
        let known = ["http\"", "http://www.w3.org/2000/svg\"", "https?:/", "https://`"];
        assert!(urls.all(|url| known.iter().any(|known| url.starts_with(known))));
    }

    #[test]
    fn nothing_that_somebody_wrote_can_become_html() {
        let script = script();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "srcdoc"] {
            assert!(!script.contains(way), "{way}");
        }
    }
}
