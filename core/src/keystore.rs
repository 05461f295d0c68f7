//! Secrets at rest: EIP-2335 keystores (version 4), and the store key that makes many of them cheap to open.
//!
//! A server holds thousands of shares. One scrypt per share would cost a second each, so one scrypt keystore
//! under the operator's password wraps a random 32-byte [`StoreKey`], and each share's keystore uses PBKDF2
//! with few rounds under that key: guessing a random 256-bit password is hopeless with any number of rounds.
//!
//! Files may come from anywhere, so the parameters of the key derivation are bounded before they are used: a
//! file must not make its reader allocate gigabytes or compute for hours.

use std::fmt;

use aes::Aes128;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{PublicKey, RandomnessError, SecretShare, ShareError, ShareIndex};

const VERSION: u8 = 4;
const KEY_BYTES: usize = 32;
/// A quarter GiB is what EIP-2335's own parameters need (128 * 2^18 * 8 bytes); twice that is accepted.
const MAX_SCRYPT_MEMORY: u64 = 512 << 20;
const MAX_SCRYPT_PARALLEL: u32 = 16;
/// Scrypt's work n * r * p: four times that of EIP-2335's own parameters.
const MAX_SCRYPT_WORK: u64 = 4 * (262_144 * 8);
const MAX_PBKDF2_ROUNDS: u32 = 1 << 24;
/// A keystore has about a kilobyte.
const MAX_JSON_BYTES: usize = 64 << 10;
const MAX_SALT_BYTES: usize = 256;
const MAX_SECRET_BYTES: usize = 1024;
/// Rounds for keystores under a random 256-bit key. The derivation adds nothing there; this is what remains when
/// thousands of shares must load in seconds.
const STORE_ROUNDS: u32 = 1024;

/// How the password becomes a key when a keystore is written. Reading takes what the file says, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// Memory-hard; for passwords that people choose. Memory: `128 * n * r` bytes.
    Scrypt {
        /// Cost, a power of two.
        n: u32,
        /// Block size.
        r: u32,
        /// Parallel lanes.
        p: u32,
    },
    /// HMAC-SHA-256.
    Pbkdf2 {
        /// Rounds.
        c: u32,
    },
}

impl Kdf {
    /// Scrypt as EIP-2335 recommends it: n = 2^18, r = 8, p = 1, 256 MiB, about a second.
    pub const SCRYPT: Self = Self::Scrypt { n: 262_144, r: 8, p: 1 };
    /// PBKDF2 as EIP-2335 recommends it: 2^18 rounds.
    pub const PBKDF2: Self = Self::Pbkdf2 { c: 262_144 };
}

/// An EIP-2335 keystore, version 4. Serialises to the JSON of the standard; holds no secret in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keystore {
    crypto: Crypto,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pubkey: Option<String>,
    path: String,
    uuid: String,
    version: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Crypto {
    kdf: KdfModule,
    checksum: ChecksumModule,
    cipher: CipherModule,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KdfModule {
    #[serde(flatten)]
    derivation: KdfParams,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "function", content = "params", rename_all = "lowercase")]
