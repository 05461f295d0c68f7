//! `stkr-adversary`: one fault on command, in place of an honest program. Test only.

use clap::{Parser, Subcommand};
use eyre::Result;
use std::path::PathBuf;
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
}

fn main() -> Result<()> {
    stkr_node::tls::install_provider()?;
    let Fault::WrongShare { config, index } = Args::parse().fault;
    tokio::runtime::Runtime::new()?.block_on(stkr_adversary::wrong_share::serve(&config, ShareIndex::new(index)?))
}
