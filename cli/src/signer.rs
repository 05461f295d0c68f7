//! Who signs: a keystore with its password, or a key file. Always files, never arguments.

use std::path::Path;

use alloy::{network::EthereumWallet, primitives::Address, signers::local::PrivateKeySigner};
use stkr_node::secrets;

use crate::{
    failure::{Failure, without_secrets},
    keystore,
};

/// Largest keystore that is read.
const MAX_KEYSTORE: u64 = 64 * 1024;

/// A wallet with one account.
pub(crate) struct Account {
    /// Its address.
    pub(crate) address: Address,
    /// What signs its transactions.
    pub(crate) wallet: EthereumWallet,
}

/// The account of a version 3 keystore.
pub(crate) fn from_keystore(path: &Path, password_file: &Path) -> Result<Account, Failure> {
    refuse_pasted_key(path)?;
    let text = read_keystore(path)?;
    let password = secrets::read_text(password_file)?;
    let key = keystore::open(&text, &password).map_err(|error| Failure {
        code: "keystore",
        ..Failure::usage(error.to_string(), "check --keystore and --password-file")
    })?;
    account(&key)
}

/// The account of a key file: 32 bytes in hex, mode 0600.
pub(crate) fn from_key_file(path: &Path) -> Result<Account, Failure> {
    account(&*signer_key(path)?)
}

/// The 32 bytes in a key file.
pub(crate) fn signer_key(path: &Path) -> Result<zeroize::Zeroizing<[u8; 32]>, Failure> {
    refuse_pasted_key(path)?;
    Ok(secrets::read_hex32(path)?)
}

fn account(key: &[u8; 32]) -> Result<Account, Failure> {
    let signer = PrivateKeySigner::from_slice(key).map_err(|_| {
        Failure::usage("the file holds no secp256k1 key", "a key is 32 bytes, not zero, below the group order")
    })?;
    Ok(Account { address: signer.address(), wallet: EthereumWallet::from(signer) })
}

fn read_keystore(path: &Path) -> Result<Vec<u8>, Failure> {
    stkr_files::read(path, MAX_KEYSTORE)
        .map_err(|error| Failure::usage(format!("cannot read keystore {error}"), "give the path of the keystore"))
}

/// An argument is visible to every process on the machine: say so, and do not repeat it.
fn refuse_pasted_key(path: &Path) -> Result<(), Failure> {
    let text = path.to_string_lossy();
    if without_secrets(&text) != text {
        return Err(Failure::usage(
            "that looks like a key, not like the path of a file",
            "write the key to a file with mode 0600 and give its path; a key that was on a command line counts as known to others",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keystore_that_is_a_device_or_a_folder_is_refused_and_not_read_to_its_end() {
        for path in ["/dev/zero", "/tmp"] {
            let failure = read_keystore(Path::new(path)).unwrap_err();
            assert!(failure.message.contains("not a regular file"), "{}", failure.message);
        }
    }
}
