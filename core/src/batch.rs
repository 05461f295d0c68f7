//! Many signatures by many keys, verified together.
//!
//! From Electra on all attestations of one slot have one signing root, so a burst of them is k signatures over one message: one
//! hash to the curve and one Miller loop for all. What is over other messages still shares the final exponentiation and the
//! loop over the signatures.
//!
//! # Why random factors
//! `e(G, Σ sᵢ) = Π e(Pᵢ, H(mᵢ))` also holds for wrong signatures whose errors cancel out. With factors rᵢ that nobody could
//! know, `e(G, Σ rᵢ·sᵢ) = Πₘ e(Σ rᵢ·Pᵢ over mᵢ = m, H(m))`, a wrong signature passes with probability 2⁻¹²⁷.
//!
//! # Who is wrong
//! If the check fails the list is halved and each half checked, with new factors, down to single signatures: k wrong among n
//! cost about k·log₂ n checks.

use std::collections::{BTreeMap, BTreeSet};

use crate::blst_glue::{self as glue, G1, G2, Group as _};
use crate::points::{HashedMessage, PublicKey, Signature};

/// Bits of a random factor.
const FACTOR_BITS: usize = 128;

/// What somebody claims to be a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it would be.
    pub key: PublicKey,
    /// The 32 bytes it would be over, a signing root.
    pub message: [u8; 32],
    /// The signature.
    pub signature: Signature,
}

/// A claim with its place among the verdicts and its message on the curve.
#[derive(Clone, Copy)]
struct Item<'a> {
    at: usize,
    claim: &'a Claim,
    hash: &'a HashedMessage,
}

/// For each claim, in their order, whether it is true, as [`crate::verify`] says it, up to an error of 2⁻¹²⁷ towards yes.
///
/// # Performance
/// All true: a hash and a Miller loop per distinct message, one more loop and one final exponentiation, and multi-scalar
/// multiplications of 128-bit factors.
pub fn verify_batch(claims: &[Claim]) -> Vec<bool> {
    let messages: BTreeSet<[u8; 32]> = claims.iter().map(|claim| claim.message).collect();
    let hashes: BTreeMap<_, _> = messages.into_iter().map(|it| (it, HashedMessage::signing_root(&it))).collect();
    let found = claims.iter().enumerate().filter_map(|(at, claim)| {
        let hash = hashes.get(&claim.message)?;
        Some(Item { at, claim, hash })
    });
    let mut items: Vec<Item<'_>> = found.collect();
    items.sort_by_key(|item| item.claim.message);
    let mut verdicts = vec![false; claims.len()];
    search(&items, &mut verdicts);
    verdicts
}

fn search(items: &[Item<'_>], verdicts: &mut [bool]) {
    let verdict = match items {
        [] => return,
        [item] => item.hash.verifies(&item.claim.key, &item.claim.signature),
        _ => all_right(items),
    };
    if verdict || items.len() == 1 {
        for item in items {
            if let Some(slot) = verdicts.get_mut(item.at) {
                *slot = verdict;
            }
        }
        return;
    }
    let (left, right) = items.split_at(items.len() / 2);
    search(left, verdicts);
    search(right, verdicts);
}

/// Whether all are right. No, too, without randomness: then each is verified alone. Items over one message stand together.
fn all_right(items: &[Item<'_>]) -> bool {
    let Some(factors) = factors(items.len()) else { return false };
    let signatures: Vec<_> = items.iter().map(|item| item.claim.signature.0).collect();
    let signature = G2::msm_vartime(&signatures, &factors, FACTOR_BITS);
    let mut pairs = Vec::new();
    let mut rest = factors.as_slice();
    for over_one_message in items.chunk_by(|left, right| left.claim.message == right.claim.message) {
        let (Some(own), Some(others)) = (rest.get(..over_one_message.len()), rest.get(over_one_message.len()..)) else {
            return false;
        };
        let keys: Vec<_> = over_one_message.iter().map(|item| item.claim.key.0).collect();
        let key = G1::msm_vartime(&keys, own, FACTOR_BITS);
        let Some(first) = over_one_message.first() else { return false };
        pairs.push((key.to_affine(), first.hash.to_affine()));
        rest = others;
    }
    // No sum is infinity: nobody can make one without knowing the factors.
    glue::pairing_product(&pairs, &signature.to_affine())
}

/// Little-endian, only the low half used; odd, so that none is 0.
fn factors(count: usize) -> Option<Vec<[u8; 32]>> {
    let mut factors = vec![[0; 32]; count];
    for factor in &mut factors {
        let (low, _) = factor.split_at_mut(FACTOR_BITS / 8);
        getrandom::fill(low).ok()?;
        if let [first, ..] = low {
            *first |= 1;
        }
    }
    Some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Threshold;
    use crate::testing::TrustedDealer;

    fn claim(seed: u8, message: [u8; 32]) -> Claim {
        let dealer = TrustedDealer::deal(Threshold::new(2, 3).unwrap(), [seed; 32]);
        Claim { key: dealer.keys.group_key(), message, signature: dealer.group_signature(&message) }
    }

    /// `count` true claims over `messages` messages, mixed.
    fn claims(count: u8, messages: u8) -> Vec<Claim> {
        (0..count).map(|seed| claim(seed, [seed % messages; 32])).collect()
    }

    #[test]
    fn right_ones_pass_and_each_wrong_one_is_found_wherever_it_stands() {
        assert_eq!(verify_batch(&[]), Vec::<bool>::new());
        for messages in [1, 2, 4, 9] {
            let good = claims(9, messages);
            assert_eq!(verify_batch(&good), [true; 9]);
            for wrong in [vec![0], vec![8], vec![3, 4], vec![0, 2, 5, 7], (0..9).collect()] {
                let mut some = good.clone();
                for at in &wrong {
                    some[*at].signature = claim(100, [0x43; 32]).signature;
                }
                let expected: Vec<bool> = (0..9).map(|at| !wrong.contains(&at)).collect();
                assert_eq!(verify_batch(&some), expected, "{wrong:?} of {messages} messages");
                let single: Vec<bool> =
                    some.iter().map(|it| crate::verify(&it.key, &it.message, &it.signature)).collect();
                assert_eq!(single, expected);
            }
        }
    }

    #[test]
    fn errors_that_cancel_out_are_found() {
        // Two signatures exchanged: their sum is that of the right ones, over one message and over two.
        for messages in [1, 4] {
            let mut swapped = claims(4, messages);
            (swapped[0].signature, swapped[1].signature) = (swapped[1].signature, swapped[0].signature);
            assert_eq!(verify_batch(&swapped), [false, false, true, true], "{messages} messages");
        }
    }

    #[test]
    fn another_message_is_another_verdict() {
        let mut moved = claims(3, 3);
        moved[1].message = [0x43; 32];
        assert_eq!(verify_batch(&moved), [true, false, true]);
        // A right signature over its neighbours' message.
        let mut moved = claims(3, 1);
        moved[2].message = [0x43; 32];
        assert_eq!(verify_batch(&moved), [true, true, false]);
        let moved = claims(3, 1).into_iter().map(|it| Claim { message: [0x43; 32], ..it });
        assert_eq!(verify_batch(&moved.collect::<Vec<_>>()), [false; 3]);
    }
}
