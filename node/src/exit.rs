//! Exit codes, the same in every program and in every `--json` answer.

use std::process::ExitCode;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// 0: what was asked for is done.
    Done,
    /// 1: a rule, a contract or a server refused; trying again changes nothing until something else changes.
    Refused,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: something that is needed cannot be reached or used now; trying again later may work.
    Unavailable,
    /// 4: going on could be unsafe (foreign database, lost state, wrong chain); a person has to look first.
    Unsafe,
}

impl Exit {
    /// The number the process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Unsafe => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows with which code the program should end. Wrap the cause where the class is known
/// (`map_err(Failure::usage)`), let it travel through `eyre`, and find it again in `main` with [`exit_of`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Class of the failure.
    pub exit: Exit,
    /// One sentence for people.
    pub message: String,
}

impl Failure {
    /// A failure of class `exit` that says `message`.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
    /// Wrong arguments or configuration.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
    /// Refused by a rule.
    pub fn refused(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }
    /// Not reachable or not usable now.
    pub fn unavailable(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }
    /// Unsafe to go on.
    pub fn not_safe(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Unsafe, message)
    }
}

/// The code for an error chain: that of the first [`Failure`] in it, else [`Exit::Refused`].
pub fn exit_of(report: &eyre::Report) -> Exit {
    report.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(Exit::Refused, |failure| failure.exit)
}

/// Writes an error chain to stderr as one line, outermost action first, and gives the exit code.
pub fn report(program: &str, report: &eyre::Report) -> ExitCode {
    let chain: Vec<String> = report.chain().map(ToString::to_string).collect();
    eprintln!("{program}: {}", chain.join(": "));
    exit_of(report).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eyre::WrapErr as _;

    #[test]
    fn the_class_of_a_failure_survives_added_context() {
        let plain = eyre::eyre!("no class");
        assert_eq!(exit_of(&plain), Exit::Refused);
        let classed = Err::<(), _>(Failure::not_safe("database is lost")).wrap_err("starting").wrap_err("running");
        assert_eq!(exit_of(&classed.unwrap_err()), Exit::Unsafe);
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [Exit::Done, Exit::Refused, Exit::Usage, Exit::Unavailable, Exit::Unsafe].map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    }
}
