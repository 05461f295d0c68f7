//! Shares of dealt keys: a validator key that existed whole, split by its owner.
//!
//! ```text
//! import-key     -> the dealer encrypts this server's share to it
//! import-share   shares + slashing history -> history into slashing protection, shares into the database, acknowledgements
//! run            with every new block: does the chain know the key by now? Then its share answers for the key's id.
//! ```
//! The history comes first: whatever is interrupted, there is never a share whose history is missing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, keccak256};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use stkr_chain::{ChainError, Deployment};
use stkr_core::dealt::open_share;
use stkr_core::dkg::OneTimeSecret;
use stkr_core::keystore::StoreKey;
use stkr_core::{PublicKey, SecretShare};
use stkr_node::config;
use stkr_node::exit::Failure;
use stkr_protection::{Protection, Pubkey};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::dealt::{CheckedDealtKey, DealtAcknowledgement, DealtShare, ImportKey};
use stkr_protocol::handover::ShareOrigin;

use crate::chain::ChainView;
use crate::config::ServerConfig;
use crate::protection::{Stopped, store_failure};
use crate::serving::Us;
use crate::setup::store_key;
use crate::signers::{self, SignerKeys};
use crate::store::{ShareRow, Store};
use stkr_node::history::{Memory as _, import_failure};

/// Longest file with a share: 64 members with 200 bytes each, in hex, and room for line ends.
const MAX_SHARE_FILE: u64 = 64 << 10;
/// Longest slashing history: the bytes are hashed as a whole, so they are held in memory.
const MAX_HISTORY: u64 = 256 << 20;

/// Arguments of `import-share`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportShareArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// Shares that `stkr key split` made for this server; several if all keys were split with one slashing history
    #[arg(required = true)]
    pub shares: Vec<PathBuf>,
    /// What the keys signed so far (EIP-3076): the slashing-history.json of the split. Without it nothing is imported
    #[arg(long, value_name = "FILE")]
    pub slashing_history: PathBuf,
}

/// The import key of the server with this configuration, signed with its signer key; of several with that of `signer`.
///
/// # Errors
/// Anything wrong with configuration or files.
pub fn import_key(config: &Path, signer: Option<Address>) -> eyre::Result<ImportKey> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    let domain = domain_of(&config)?;
    let signer = signers::one(&config.files, signer, "the one that the registry names now: stkr server show ID")?;
    Ok(ImportKey::sign(&domain, &signer, import_secret(&store_key(&config.files)?)?.public_key()))
}

/// Derived from the store key: what a backup of the server's files has anyway.
fn import_secret(store_key: &StoreKey) -> eyre::Result<OneTimeSecret> {
    let bytes = store_key.derive("stkr/server/import-key/v1");
    // Fails for one store key in 2^127.
    Ok(OneTimeSecret::from_bytes(&bytes).map_err(|error| Failure::not_safe(format!("the import key: {error}")))?)
}

fn domain_of(config: &ServerConfig) -> eyre::Result<ProtocolDomain> {
    let deployment = Deployment::load(&config.chain.deployment).map_err(Failure::usage)?;
    Ok(ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry })
}

/// Imports shares with their history: all or, before anything is kept, none.
///
/// # Errors
/// Usage for files that are not for this server; unsafe for a history that is not the split's, says nothing about a key or
/// contradicts itself, and for a second share of one key. Then nothing of the shares is kept.
pub fn import_shares(args: &ImportShareArgs) -> eyre::Result<Vec<DealtAcknowledgement>> {
    let config = config::load::<ServerConfig>(&args.config).map_err(Failure::usage)?;
    let signers = SignerKeys::new(signers::read(&config.files)?, None);
    let history = read(&args.slashing_history, MAX_HISTORY)?;
    let mut given = Vec::with_capacity(args.shares.len());
    for path in &args.shares {
        given.push(read_share(path, &domain_of(&config)?, signers.us(), keccak256(&history))?);
    }
    let store_key = store_key(&config.files)?;
    let import = import_secret(&store_key)?;
    let rows: Vec<_> = given
        .iter()
        .map(|share| row_of(&share.open(&import)?, share.file.key.group_key, &store_key))
        .collect::<eyre::Result<_>>()?;

    let stopped = Stopped::of(&config)?;
    refuse_second(&stopped.store, &rows)?;
    let protection = stopped.open()?;
    import_history(&stopped, &protection, &history, &rows)?;
    for row in &rows {
        stopped.store.keep_dealt(row).map_err(|error| store_failure(&error))?;
    }
    given.iter().map(|share| share.acknowledge(&signers)).collect()
}

