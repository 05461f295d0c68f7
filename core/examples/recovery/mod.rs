//! The two steps of `recover_key`.
//!
//! # Warning
//! The whole key is in this process, as nowhere else in Stkr. Its arithmetic takes as long as its numbers are, and leaves copies of them
//! in memory: it is for a machine without a network that is switched off and wiped afterwards.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use alloy_primitives::U256;
use stkr_core::keystore::{Kdf, Keystore, StoreKey};
use stkr_core::{PublicKey, SecretShare, ShareIndex, Threshold};
use zeroize::Zeroizing;

/// Bytes of a point in EIP-2537.
const G1: usize = 128;
/// The group order r.
const ORDER: U256 =
    U256::from_limbs([0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48]);

type Failed = Box<dyn std::error::Error>;

/// Does what the arguments say.
///
/// # Errors
/// One sentence; nothing was written.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failed> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["share", index, sealed, store_key, store_password, out, password] => {
            take_share(index, [sealed, store_key, store_password], (out, password))
        }
        ["join", points, threshold, out, password, shares @ ..] => join(points, threshold, shares, (out, password)),
        _ => Err("give: share INDEX SEALED STORE_KEY STORE_PASSWORD OUT OUT_PASSWORD, or: join POINTS THRESHOLD OUT \
                  OUT_PASSWORD INDEX:KEYSTORE:PASSWORD ..."
            .into()),
    }
}

/// A server's share out of its own files, under a password of its own.
fn take_share(index: &str, [sealed, store_key, store_password]: [&str; 3], out: (&str, &str)) -> Result<(), Failed> {
    let index = share_index(index)?;
    let (sealed, store_key) = (read_keystore(sealed)?, read_keystore(store_key)?);
    let store_key = StoreKey::open(&store_key, &read_password(store_password)?)?;
    let claimed = sealed.claimed_pubkey().ok_or("the share's keystore names no public key")?;
    let public_key = PublicKey::from_compressed(&hex::decode(claimed)?)?;
    let share = store_key.open_share(&sealed, index, &public_key)?;
    write_keystore(&share.to_bytes(), &share.public_key(), &format!("Stkr share {index}"), out)
}

/// The whole key out of t shares that are those of the chain.
fn join(points: &str, threshold: &str, shares: &[&str], out: (&str, &str)) -> Result<(), Failed> {
    let (share_keys, group_key) = points_of_chain(points)?;
    let threshold = Threshold::new(threshold.parse()?, u8::try_from(share_keys.len())?)?;
    if shares.len() != usize::from(threshold.t()) {
        return Err(format!("{} shares were given; exactly {} make the key", shares.len(), threshold.t()).into());
    }
    let mut known: Vec<(ShareIndex, Zeroizing<[u8; 32]>)> = Vec::new();
    for argument in shares {
        let share = open_share(argument, &share_keys)?;
        if known.iter().any(|(index, _)| *index == share.index()) {
            return Err(format!("share {} was given twice", share.index()).into());
        }
        known.push((share.index(), share.to_bytes()));
    }
    let secret = at_zero(&known).ok_or("the shares do not make a key")?;
    // The index plays no part in what a secret's public key is.
    let whole = SecretShare::from_bytes(ShareIndex::new(1)?, &secret)?;
    if whole.public_key() != group_key {
        return Err("the shares do not make the key that the chain has: is the threshold right?".into());
    }
    write_keystore(
        &secret,
        &group_key,
        "Stkr key put together by its operators: sign the exit with it, nothing else",
        out,
    )
}

/// One share, if it is the one that the chain has under its index.
fn open_share(argument: &str, share_keys: &[PublicKey]) -> Result<SecretShare, Failed> {
    let parts: Vec<&str> = argument.split(':').collect();
    let [index, keystore, password] = parts.as_slice() else {
        return Err(format!("{argument} is not INDEX:KEYSTORE:PASSWORD").into());
    };
    let index = share_index(index)?;
    let expected = share_keys.get(index.position()).ok_or_else(|| format!("the key has no share {index}"))?;
    let opened = read_keystore(keystore)?.decrypt(&read_password(password)?);
    let secret = opened.map_err(|error| format!("share {index} ({keystore}): {error}"))?;
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(
        secret
            .as_slice()
            .try_into()
            .map_err(|_| format!("share {index} ({keystore}) has {} bytes instead of 32", secret.len()))?,
    );
    let share =
        SecretShare::from_bytes(index, &bytes).map_err(|error| format!("share {index} ({keystore}): {error}"))?;
    if share.public_key() != *expected {
        let found = share.public_key();
        return Err(format!("share {index} ({keystore}) is wrong: its key is {found}, the chain has {expected}").into());
    }
    Ok(share)
}

/// Lagrange at 0: the sum of share_i times the product of j / (j - i), modulo r. `None` if an index occurs twice.
fn at_zero(shares: &[(ShareIndex, Zeroizing<[u8; 32]>)]) -> Option<Zeroizing<[u8; 32]>> {
    let number = |index: ShareIndex| U256::from(index.get());
    let mut sum = U256::ZERO;
    for (i, share) in shares {
        let mut term = U256::from_be_bytes(**share);
        for (j, _) in shares.iter().filter(|(j, _)| j != i) {
            let difference = number(*j).add_mod(ORDER.checked_sub(number(*i))?, ORDER);
            term = term.mul_mod(number(*j), ORDER).mul_mod(difference.inv_mod(ORDER)?, ORDER);
        }
        sum = sum.add_mod(term, ORDER);
    }
    Some(Zeroizing::new(sum.to_be_bytes()))
}

/// `points` of the `KeyFinalised` event: n share keys in index order, then the group key; hex.
fn points_of_chain(file: &str) -> Result<(Vec<PublicKey>, PublicKey), Failed> {
    let text = read(file)?;
    let bytes = hex::decode(text.trim().trim_matches('"').trim_start_matches("0x"))
        .map_err(|error| format!("{file} is not the points of a key in hex: {error}"))?;
    let points: Result<Vec<PublicKey>, _> = bytes.chunks(G1).map(PublicKey::from_eip2537).collect();
    let mut points = points.map_err(|error| format!("{file} is not the points of a key: {error}"))?;
    let group_key = points.pop().ok_or_else(|| format!("{file} has no point"))?;
    Ok((points, group_key))
}

fn share_index(text: &str) -> Result<ShareIndex, Failed> {
    let number = text.parse().map_err(|_| format!("{text} is no share index"))?;
    Ok(ShareIndex::new(number)?)
}

fn read(file: &str) -> Result<String, Failed> {
    fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}").into())
}

fn read_keystore(file: &str) -> Result<Keystore, Failed> {
    Keystore::from_json(&read(file)?).map_err(|error| format!("{file}: {error}").into())
}

/// Without the line end that an editor adds.
fn read_password(file: &str) -> Result<Zeroizing<String>, Failed> {
    let text = Zeroizing::new(read(file)?);
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!("{file} holds no password").into());
    }
    Ok(Zeroizing::new(password.to_owned()))
}

/// A new file, for its owner alone; an old one is not overwritten.
fn write_keystore(secret: &[u8; 32], key: &PublicKey, what: &str, (out, password): (&str, &str)) -> Result<(), Failed> {
    let keystore = Keystore::encrypt(secret, &read_password(password)?, Kdf::SCRYPT, Some(key), "", Some(what))?;
    let json = keystore.to_json()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(Path::new(out));
    let mut file = file.map_err(|error| format!("{out} cannot be written: {error}"))?;
    file.write_all(json.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
