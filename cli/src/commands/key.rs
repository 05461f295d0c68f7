//! `stkr key`.

use std::path::Path;

use alloy::primitives::{Address, B256, Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use stkr_sdk::{KeyInfo, KeyState, PublicKey, Successor, WithdrawalKeyInfo};

use crate::{
    args::KeyCommand,
    commands::{dealt, safe_to_move},
    context::{Context, read_json},
    failure::Failure,
    output::{record, table, time},
};

pub(crate) async fn run(command: KeyCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        KeyCommand::List => {
            let keys = context.client().await?.keys().list().await?;
            context.output.show(&keys, |keys| list(keys));
            Ok(())
        }
        KeyCommand::Show { id } => {
            let key = context.client().await?.keys().get(id).await?;
            context.output.show(&key, show);
            Ok(())
        }
        KeyCommand::SafeToMove { key } => safe_to_move::run(&key, context).await,
        KeyCommand::RequestWithdrawal { threshold, members, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.withdrawal_keys().request(threshold, members)?;
            context.perform(write, &signing, "asked for a withdrawal key", |id| json!({ "keyId": id })).await
        }
        KeyCommand::ShowWithdrawal { id } => {
            let key = context.client().await?.withdrawal_keys().get(id).await?;
            context.output.show(&key, show_withdrawal);
            Ok(())
        }
        KeyCommand::GiveUp { id, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.withdrawal_keys().give_up(id);
            context.perform(write, &signing, &format!("gave up key {id}"), nothing).await
        }
        KeyCommand::WithdrawBond { id, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.withdrawal_keys().withdraw_bond(id);
            context.perform(write, &signing, &format!("paid the bond of key {id} back"), nothing).await
        }
        KeyCommand::Draw { id, signing } => {
            let client = context.client().await?;
            let write = client.keys().draw(id).await?;
            context.perform(write, &signing, &format!("drew the committee of key {id}"), nothing).await
        }
        KeyCommand::Restart { id, signing } => {
            let client = context.client().await?;
            let write = client.keys().restart(id).await?;
            context.perform(write, &signing, &format!("started key {id} again"), nothing).await
        }
        KeyCommand::Finalise { id, transcript, signing } => {
            let transcript = transcript_in(&transcript)?;
            let client = context.client().await?;
            let Transcript { share_keys, group_key, dealings_digest, acknowledgements } = transcript;
            let write = client.keys().finalise(id, &share_keys, &group_key, dealings_digest, &acknowledgements).await?;
            context.perform(write, &signing, &format!("key {id} is live"), nothing).await
        }
        KeyCommand::FreeSeats { id, signing } => {
            let client = context.client().await?;
            let write = client.keys().free_seats(id).await?;
            context.perform(write, &signing, &format!("freed the seats of key {id}"), nothing).await
        }
        KeyCommand::Split(args) => dealt::split(&args, context).await,
        KeyCommand::ImportDealt { key, acknowledgements, duty_key, signing } => {
            let deployment = context.deployment()?;
            let sender = context.known_sender(&signing)?;
            let dealt = dealt::import(&deployment, &key, &acknowledgements, duty_key, sender)?;
            let client = context.client_for(&signing).await?;
            let write = client.keys().import_dealt(dealt)?;
            context.perform(write, &signing, "imported the key", |id| json!({ "keyId": id })).await
        }
        KeyCommand::SetDutyKey { id, duty_key, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.keys().set_duty_key(id, duty_key);
            context.perform(write, &signing, &now_asks(duty_key, id), nothing).await
        }
        KeyCommand::Retire { id, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.keys().retire_dealt(id);
            context.perform(write, &signing, &format!("retired key {id}"), nothing).await
        }
        KeyCommand::AddConsumer { consumer, schedule, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.keys().add_consumer(consumer);
            context.govern(&client, write, &signing, schedule, &format!("{consumer} may ask for keys")).await
        }
        KeyCommand::SetCeremonyWindow { seconds, schedule, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.keys().set_ceremony_window(seconds)?;
            context.govern(&client, write, &signing, schedule, &format!("ceremonies have {seconds} s")).await
        }
    }
}

/// What a ceremony or a reshare gave.
pub(crate) struct Transcript {
    pub(crate) share_keys: Vec<PublicKey>,
    pub(crate) group_key: PublicKey,
    pub(crate) dealings_digest: B256,
    pub(crate) acknowledgements: Vec<Bytes>,
}