/// A share's file that is for this server and whose public half is its dealer's.
struct GivenShare {
    file: DealtShare,
    checked: CheckedDealtKey,
    /// Under which its dealer knows this server.
    signer: Address,
}

fn read_share(path: &Path, domain: &ProtocolDomain, us: &Us, history: B256) -> eyre::Result<GivenShare> {
    let file: DealtShare = parse(&read(path, MAX_SHARE_FILE)?, path)?;
    let checked = file.key.check(domain).map_err(Failure::usage)?;
    let mine = us.signers.iter().find(|signer| file.key.index_of(**signer) == Some(file.index));
    let Some(signer) = mine.copied() else {
        let signers = us.signers.iter().map(Address::to_string).collect::<Vec<_>>().join(" or ");
        return Err(
            Failure::usage(format!("{} is not for this server, whose signer is {signers}", path.display())).into()
        );
    };
    // Every member imports the bytes that the group key signed for: none of them knows less than another.
    if file.key.history_hash != history {
        let sentence = format!(
            "this is not the slashing history that the key of {} was split with; take the slashing-history.json of the same split, unchanged",
            path.display()
        );
        return Err(Failure::not_safe(sentence).into());
    }
    Ok(GivenShare { file, checked, signer })
}

impl GivenShare {
    fn open(&self, import: &OneTimeSecret) -> eyre::Result<SecretShare> {
        let (domain, keys) = (&self.checked.domain, &self.checked.keys);
        let opened = open_share(domain, keys, self.file.index, import, &self.file.sealed());
        Ok(opened.map_err(Failure::usage)?)
    }

    fn acknowledge(&self, signers: &SignerKeys) -> eyre::Result<DealtAcknowledgement> {
        let signer = signers.key(self.signer).ok_or_else(|| Failure::usage("the signer key went away"))?;
        Ok(DealtAcknowledgement::sign(signer, self.file.index, self.checked.digest))
    }
}

fn row_of(share: &SecretShare, group_key: [u8; 48], store_key: &StoreKey) -> eyre::Result<ShareRow> {
    let keystore = store_key.seal_share(share)?;
    Ok(ShareRow {
        origin: ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
        index: share.index(),
        share_key: share.public_key().to_compressed(),
        group_key,
        keystore: keystore.to_json()?,
    })
}

/// Before the history, so that a refusal leaves nothing.
fn refuse_second(store: &Store, rows: &[ShareRow]) -> eyre::Result<()> {
    let stored = store.all_shares().map_err(|error| store_failure(&error))?;
    for (position, row) in rows.iter().enumerate() {
        let clashes = |other: &ShareRow| other.group_key == row.group_key && other.share_key != row.share_key;
        if let Some((key_id, _)) = stored.iter().find(|(_, other)| clashes(other)) {
            let (key, known) =
                (Pubkey::from(row.group_key), if *key_id == 0 { "an earlier split" } else { "the chain" });
            let sentence = format!(
                "this server has a share of key {key} already, from {known}; it never holds a second share of one key: split the key for other servers, or use that share"
            );
            return Err(Failure::not_safe(sentence).into());
        }
        if rows.iter().take(position).any(clashes) {
            let key = Pubkey::from(row.group_key);
            return Err(Failure::usage(format!("two of the files hold different shares of key {key}; give one")).into());
        }
    }
    Ok(())
}

