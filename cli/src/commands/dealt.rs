//! Dealt keys: `stkr key split` and the acknowledgements for `stkr key import-dealt`.
//!
//! The whole key is in this process from the decrypted keystore to the end of [`split`], wiped there, and in no file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};
use stkr_core::{Signature, Threshold, dealt::DealtDomain, keystore::Keystore, splitter::Splitter};
use stkr_node::{
    config::{Preset, fork_schedule},
    secrets,
};
use stkr_protocol::{
    ProtocolDomain,
    dealt::{DealtAcknowledgement, DealtKey, DealtMember, DealtShare, ImportKey},
};
use stkr_sdk::{Deployment, ServerInfo, ServerKind, ServerStatus, bindings::KeyRegistry};
use zeroize::Zeroizing;

use crate::{
    args::SplitArgs,
    context::{Context, read_json, read_json_lines},
    failure::Failure,
    output::record,
};

/// Longest slashing history, bytes: as much as `stkr-server` imports.
const MAX_HISTORY: u64 = 256 << 20;

/// A server that gets a share.
struct Recipient {
    id: u32,
    signer: Address,
    import_key: [u8; 33],
}

/// What `key split` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    public_key: String,
    key: PathBuf,
    slashing_history: PathBuf,
    shares: Vec<PathBuf>,
}

/// `stkr key split`.
pub(crate) async fn split(args: &SplitArgs, context: &Context<'_>) -> Result<(), Failure> {
    // Everything that can be wrong without the key first: it is decrypted as late and as shortly as possible.
    if args.owner.is_zero() {
        return Err(Failure::usage(
            "the zero address cannot own a key: nobody could import it",
            "give --owner the account that will send `stkr key import-dealt`",
        ));
    }
    let recipients = recipients(args, context).await?;
    let n = u8::try_from(recipients.len()).unwrap_or(u8::MAX);
    let threshold = Threshold::new(args.threshold, n)
        .map_err(|error| Failure::usage(error.to_string(), "give another --threshold, or more servers"))?;
    let history = read_history(&args.slashing_history)?;
    let deployment = context.deployment()?;
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };

    let splitter = splitter(args, threshold)?;
    let group_key = splitter.keys().group_key().to_compressed();
    check_history(&history, &group_key, genesis_root(&deployment)?)?;
    let key = public_half(&splitter, &recipients, args.owner, &domain, keccak256(&history))?;
    let shares = seal(&splitter, &key, &recipients)?;
    drop(splitter);
    write(&args.out, &key, &shares, &history, context)
}

/// The servers in order of their ids, each with an import key that its signer on the chain has signed.
async fn recipients(args: &SplitArgs, context: &Context<'_>) -> Result<Vec<Recipient>, Failure> {
    let client = context.client().await?;
    let deployment = client.deployment();
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    let mut recipients = Vec::with_capacity(args.servers.len());
    for argument in &args.servers {
        let (id, file) = server_argument(argument)?;
        let server = client.servers().get(id).await?;
        recipients.push(recipient(&server, &file, &domain)?);
    }
    recipients.sort_by_key(|recipient| recipient.id);
    if let Some(pair) = recipients.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Failure::usage(
            format!("server {} is named twice", pair[0].id),
            "give every server once; none may hold two shares of one key",
        ));
    }
    Ok(recipients)
}

fn server_argument(argument: &str) -> Result<(u32, PathBuf), Failure> {
    let parsed = argument.split_once('=').and_then(|(id, file)| Some((id.parse().ok()?, PathBuf::from(file))));
    parsed.ok_or_else(|| {
        Failure::usage(
            format!("{argument} names no server"),
            "give it as --server ID=FILE, as in --server 3=server-3.json",
        )
    })
}

fn recipient(server: &ServerInfo, file: &Path, domain: &ProtocolDomain) -> Result<Recipient, Failure> {
    if server.status != ServerStatus::Active || server.kind != ServerKind::Online {
        return Err(Failure::usage(
            format!(
                "server {} is {} and {}; the registry takes Active online servers only",
                server.id, server.status, server.kind
            ),
            "choose another server",
        ));
    }
    let hint = "give what `stkr-server import-key` of this server printed";
    let import: ImportKey = read_json(file, "the import key of a server", hint)?;
    if import.signer(domain).ok() != Some(server.signer) {
        return Err(Failure::not_safe(
            format!(
                "{} was not signed by server {}: its share would be readable by somebody else",
                file.display(),
                server.id
            ),
            hint,
        ));
    }
    Ok(Recipient { id: server.id, signer: server.signer, import_key: import.public_key })
}