/// The same as a file: points compressed (48 bytes), acknowledgements of 65 bytes, all in index order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TranscriptFile {
    share_keys: Vec<Bytes>,
    group_key: Bytes,
    dealings_digest: B256,
    acknowledgements: Vec<Bytes>,
}

pub(crate) fn transcript_in(path: &Path) -> Result<Transcript, Failure> {
    let hint = "write a JSON object with shareKeys, groupKey, dealingsDigest and acknowledgements, all in hex";
    let file: TranscriptFile = read_json(path, "the transcript of a ceremony", hint)?;
    Ok(Transcript {
        share_keys: file.share_keys.iter().map(|key| point(key)).collect::<Result<_, _>>()?,
        group_key: point(&file.group_key)?,
        dealings_digest: file.dealings_digest,
        acknowledgements: file.acknowledgements,
    })
}

fn point(bytes: &[u8]) -> Result<PublicKey, Failure> {
    PublicKey::from_compressed(bytes).map_err(|error| {
        Failure::usage(format!("the transcript has a key that is none: {error}"), "give 48 bytes, 0x and 96 hex digits")
    })
}

fn nothing((): ()) -> Value {
    Value::Null
}

/// Who asks for the duties of a dealt key after `set-duty-key`: the zero address is nobody.
fn now_asks(duty_key: Address, id: u64) -> String {
    if duty_key.is_zero() {
        return format!("from now on nobody asks for the duties of key {id}");
    }
    format!("{duty_key} asks for the duties of key {id}")
}

fn list(keys: &[KeyInfo]) -> String {
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            vec![
                key.id.to_string(),
                key.state.to_string(),
                key.kind.to_string(),
                format!("{} of {}", key.threshold, key.members),
                healthy(key.healthy, key.threshold),
                key.committee_epoch.to_string(),
                key.attempt.to_string(),
                key.consumer.to_string(),
            ]
        })
        .collect();
    table(&["ID", "STATE", "KIND", "SHARES", "HEALTHY", "EPOCH", "ATTEMPT", "CONSUMER"], &rows)
}

/// Shares of members that are active and not locked out, against what a signature needs.
fn healthy(healthy: Option<usize>, threshold: u8) -> String {
    match healthy {
        Some(healthy) if healthy < usize::from(threshold) => format!("{healthy}, too few"),
        Some(healthy) => healthy.to_string(),
        None => "-".to_owned(),
    }
}

fn show_withdrawal(key: &WithdrawalKeyInfo) -> String {
    let (yes_no, none) = (|flag| if flag { "yes" } else { "no" }.to_owned(), || "-".to_owned());
    record(&[
        ("key", key.key_id.to_string()),
        ("provider", key.provider.to_string()),
        ("pool", if key.pool_id == 0 { none() } else { key.pool_id.to_string() }),
        ("bond held", yes_no(key.bonded)),
        ("change shown", yes_no(key.change_shown)),
    ])
}

fn successor(it: &Successor) -> String {
    let servers: Vec<String> = it.committee.iter().map(ToString::to_string).collect();
    format!(
        "{} of committee epoch {} from {} on, {} of them to sign, {} healthy",
        servers.join(", "),
        it.committee_epoch,
        time(it.handover),
        it.threshold,
        healthy(it.healthy, it.threshold)
    )
}

fn show(key: &KeyInfo) -> String {
    let committee: Vec<String> = key.committee.iter().map(ToString::to_string).collect();
    let mark = match key.state {
        KeyState::Requested => ("seed block", key.mark.to_string()),
        KeyState::Drawn => ("finalise before", time(key.mark)),
        KeyState::Live => ("live since", time(key.mark)),
        _ => ("seats free from", time(key.mark)),
    };
    record(&[
        ("key", key.id.to_string()),
        ("state", key.state.to_string()),
        ("kind", key.kind.to_string()),
        ("shares", format!("{} of {}", key.threshold, key.members)),
        ("healthy", healthy(key.healthy, key.threshold)),
        ("attempt", key.attempt.to_string()),
        ("committee epoch", key.committee_epoch.to_string()),
        ("committee", if committee.is_empty() { "-".into() } else { committee.join(", ") }),
        ("next committee", key.successor.as_ref().map_or_else(|| "-".to_owned(), successor)),
        ("public key", key.public_key.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        mark,
        ("consumer", key.consumer.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_address_is_nobody() {
        assert_eq!(now_asks(Address::ZERO, 17), "from now on nobody asks for the duties of key 17");
        assert!(now_asks(Address::repeat_byte(1), 17).starts_with("0x0101"));
    }
}
