//! `leash COMMAND ARGS…`: runs a command that must not outlive the process that started it.
//!
//! Asks the kernel to SIGKILL this process when its parent dies (PR_SET_PDEATHSIG survives `exec`), then becomes the
//! command. So anvil, servers and relayers end with a test or devnet even when that is SIGKILLed itself.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(parent), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: leash PARENT_PID COMMAND [ARGS…]");
        return ExitCode::from(2);
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        eprintln!("leash: cannot ask for a parent-death signal: {error}");
        return ExitCode::from(3);
    }
    // The parent may have died before the signal was armed; then nobody would ever send it.
    let parent_now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent_now.as_deref() != parent.to_str() {
        return ExitCode::from(3);
    }
    let error = Command::new(&program).args(args).exec();
    eprintln!("leash: cannot start {}: {error}", program.to_string_lossy());
    ExitCode::from(3)
}
