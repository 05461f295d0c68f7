//! A validator key is split for four servers, acknowledged and imported: by the binary, on the real contracts.

use std::{fs, path::Path};

use alloy::{
    primitives::{Address, keccak256},
    signers::local::PrivateKeySigner,
};
use serde_json::{Value, json};
use stkr_core::{
    dealt::open_share,
    dkg::OneTimeSecret,
    keystore::{Kdf, Keystore},
    verify,
};
use stkr_protocol::{
    ProtocolDomain, SignerKey,
    dealt::{DealtAcknowledgement, DealtKey, DealtShare, ImportKey},
};
use stkr_sdk::amount;

use crate::{
    common::{Chain, wallet},
    done, key_file, secret, stkr,
};

const SECRET: [u8; 32] = [0x2a; 32];

/// A server as the test plays it: its signer key and the secret of its import key.
struct Server {
    signer: SignerKey,
    import: OneTimeSecret,
    argument: String,
}

fn domain(chain: &Chain) -> ProtocolDomain {
    ProtocolDomain { chain_id: chain.deployment.chain_id, key_registry: chain.deployment.key_registry }
}

/// Four Active servers, with the files that `stkr-server import-key` prints.
async fn servers(chain: &Chain, folder: &Path) -> Vec<Server> {
    let client = chain.stkr().await;
    let mut servers = Vec::new();
    for _ in 0..4 {
        let (operator, signer) = (chain.account().await, PrivateKeySigner::random());
        let registration = chain.registration_of(&signer, operator.address(), amount::ether(4));
        let sent = client.servers().register(registration).unwrap().send_with(&wallet(&operator)).await.unwrap();
        client.servers().approve(sent.value).send_with(&wallet(&chain.governor)).await.unwrap();
        let signer = SignerKey::from_bytes(&signer.to_bytes().0).unwrap();
        let import = OneTimeSecret::random().unwrap();
        let printed = ImportKey::sign(&domain(chain), &signer, import.public_key());
        let file = folder.join(format!("import-key-{}.json", sent.value));
        fs::write(&file, serde_json::to_string(&printed).unwrap()).unwrap();
        servers.push(Server { signer, import, argument: format!("{}={}", sent.value, file.display()) });
    }
    servers
}

