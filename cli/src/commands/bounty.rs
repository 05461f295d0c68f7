//! `stkr bounty`.

use alloy::primitives::U256;
use serde_json::{Value, json};
use stkr_sdk::amount;

use crate::{
    args::{BountyCommand, BountyOf},
    context::Context,
    failure::Failure,
    output::record,
};

pub(crate) async fn run(command: BountyCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        BountyCommand::Show { account } => {
            let client = context.client().await?;
            let servers = client.servers().bounty_of(account).await?;
            let providers = client.pools().bounty_of(account).await?;
            let answer = json!({"serversWei": servers.to_string(), "providersWei": providers.to_string()});
            context.output.show(&answer, |_| {
                let lines = [("for faults of servers", servers), ("for faults of providers", providers)];
                record(&lines.map(|(name, wei)| (name, amount::with_unit(wei))))
            });
            Ok(())
        }
        BountyCommand::Withdraw { of, signing } => {
            let client = context.client_for(&signing).await?;
            let (write, done) = match of {
                BountyOf::Servers => {
                    (client.servers().withdraw_bounty(), "withdrew the bounties for faults of servers")
                }
                BountyOf::Providers => {
                    (client.pools().withdraw_bounty(), "withdrew the bounties for faults of providers")
                }
            };
            context.perform(write, &signing, done, paid).await
        }
    }
}

fn paid(wei: U256) -> Value {
    json!({ "paidWei": wei.to_string() })
}
