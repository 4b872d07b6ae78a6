//! Formats text from users for e-mails and transcripts, so that no user can imitate another user.
//!
//! **Invariant:** the output of [`quote`] and [`name`] contains no hidden characters. Its only line breaks are those
//! that [`quote`] inserts.

use unicode_width::UnicodeWidthChar as _;

/// Maximum width of a quoted line in columns, including its mark. Mail clients fold longer lines, and the second part
/// of a folded line has no mark.
const QUOTE_WIDTH: usize = 72;

/// Mark at the beginning of each quoted line.
const MARK: &str = "> ";

/// Maximum number of consecutive zero-width characters. Correctly written words need only a few.
const MAX_MARKS: usize = 8;

/// Maximum length of a name, in characters.
const NAME_CHARS: usize = 50;

/// Returns whether some programs display this character as a line break.
pub fn is_line_break(letter: char) -> bool {
    matches!(letter, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Returns whether a character is invisible or changes the display of other characters. Control characters,
/// bidirectional controls and tags are examples. Joiners and most variation selectors do not count as hidden, because
/// some scripts and emoji need them.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Returns whether a character is displayed as a space.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
}

/// Splits text at every line break. CR LF counts as one line break.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((line, end)) = text.split_once(is_line_break).map(|(line, _)| (line, &text[line.len()..])) else {
            rest = None;
            return Some(text);
        };
        let end_len = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        rest = Some(&end[end_len..]);
        Some(line)
    })
}

