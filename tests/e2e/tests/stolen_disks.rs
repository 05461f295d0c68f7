//! All disks and all recorded messages of a ceremony in a thief's hands. A day later what was sent in it says nothing any more: no share
//! can be decrypted. With a copy of the disks from before the erasure every share can, so what is tried is the right thing.

use std::collections::BTreeSet;

use alloy::primitives::hex;
use eyre::{Result, WrapErr as _, ensure, eyre};
use stkr_chain::bindings::KeyRegistry;
use stkr_core::dkg::complaint::decrypt_share;
use stkr_core::dkg::{CeremonyDomain, OneTimeSecret};
use stkr_core::keystore::{Keystore, StoreKey};
use stkr_core::{PublicKey, SecretShare, ShareIndex};
use stkr_e2e::anvil::{advance_time, mine};
use stkr_e2e::offline::OfflineServer;
use stkr_e2e::{Network, Options};
use stkr_node::secrets;
use stkr_protocol::messages::{Body, SignedMessage};
use stkr_server::config::{FilesConfig, ServerConfig};
use stkr_server::seal::Sealer;

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);
const DAY: u64 = 24 * 3600;
/// Nonce, secret, tag (`server/src/seal.rs`).
const SEALED: usize = 12 + 32 + 16;

/// Whoever stole a machine.
struct Disk {
    /// Every file below the server's folder, whatever it is called.
    files: Vec<Vec<u8>>,
    store_key: StoreKey,
}

impl Disk {
    fn steal(files: &FilesConfig) -> Result<Self> {
        let folder = files.database.parent().ok_or_else(|| eyre!("no folder"))?;
        let (mut read, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    // A temporary file may be gone by now.
                    false => read.extend(std::fs::read(&path).ok()),
                }
            }
        }
        ensure!(files.database.is_file(), "no database in {}", folder.display());
        let password = secrets::read_text(&files.store_password)?;
        let wrapped = Keystore::from_json(&std::fs::read_to_string(&files.store_keystore)?)?;
        Ok(Self { files: read, store_key: StoreKey::open(&wrapped, &password)? })
    }

    /// Everything in it that could be a one-time secret of this ceremony: what opens as one, wherever it begins, in rows, free pages,
    /// logs or files that should not be there; and what lies there in the open, as bytes or as hex.
    fn secrets(&self, domain: &CeremonyDomain) -> BTreeSet<[u8; 32]> {
        let sealer = Sealer::new(&self.store_key);
        let mut found = BTreeSet::new();
        for bytes in &self.files {
            found.extend(bytes.windows(32).filter(|it| is_noise(it)).filter_map(|it| <[u8; 32]>::try_from(it).ok()));
            for window in bytes.windows(SEALED).filter(|it| is_noise(&it[..32])) {
                found.extend(sealer.open(domain.key_id, domain.attempt, window).map(|secret| *secret.to_bytes()));
            }
            found.extend(hex_words(bytes));
        }
        found
    }
}

/// 32 bytes as random ones are, and as neither text nor SQLite's pages are.
fn is_noise(bytes: &[u8]) -> bool {
    let high = bytes.iter().filter(|byte| **byte >= 0x80).count();
    high >= 3 && bytes.iter().collect::<BTreeSet<_>>().len() >= 20
}

/// All words of 64 hexadecimal digits.
fn hex_words(bytes: &[u8]) -> Vec<[u8; 32]> {
    let words = bytes.split(|byte| !byte.is_ascii_hexdigit() && *byte != b'x');
    let digits = words.map(|word| word.strip_prefix(b"0x").unwrap_or(word)).filter(|word| word.len() == 64);
    digits.filter_map(|word| hex::decode(word).ok()?.try_into().ok()).collect()
}

/// What somebody recorded who heard everything.
struct Recording {
    domain: CeremonyDomain,
    one_time_keys: Vec<[u8; 33]>,
    /// By dealer, ciphertexts by recipient.
    shares: Vec<Vec<[u8; 32]>>,
    share_keys: Vec<PublicKey>,
}

impl Recording {
    async fn of(network: &Network, key: u64, points: &[u8]) -> Result<Self> {
        let bulletin = network.relayer_json(0, &format!("/v1/ceremonies/{key}/0")).await?;
        let messages: Vec<SignedMessage> = serde_json::from_value(bulletin["messages"].clone())?;
        let members = usize::from(KEY.1);
        let (mut one_time_keys, mut shares) = (vec![[0; 33]; members], vec![Vec::new(); members]);
        for message in messages {
            let position = message.index.position();
            match message.body {
                Body::OneTimeKey(it) => one_time_keys[position] = it.public_key.as_slice().try_into()?,
                Body::Dealing(it) => shares[position] = it.shares.as_chunks().0.to_vec(),
                _ => {}
            }
        }
        ensure!(shares.iter().all(|it| it.len() == members), "not all dealings were recorded");
        let here = network.domain();
        let domain = CeremonyDomain { chain_id: here.chain_id, registry: here.key_registry, key_id: key, attempt: 0 };
        let share_keys = points.chunks(128).take(members).map(PublicKey::from_eip2537).collect::<Result<_, _>>()?;
        Ok(Self { domain, one_time_keys, shares, share_keys })
    }