fn splitter(args: &SplitArgs, threshold: Threshold) -> Result<Splitter, Failure> {
    let unreadable = |error: String| {
        Failure::usage(error, "check --validator-keystore (EIP-2335, version 4) and --validator-password-file")
    };
    let json = secrets::read_text(&args.validator_keystore)?;
    let password = secrets::read_text(&args.validator_password_file)?;
    let keystore = Keystore::from_json(&json).map_err(|error| unreadable(error.to_string()))?;
    let secret = keystore.decrypt(&password).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Zeroizing::new([0; 32]);
    if secret.len() != bytes.len() {
        return Err(unreadable(format!("the keystore holds {} bytes, a validator key has 32", secret.len())));
    }
    bytes.copy_from_slice(&secret);
    Splitter::split(&bytes, threshold).map_err(|error| unreadable(error.to_string()))
}

fn read_history(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |reason: String| {
        Failure::usage(
            format!("the slashing history {} cannot be read: {reason}", path.display()),
            "export it (EIP-3076) from the validator client that has the key, after you stopped it",
        )
    };
    stkr_files::read(path, MAX_HISTORY).map_err(|error| unreadable(error.reason()))
}

/// Just enough of an EIP-3076 interchange to see that it is one and speaks of the key; the servers check the rest.
#[derive(Deserialize)]
struct Interchange {
    metadata: Metadata,
    data: Vec<KeyHistory>,
}

#[derive(Deserialize)]
struct Metadata {
    interchange_format_version: String,
    #[serde(default)]
    genesis_validators_root: Option<B256>,
}

#[derive(Deserialize)]
struct KeyHistory {
    pubkey: String,
}

/// Genesis validators root of the deployment's beacon chain, where it is one that this build knows.
fn genesis_root(deployment: &Deployment) -> Result<Option<B256>, Failure> {
    let network = Preset::of_chain(deployment.chain_id);
    Ok(fork_schedule(network, None, deployment)?.map(|schedule| schedule.genesis_validators_root()))
}

/// A history of other keys, or of another chain, would leave the servers as if the key had never signed.
fn check_history(history: &[u8], group_key: &[u8; 48], chain: Option<B256>) -> Result<(), Failure> {
    let hint = "export the history of this key (EIP-3076, version 5) from the validator client that has it; a key that never signed has an entry without records";
    let interchange: Interchange = serde_json::from_slice(history)
        .map_err(|error| Failure::usage(format!("the slashing history is no EIP-3076 interchange: {error}"), hint))?;
    let version = &interchange.metadata.interchange_format_version;
    if version != "5" {
        return Err(Failure::usage(format!("the slashing history has format version {version}, not 5"), hint));
    }
    if let (Some(of), Some(chain)) = (interchange.metadata.genesis_validators_root, chain)
        && of != chain
    {
        return Err(Failure::not_safe(
            format!("the slashing history is of the chain with genesis validators root {of}, not of {chain}"),
            "export the history of this key on the chain of the deployment",
        ));
    }
    let expected = hex::encode(group_key);
    let names =
        |entry: &KeyHistory| entry.pubkey.strip_prefix("0x").unwrap_or(&entry.pubkey).eq_ignore_ascii_case(&expected);
    if !interchange.data.iter().any(names) {
        return Err(Failure::not_safe(format!("the slashing history says nothing about key 0x{expected}"), hint));
    }
    Ok(())
}

fn public_half(
    splitter: &Splitter,
    recipients: &[Recipient],
    owner: Address,
    domain: &ProtocolDomain,
    history_hash: B256,
) -> Result<DealtKey, Failure> {
    let members = (recipients.iter().zip(splitter.keys().share_keys()))
        .map(|(recipient, key)| DealtMember {
            server_id: recipient.id,
            signer: recipient.signer,
            share_key: key.to_compressed(),
        })
        .collect();
    let mut key = DealtKey {
        chain_id: domain.chain_id,
        key_registry: domain.key_registry,
        owner,
        threshold: splitter.keys().threshold().t(),
        members,
        group_key: splitter.keys().group_key().to_compressed(),
        history_hash,
        possession: [0; 96],
    };
    let digest = key.digest().map_err(|error| refused(&error))?;
    key.possession = splitter.prove_possession(&digest.0).to_compressed();
    // What the servers will check, before anything is written.
    key.check(domain).map_err(|error| refused(&error))?;
    Ok(key)
}

fn refused(error: &impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string(), "choose a threshold and servers that the registry takes: 2t - n >= 2 and t < n")
}

fn seal(splitter: &Splitter, key: &DealtKey, recipients: &[Recipient]) -> Result<Vec<DealtShare>, Failure> {
    let domain = DealtDomain::of(key.chain_id, key.key_registry, splitter.keys());
    (splitter.keys().threshold().indices().zip(recipients))
        .map(|(index, recipient)| {
            let sealed = splitter.seal_share(&domain, index, &recipient.import_key).map_err(|error| {
                Failure::usage(format!("server {}: {error}", recipient.id), "ask its operator for its import key again")
            })?;
            let key = key.clone();
            Ok(DealtShare { key, index, one_time_key: sealed.one_time_key, ciphertext: sealed.ciphertext })
        })
        .collect()
}

