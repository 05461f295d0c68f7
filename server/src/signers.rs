//! The signer keys of a server: the one that the registry names, and those before it.
//!
//! A share's leaf names the signer with which its committee was made, for ever, and evidence goes by the leaf. So a server that changed
//! its signer signs each envelope with the key that the leaf names, each message of a ceremony or reshare with the key that it began
//! with there, and never asks which one is the newest. Keys lie in `files.signer_key` and in the folder `files.signer_keys`.
//!
//! A key that lies there is used only once the chain names it, in finalised blocks on which all endpoints agree, as a signer of the server
//! whose signers this database had before. A file that came from another server's folder changes nothing but what is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use alloy::primitives::Address;
use stkr_chain::{ChainError, ChainReader};
use stkr_core::keystore::StoreKey;
use stkr_node::exit::Failure;
use stkr_node::secrets;
use stkr_protocol::SignerKey;
use stkr_protocol::sign::Refusal;

use crate::config::FilesConfig;
use crate::serving::Us;
use crate::store::{Store, StoreError};

/// Files that the folder of signer keys may have: with one change in 30 days, those of more than five years.
const MOST_FILES: usize = 64;
/// How the name of a signer key's file ends. Others in the folder, such as what a crash left half-written, are nobody's.
const SUFFIX: &str = ".key";

/// Secrets a server holds while it runs.
#[derive(Debug)]
pub struct Keys {
    signers: RwLock<Arc<SignerKeys>>,
    /// Opens and seals shares.
    pub store_key: StoreKey,
}

impl Keys {
    /// All of them.
    #[must_use]
    pub fn new(signers: SignerKeys, store_key: StoreKey) -> Self {
        Self { signers: RwLock::new(Arc::new(signers)), store_key }
    }

    /// The signer keys as they are now.
    #[must_use]
    pub fn signers(&self) -> Arc<SignerKeys> {
        Arc::clone(&self.signers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with these.
    pub fn set_signers(&self, signers: SignerKeys) {
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signers);
    }
}

/// Keys that speak for this server, each under the signer by which a leaf or a ceremony names it.
#[derive(Clone, Debug)]
pub struct SignerKeys {
    keys: Arc<[SignerKey]>,
    us: Us,
}

impl SignerKeys {
    /// These keys, of the server with this id if the registry knows one.
    #[must_use]
    pub fn new(keys: Vec<SignerKey>, server_id: Option<u32>) -> Self {
        let us = Us { server_id, signers: keys.iter().map(SignerKey::address).collect() };
        Self { keys: keys.into(), us }
    }

    /// The same, of the server with this id.
    #[must_use]
    pub fn of_server(&self, server_id: u32) -> Self {
        Self { keys: Arc::clone(&self.keys), us: Us { server_id: Some(server_id), ..self.us.clone() } }
    }

    /// This server, as leaves may name it.
    #[must_use]
    pub const fn us(&self) -> &Us {
        &self.us
    }

    /// All of them, `files.signer_key` first where it is one.
    #[must_use]
    pub fn all(&self) -> &[SignerKey] {
        &self.keys
    }

    /// The key of this signer.
    #[must_use]
    pub fn key(&self, signer: Address) -> Option<&SignerKey> {
        self.keys.iter().find(|key| key.address() == signer)
    }

    /// The key that the leaf of a share of key `key_id` names.
    ///
    /// # Errors
    /// The refusal to answer with if it is not here.
    pub fn of_leaf(&self, signer: Address, key_id: u64) -> Result<&SignerKey, Refusal> {
        self.key(signer).ok_or_else(|| {
            tracing::error!(key_id, signer = %signer, "the signer key of a share is not here");
            Refusal::unavailable(
                format!("what this server signs with its share of key {key_id} is signed with signer {signer}, whose key it does not have"),
                "The operator has to put the file of that signer key back beside the others (files.signer_keys); the other members can go on.",
            )
        })
    }
}

/// What lies in the files, and what of it is this server's.
#[derive(Debug)]
pub struct Sorted {
    /// Keys of signers that this server has or had.
    pub ours: SignerKeys,
    /// Keys that the registry knows nothing of yet.
    pub waiting: Vec<Address>,
    /// Keys of other servers, with the id of each.
    pub foreign: Vec<(Address, u32)>,
}

impl Sorted {
    /// What is wrong, in one sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let (signer, id) = self.foreign.first()?;
        Some(format!(
            "one of the signer key files is that of signer {signer}, which belongs to server {id} and never to this one; take it away \
             (files.signer_key, files.signer_keys)"
        ))
    }
}

