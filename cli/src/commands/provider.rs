//! `stkr provider`.

use alloy::{
    primitives::{Address, Bytes},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use serde_json::Value;
use stkr_sdk::{ProviderInfo, amount, duty_key_digest};

use crate::{
    args::{DutyKey, ProviderCommand, Signing},
    context::Context,
    failure::Failure,
    output::{table, time},
    signer,
};

pub(crate) async fn run(command: ProviderCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        ProviderCommand::Show { provider } => {
            let provider = context.client().await?.providers().get(provider).await?;
            context.output.show(&provider, show);
            Ok(())
        }
        ProviderCommand::Register { duty_key, signing } => {
            let (key, proof) = proven(&duty_key, context, &signing)?;
            let client = context.client_for(&signing).await?;
            let done = format!("registered the provider with duty key {key}");
            context.perform(client.providers().register(key, proof)?, &signing, &done, |()| Value::Null).await
        }
        ProviderCommand::SetDutyKey { duty_key, signing } => {
            let (key, proof) = proven(&duty_key, context, &signing)?;
            let client = context.client_for(&signing).await?;
            let done = format!("the duty key is {key} now");
            context.perform(client.providers().set_duty_key(key, proof)?, &signing, &done, |()| Value::Null).await
        }
    }
}

/// The duty key's address and its agreement to serve the sending provider.
fn proven(duty_key: &DutyKey, context: &Context<'_>, signing: &Signing) -> Result<(Address, Bytes), Failure> {
    if let (Some(key), Some(proof)) = (duty_key.duty_key, &duty_key.proof) {
        return Ok((key, proof.clone()));
    }
    let path = duty_key
        .duty_key_file
        .as_ref()
        .ok_or_else(|| Failure::usage("no duty key was given", "give --duty-key-file, or --duty-key with --proof"))?;
    let provider = context.sender(signing)?;
    let wrong = || Failure::usage("the duty key file holds no secp256k1 key", "a key is 32 bytes in hex");
    let signer = PrivateKeySigner::from_slice(signer::signer_key(path)?.as_slice()).map_err(|_| wrong())?;
    let digest = duty_key_digest(&context.deployment()?, provider, signer.address());
    let signature = signer.sign_hash_sync(&digest).map_err(|_| wrong())?;
    Ok((signer.address(), Bytes::copy_from_slice(&signature.as_bytes())))
}

fn show(provider: &ProviderInfo) -> String {
    let rows: Vec<Vec<String>> =
        provider.history.iter().rev().map(|entry| vec![entry.duty_key.to_string(), time(entry.since)]).collect();
    let keys = table(&["DUTY KEY", "SINCE"], &rows);
    let penalties: Vec<Vec<String>> = provider
        .penalties
        .iter()
        .map(|it| vec![it.pool_id.to_string(), amount::with_unit(it.penalty), it.transaction.to_string()])
        .collect();
    let faults = match penalties.is_empty() {
        true => "no fault of it was proven".to_owned(),
        false => table(&["FAULT IN POOL", "PENALTY", "PROVEN BY"], &penalties),
    };
    format!("provider {}\n\n{keys}\n\n{faults}", provider.provider)
}
