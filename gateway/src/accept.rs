//! Which form of a reply a client wants (RFC 9110, section 12.5.1).

/// The two forms Web3Signer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`
    Json,
    /// `text/plain`
    Text,
}

/// The form with the higher weight; `preferred` where the header says nothing, or likes both as much.
///
/// A client that can read neither gets `preferred`: a signature in an unwanted form is of more use than none.
#[must_use]
pub fn negotiate(header: Option<&str>, preferred: Form) -> Form {
    let Some(header) = header else { return preferred };
    let json = weight(header, "application", "json");
    let text = weight(header, "text", "plain");
    match json.cmp(&text) {
        std::cmp::Ordering::Greater => Form::Json,
        std::cmp::Ordering::Less => Form::Text,
        std::cmp::Ordering::Equal => preferred,
    }
}

/// Weight in thousandths of the most specific range that matches; 0 if none does.
fn weight(header: &str, kind: &str, subtype: &str) -> u16 {
    let ranges = header.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (theirs, theirs_sub) = parts.next()?.split_once('/')?;
        let specific = match (theirs, theirs_sub) {
            ("*", "*") => 0,
            (one, "*") if one.eq_ignore_ascii_case(kind) => 1,
            (one, other) if one.eq_ignore_ascii_case(kind) && other.eq_ignore_ascii_case(subtype) => 2,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((specific, quality.map_or(1000, thousandths)))
    });
    ranges.max_by_key(|(specific, _)| *specific).map_or(0, |(_, quality)| quality)
}

/// `0.25` as 250; what is no weight counts as 0.
fn thousandths(quality: &str) -> u16 {
    let (whole, fraction) = quality.trim().split_once('.').unwrap_or((quality.trim(), ""));
    match (whole, fraction.len()) {
        ("1", _) => 1000,
        ("0", 0..=3) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_unless_text_is_liked_better() {
        for header in
            ["*/*", "application/json", "application/json, text/plain;q=0.9", "application/*", "text/html", ""]
        {
            assert_eq!(negotiate(Some(header), Form::Json), Form::Json, "{header}");
        }
        assert_eq!(negotiate(None, Form::Json), Form::Json);
        for header in [
            "text/plain",
            "TEXT/PLAIN; charset=utf-8",
            "text/*",
            "application/json;q=0.5, text/plain",
            "text/plain, */*;q=0.1",
            "text/plain;q=0.2, application/json;q=0",
        ] {
            assert_eq!(negotiate(Some(header), Form::Json), Form::Text, "{header}");
        }
    }

    #[test]
    fn where_text_is_the_habit_only_who_names_json_gets_it() {
        assert_eq!(negotiate(Some("*/*"), Form::Text), Form::Text);
        assert_eq!(negotiate(None, Form::Text), Form::Text);
        assert_eq!(negotiate(Some("application/json"), Form::Text), Form::Json);
        assert_eq!(negotiate(Some("application/json, */*;q=0.8"), Form::Text), Form::Json);
    }
}