enum KdfParams {
    Scrypt { dklen: u32, n: u32, p: u32, r: u32, salt: HexBytes },
    Pbkdf2 { dklen: u32, c: u32, prf: String, salt: HexBytes },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChecksumModule {
    function: String,
    params: Empty,
    message: HexBytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CipherModule {
    function: String,
    params: CipherParams,
    message: HexBytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Empty {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CipherParams {
    iv: HexBytes,
}

/// Bytes that are hex without prefix in JSON, as the standard has them.
#[derive(Clone, PartialEq, Eq)]
struct HexBytes(Vec<u8>);

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl Serialize for HexBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() > 2 * MAX_SECRET_BYTES {
            return Err(serde::de::Error::custom("a hex field of the keystore is too long"));
        }
        hex::decode(text.as_ref()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a keystore was not written or not opened.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Not the JSON of a keystore.
    #[error("the file is no EIP-2335 keystore: {0}")]
    Json(#[from] serde_json::Error),
    /// Not version 4.
    #[error("the keystore has version {0}; only version {VERSION} (EIP-2335) can be read")]
    Version(u8),
    /// A function that EIP-2335 does not define.
    #[error("the keystore uses {what} \"{name}\", which is not supported")]
    Function {
        /// Which module.
        what: &'static str,
        /// What the file says.
        name: String,
    },
    /// A parameter outside its bounds.
    #[error("the keystore's {what} is out of bounds: it would make no key, or cost the reader too much")]
    Bounds {
        /// Which parameter.
        what: &'static str,
    },
    /// The checksum does not match.
    #[error("the password is wrong, or the keystore was altered")]
    WrongPassword,
    /// The secret inside is no share.
    #[error("the keystore holds no share: {0}")]
    Share(#[from] ShareError),
    /// The secret inside has another length than what was expected.
    #[error("the keystore holds {got} bytes instead of {KEY_BYTES}")]
    SecretLength {
        /// Bytes inside.
        got: usize,
    },
    /// The share inside is not of the key that was expected.
    #[error("the keystore holds the share of {found}, not of {expected}; files were mixed up or altered")]
    OtherShare {
        /// Key that the caller expects.
        expected: Box<PublicKey>,
        /// Key of the secret inside.
        found: Box<PublicKey>,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

impl Keystore {
    /// Encrypts 1 to 1024 bytes. Salt, iv and uuid are random. `pubkey` is the public key of the secret, if it is
    /// a BLS secret; `path` its EIP-2334 path or empty; `description` is for people.
    ///
    /// # Errors
    /// If the parameters are out of bounds or there is no randomness.
    pub fn encrypt(
        secret: &[u8],
        password: &str,
        kdf: Kdf,
        pubkey: Option<&PublicKey>,
        path: &str,
        description: Option<&str>,
    ) -> Result<Self, KeystoreError> {
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
            return Err(KeystoreError::Bounds { what: "secret length" });
        }
        let derivation = KdfParams::new(kdf, random::<32>()?.to_vec());
        let key = derivation.derive(&normalise(password))?;
        let iv = random::<16>()?;
        let mut message = secret.to_vec();
        apply_cipher(&key, &iv, &mut message);
        Ok(Self {
            crypto: Crypto {
                kdf: KdfModule { derivation, message: String::new() },
                checksum: ChecksumModule {
                    function: "sha256".to_owned(),
                    params: Empty {},
                    message: HexBytes(checksum(&key, &message).to_vec()),
                },
                cipher: CipherModule {
                    function: "aes-128-ctr".to_owned(),
                    params: CipherParams { iv: HexBytes(iv.to_vec()) },
                    message: HexBytes(message),
                },
            },
            description: description.map(str::to_owned),
            pubkey: pubkey.map(|key| hex::encode(key.to_compressed())),
            path: path.to_owned(),
            uuid: uuid::Builder::from_random_bytes(random::<16>()?).into_uuid().to_string(),
            version: VERSION,
        })
    }

    /// Reads the JSON of a keystore.
    ///
    /// # Errors
    /// If it is not one, larger than 64 KiB, or not of version 4.
    pub fn from_json(json: &str) -> Result<Self, KeystoreError> {
        if json.len() > MAX_JSON_BYTES {
            return Err(KeystoreError::Bounds { what: "size" });
        }
        let keystore: Self = serde_json::from_str(json)?;
        if keystore.version != VERSION {
            return Err(KeystoreError::Version(keystore.version));
        }
        Ok(keystore)
    }

    /// The JSON of the standard.
    ///
    /// # Errors
    /// None that can occur with this type.
    pub fn to_json(&self) -> Result<String, KeystoreError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The secret. The password is compared by checksum, in constant time, before anything is decrypted.
    ///
    /// # Errors
    /// If the password is wrong or the file asks for something unsupported or out of bounds.
    ///
    /// # Performance
    /// What the file's parameters cost, up to 512 MiB and a few seconds.
    pub fn decrypt(&self, password: &str) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        self.check_supported()?;
        let iv = <[u8; 16]>::try_from(self.crypto.cipher.params.iv.0.as_slice())
            .map_err(|_| KeystoreError::Bounds { what: "iv length" })?;
        let key = self.crypto.kdf.derivation.derive(&normalise(password))?;
        let message = &self.crypto.cipher.message.0;
        if !bool::from(checksum(&key, message).ct_eq(&self.crypto.checksum.message.0)) {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new(message.clone());
        apply_cipher(&key, &iv, &mut secret);
        Ok(secret)
    }

    fn check_supported(&self) -> Result<(), KeystoreError> {
        if self.version != VERSION {
            return Err(KeystoreError::Version(self.version));
        }
        let functions = [
            ("the checksum", &self.crypto.checksum.function, "sha256"),
            ("the cipher", &self.crypto.cipher.function, "aes-128-ctr"),
        ];
        for (what, name, supported) in functions {
            if name != supported {
                return Err(KeystoreError::Function { what, name: name.clone() });
            }
        }
        let length = self.crypto.cipher.message.0.len();
        if length == 0 || length > MAX_SECRET_BYTES {
            return Err(KeystoreError::Bounds { what: "secret length" });
        }
        Ok(())
    }

    /// Compressed public key in hex without prefix, as the file claims it; not checked against the secret.
    pub fn claimed_pubkey(&self) -> Option<&str> {
        self.pubkey.as_deref()
    }

    /// The key's EIP-2334 path, or empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's random name.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }
}

impl KdfParams {
    fn new(kdf: Kdf, salt: Vec<u8>) -> Self {
        let salt = HexBytes(salt);
        match kdf {
            Kdf::Scrypt { n, r, p } => Self::Scrypt { dklen: 32, n, p, r, salt },
            Kdf::Pbkdf2 { c } => Self::Pbkdf2 { dklen: 32, c, prf: "hmac-sha256".to_owned(), salt },
        }
    }

    fn derive(&self, password: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeystoreError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        match self {
            Self::Scrypt { dklen, n, p, r, salt } => {
                check_common(*dklen, salt)?;
                let params = scrypt_params(*n, *r, *p)?;
                scrypt::scrypt(password, &salt.0, &params, key.as_mut())
                    .map_err(|_| KeystoreError::Bounds { what: "dklen" })?;
            }
            Self::Pbkdf2 { dklen, c, prf, salt } => {
                check_common(*dklen, salt)?;
                if prf != "hmac-sha256" {
                    return Err(KeystoreError::Function { what: "the PBKDF2 function", name: prf.clone() });
                }
                if *c == 0 || *c > MAX_PBKDF2_ROUNDS {
                    return Err(KeystoreError::Bounds { what: "PBKDF2 round count" });
                }
                pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt.0, *c, key.as_mut());
            }
        }
        Ok(key)
    }
}

fn check_common(dklen: u32, salt: &HexBytes) -> Result<(), KeystoreError> {
    // The cipher and the checksum use 32 bytes; a longer derived key would be another file format.
    if dklen != 32 {
        return Err(KeystoreError::Bounds { what: "dklen" });
    }
    if salt.0.len() > MAX_SALT_BYTES {
        return Err(KeystoreError::Bounds { what: "salt length" });
    }
    Ok(())
}

fn scrypt_params(n: u32, r: u32, p: u32) -> Result<scrypt::Params, KeystoreError> {
    let out_of_bounds = KeystoreError::Bounds { what: "scrypt cost" };
    let memory = 128 * u64::from(n) * u64::from(r);
    let work = u64::from(n) * u64::from(r) * u64::from(p);
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(out_of_bounds);
    }
    if memory > MAX_SCRYPT_MEMORY || p > MAX_SCRYPT_PARALLEL || work > MAX_SCRYPT_WORK {
        return Err(out_of_bounds);
    }
    let log_n = u8::try_from(n.ilog2()).map_err(|_| KeystoreError::Bounds { what: "scrypt cost" })?;
    scrypt::Params::new(log_n, r, p, KEY_BYTES).map_err(|_| out_of_bounds)
}

/// EIP-2335: NFKD, then without the control codes C0, C1 and Delete, as UTF-8.
fn normalise(password: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 * password.len()));
    for character in password.nfkd().filter(|c| !c.is_control()) {
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    bytes
}

fn checksum(key: &[u8; KEY_BYTES], message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&key[16..]).chain_update(message).finalize().into()
}

fn apply_cipher(key: &[u8; KEY_BYTES], iv: &[u8; 16], message: &mut [u8]) {
    let mut half = Zeroizing::new([0; 16]);
    half.copy_from_slice(&key[..16]);
    Ctr128BE::<Aes128>::new((&*half).into(), iv.into()).apply_keystream(message);
}

fn random<const N: usize>() -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    crate::fill_random(&mut bytes)?;
    Ok(bytes)
}

/// The random key under which a server keeps its shares. Wiped when dropped; neither prints nor clones.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct StoreKey([u8; KEY_BYTES]);

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

impl StoreKey {
    /// A fresh one.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn random() -> Result<Self, RandomnessError> {
        random().map(Self)
    }

    /// The store key under the operator's password: the one expensive keystore of a server. Use
    /// [`Kdf::SCRYPT`] outside tests.
    ///
    /// # Errors
    /// As [`Keystore::encrypt`].
    pub fn seal(&self, password: &str, kdf: Kdf) -> Result<Keystore, KeystoreError> {
        Keystore::encrypt(&self.0, password, kdf, None, "", Some("Stkr store key"))
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// As [`Keystore::decrypt`], or if it holds no 32 bytes.
    pub fn open(keystore: &Keystore, password: &str) -> Result<Self, KeystoreError> {
        Ok(Self(thirty_two(&keystore.decrypt(password)?)?))
    }

    /// A share's keystore: EIP-2335 with PBKDF2 of few rounds under this random key.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn seal_share(&self, share: &SecretShare) -> Result<Keystore, KeystoreError> {
        let description = format!("Stkr share {}", share.index());
        let kdf = Kdf::Pbkdf2 { c: STORE_ROUNDS };
        Keystore::encrypt(&*share.to_bytes(), &self.password(), kdf, Some(&share.public_key()), "", Some(&description))
    }

    /// Opens what [`Self::seal_share`] made. The secret inside must be that of `public_key`, so a swapped or altered
    /// file cannot make a server sign under a foreign share.
    ///
    /// # Errors
    /// As [`Keystore::decrypt`], or if the share is of another key.
    pub fn open_share(
        &self,
        keystore: &Keystore,
        index: ShareIndex,
        public_key: &PublicKey,
    ) -> Result<SecretShare, KeystoreError> {
        let secret = keystore.decrypt(&self.password())?;
        let bytes = Zeroizing::new(thirty_two(&secret)?);
        let share = SecretShare::from_bytes(index, &bytes)?;
        if share.public_key() != *public_key {
            return Err(KeystoreError::OtherShare {
                expected: Box::new(*public_key),
                found: Box::new(share.public_key()),
            });
        }
        Ok(share)
    }

    /// A key of its own for another `purpose` of the same server (the label is part of the hash, and both parts have
    /// fixed lengths, so no two purposes share a key). Knowing it says nothing about this key or another purpose's.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let label: [u8; 32] = Sha256::digest(purpose.as_bytes()).into();
        Zeroizing::new(Sha256::new().chain_update(label).chain_update(self.0).finalize().into())
    }