    /// Whose one-time secrets are among these.
    fn opened_by(&self, candidates: &BTreeSet<[u8; 32]>) -> Vec<(usize, [u8; 32])> {
        let public = |it: &[u8; 32]| Some(OneTimeSecret::from_bytes(it).ok()?.public_key());
        let position = |key| self.one_time_keys.iter().position(|published| *published == key);
        candidates.iter().filter_map(|it| Some((position(public(it)?)?, *it))).collect()
    }

    /// What each dealer sent to the owner of this secret, added up: its share, if that is what it is.
    fn share(&self, (position, secret): &(usize, [u8; 32])) -> Result<SecretShare> {
        let recipient = u8::try_from(position + 1)?;
        let dealt = (1_u8..).zip(&self.shares).map(|(dealer, ciphertexts)| {
            let dealers_key = &self.one_time_keys[usize::from(dealer) - 1];
            decrypt_share(&self.domain, (dealer, recipient), dealers_key, secret, &ciphertexts[*position])
        });
        let dealt = dealt.collect::<Option<Vec<_>>>().ok_or_else(|| eyre!("no shared key"))?;
        let share = SecretShare::from_bytes(ShareIndex::new(recipient)?, &sum(&dealt)?)?;
        ensure!(share.public_key() == self.share_keys[*position], "the sum is not the share");
        Ok(share)
    }
}

/// Of scalars, modulo r.
fn sum(scalars: &[[u8; 32]]) -> Result<[u8; 32]> {
    use alloy::primitives::U256;
    let order: U256 = "0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001".parse()?;
    Ok(scalars.iter().fold(U256::ZERO, |sum, it| sum.add_mod(U256::from_be_bytes(*it), order)).to_be_bytes())
}

/// Every member's folder, in index order.
fn machines(network: &Network, offline: &[OfflineServer], committee: &[u32]) -> Result<Vec<FilesConfig>> {
    let files = |id: &u32| match offline.iter().find(|it| it.id == *id) {
        Some(server) => Ok(FilesConfig::default().below(&server.dir.join("server"))),
        None => {
            let config = &network.servers[network.position_of(*id)?].config;
            Ok(stkr_node::config::load::<ServerConfig>(config).wrap_err("read a configuration")?.files)
        }
    };
    committee.iter().map(files).collect()
}

fn steal_all(machines: &[FilesConfig]) -> Result<Vec<Disk>> {
    machines.iter().map(Disk::steal).collect()
}

#[tokio::test]
async fn a_day_after_a_ceremony_all_disks_and_all_messages_together_decrypt_no_share() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { servers: 4, block_ms: 500, behind: 3 * DAY, ..Options::new(dir.path()) };
    let network = Network::start(options).await?;
    let offline = network.two_offline_servers().await?;
    let key = network.withdrawal_key(network.add_key_user().await?, KEY).await?;
    let registry = network.deployment.key_registry;
    let committee = network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?.inner.committee;
    let machines = machines(&network, &offline, &committee)?;

    // Nobody acknowledges before all dealings are there, and no offline server shows its own before this.
    network
        .until("the one-time keys of all online servers", || async {
            let request = network.offline_request(offline[0].id, key).await?;
            Ok(request["messages"].as_array().is_some_and(|all| all.len() == network.servers.len()))
        })
        .await?;
    for server in &offline {
        network.visit(server, key).await?.ok_or_else(|| eyre!("nothing to sign in the first visit"))?;
    }
    let before = steal_all(&machines)?;

    network.carry_to_offline_servers(&offline, key).await?;
    let points = network.event::<KeyRegistry::KeyFinalised>(registry, key).await?.inner.points;
    advance_time(&network.provider()?, DAY).await?;
    mine(&network.provider()?, 8).await?;
    let after = steal_all(&machines)?;

    let recording = Recording::of(&network, key, &points).await?;
    let secrets = |disks: &[Disk]| disks.iter().flat_map(|disk| disk.secrets(&recording.domain)).collect();
    let opened = recording.opened_by(&secrets(&before));
    ensure!(opened.len() == committee.len(), "{} one-time secrets on the disks of before", opened.len());
    for secret in &opened {
        recording.share(secret)?;
    }
    let left = recording.opened_by(&secrets(&after));
    ensure!(left.is_empty(), "{} one-time secrets are left on the disks", left.len());
    Ok(())
}
