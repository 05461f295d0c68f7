//! `stkr-adversary`: one fault on command, in place of an honest program. Test only.

use clap::{Parser, Subcommand};
use eyre::Result;
use std::path::PathBuf;
use stkr_adversary::accomplice::Lie;
use stkr_adversary::bad_dealer::Flaw;

#[derive(Parser)]
#[command(about = "Commits one fault on command; for tests and devnets only")]
struct Args {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Subcommand)]
enum Fault {
    /// Sign everything that anybody asks for, without slashing protection.
    Accomplice {
        /// Configuration of the honest server to replace.
        #[arg(long)]
        config: PathBuf,
        /// The key.
        #[arg(long)]
        key_id: u64,
        /// What it sends for its partial signatures.
        #[arg(long, value_enum, default_value = "none")]
        lie: Lie,
    },
    /// Deal badly in every key ceremony.
    BadDealing {
        /// Configuration of the honest server to replace.
        #[arg(long)]
        config: PathBuf,
        /// What is wrong with its dealings.
        #[arg(long, value_enum, default_value = "wrong-share")]
        flaw: Flaw,
    },
}

fn main() -> Result<()> {
    stkr_node::tls::install_provider()?;
    let fault = Args::parse().fault;
    tokio::runtime::Runtime::new()?.block_on(async {
        match fault {
            Fault::BadDealing { config, flaw } => stkr_adversary::bad_dealer::serve(&config, flaw).await,
            Fault::Accomplice { config, key_id, lie } => stkr_adversary::accomplice::serve(&config, key_id, lie).await,
        }
    })
}
