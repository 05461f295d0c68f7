//! Orderly end of a daemon: on SIGTERM, on SIGINT, and, if asked to, when whoever started it is gone.

use std::io::Read as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGTERM.
    Terminated,
    /// SIGINT (Ctrl-C).
    Interrupted,
    /// Standard input reached its end: the parent is gone (`--exit-with-parent`).
    ParentGone,
    /// The program itself decided to.
    Internal,
}

/// Handle of the one shutdown of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: watch::Sender<Option<Reason>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: watch::channel(None).0 }
    }
}

impl Shutdown {
    /// Listens to SIGTERM and SIGINT, and with `exit_with_parent` to the end of standard input.
    ///
    /// Standard input is a pipe whose other end the parent holds: the kernel closes it however the parent dies, also by
    /// SIGKILL, when no handler of the parent runs.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn install(exit_with_parent: bool) -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let on_signal = shutdown.clone();
        tokio::spawn(async move {
            let reason = tokio::select! {
                _ = terminate.recv() => Reason::Terminated,
                _ = interrupt.recv() => Reason::Interrupted,
            };
            on_signal.trigger(reason);
        });
        if exit_with_parent {
            let on_end = shutdown.clone();
            // A thread of its own: tokio's stdin would hold up the end of the runtime.
            std::thread::Builder::new().name("parent-watch".to_owned()).spawn(move || {
                let mut buffer = [0_u8; 256];
                let mut input = std::io::stdin().lock();
                while !matches!(input.read(&mut buffer), Ok(0) | Err(_)) {}
                on_end.trigger(Reason::ParentGone);
            })?;
        }
        Ok(shutdown)
    }

    /// Starts the shutdown; the first reason stays.
    pub fn trigger(&self, reason: Reason) {
        self.sender.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// Waits until the shutdown starts. Any number of tasks may wait.
    pub async fn wait(&self) -> Reason {
        let mut receiver = self.sender.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(Reason::Internal),
            // Cannot be: `self` holds the sender.
            Err(_) => Reason::Internal,
        }
    }

    /// Why the shutdown started; `None` before.
    pub fn reason(&self) -> Option<Reason> {
        *self.sender.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_hears_the_first_reason() {
        let shutdown = Shutdown::default();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.wait().await }
        });
        assert_eq!(shutdown.reason(), None);
        shutdown.trigger(Reason::Interrupted);
        shutdown.trigger(Reason::Terminated);
        assert_eq!(waiting.await.unwrap(), Reason::Interrupted);
        assert_eq!(shutdown.wait().await, Reason::Interrupted, "late waiters hear it too");
    }
}
