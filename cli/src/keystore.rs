//! Ethereum keystores, version 3 (Web3 Secret Storage), as geth, cast and clef write them.
//!
//! Only reading. A file from somewhere else must not take the machine's memory or hours of its time: the KDF's
//! parameters are bounded before it runs.

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use alloy::primitives::{Address, keccak256};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// AES-128 in counter mode with a big-endian 128-bit counter.
type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// Most memory scrypt may take: twice what geth's standard parameters need.
const MAX_SCRYPT_BYTES: u64 = 512 << 20;
/// Most PBKDF2 rounds; geth writes 262,144.
const MAX_ROUNDS: u32 = 10_000_000;

/// Why a keystore gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeystoreError {
    #[error("the keystore is not an Ethereum keystore of version 3")]
    Malformed,
    #[error("the keystore uses a cipher other than aes-128-ctr, which no Ethereum wallet writes")]
    Cipher,
    #[error("the keystore uses a key derivation other than scrypt or pbkdf2 with hmac-sha256")]
    Kdf,
    #[error("the keystore asks for more memory or time to open than any wallet does")]
    TooExpensive,
    #[error("the password does not open the keystore")]
    WrongPassword,
    #[error("the keystore's key does not belong to the address it names")]
    WrongAddress,
}

#[derive(Deserialize)]
struct File {
    version: u32,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    address: Option<String>,
}

#[derive(Deserialize)]
struct Crypto {
    cipher: String,
    ciphertext: String,
    cipherparams: CipherParams,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Deserialize)]
struct KdfParams {
    dklen: usize,
    salt: String,
    n: Option<u64>,
    r: Option<u32>,
    p: Option<u32>,
    c: Option<u32>,
    prf: Option<String>,
}

/// The private key in a keystore.
pub(crate) fn open(text: &[u8], password: &str) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let file: File = serde_json::from_slice(text).map_err(|_| KeystoreError::Malformed)?;
    if file.version != 3 {
        return Err(KeystoreError::Malformed);
    }
    if file.crypto.cipher != "aes-128-ctr" {
        return Err(KeystoreError::Cipher);
    }
    let ciphertext = array::<32>(&file.crypto.ciphertext)?;
    let iv = array::<16>(&file.crypto.cipherparams.iv)?;
    let mac = array::<32>(&file.crypto.mac)?;
    let derived = derive(&file.crypto, password)?;
    let (encryption_key, mac_key) = derived.split_at(16);
    if keccak256([mac_key, &ciphertext].concat()) != mac {
        return Err(KeystoreError::WrongPassword);
    }
    let mut key = Zeroizing::new(ciphertext);
    let mut cipher = Aes128Ctr::new_from_slices(encryption_key, &iv).map_err(|_| KeystoreError::Malformed)?;
    cipher.apply_keystream(key.as_mut_slice());
    Ok(key).and_then(|key| check_address(key, file.address.as_deref()))
}

fn derive(crypto: &Crypto, password: &str) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let parameters = &crypto.kdfparams;
    let salt = hex::decode(parameters.salt.trim_start_matches("0x")).map_err(|_| KeystoreError::Malformed)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    if parameters.dklen != key.len() {
        return Err(KeystoreError::Kdf);
    }
    match (crypto.kdf.as_str(), parameters) {
        ("scrypt", KdfParams { n: Some(n), r: Some(r), p: Some(p), .. }) => {
            let parameters = scrypt_parameters(*n, *r, *p)?;
            scrypt::scrypt(password.as_bytes(), &salt, &parameters, key.as_mut_slice()).map_err(|_| KeystoreError::Kdf)?;
        }
        ("pbkdf2", KdfParams { c: Some(rounds), prf: Some(prf), .. }) if prf == "hmac-sha256" => {
            if !(1..=MAX_ROUNDS).contains(rounds) {
                return Err(KeystoreError::TooExpensive);
            }
            pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, *rounds, key.as_mut_slice());
        }
        _ => return Err(KeystoreError::Kdf),
    }
    Ok(key)
}

fn scrypt_parameters(n: u64, r: u32, p: u32) -> Result<scrypt::Params, KeystoreError> {
    let memory = n.checked_mul(128).and_then(|bytes| bytes.checked_mul(r.into()));
    if memory.is_none_or(|bytes| bytes > MAX_SCRYPT_BYTES) || p > 16 {
        return Err(KeystoreError::TooExpensive);
    }
    if !n.is_power_of_two() {
        return Err(KeystoreError::Kdf);
    }
    let log_n = u8::try_from(n.ilog2()).map_err(|_| KeystoreError::Kdf)?;
    scrypt::Params::new(log_n, r, p, 32).map_err(|_| KeystoreError::Kdf)
}

fn check_address(key: Zeroizing<[u8; 32]>, named: Option<&str>) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let signer = alloy::signers::local::PrivateKeySigner::from_slice(key.as_slice())
        .map_err(|_| KeystoreError::Malformed)?;
    let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(key) };
    let named: Address = named.parse().map_err(|_| KeystoreError::Malformed)?;
    if named == signer.address() { Ok(key) } else { Err(KeystoreError::WrongAddress) }
}

fn array<const N: usize>(text: &str) -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).map_err(|_| KeystoreError::Malformed)?;
    Ok(bytes)
}