fn import_history(stopped: &Stopped, protection: &Protection, history: &[u8], rows: &[ShareRow]) -> eyre::Result<()> {
    protection.import(history, stopped.now()).map_err(import_failure)?;
    stopped.store.set_instance(protection.instance())?;
    for key in rows.iter().map(|row| Pubkey::from(row.group_key)) {
        match protection.key(&key).map_err(Failure::unavailable)? {
            Some(state) if !state.needs_import => {}
            _ => {
                let sentence = format!("the slashing history says nothing about key {key}, so no share is kept");
                return Err(Failure::not_safe(sentence).into());
            }
        }
    }
    Ok(())
}

fn read(path: &Path, most: u64) -> eyre::Result<Vec<u8>> {
    Ok(stkr_files::read(path, most).map_err(|error| Failure::usage(format!("cannot read {error}")))?)
}

fn parse<T: DeserializeOwned>(json: &[u8], path: &Path) -> eyre::Result<T> {
    let wrong = |error| Failure::usage(format!("{} is no share of a dealt key: {error}", path.display()));
    Ok(serde_json::from_slice(json).map_err(wrong)?)
}

/// Blocks after which every dealt share is looked up again: a reorg may have given a key another id.
const LOOK_AT_ALL_EVERY: u32 = 32;
/// Shares that are looked up at once.
const PARALLEL_READS: usize = 8;

/// Gives the shares of dealt keys the ids that the chain knows the keys by.
#[derive(Debug, Default)]
pub struct Adoption(tokio::sync::Mutex<Looks>);

/// What the last looks have seen.
#[derive(Debug, Default)]
struct Looks {
    /// Keys on the chain when every share was looked up that had no id.
    keys: Option<u64>,
    /// Blocks since all shares were looked up.
    blocks: u32,
}

impl Looks {
    /// Whether shares have to be looked up while the chain has so many keys, and whether those with an id as well.
    const fn due(&self, keys: u64) -> (bool, bool) {
        let all = self.blocks >= LOOK_AT_ALL_EVERY;
        (all || !matches!(self.keys, Some(known) if known == keys), all)
    }
}

impl Adoption {
    /// To be called with every new block. Where nothing can have changed it costs one question.
    ///
    /// # Errors
    /// Chain or database; what was adopted stays, and the next call looks again.
    pub async fn look(&self, store: &Store, chain: &ChainView, us: &Us) -> eyre::Result<()> {
        let shares = store.dealt_shares()?;
        if shares.is_empty() {
            return Ok(());
        }
        let mut looks = self.0.lock().await;
        let keys = chain.reader().key_count().await?;
        let (due, all) = looks.due(keys);
        looks.blocks = if all { 0 } else { looks.blocks.saturating_add(1) };
        if !due {
            return Ok(());
        }
        looks.keys = None;
        let known = store.all_shares()?.into_iter().filter(|(key_id, _)| *key_id != 0);
        let known: HashSet<[u8; 48]> = known.map(|(_, share)| share.group_key).collect();
        let wanted = shares.into_iter().filter(|share| all || !known.contains(&share.group_key));
        let adopt = |share| async move { adopt(store, chain, us, &share).await };
        let mut adopted = futures::stream::iter(wanted).map(adopt).buffer_unordered(PARALLEL_READS);
        let mut settled = true;
        while let Some(done) = adopted.next().await {
            settled &= done?;
        }
        looks.keys = settled.then_some(keys);
        Ok(())
    }
}

