//! `stkr pool`.

use serde::Serialize;
use serde_json::{Value, json};
use stkr_sdk::{ChangeInfo, PoolInfo, PoolPenalties, PoolState, Signature, amount};

use crate::{
    args::PoolCommand,
    context::Context,
    failure::Failure,
    output::{record, table, time},
};

pub(crate) async fn run(command: PoolCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        PoolCommand::List { state } => {
            let wanted = state.as_deref().map(parse_state).transpose()?;
            let mut pools = context.client().await?.pools().list().await?;
            pools.retain(|pool| wanted.is_none_or(|wanted| pool.state == wanted));
            context.output.show(&pools, |pools| list(pools));
            Ok(())
        }
        PoolCommand::Show { id } => {
            let client = context.client().await?;
            let pool = client.pools().get(id).await?;
            let penalties = client.pools().penalties(id).await?;
            context.output.show(&Shown { pool, penalties }, show);
            Ok(())
        }
        PoolCommand::Open { threshold, members, withdrawal_key, signing } => {
            let client = context.client_for(&signing).await?;
            let write = match withdrawal_key {
                Some(key) => client.pools().open_with_withdrawal_key(threshold, members, key).await?,
                None => client.pools().open(threshold, members)?,
            };
            context.perform(write, &signing, "opened the pool", |id| json!({ "poolId": id })).await
        }
        PoolCommand::Stake { id, amount, add, signing } => {
            let wei = amount::parse(&amount)?;
            let offline = !add && wei < amount::MIN_STAKE;
            // An amount that no new position can have needs no endpoint to be refused.
            if offline {
                return Err(too_small(&amount::with_unit(wei)));
            }
            let client = context.client_for(&signing).await?;
            let write = if add { client.pools().increase(id, wei)? } else { client.pools().stake(id, wei)? };
            let done = format!("staked {} into pool {id}", amount::with_unit(wei));
            context.perform(write, &signing, &done, nothing).await
        }
        PoolCommand::Leave { id, amount, signing } => {
            let wei = amount::parse(&amount)?;
            let client = context.client_for(&signing).await?;
            let done = format!("took {} out of pool {id}", amount::with_unit(wei));
            context.perform(client.pools().leave(id, wei)?, &signing, &done, nothing).await
        }
        PoolCommand::Transfer { id, to, amount, signing } => {
            let wei = amount::parse(&amount)?;
            let client = context.client_for(&signing).await?;
            let done = format!("gave {} of pool {id} to {to}", amount::with_unit(wei));
            context.perform(client.pools().transfer(id, to, wei)?, &signing, &done, nothing).await
        }
        PoolCommand::Approve { id, spender, amount, signing } => {
            let wei = amount::parse(&amount)?;
            let client = context.client_for(&signing).await?;
            let done = format!("{spender} may move {} of the position in pool {id}", amount::with_unit(wei));
            context.perform(client.pools().approve(id, spender, wei)?, &signing, &done, nothing).await
        }
        PoolCommand::SetOperator { spender, revoke, signing } => {
            let client = context.client_for(&signing).await?;
            let done = format!("{spender} {} move all positions", if revoke { "may no longer" } else { "may" });
            context.perform(client.pools().set_operator(spender, !revoke)?, &signing, &done, nothing).await
        }
        PoolCommand::TransferFrom { id, owner, to, amount, signing } => {
            let wei = amount::parse(&amount)?;
            let client = context.client_for(&signing).await?;
            let done = format!("gave {} of pool {id} from {owner} to {to}", amount::with_unit(wei));
            let write = client.pools().transfer_from(id, owner, to, wei)?;
            context.perform(write, &signing, &done, nothing).await
        }
        PoolCommand::RequestKey { on } => {
            let client = context.client_for(&on.signing).await?;
            let done = format!("requested the key of pool {}", on.id);
            context.perform(client.pools().request_key(on.id), &on.signing, &done, |id| json!({ "keyId": id })).await
        }
        PoolCommand::OrderDeposit { on } => {
            let client = context.client().await?;
            let done = format!("ordered the deposit of pool {}", on.id);
            context.perform(client.pools().order_deposit(on.id).await?, &on.signing, &done, nothing).await
        }
        PoolCommand::Predeposit { signature, on } => {
            let signature = parse_signature(&signature)?;
            let client = context.client().await?;
            let done = format!("sent the first ETH of pool {}", on.id);
            let write = client.pools().predeposit(on.id, &signature).await?;
            context.perform(write, &on.signing, &done, nothing).await
        }
        PoolCommand::ProveForeignDeposit { credentials, amount_gwei, signature, on } => {
            let signature = parse_signature(&signature)?;
            let client = context.client().await?;
            let done = format!("burned the key of pool {}; its stakers get everything back", on.id);
            let write = client.pools().prove_foreign_deposit(on.id, credentials, amount_gwei, &signature).await?;
            context.perform(write, &on.signing, &done, nothing).await
        }
        PoolCommand::TopUp { on } => {
            let client = context.client().await?;
            let done = format!("sent the other 31 ETH of pool {}", on.id);
            context.perform(client.pools().top_up(on.id).await?, &on.signing, &done, nothing).await
        }
        PoolCommand::Changes { id } => {
            let changes = context.client().await?.withdrawal_keys().changes(id).await?;
            context.output.show(&changes, |changes| list_changes(changes));
            Ok(())
        }
        PoolCommand::OrderChange { validator_index, on } => {
            let client = context.client().await?;
            let done = format!(
                "ordered the change of credentials of validator {validator_index} to the vault of pool {}",
                on.id
            );
            let write = client.withdrawal_keys().order_change(on.id, validator_index).await?;
            context.perform(write, &on.signing, &done, nothing).await
        }
        PoolCommand::ShowChange { validator_index, signature, on } => {
            let signature = parse_signature(&signature)?;
            let client = context.client().await?;
            let done = format!("showed the change of credentials of validator {validator_index}");
            let write = client.withdrawal_keys().show_change(on.id, validator_index, &signature).await?;
            context.perform(write, &on.signing, &done, nothing).await
        }
        PoolCommand::CancelUnchanged { on } => {
            let client = context.client_for(&on.signing).await?;
            let done = format!("cancelled pool {}", on.id);
            context.perform(client.pools().cancel_unchanged(on.id), &on.signing, &done, nothing).await
        }
        PoolCommand::Cancel { on } => {
            let client = context.client_for(&on.signing).await?;
            let done = format!("cancelled pool {}", on.id);
            context.perform(client.pools().cancel(on.id), &on.signing, &done, nothing).await
        }
        PoolCommand::Refund { on } => {
            let client = context.client_for(&on.signing).await?;
            let done = format!("paid the position in pool {} back", on.id);
            context.perform(client.pools().refund(on.id), &on.signing, &done, nothing).await
        }
        PoolCommand::WithdrawInsurance { on } => {
            let client = context.client_for(&on.signing).await?;
            let done = format!("paid the insurance of pool {} back", on.id);
            context.perform(client.pools().withdraw_insurance(on.id), &on.signing, &done, nothing).await
        }
    }
}