/// The validator key as its owner has it: keystore, password, and what it signed.
fn validator(folder: &Path) -> (String, String, String, String) {
    let password = "a password of a validator";
    let kdf = Kdf::Pbkdf2 { c: 1024 };
    let keystore = Keystore::encrypt(&SECRET, password, kdf, None, "m/12381/3600/0/0/0", None).unwrap();
    let index = stkr_core::ShareIndex::new(1).unwrap();
    let public = hex::encode(stkr_core::SecretShare::from_bytes(index, &SECRET).unwrap().public_key().to_compressed());
    let history = json!({
        "metadata": {"interchange_format_version": "5", "genesis_validators_root": format!("0x{}", "11".repeat(32))},
        "data": [{"pubkey": format!("0x{public}"), "signed_blocks": [{"slot": "77"}], "signed_attestations": []}],
    });
    (
        secret(folder, "validator.json", &keystore.to_json().unwrap()),
        secret(folder, "validator.password", password),
        secret(folder, "history.json", &history.to_string()),
        public,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_key_is_split_for_four_servers_and_becomes_a_key_of_its_owner() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let servers = servers(&chain, folder).await;
    let (keystore, password, history, public) = validator(folder);
    let owner = chain.account().await;
    let out = folder.join("split");
    let address = owner.address().to_string();
    let split = |servers: &[&str], history: &str, out: &Path| -> (i32, Value) {
        let mut args = vec!["key", "split", "--validator-keystore", &keystore, "--validator-password-file", &password];
        args.extend(["--threshold", "3", "--slashing-history", history, "--owner", &address]);
        args.extend(["--out", out.to_str().unwrap()]);
        args.extend(servers.iter().flat_map(|server| ["--server", *server]));
        stkr(&chain, &args)
    };
    // In any order; indices follow the ids.
    let arguments: Vec<&str> = servers.iter().rev().map(|server| server.argument.as_str()).collect();

    // An import key that somebody else signed, a server twice, a history of another key: nothing is written.
    let forged = folder.join("forged.json");
    let import = ImportKey::sign(&domain(&chain), &servers[0].signer, servers[0].import.public_key());
    fs::write(&forged, serde_json::to_string(&import).unwrap()).unwrap();
    let forged = format!("2={}", forged.display());
    let (code, printed) = split(&[&servers[0].argument, &forged, arguments[0], arguments[1]], &history, &out);
    assert_eq!(code, 4, "{printed}");
    let message = printed["error"]["message"].as_str().unwrap();
    assert!(message.contains("was not signed by server 2"), "{message}");
    let (code, _) = split(&[arguments[0], arguments[0], arguments[1], arguments[2]], &history, &out);
    assert_eq!(code, 2);
    let other = fs::read_to_string(&history).unwrap().replace(&public, &"ab".repeat(48));
    let other = secret(folder, "other-history.json", &other);
    let (code, printed) = split(&arguments, &other, &out);
    assert_eq!(code, 4, "{printed}");
    assert!(printed["error"]["message"].as_str().unwrap().contains("says nothing about key"), "{printed}");
    assert!(!out.exists());

    let (code, printed) = split(&arguments, &history, &out);
    assert_eq!((code, &printed["publicKey"]), (0, &json!(format!("0x{public}"))), "{printed}");
    assert_eq!(split(&arguments, &history, &out).0, 2, "it overwrites nothing");
    assert_eq!(fs::read(out.join("slashing-history.json")).unwrap(), fs::read(&history).unwrap());
    let whole = hex::encode(SECRET);
    for file in fs::read_dir(&out).unwrap() {
        assert!(!fs::read_to_string(file.unwrap().path()).unwrap().contains(&whole), "the key is in a file");
    }

    // Each server opens its own share, and acknowledges.
    let key: DealtKey = serde_json::from_slice(&fs::read(out.join("dealt-key.json")).unwrap()).unwrap();
    let checked = key.check(&domain(&chain)).unwrap();
    assert_eq!(key.history_hash, keccak256(fs::read(&history).unwrap()));
    let mut acknowledgements = Vec::new();
    let mut partials = Vec::new();
    for (id, server) in (1..=4_u8).zip(&servers) {
        let share = fs::read(out.join(format!("share-{id}.json"))).unwrap();
        let share: DealtShare = serde_json::from_slice(&share).unwrap();
        assert_eq!((share.index.get(), &share.key), (id, &key));
        let opened = open_share(&checked.domain, &checked.keys, share.index, &server.import, &share.sealed()).unwrap();
        partials.push(opened.sign(&[7; 32]));
        let file = folder.join(format!("acknowledgement-{id}.json"));
        let made = DealtAcknowledgement::sign(&server.signer, share.index, checked.digest);
        fs::write(&file, serde_json::to_string(&made).unwrap()).unwrap();
        acknowledgements.push(file.to_str().unwrap().to_owned());
    }
    let combined = checked.keys.combine(&[7; 32], &partials[1..]).unwrap();
    assert!(verify(&checked.keys.group_key(), &[7; 32], &combined.signature));

    let duty_key = Address::repeat_byte(0xd0).to_string();
    let dealt = out.join("dealt-key.json");
    let import = |acknowledgements: &[&String], more: &[&str]| {
        let mut args = vec!["key", "import-dealt", "--key", dealt.to_str().unwrap(), "--duty-key", &duty_key];
        args.extend(acknowledgements.iter().flat_map(|file| ["--acknowledgement", file.as_str()]));
        args.extend(more);
        stkr(&chain, &args)
    };
    let owner_key = key_file(folder, "owner", &owner);
    let stranger_key = key_file(folder, "stranger", &chain.account().await);
    let all: Vec<&String> = acknowledgements.iter().collect();
    assert_eq!(import(&all[..3], &["--unsigned"]).0, 2, "one is missing");
    assert!(import(&all, &["--unsigned"]).1["input"].as_str().is_some_and(|input| input.len() > 1000));
    assert_eq!(import(&all, &["--dry-run", "--from", &address]).1["dryRun"], true);
    let (code, refused) = import(&all, &["--key-file", &stranger_key]);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(code == 2 && message.contains(&format!("the split names owner {address}")), "{refused}");
    let (code, imported) = import(&all, &["--key-file", &owner_key]);
    assert_eq!((code, &imported["keyId"]), (0, &json!(1)), "{imported}");

    let shown = done(&chain, &["key", "show", "1"]);
    assert_eq!((&shown["state"], &shown["publicKey"]), (&json!("live"), &json!(format!("0x{public}"))));
    done(&chain, &["key", "set-duty-key", "1", &address, "--key-file", &owner_key]);
    let registry = stkr_chain::bindings::KeyRegistry::new(chain.deployment.key_registry, chain.provider.clone());
    let assignment = registry.dutyAssignment(alloy::primitives::U256::from(1)).call().await.unwrap();
    assert_eq!((assignment.dutyKey, assignment.number), (owner.address(), 2));
    done(&chain, &["key", "retire", "1", "--key-file", &owner_key]);
    assert_eq!(done(&chain, &["key", "show", "1"])["state"], "retired");
}
