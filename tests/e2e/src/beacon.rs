//! The beacon chains that servers and gateways of a network are told of.

use alloy::primitives::B256;
use eyre::Result;
use std::time::{SystemTime, UNIX_EPOCH};

/// Genesis validators root of every chain here.
pub const GENESIS_VALIDATORS_ROOT: B256 = B256::repeat_byte(7);

/// Unix time, seconds.
pub fn unix_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A chain that is in Fulu since its genesis (unix seconds); `preset` is `mainnet` or `minimal`.
#[must_use]
pub fn schedule_text(preset: &str, genesis_time: u64, seconds_per_slot: u64) -> String {
    let forks = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
    let fork = |(at, name): (usize, &&str)| {
        let first = if at == 0 { "53".to_owned() } else { format!("0{at}") };
        format!("{{ name = \"{name}\", version = \"0x{first}746b72\", epoch = 0 }}")
    };
    let forks: Vec<String> = forks.iter().enumerate().map(fork).collect();
    format!(
        "preset = \"{preset}\"\ngenesis_validators_root = \"{GENESIS_VALIDATORS_ROOT}\"\ngenesis_time = {genesis_time}\n\
         seconds_per_slot = {seconds_per_slot}\nforks = [{}]\n",
        forks.join(", "),
    )
}
