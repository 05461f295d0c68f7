//! How a command fails: one sentence, a code for programs, a hint, and an exit code.

use stkr_node::{config::ConfigError, exit::Exit, secrets::SecretError};
use stkr_sdk::{Class, StkrError, amount::AmountError};

/// Digits from which on hex could be a private key.
const SECRET_DIGITS: usize = 64;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// Stable name, `snake_case`.
    pub(crate) code: &'static str,
    /// What was wrong, one sentence.
    pub(crate) message: String,
    /// What to do, one sentence.
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage", message: message.into(), hint: hint.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, code: "unavailable", message: message.into(), hint: hint.into() }
    }

    pub(crate) fn not_safe(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Unsafe, code: "unsafe", message: message.into(), hint: hint.into() }
    }

    /// What the argument parser says, as one sentence and with nothing in it that could be a key somebody pasted.
    pub(crate) fn from_arguments(error: &clap::Error) -> Self {
        let rendered = error.render().to_string();
        let (mut sentence, mut hint) = (Vec::new(), String::from("run it with --help to see what it takes"));
        for line in rendered.lines().map(str::trim) {
            if line.starts_with("Usage:") || line.starts_with("For more information") {
                break;
            }
            if let Some(tip) = line.strip_prefix("tip:") {
                hint = without_secrets(tip.trim());
            } else if !line.is_empty() {
                sentence.push(line);
            }
        }
        let joined = without_secrets(sentence.join(" ").trim_start_matches("error: "));
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || joined.is_empty() {
            return Self::usage("a command is missing", hint);
        }
        Self::usage(joined, hint)
    }
}

/// Text with every word of 64 or more hex digits left out: whatever was pasted in the wrong place stays off the screen.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        if run.len() >= SECRET_DIGITS {
            clean.push_str("(left out)");
        } else {
            clean.push_str(&run);
        }
        run.clear();
        clean.push(c);
    }
    clean.pop();
    clean
}

impl From<StkrError> for Failure {
    fn from(error: StkrError) -> Self {
        let exit = match error.class() {
            Class::Refused => Exit::Refused,
            Class::Usage => Exit::Usage,
            Class::Unavailable => Exit::Unavailable,
            Class::Unsafe => Exit::Unsafe,
        };
        Self { exit, code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

impl From<AmountError> for Failure {
    fn from(error: AmountError) -> Self {
        Self { code: "amount", ..Self::usage(error.to_string(), "write for example 0.5eth, 500000000gwei or 123wei") }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self {
            code: "secret_file",
            ..Self::usage(without_secrets(&error.to_string()), "give the path of the right file")
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = without_secrets(&error.to_string());
        Self { code: "config", ..Self::usage(message, "`stkr config example` prints a file that is right") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_pasted_in_the_wrong_place_is_left_out_and_an_address_is_not() {
        let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        for text in [format!("unexpected argument '0x{key}' found"), format!("--key-file={key}"), key.to_owned()] {
            let clean = without_secrets(&text);
            assert!(!clean.contains(key) && clean.contains("(left out)"), "{clean}");
        }
        let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
        assert_eq!(without_secrets(address), address);
        assert_eq!(without_secrets("two\nlines"), "two\nlines");
    }
}