/// Sorts `found` by what the registry says of them and of the signers that this database had before, and remembers it. `block` is the
/// newest block: what is drawn later nobody can have taken part in with a key that comes only now.
///
/// # Errors
/// The database's.
pub fn sort(
    store: &Store,
    found: Vec<SignerKey>,
    registered: &BTreeMap<Address, u32>,
    block: u64,
) -> Result<Sorted, StoreError> {
    let own: Vec<Address> = store.signers()?.iter().filter(|row| row.own).map(|row| row.signer).collect();
    let id = own.iter().find_map(|signer| registered.get(signer)).copied();
    let (mut ours, mut waiting, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    for key in found {
        let signer = key.address();
        match registered.get(&signer) {
            Some(its) if Some(*its) != id => foreign.push((signer, *its)),
            None if !own.contains(&signer) => {
                store.see_signer(signer, block)?;
                waiting.push(signer);
            }
            Some(id) if !own.contains(&signer) => {
                store.own_signer(signer, block)?;
                tracing::info!(signer = %signer, server_id = id, "the registry knows a signer key of this server");
                ours.push(key);
            }
            _ => ours.push(key),
        }
    }
    Ok(Sorted { ours: SignerKeys::new(ours, id), waiting, foreign })
}

/// Those of `found` that the database knows as this server's.
///
/// # Errors
/// The database's.
pub fn remembered(store: &Store, found: Vec<SignerKey>) -> Result<SignerKeys, StoreError> {
    let rows = store.signers()?;
    let is_own = |key: &SignerKey| rows.iter().any(|row| row.own && row.signer == key.address());
    Ok(SignerKeys::new(found.into_iter().filter(is_own).collect(), None))
}

/// Sorts them by what finalised blocks say, which are asked only if some of the keys are new to the database: it remembers the others.
/// `server_id` is this server's, as far as it is known.
///
/// # Errors
/// Chain or database.
pub async fn take_up(
    store: &Store,
    reader: &ChainReader,
    found: Vec<SignerKey>,
    server_id: Option<u32>,
) -> eyre::Result<Sorted> {
    let rows = store.signers()?;
    let is_own = |key: &SignerKey| rows.iter().any(|row| row.own && row.signer == key.address());
    if found.iter().all(is_own) {
        return Ok(Sorted { ours: SignerKeys::new(found, server_id), waiting: Vec::new(), foreign: Vec::new() });
    }
    let block = newest_block(reader).await?;
    let signers: BTreeSet<Address> =
        rows.iter().filter(|row| row.own).map(|row| row.signer).chain(found.iter().map(SignerKey::address)).collect();
    let registered = registered(reader, signers).await?;
    Ok(sort(store, found, &registered, block)?)
}

/// Those of `signers` that finalised blocks name as the signer of a server, now or once, with its id.
///
/// # Errors
/// Chain, or endpoints that disagree.
pub async fn registered(
    reader: &ChainReader,
    signers: impl IntoIterator<Item = Address>,
) -> Result<BTreeMap<Address, u32>, ChainError> {
    let mut registered = BTreeMap::new();
    for signer in signers {
        if let Some(id) = reader.finalized_server_of_signer(signer).await? {
            registered.insert(signer, id);
        }
    }
    Ok(registered)
}

/// Number of the newest block that any endpoint has.
///
/// # Errors
/// The first endpoint's that does not answer.
pub async fn newest_block(reader: &ChainReader) -> Result<u64, ChainError> {
    let mut newest = 0;
    for endpoint in reader.endpoints() {
        let block = endpoint.block(alloy::eips::BlockNumberOrTag::Latest).await?;
        newest = newest.max(block.map_or(0, |block| block.number));
    }
    Ok(newest)
}

/// Reads the signer keys: `files.signer_key` first, then those in the folder by name, each once.
///
/// # Errors
/// A file that is missing, too open or no key; a folder with more of them than a server can need.
pub fn read(files: &FilesConfig) -> Result<Vec<SignerKey>, Failure> {
    let mut keys = vec![read_key(&files.signer_key)?];
    for file in files_in(&files.signer_keys)? {
        let key = read_key(&file)?;
        if keys.iter().all(|known| known.address() != key.address()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The one signer key of a server that has one only; else that of `signer`, for what is signed without asking the chain. `which` says
/// where a person finds that.
///
/// # Errors
/// As [`read`]; several and none named, or one named that is not there.
pub fn one(files: &FilesConfig, signer: Option<Address>, which: &str) -> Result<SignerKey, Failure> {
    let mut keys = read(files)?;
    let Some(signer) = signer.or_else(|| (keys.len() == 1).then(|| keys[0].address())) else {
        let all = keys.iter().map(|key| key.address().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!(
            "this server has several signer keys ({all}); name one with --signer, {which}"
        )));
    };
    let at = keys.iter().position(|key| key.address() == signer);
    let none =
        || Failure::usage(format!("no file of files.signer_key and files.signer_keys has the key of signer {signer}"));
    at.map(|at| keys.swap_remove(at)).ok_or_else(none)
}

/// The file of `signer` in this folder.
#[must_use]
pub fn file_of(folder: &Path, signer: Address) -> PathBuf {
    folder.join(format!("signer-{signer}{SUFFIX}"))
}

/// The files of signer keys in a folder, by name; none where there is no folder.
///
/// # Errors
/// A folder that cannot be read, or has too many.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!(
            "cannot read the folder of signer keys {} (files.signer_keys): {error}",
            folder.display()
        ))
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let reason = format!("{} has more than {MOST_FILES} signer keys (files.signer_keys)", folder.display());
            return Err(Failure::usage(reason));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one signer key.
///
/// # Errors
/// A file that is missing, too open or no key.
pub fn read_key(file: &Path) -> Result<SignerKey, Failure> {
    let bytes = secrets::read_hex32(file).map_err(Failure::usage)?;
    SignerKey::from_bytes(&bytes).map_err(|error| Failure::usage(format!("signer key {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    fn key(byte: u8) -> SignerKey {
        SignerKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn store(folder: &Path) -> Store {
        let owner = Owner { signer: key(1).address(), chain_id: 1, key_registry: Address::ZERO };
        Store::open(&folder.join("server.db"), &owner, 5).unwrap()
    }

    fn registry(of: &[(u8, u32)]) -> BTreeMap<Address, u32> {
        of.iter().map(|(byte, id)| (key(*byte).address(), *id)).collect()
    }

    fn signers(of: &SignerKeys) -> Vec<Address> {
        of.all().iter().map(SignerKey::address).collect()
    }

    #[test]
    fn a_key_is_used_once_the_chain_names_it_as_a_signer_of_the_same_server_and_never_another_servers() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let found = || vec![key(1), key(2), key(3)];
        let [one, two, three] = [1, 2, 3].map(|byte| key(byte).address());

        // Nothing is registered yet: only the key that the database was made with speaks.
        let sorted = sort(&store, found(), &registry(&[]), 10).unwrap();
        assert_eq!((signers(&sorted.ours), sorted.waiting), (vec![one], vec![two, three]));
        assert_eq!(sorted.ours.us().server_id, None);

        // Of a server that is not registered itself a registered key is another's.
        let sorted = sort(&store, found(), &registry(&[(2, 4)]), 10).unwrap();
        assert_eq!((signers(&sorted.ours), &sorted.foreign), (vec![one], &vec![(two, 4)]));

        let sorted = sort(&store, found(), &registry(&[(1, 7), (2, 7), (3, 9)]), 20).unwrap();
        assert_eq!((signers(&sorted.ours), &sorted.foreign), (vec![one, two], &vec![(three, 9)]));
        assert_eq!(sorted.ours.us(), &Us { server_id: Some(7), signers: vec![one, two] });
        let trouble = sorted.trouble().unwrap();
        assert!(trouble.contains(&three.to_string()) && trouble.contains("server 9"), "{trouble}");
        // It may speak in what was drawn after it was seen first, when nobody could have spoken with it.
        assert_eq!((store.born(one).unwrap(), store.born(two).unwrap()), (5, 10));
        assert_eq!(store.born(three).unwrap(), u64::MAX);

        // The old key is gone, and the chain cannot be asked: the database remembers whose the new one is.
        let sorted = sort(&store, vec![key(2), key(3)], &registry(&[]), 30).unwrap();
        assert_eq!((signers(&sorted.ours), sorted.waiting), (vec![two], vec![three]));
    }

    #[test]
    fn a_share_whose_leaf_names_a_signer_that_is_not_here_is_refused_with_the_signer_and_what_to_do() {
        let keys = SignerKeys::new(vec![key(1), key(2)], Some(7));
        for byte in [1, 2] {
            assert_eq!(keys.of_leaf(key(byte).address(), 5).unwrap().address(), key(byte).address());
        }
        let refusal = keys.of_leaf(key(3).address(), 5).unwrap_err();
        assert!(refusal.reason.contains(&key(3).address().to_string()), "{}", refusal.reason);
        assert!(refusal.what_to_do.contains("files.signer_keys"), "{}", refusal.what_to_do);
    }

    #[test]
    fn keys_are_read_from_the_file_and_the_folder_and_nothing_that_is_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let files = FilesConfig::default().below(folder.path());
        secrets::create_private_folder(files.signer_key.parent().unwrap()).unwrap();
        secrets::write_hex32(&files.signer_key, &[1; 32]).unwrap();
        let read_all = || read(&files).map(|keys| keys.iter().map(SignerKey::address).collect::<Vec<_>>());
        assert_eq!(read_all().unwrap(), [key(1).address()], "no folder yet");
        secrets::create_private_folder(&files.signer_keys).unwrap();
        for byte in [2, 1] {
            secrets::write_hex32(&file_of(&files.signer_keys, key(byte).address()), &[byte; 32]).unwrap();
        }
        std::fs::write(files.signer_keys.join("signer-0x00.key.new-1234"), "half").unwrap();
        assert_eq!(read_all().unwrap(), [key(1).address(), key(2).address()]);
        std::fs::write(files.signer_keys.join("other.key"), "no key").unwrap();
        assert!(read_all().unwrap_err().to_string().contains("other.key"));
    }
}