fn nothing((): ()) -> Value {
    Value::Null
}

fn parse_signature(bytes: &[u8]) -> Result<Signature, Failure> {
    Signature::from_compressed(bytes).map_err(|error| {
        Failure::usage(format!("that is no BLS signature: {error}"), "give the 96 bytes as 0x and 192 hex digits")
    })
}

fn too_small(amount: &str) -> Failure {
    Failure {
        code: "invalid",
        ..Failure::usage(
            format!("{amount} is below the smallest position of 0.5 ETH"),
            "stake at least 0.5eth, or use --add if the account holds a position in this pool already",
        )
    }
}

fn parse_state(text: &str) -> Result<PoolState, Failure> {
    let wanted = text.replace(['-', '_'], "");
    PoolState::ALL.iter().copied().find(|state| state.name().eq_ignore_ascii_case(&wanted)).ok_or_else(|| {
        let names: Vec<&str> = PoolState::ALL.iter().skip(1).map(|state| state.name()).collect();
        Failure::usage("there is no such pool state", format!("use one of {}", names.join(", ")))
    })
}

fn list(pools: &[PoolInfo]) -> String {
    let rows: Vec<Vec<String>> = pools
        .iter()
        .map(|pool| {
            vec![
                pool.id.to_string(),
                pool.state.to_string(),
                format!("{} of {}", pool.threshold, pool.members),
                amount::with_unit(pool.staked),
                amount::with_unit(pool.room()),
                key(pool),
                pool.provider.to_string(),
            ]
        })
        .collect();
    table(&["ID", "STATE", "KEY IS", "STAKED", "ROOM", "KEY", "PROVIDER"], &rows)
}

fn list_changes(changes: &[ChangeInfo]) -> String {
    let shown =
        |it: &ChangeInfo| it.signature.as_ref().map_or_else(|| "not signed yet".to_owned(), ToString::to_string);
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|it| vec![it.validator_index.to_string(), it.to_execution_address.to_string(), shown(it)])
        .collect();
    table(&["VALIDATOR", "TO", "SIGNATURE"], &rows)
}

fn key(pool: &PoolInfo) -> String {
    if pool.key_id == 0 { "-".to_owned() } else { pool.key_id.to_string() }
}

/// A pool, and what proven faults of its provider mean for it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    pool: PoolInfo,
    #[serde(flatten)]
    penalties: PoolPenalties,
}

fn show(Shown { pool, penalties }: &Shown) -> String {
    let fault = if penalties.migration_due { "proven: the pool has to move to another" } else { "none proven" };
    record(&[
        ("pool", pool.id.to_string()),
        ("state", pool.state.to_string()),
        ("provider", pool.provider.to_string()),
        ("provider's fault", fault.to_owned()),
        ("staked", amount::with_unit(pool.staked)),
        ("room", amount::with_unit(pool.room())),
        ("insurance", amount::with_unit(pool.insurance)),
        ("owed to stakers", amount::with_unit(penalties.stakers_claim)),
        ("threshold", format!("{} of {}", pool.threshold, pool.members)),
        ("key", key(pool)),
        ("vault", pool.vault.to_string()),
        (
            "credentials",
            if pool.bls_credentials { "0x00, of a withdrawal key" } else { "0x01, to the vault" }.to_owned(),
        ),
        ("deadline", time(pool.deadline)),
    ])
}