fn write(
    folder: &Path,
    key: &DealtKey,
    shares: &[DealtShare],
    history: &[u8],
    context: &Context<'_>,
) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|error| {
        Failure::usage(
            format!("{} cannot be made: {error}", folder.display()),
            "give --out a folder that does not exist yet",
        )
    })?;
    let mut made = Made {
        public_key: format!("0x{}", hex::encode(key.group_key)),
        key: folder.join("dealt-key.json"),
        slashing_history: folder.join("slashing-history.json"),
        shares: Vec::new(),
    };
    // First what all need, last what one server needs: a folder that is incomplete lacks a share, not the history.
    secrets::write_new(&made.slashing_history, history)?;
    secrets::write_new(&made.key, json_of(key)?.as_bytes())?;
    for (share, member) in shares.iter().zip(&key.members) {
        let path = folder.join(format!("share-{}.json", member.server_id));
        secrets::write_new(&path, json_of(share)?.as_bytes())?;
        made.shares.push(path);
    }
    context.output.show(&made, |made| {
        let next = "give each server its share and the history, then `stkr key import-dealt`";
        let mut fields = vec![
            ("public key", made.public_key.clone()),
            ("public half", made.key.display().to_string()),
            ("history", made.slashing_history.display().to_string()),
        ];
        fields.extend(made.shares.iter().map(|path| ("share", path.display().to_string())));
        fields.push(("next", next.to_owned()));
        format!("split the key\n{}", record(&fields))
    });
    Ok(())
}

fn json_of(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Failure::not_safe(error.to_string(), "report this: what was split cannot be written"))
}

/// The argument of `importDealt`, from the public half and one acknowledgement of every member, in any order. `sender` is the
/// account that will send it, where that is known: nobody but the owner can.
pub(crate) fn import(
    deployment: &Deployment,
    key: &Path,
    acknowledgements: &[PathBuf],
    duty_key: Address,
    sender: Option<Address>,
) -> Result<KeyRegistry::DealtImport, Failure> {
    let key: DealtKey =
        read_json(key, "the public half of a split key", "give the dealt-key.json that `stkr key split` wrote")?;
    let domain = ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(error.to_string(), "give the dealt-key.json that `stkr key split` wrote for this deployment")
    };
    let checked = key.check(&domain).map_err(|error| wrong(&error))?;
    // The registry takes the sender for the owner, and says only that the key's proof of possession is wrong.
    if let Some(sender) = sender.filter(|sender| *sender != key.owner) {
        return Err(Failure::usage(
            format!("the split names owner {}, and {sender} is to send it", key.owner),
            "send it from the account that --owner named, or split the key again for this one",
        ));
    }
    let acknowledgements = in_order(&key, checked.digest, acknowledgements)?;
    Ok(KeyRegistry::DealtImport {
        threshold: key.threshold,
        committee: key.committee(),
        points: key.points().map_err(|error| wrong(&error))?,
        dutyKey: duty_key,
        historyHash: key.history_hash,
        acknowledgements: acknowledgements.concat().into(),
        possession: Signature::to_eip2537(&checked.possession).to_vec().into(),
    })
}

fn in_order(key: &DealtKey, digest: B256, files: &[PathBuf]) -> Result<Vec<[u8; 65]>, Failure> {
    let hint = "give what `stkr-server import-share` printed, once for every server of the key";
    let mut found = vec![None; key.members.len()];
    for file in files {
        // A server that imported the shares of many keys printed a line for each.
        let given: Vec<DealtAcknowledgement> = read_json_lines(file, "the acknowledgement of a server", hint)?;
        let Some(ours) = given.into_iter().find(|acknowledgement| acknowledgement.is_of(key, digest)) else {
            return Err(Failure::usage(
                format!("{} is not the acknowledgement of this key by the server that it names", file.display()),
                hint,
            ));
        };
        if let Some(slot) = found.get_mut(ours.index.position()) {
            *slot = Some(ours.signature);
        }
    }
    (found.iter().zip(&key.members))
        .map(|(signature, member)| {
            let missing = || format!("the acknowledgement of server {} is missing", member.server_id);
            signature.ok_or_else(|| Failure::usage(missing(), hint))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_another_chain_is_refused() {
        let history = serde_json::json!({
            "metadata": {"interchange_format_version": "5", "genesis_validators_root": B256::repeat_byte(1)},
            "data": [{"pubkey": hex::encode([7; 48]), "signed_blocks": [], "signed_attestations": []}],
        });
        let check = |chain| check_history(history.to_string().as_bytes(), &[7; 48], chain);
        let error = check(Some(B256::repeat_byte(2))).unwrap_err();
        assert!(error.message.contains("is of the chain with genesis validators root 0x0101"), "{error:?}");
        check(Some(B256::repeat_byte(1))).unwrap();
        // A chain of its own has a root that only its servers know.
        check(None).unwrap();
    }
}