    /// The key in hex: passwords are text.
    fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }
}

fn thirty_two(secret: &[u8]) -> Result<[u8; KEY_BYTES], KeystoreError> {
    secret.try_into().map_err(|_| KeystoreError::SecretLength { got: secret.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHEAP: Kdf = Kdf::Pbkdf2 { c: 2 };
    const CHEAP_SCRYPT: Kdf = Kdf::Scrypt { n: 16, r: 1, p: 1 };

    fn share(byte: u8) -> SecretShare {
        SecretShare::from_bytes(ShareIndex::new(2).unwrap(), &[byte; 32]).unwrap()
    }

    fn json(keystore: &Keystore) -> serde_json::Value {
        serde_json::to_value(keystore).unwrap()
    }

    /// The keystore with one JSON field replaced.
    fn altered(keystore: &Keystore, pointer: &str, value: serde_json::Value) -> Result<Keystore, KeystoreError> {
        let mut json = json(keystore);
        *json.pointer_mut(pointer).unwrap() = value;
        Keystore::from_json(&json.to_string())
    }

    #[test]
    fn a_secret_returns_only_with_its_password() {
        for kdf in [CHEAP, CHEAP_SCRYPT] {
            let keystore = Keystore::encrypt(&[9; 32], "correct", kdf, None, "m/12381/3600/0/0/0", None).unwrap();
            let read = Keystore::from_json(&keystore.to_json().unwrap()).unwrap();
            assert_eq!(read, keystore);
            assert_eq!(**read.decrypt("correct").unwrap(), [9; 32]);
            assert!(matches!(read.decrypt("wrong"), Err(KeystoreError::WrongPassword)));
        }
    }

    #[test]
    fn passwords_are_normalised_and_lose_control_codes() {
        assert_eq!(hex::encode(&*normalise("𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑")), "7465737470617373776f7264f09f9491");
        assert_eq!(*normalise("a\u{0}b\u{1f}c\u{7f}d\u{80}e\u{9f}f\n"), b"abcdef");
        assert_eq!(*normalise("\u{c5}"), *normalise("A\u{30a}"));
    }

    #[test]
    fn an_altered_ciphertext_or_checksum_reads_as_a_wrong_password() {
        let keystore = Keystore::encrypt(&[9; 32], "p", CHEAP, None, "", None).unwrap();
        for field in ["/crypto/cipher/message", "/crypto/checksum/message", "/crypto/kdf/params/salt"] {
            let altered = altered(&keystore, field, hex::encode([1; 32]).into()).unwrap();
            assert!(matches!(altered.decrypt("p"), Err(KeystoreError::WrongPassword)), "{field}");
        }
        // A short checksum must not pass by comparing fewer bytes.
        let prefix = json(&keystore)["crypto"]["checksum"]["message"].as_str().unwrap()[..2].to_owned();
        for short in [String::new(), prefix] {
            let altered = altered(&keystore, "/crypto/checksum/message", short.into()).unwrap();
            assert!(matches!(altered.decrypt("p"), Err(KeystoreError::WrongPassword)));
        }
    }

    #[test]
    fn parameters_that_would_cost_the_reader_too_much_are_refused() {
        let scrypt = Keystore::encrypt(&[9; 32], "p", CHEAP_SCRYPT, None, "", None).unwrap();
        let pbkdf2 = Keystore::encrypt(&[9; 32], "p", CHEAP, None, "", None).unwrap();
        let cases: [(&Keystore, &str, serde_json::Value); 13] = [
            (&scrypt, "/crypto/kdf/params/n", (1_u32 << 31).into()),
            (&scrypt, "/crypto/kdf/params/n", 1.into()),
            (&scrypt, "/crypto/kdf/params/n", 0.into()),
            (&scrypt, "/crypto/kdf/params/n", 17.into()),
            (&scrypt, "/crypto/kdf/params/r", u32::MAX.into()),
            (&scrypt, "/crypto/kdf/params/r", 0.into()),
            (&scrypt, "/crypto/kdf/params/p", u32::MAX.into()),
            (&scrypt, "/crypto/kdf/params/p", 0.into()),
            (&scrypt, "/crypto/kdf/params/dklen", u32::MAX.into()),
            (&pbkdf2, "/crypto/kdf/params/c", u32::MAX.into()),
            (&pbkdf2, "/crypto/kdf/params/c", 0.into()),
            (&pbkdf2, "/crypto/kdf/params/dklen", 16.into()),
            (&pbkdf2, "/crypto/cipher/params/iv", "00".into()),
        ];
        for (keystore, field, value) in cases {
            let altered = altered(keystore, field, value.clone()).unwrap();
            assert!(matches!(altered.decrypt("p"), Err(KeystoreError::Bounds { .. })), "{field} = {value}");
        }
    }

    #[test]
    fn unknown_versions_and_functions_are_refused() {
        let keystore = Keystore::encrypt(&[9; 32], "p", CHEAP, None, "", None).unwrap();
        assert!(matches!(altered(&keystore, "/version", 3.into()), Err(KeystoreError::Version(3))));
        assert!(matches!(altered(&keystore, "/crypto/kdf/function", "argon2".into()), Err(KeystoreError::Json(_))));
        for field in ["/crypto/cipher/function", "/crypto/checksum/function", "/crypto/kdf/params/prf"] {
            let altered = altered(&keystore, field, "none".into()).unwrap();
            assert!(matches!(altered.decrypt("p"), Err(KeystoreError::Function { .. })), "{field}");
        }
        let long = "00".repeat(MAX_SECRET_BYTES + 1);
        assert!(matches!(altered(&keystore, "/crypto/cipher/message", long.into()), Err(KeystoreError::Json(_))));
        assert!(matches!(Keystore::from_json("{}"), Err(KeystoreError::Json(_))));
        let huge = " ".repeat(MAX_JSON_BYTES + 1);
        assert!(matches!(Keystore::from_json(&huge), Err(KeystoreError::Bounds { .. })));
    }

    #[test]
    fn a_share_returns_from_its_keystore_and_no_other_is_taken_for_it() {
        let store = StoreKey::random().unwrap();
        let (mine, other) = (share(7), share(8));
        let sealed = store.seal_share(&mine).unwrap();
        assert_eq!(sealed.claimed_pubkey(), Some(&mine.public_key().to_string()[2..]));
        let opened = store.open_share(&sealed, mine.index(), &mine.public_key()).unwrap();
        assert_eq!(*opened.to_bytes(), [7; 32]);
        let swapped = store.seal_share(&other).unwrap();
        let error = store.open_share(&swapped, mine.index(), &mine.public_key()).unwrap_err();
        assert!(matches!(error, KeystoreError::OtherShare { .. }));
        let foreign = StoreKey::random().unwrap().open_share(&sealed, mine.index(), &mine.public_key());
        assert!(matches!(foreign, Err(KeystoreError::WrongPassword)));
    }

    #[test]
    fn a_store_key_returns_with_the_operators_password() {
        let store = StoreKey::random().unwrap();
        let sealed = store.seal("operator", CHEAP_SCRYPT).unwrap();
        let share = share(7);
        let keystore = store.seal_share(&share).unwrap();
        let opened = StoreKey::open(&sealed, "operator").unwrap();
        assert!(opened.open_share(&keystore, share.index(), &share.public_key()).is_ok());
        assert!(matches!(StoreKey::open(&sealed, "guess"), Err(KeystoreError::WrongPassword)));
        let short = Keystore::encrypt(&[1; 31], "operator", CHEAP, None, "", None).unwrap();
        assert!(matches!(StoreKey::open(&short, "operator"), Err(KeystoreError::SecretLength { got: 31 })));
    }

    #[test]
    fn a_store_key_does_not_print_and_neither_do_keystores_of_shares() {
        let store = StoreKey([0x5a; 32]);
        assert_eq!(format!("{store:?}"), "StoreKey(..)");
        let printed = format!("{:?}", store.seal_share(&share(7)).unwrap());
        assert!(!printed.contains("0707070707") && !printed.contains("5a5a5a5a"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered_with_a_keystore_or_an_error(text in ".{0,200}") {
            let _ = Keystore::from_json(&text).map_err(|e| e.to_string());
        }

        #[test]
        fn any_secret_and_password_return(secret in proptest::collection::vec(any::<u8>(), 1..100), password in ".{0,40}") {
            let keystore = Keystore::encrypt(&secret, &password, CHEAP, None, "", None).unwrap();
            prop_assert_eq!(&**keystore.decrypt(&password).unwrap(), &secret);
        }
    }
}