/// Whether there is nothing to wait for: the chain does not know the key, or its public half could be read.
async fn adopt(store: &Store, chain: &ChainView, us: &Us, share: &ShareRow) -> eyre::Result<bool> {
    let group_key = PublicKey::from_compressed(&share.group_key)?;
    let hash = keccak256(group_key.to_eip2537());
    let Some(key_id) = chain.reader().key_of_group_key(hash).await? else { return Ok(true) };
    if store.shares(key_id)?.iter().any(|known| known.group_key == share.group_key) {
        return Ok(true);
    }
    // Believed only because it rebuilds the root on-chain.
    let live = match chain.reader().live_key(key_id).await {
        Err(ChainError::NotFound(_)) => return Ok(false),
        live => live?,
    };
    let seat = us.signers.iter().find_map(|signer| live.member_of_signer(*signer)).map(|member| member.index);
    let is_ours = seat == Some(share.index)
        && live.keys.share_key(share.index).is_some_and(|key| key.to_compressed() == share.share_key);
    if is_ours {
        store.adopt_dealt(key_id, share)?;
        tracing::info!(key_id, group_key = %group_key, "a dealt key is on the chain");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{InitArgs, init};
    use serde_json::json;
    use stkr_core::splitter::Splitter;
    use stkr_core::{ShareIndex, Threshold};
    use stkr_duties::ForkSchedule;
    use stkr_node::exit::Exit;
    use stkr_protocol::dealt::{DealtKey, DealtMember};

    const SECRET: [u8; 32] = [0x31; 32];

    /// A server that was just made, and what a dealer gives it.
    struct Given {
        folder: tempfile::TempDir,
        config: PathBuf,
    }

    impl Given {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let deployment = folder.path().join("deployment.json");
            let address = |byte: u8| format!("0x{}", hex::encode([byte; 20]));
            let json = json!({
                "chainId": 560_048, "accessManager": address(1), "serverRegistry": address(2),
                "providerRegistry": address(3), "keyRegistry": address(4), "court": address(7), "micropools": address(5),
                "depositContract": address(6), "genesisForkVersion": "0x10000910", "genesisValidatorsRoot": "0x0909090909090909090909090909090909090909090909090909090909090909", "deployedBlock": 1,
            });
            std::fs::write(&deployment, json.to_string()).unwrap();
            let args = InitArgs {
                dir: folder.path().join("server"),
                config: None,
                deployment,
                network: None,
                listen: "127.0.0.1:0".parse().unwrap(),
                endpoint: "https://127.0.0.1:9000".to_owned(),
                rpc: vec!["http://127.0.0.1:1".parse().unwrap(), "http://127.0.0.1:2".parse().unwrap()],
                rpc_file: None,
                beacon_schedule: None,
                min_endpoints: 2,
            };
            let config = init(&args).unwrap().config;
            Self { folder, config }
        }

        fn config(&self) -> ServerConfig {
            config::load::<ServerConfig>(&self.config).unwrap()
        }

        fn write(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        }

        /// The history of `key`, as its validator client exported it after a block of `slot`.
        fn history(&self, key: &[u8; 48], slot: u64) -> Vec<u8> {
            let root = ForkSchedule::by_name("hoodi").unwrap().genesis_validators_root();
            json!({
                "metadata": {"interchange_format_version": "5", "genesis_validators_root": root},
                "data": [{
                    "pubkey": format!("0x{}", hex::encode(key)),
                    "signed_blocks": [{"slot": slot.to_string()}],
                    "signed_attestations": [{"source_epoch": "5", "target_epoch": "6"}],
                }],
            })
            .to_string()
            .into_bytes()
        }

        /// This server's share, at the second place of four, sealed with the import key that it prints.
        fn share(&self, history: &[u8]) -> DealtShare {
            self.share_of(&SECRET, history)
        }

        fn share_of(&self, secret: &[u8; 32], history: &[u8]) -> DealtShare {
            let domain = domain_of(&self.config()).unwrap();
            let import = import_key(&self.config, None).unwrap();
            let us = import.signer(&domain).unwrap();
            let splitter = Splitter::split(secret, Threshold::new(3, 4).unwrap()).unwrap();
            let signers = [Address::repeat_byte(1), us, Address::repeat_byte(3), Address::repeat_byte(4)];
            let members = (splitter.keys().share_keys().iter().zip(signers).zip(1..))
                .map(|((key, signer), server_id)| DealtMember { server_id, signer, share_key: key.to_compressed() })
                .collect();
            let mut key = DealtKey {
                chain_id: domain.chain_id,
                key_registry: domain.key_registry,
                owner: Address::repeat_byte(9),
                threshold: 3,
                members,
                group_key: splitter.keys().group_key().to_compressed(),
                history_hash: keccak256(history),
                possession: [0; 96],
            };
            key.possession = splitter.prove_possession(&key.digest().unwrap().0).to_compressed();
            let index = ShareIndex::new(2).unwrap();
            let sealing = key.check(&domain).unwrap().domain;
            let sealed = splitter.seal_share(&sealing, index, &import.public_key).unwrap();
            DealtShare { key, index, one_time_key: sealed.one_time_key, ciphertext: sealed.ciphertext }
        }

        fn import(&self, share: &DealtShare, history: &[u8]) -> eyre::Result<DealtAcknowledgement> {
            Ok(self.import_all(std::slice::from_ref(share), history)?.remove(0))
        }

        fn import_all(&self, shares: &[DealtShare], history: &[u8]) -> eyre::Result<Vec<DealtAcknowledgement>> {
            let files = shares.iter().enumerate().map(|(at, share)| {
                self.write(&format!("share-{at}.json"), serde_json::to_string(share).unwrap().as_bytes())
            });
            import_shares(&ImportShareArgs {
                config: self.config.clone(),
                shares: files.collect(),
                slashing_history: self.write("history.json", history),
            })
        }

        fn refused(&self, share: &DealtShare, history: &[u8], exit: Exit, words: &str) {
            let error = self.import(share, history).unwrap_err();
            assert!(error.to_string().contains(words), "{error:#}");
            assert_eq!(stkr_node::exit::exit_of(&error), exit, "{error:#}");
        }

        fn stopped(&self) -> Stopped {
            Stopped::of(&self.config()).unwrap()
        }
    }

    fn group_key() -> [u8; 48] {
        public_key(&SECRET)
    }

    fn public_key(secret: &[u8; 32]) -> [u8; 48] {
        SecretShare::from_bytes(ShareIndex::new(1).unwrap(), secret).unwrap().public_key().to_compressed()
    }

    #[test]
    fn a_share_comes_in_with_its_history_and_is_acknowledged() {
        let given = Given::new();
        let history = given.history(&group_key(), 77);
        let share = given.share(&history);
        let acknowledgement = given.import(&share, &history).unwrap();
        assert!(acknowledgement.is_of(&share.key, share.key.digest().unwrap()));
        assert_eq!(given.import(&share, &history).unwrap(), acknowledgement, "again it is the same");

        let stopped = given.stopped();
        let rows = stopped.store.dealt_shares().unwrap();
        assert_eq!((rows.len(), rows[0].share_key), (1, share.key.members[1].share_key));
        let known = stopped.open().unwrap().key(&group_key().into()).unwrap().unwrap();
        assert_eq!(known.high.slot, Some(77), "what the whole key signed counts as signed here");
        assert_eq!(known.high.epochs.map(|epochs| epochs.target_epoch), Some(6));
    }

    #[test]
    fn the_shares_of_many_keys_come_in_with_one_history_or_none_does() {
        let given = Given::new();
        let other = [0x32; 32];
        let mut history: serde_json::Value = serde_json::from_slice(&given.history(&group_key(), 77)).unwrap();
        let second: serde_json::Value = serde_json::from_slice(&given.history(&public_key(&other), 78)).unwrap();
        history["data"].as_array_mut().unwrap().push(second["data"][0].clone());
        let history = history.to_string().into_bytes();
        let shares = [given.share_of(&SECRET, &history), given.share_of(&other, &history)];

        let mut stranger = shares[1].clone();
        stranger.index = ShareIndex::new(3).unwrap();
        let again = given.share_of(&other, &history);
        for wrong in [vec![shares[0].clone(), stranger], vec![shares[0].clone(), shares[1].clone(), again]] {
            let error = given.import_all(&wrong, &history).unwrap_err();
            assert_eq!(stkr_node::exit::exit_of(&error), Exit::Usage, "{error:#}");
            assert!(given.stopped().store.all_shares().unwrap().is_empty());
        }

        let acknowledgements = given.import_all(&shares, &history).unwrap();
        for (acknowledgement, share) in acknowledgements.iter().zip(&shares) {
            assert!(acknowledgement.is_of(&share.key, share.key.digest().unwrap()));
        }
        assert_eq!(given.stopped().store.dealt_shares().unwrap().len(), 2);
        let known = given.stopped().open().unwrap().key(&public_key(&other).into()).unwrap().unwrap();
        assert_eq!(known.high.slot, Some(78));
    }

    #[test]
    fn without_the_history_of_the_split_nothing_is_imported() {
        let given = Given::new();
        let history = given.history(&group_key(), 77);
        let share = given.share(&history);
        let less = given.history(&group_key(), 7);
        given.refused(&share, &less, Exit::Unsafe, "this is not the slashing history that the key of");
        given.refused(&share, b"", Exit::Unsafe, "this is not the slashing history that the key of");
        // A dealer that leaves the key out of the history that the split names.
        let silent = given.history(&[0xab; 48], 77);
        let share = given.share(&silent);
        given.refused(&share, &silent, Exit::Unsafe, "says nothing about key");
        let stopped = given.stopped();
        assert!(stopped.store.all_shares().unwrap().is_empty());
        assert!(stopped.open().unwrap().key(&group_key().into()).unwrap().is_none());
    }

    #[test]
    fn a_share_for_another_server_or_that_was_changed_is_refused() {
        let given = Given::new();
        let history = given.history(&group_key(), 77);
        let share = given.share(&history);
        let other = DealtShare { index: ShareIndex::new(3).unwrap(), ..share.clone() };
        given.refused(&other, &history, Exit::Usage, "is not for this server");
        let mut changed = share.clone();
        changed.ciphertext[31] ^= 1;
        given.refused(&changed, &history, Exit::Usage, "what was decrypted is");
        let mut changed = share.clone();
        changed.key.owner = Address::ZERO;
        given.refused(&changed, &history, Exit::Usage, "the group key did not sign");
        assert!(given.stopped().store.all_shares().unwrap().is_empty());
    }

    #[test]
    fn a_second_share_of_one_key_is_refused_before_its_history_is_taken() {
        let given = Given::new();
        let history = given.history(&group_key(), 77);
        given.import(&given.share(&history), &history).unwrap();
        // Another split of the same key: with both polynomials' shares a server would hold two shares of one key.
        let later = given.history(&group_key(), 99);
        let error = given.import(&given.share(&later), &later).unwrap_err();
        assert!(error.to_string().contains("never holds a second share"), "{error:#}");
        let known = given.stopped().open().unwrap().key(&group_key().into()).unwrap().unwrap();
        assert_eq!(known.high.slot, Some(77));
    }

    #[test]
    fn shares_are_looked_up_when_there_are_new_keys_and_all_of_them_once_an_epoch() {
        let looks = |keys, blocks| Looks { keys, blocks };
        assert_eq!(looks(None, 0).due(0), (true, false), "after a start, and after a failure");
        assert_eq!(looks(Some(7), 1).due(7), (false, false));
        assert_eq!(looks(Some(7), 1).due(8), (true, false));
        assert_eq!(looks(Some(8), 1).due(7), (true, false), "a reorg");
        assert_eq!(looks(Some(7), LOOK_AT_ALL_EVERY).due(7), (true, true));
    }
}
