//! Tables for people, JSON for programs; errors on stderr in both.

use std::{io::Write as _, process::ExitCode};

use serde::Serialize;
use serde_json::{Value, json};
use stkr_node::exit::Exit;

use crate::failure::Failure;

/// Where and how results are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Text as it is.
    pub(crate) fn text(&self, text: &str) {
        put(text);
    }

    /// One result: JSON of `value`, or what `table` makes of it.
    pub(crate) fn show<T: Serialize>(&self, value: &T, table: impl FnOnce(&T) -> String) {
        if self.json {
            self.json(value);
        } else {
            self.text(&with_newline(table(value)));
        }
    }

    /// Pretty JSON, whatever the mode.
    pub(crate) fn json<T: Serialize>(&self, value: &T) {
        let text =
            serde_json::to_string_pretty(value).unwrap_or_else(|error| json!({"error": error.to_string()}).to_string());
        self.text(&with_newline(text));
    }

    /// One line of a stream of results, flushed.
    pub(crate) fn line(&self, value: &Value, text: impl FnOnce() -> String) {
        let line = if self.json { value.to_string() } else { shown(&text()) };
        put(&with_newline(line));
    }

    /// A remark for people that is not a result.
    pub(crate) fn remark(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// The failure, and the code to end with.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        if self.json {
            let Failure { exit, code, message, hint } = failure;
            eprintln!("{}", json!({"error": {"exit": exit.code(), "code": code, "message": message, "hint": hint}}));
        } else {
            eprintln!("error: {}\nhint: {}", one_line(&failure.message), one_line(&failure.hint));
        }
        failure.exit.into()
    }
}

/// Prints, and ends the program if it cannot: what is lost on its way to a full disk must not look done, and nobody reads what
/// comes after a reader that went away (`| head`), which is no failure.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    eprintln!("error: the result cannot be written: {error}\nhint: see where standard output goes, and run it again");
    std::process::exit(Exit::Unavailable.code().into());
}

/// Text from the chain, made fit for a terminal: whoever wrote it must not move the cursor or forge a line.
fn shown(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// The same for a line that a command puts together itself.
pub(crate) fn plain_line(text: &str) -> String {
    shown(text)
}

fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn one_line(text: &str) -> String {
    shown(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A table: columns as wide as their widest cell, two blanks between them, numbers to the left like everything else.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "nothing to show".to_owned();
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heading.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Names and values of one thing, below each other.
pub(crate) fn record(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name:<width$}  {}", shown(value))).collect();
    lines.join("\n")
}

/// Unix seconds for people, UTC: `2026-03-01 12:00:00`.
pub(crate) fn time(seconds: u64) -> String {
    if seconds == 0 {
        return "-".to_owned();
    }
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since 1970-01-01 as a date of the Gregorian calendar: whole years, then whole months, are taken off.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    // 400 years are 146,097 days; without this a far future would loop for long.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let text = table(&["ID", "STATE"], &[vec!["1".into(), "Open".into()], vec!["1000".into(), "Full".into()]]);
        assert_eq!(text, "ID    STATE\n1     Open\n1000  Full");
        assert_eq!(table(&["ID"], &[]), "nothing to show");
    }

    #[test]
    fn text_of_strangers_forges_no_row_and_no_escape_sequence() {
        let name = "https://x:1\u{1b}[31m\nfake".to_owned();
        let escaped = r"https://x:1\u{1b}[31m\u{a}fake";
        assert_eq!(table(&["ENDPOINT"], &[vec![name.clone()]]), format!("ENDPOINT\n{escaped}"));
        assert_eq!(record(&[("endpoint", name.clone())]), format!("endpoint  {escaped}"));
        assert_eq!(shown(&name), escaped);
        assert_eq!(one_line(&name), r"https://x:1\u{1b}[31m fake", "nor in an error");
    }

    #[test]
    fn times_are_dates_of_the_calendar() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1), "1970-01-01 00:00:01 UTC");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(1_772_366_399), "2026-03-01 11:59:59 UTC");
        assert_eq!(time(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