/// Quotes text: each line begins with `>` and is at most 72 columns wide. Text with more than `max_chars` characters is
/// truncated.
pub fn quote(text: &str, max_chars: usize) -> String {
    let mut shown: String = text.chars().take(max_chars).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let mut quoted: Vec<String> = Vec::new();
    for line in lines(shown.trim_matches(|letter| is_blank(letter) || is_hidden(letter))) {
        let before = quoted.len();
        fold(line, &mut quoted);
        // Several consecutive empty lines become one.
        if quoted.len() == before && quoted.last().is_some_and(|last| last != MARK) {
            quoted.push(MARK.to_owned());
        }
    }
    if quoted.is_empty() {
        quoted.push(MARK.to_owned());
    }
    quoted.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Splits a line into quoted lines and appends them to `into`.
fn fold(line: &str, into: &mut Vec<String>) {
    let (mut current, mut width) = (String::from(MARK), MARK.len());
    let mut flush = |current: &mut String, width: &mut usize| {
        into.push(std::mem::replace(current, MARK.to_owned()));
        *width = MARK.len();
    };
    for word in visible(line).split(' ').filter(|word| !word.is_empty()) {
        let word_width: usize = word.chars().map(columns).sum();
        let is_first = current.len() == MARK.len();
        if !is_first && width + 1 + word_width > QUOTE_WIDTH {
            flush(&mut current, &mut width);
        } else if !is_first {
            current.push(' ');
            width += 1;
        }
        for letter in word.chars() {
            if width + columns(letter) > QUOTE_WIDTH {
                flush(&mut current, &mut width);
            }
            current.push(letter);
            width += columns(letter);
        }
    }
    if current.len() > MARK.len() {
        flush(&mut current, &mut width);
    }
}

/// Formats a name as one line. Truncates the name to 50 characters. Inserts spaces where mail clients would recognise a
/// link.
/// Replaces quotation marks, so that the caller can put the name in quotation marks.
pub fn name(text: &str) -> String {
    let line = visible(text);
    let mut letters = line.trim().chars().peekable();
    let mut shown = String::new();
    for at in 0.. {
        let Some(letter) = letters.next() else { break };
        if at == NAME_CHARS {
            shown.push('…');
            break;
        }
        shown.push(if matches!(letter, '"' | '“' | '”' | '„' | '‟' | '«' | '»' | '＂') {
            '\''
        } else {
            letter
        });
        if is_link_part(letter) && letters.peek().is_some_and(|next| *next != ' ') {
            shown.push(' ');
        }
    }
    shown
}

/// Returns whether a character joins the parts of a host name, a URL or an e-mail address.
fn is_link_part(letter: char) -> bool {
    matches!(letter, '.' | ':' | '/' | '\\' | '@' | '。' | '．' | '｡' | '：' | '／' | '＠' | '․' | '⁄' | '∕')
}

/// Removes hidden characters and superfluous zero-width characters. Replaces each run of line breaks and blanks with
/// one space.
fn visible(text: &str) -> String {
    let (mut shown, mut marks) = (String::with_capacity(text.len()), 0);
    for letter in text.chars() {
        if is_line_break(letter) || is_blank(letter) {
            if !shown.ends_with(' ') {
                shown.push(' ');
            }
            marks = 0;
        } else if !is_hidden(letter) {
            marks = if columns(letter) == 0 { marks + 1 } else { 0 };
            if marks <= MAX_MARKS {
                shown.push(letter);
            }
        }
    }
    shown
}

fn columns(letter: char) -> usize {
    letter.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    const BREAKS: [&str; 12] =
        ["\n", "\r", "\r\n", "\r\r", "\n\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\u{1c}", "\u{1e}"];

    #[test]
    fn no_line_of_a_quotation_is_without_its_mark() {
        for end in BREAKS {
            let quoted = quote(&format!("hi{end}{end}PinTalk security notice{end}"), 300);
            assert_eq!(quoted, "> hi\n>\n> PinTalk security notice", "{end:?}");
        }
        // If a mail client folds a line, the second part has no mark, so runs of blanks must be shortened.
        for blank in [" ", "\t", "\u{a0}", "\u{2003}", "\u{3000}", "\u{3164}", "\u{2800}", "\u{200b} ", "\u{1160}"] {
            let quoted = quote(&format!("hi{}PinTalk security notice", blank.repeat(80)), 300);
            assert_eq!(quoted, "> hi PinTalk security notice", "{blank:?}");
        }
        for letter in ["a", "가", "🙂", "e\u{301}"] {
            for text in [letter.repeat(290), format!("{letter} ").repeat(140)] {
                let quoted = quote(&text, 300);
                let mut lines = quoted.split('\n');
                assert!(lines.all(|line| line.starts_with("> ") && line.width() <= QUOTE_WIDTH), "{quoted}");
            }
        }
        assert_eq!(quote("", 300), ">");
        assert_eq!(quote(&"a ".repeat(200), 3), "> a a…");
    }

    #[test]
    fn no_hidden_character_is_shown() {
        let hidden = "\u{0}\u{7}\u{8}\u{1b}\u{7f}\u{9f}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\
                      \u{2069}\u{feff}\u{e0041}";
        assert_eq!(quote(&format!("a{hidden}b"), 300), "> ab");
        assert_eq!(name(&format!("a{hidden}b")), "ab");
        let family = "👩\u{200d}👧 क\u{94d}\u{200d}ष ❤\u{fe0f}";
        assert_eq!(quote(family, 300), format!("> {family}"));
        assert_eq!(name(&format!("a{}", "\u{301}".repeat(40))).chars().count(), 1 + MAX_MARKS);
    }

    #[test]
    fn a_name_is_one_short_line_without_links_and_quotation_marks() {
        for end in BREAKS {
            assert_eq!(name(&format!("Shop{end}Bcc: all")), "Shop Bcc: all", "{end:?}");
        }
        for (given, shown) in [
            ("Dr. Kim", "Dr. Kim"),
            ("https://evil.example/x", "https: / / evil. example/ x"),
            ("me@evil.example", "me@ evil. example"),
            ("evil。example", "evil。 example"),
            ("Shop” is closed", "Shop' is closed"),
            (" 용감한 고양이 ", "용감한 고양이"),
        ] {
            assert_eq!(name(given), shown);
        }
        assert_eq!(name(&"가".repeat(60)), format!("{}…", "가".repeat(50)));
    }

    #[test]
    fn lines_end_where_any_program_ends_them() {
        assert_eq!(lines("a\r\nb\rc\u{2029}d\n").collect::<Vec<_>>(), ["a", "b", "c", "d", ""]);
        assert_eq!(lines("").collect::<Vec<_>>(), [""]);
    }
}
