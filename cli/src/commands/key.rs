//! `stkr key`.

use serde_json::Value;
use stkr_sdk::{KeyInfo, KeyState};

use crate::{
    args::KeyCommand,
    context::Context,
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
        KeyCommand::Draw { id, signing } => {
            let client = context.client().await?;
            let write = client.keys().draw(id).await?;
            context.perform(write, &signing, &format!("drew the committee of key {id}"), |()| Value::Null).await
        }
    }
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
                key.attempt.to_string(),
                key.consumer.to_string(),
            ]
        })
        .collect();
    table(&["ID", "STATE", "KIND", "SHARES", "ATTEMPT", "CONSUMER"], &rows)
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
        ("attempt", key.attempt.to_string()),
        ("committee", if committee.is_empty() { "-".into() } else { committee.join(", ") }),
        ("public key", key.public_key.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        mark,
        ("consumer", key.consumer.to_string()),
    ])
}
