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
            scrypt::scrypt(password.as_bytes(), &salt, &parameters, key.as_mut_slice())
                .map_err(|_| KeystoreError::Kdf)?;
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
    let signer =
        alloy::signers::local::PrivateKeySigner::from_slice(key.as_slice()).map_err(|_| KeystoreError::Malformed)?;
    let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(key) };
    let named: Address = named.parse().map_err(|_| KeystoreError::Malformed)?;
    if named == signer.address() { Ok(key) } else { Err(KeystoreError::WrongAddress) }
}

fn array<const N: usize>(text: &str) -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).map_err(|_| KeystoreError::Malformed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The PBKDF2 vector of the Web3 Secret Storage definition. Its scrypt vector has r = 1 with N = 2^18, which RFC 7914
    /// forbids (N < 2^(16 r)); the one below was written by cast for the same key and password.
    const PBKDF2: &str = r#"{"version":3,"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","crypto":{"cipher":"aes-128-ctr",
        "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"}}"#;
    const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"b738b4f002f37c92fedb4ff64157c9bb"},
        "ciphertext":"0c18df5a7270cfaf911ff54d41d9338a82b0aa79e8d27a58eb7e7fbad5a58a8a","kdf":"scrypt",
        "kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,
        "salt":"ef9ea5bb5dd76184ef71c5b59588ee3fa0601a7be4e5393f36ee713fc6d09705"},
        "mac":"3fb0d2a001af3d9cd1b735280ba74c915278b409b8b3113e67b20d3734d5dbb5"},
        "id":"567b7370-8f54-4a02-bfb2-58175dd95545","version":3}"#;
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

    #[test]
    fn the_definitions_vector_and_casts_keystore_open() {
        for text in [PBKDF2, SCRYPT] {
            assert_eq!(hex::encode(*open(text.as_bytes(), "testpassword").unwrap()), KEY);
        }
    }

    #[test]
    fn a_wrong_password_and_a_touched_ciphertext_look_the_same() {
        assert_eq!(open(PBKDF2.as_bytes(), "Testpassword").unwrap_err(), KeystoreError::WrongPassword);
        let touched = PBKDF2.replace("5318b4d5", "5318b4d6");
        assert_eq!(open(touched.as_bytes(), "testpassword").unwrap_err(), KeystoreError::WrongPassword);
    }

    #[test]
    fn a_keystore_that_would_eat_the_machine_is_refused_before_it_runs() {
        for (from, to) in [
            ("8192", "1073741824"),
            ("\"r\":8", "\"r\":4294967295"),
            ("\"p\":1", "\"p\":4000000"),
            ("8192", "18446744073709551615"),
        ] {
            let greedy = SCRYPT.replace(from, to);
            assert_eq!(open(greedy.as_bytes(), "testpassword").unwrap_err(), KeystoreError::TooExpensive, "{to}");
        }
        let slow = PBKDF2.replace("262144", "4000000000");
        assert_eq!(open(slow.as_bytes(), "testpassword").unwrap_err(), KeystoreError::TooExpensive);
    }

    #[test]
    fn an_address_that_is_not_the_keys_is_noticed() {
        let right =
            PBKDF2.replace("\"version\":3", "\"version\":3,\"address\":\"008aeeda4d805471df9b2a5b0f38a0c3bcba786b\"");
        assert!(open(right.as_bytes(), "testpassword").is_ok());
        let wrong = right.replace("008aeeda", "108aeeda");
        assert_eq!(open(wrong.as_bytes(), "testpassword").unwrap_err(), KeystoreError::WrongAddress);
    }

    #[test]
    fn anything_else_is_no_keystore() {
        for text in ["", "{}", "[]", "null", &PBKDF2.replace("\"version\":3", "\"version\":4")] {
            assert_eq!(open(text.as_bytes(), "").unwrap_err(), KeystoreError::Malformed, "{text}");
        }
        let cbc = PBKDF2.replace("aes-128-ctr", "aes-128-cbc");
        assert_eq!(open(cbc.as_bytes(), "testpassword").unwrap_err(), KeystoreError::Cipher);
        let zero_rounds = SCRYPT.replace("8192", "0");
        assert_eq!(open(zero_rounds.as_bytes(), "testpassword").unwrap_err(), KeystoreError::Kdf);
    }
}
