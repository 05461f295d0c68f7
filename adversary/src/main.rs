//! `stkr-adversary`: one fault on command, in place of an honest program. Test only.

use clap::{Parser, Subcommand};
use eyre::Result;
use std::path::PathBuf;
use stkr_adversary::bad_dealer::Flaw;
use stkr_core::ShareIndex;

#[derive(Parser)]
#[command(about = "Commits one fault on command; for tests and devnets only")]
struct Args {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Subcommand)]
enum Fault {
    /// Answer signing requests under a share that nobody dealt.
    WrongShare {
        /// Configuration of the honest server to replace.
        #[arg(long)]
        config: PathBuf,
        /// Share index of that server.
        #[arg(long)]
        index: u8,
    },
    /// Sign every duty that anybody asks for, under the server's own share and without slashing protection.
    Accomplice {
        /// Configuration of the honest server to replace.
        #[arg(long)]
        config: PathBuf,
        /// The key.
        #[arg(long)]
        key_id: u64,
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
            Fault::WrongShare { config, index } => {
                stkr_adversary::wrong_share::serve(&config, ShareIndex::new(index)?).await
            }
            Fault::BadDealing { config, flaw } => stkr_adversary::bad_dealer::serve(&config, flaw).await,
            Fault::Accomplice { config, key_id } => stkr_adversary::accomplice::serve(&config, key_id).await,
        }
    })
}
