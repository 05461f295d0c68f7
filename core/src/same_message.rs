//! Many signatures over one message, verified together.
//!
//! From Electra on all attestations of one slot have one signing root, so a burst of them is k signatures of k keys over one
//! message: one hash to the curve and one pairing check for all, instead of k.
//!
//! # Why random factors
//! `e(G, Σ sᵢ) = e(Σ Pᵢ, H(m))` also holds for wrong signatures whose errors cancel out. With factors rᵢ that nobody could
//! know, `e(G, Σ rᵢ·sᵢ) = e(Σ rᵢ·Pᵢ, H(m))`, a wrong signature passes with probability 2⁻¹²⁸.
//!
//! # Who is wrong
//! If the check fails the list is halved and each half checked, with new factors, down to single signatures: k wrong among n
//! cost about k·log₂ n checks.

use crate::blst_glue::{G1, G2, Group as _};
use crate::points::{HashedMessage, PublicKey, Signature};

/// Bits of a random factor.
const FACTOR_BITS: usize = 128;

/// For each pair whether the signature is that of the key over the 32 bytes `message` (a signing root), as
/// [`crate::verify`] says it, up to an error of 2⁻¹²⁸ towards yes.
///
/// # Performance
/// All right: one hash, one pairing check, and two multi-scalar multiplications of 128-bit factors.
pub fn verify_same_message(message: &[u8; 32], pairs: &[(PublicKey, Signature)]) -> Vec<bool> {
    let mut verdicts = vec![false; pairs.len()];
    if !pairs.is_empty() {
        search(&HashedMessage::signing_root(message), pairs, &mut verdicts);
    }
    verdicts
}

fn search(message: &HashedMessage, pairs: &[(PublicKey, Signature)], verdicts: &mut [bool]) {
    match (pairs, &mut *verdicts) {
        ([(key, signature)], [verdict]) => *verdict = message.verifies(key, signature),
        _ if all_right(message, pairs) => verdicts.fill(true),
        _ => {
            let middle = pairs.len() / 2;
            let (left, right) = pairs.split_at(middle);
            let (left_verdicts, right_verdicts) = verdicts.split_at_mut(middle);
            search(message, left, left_verdicts);
            search(message, right, right_verdicts);
        }
    }
}

/// Whether all are right. No, too, without randomness: then each is verified alone.
fn all_right(message: &HashedMessage, pairs: &[(PublicKey, Signature)]) -> bool {
    let Some(factors) = factors(pairs.len()) else { return false };
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key.0).collect();
    let signatures: Vec<_> = pairs.iter().map(|(_, signature)| signature.0).collect();
    let key = G1::msm_vartime(&keys, &factors, FACTOR_BITS);
    let signature = G2::msm_vartime(&signatures, &factors, FACTOR_BITS);
    // Infinity passes a pairing against infinity.
    !key.is_infinity() && !signature.is_infinity() && message.pairs(&key.to_affine(), &signature.to_affine())
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

    const MESSAGE: [u8; 32] = [0x42; 32];

    fn pair(seed: u8, message: &[u8; 32]) -> (PublicKey, Signature) {
        let dealer = TrustedDealer::deal(Threshold::new(2, 3).unwrap(), [seed; 32]);
        (dealer.keys.group_key(), dealer.group_signature(message))
    }

    fn pairs(count: u8) -> Vec<(PublicKey, Signature)> {
        (0..count).map(|seed| pair(seed, &MESSAGE)).collect()
    }

    #[test]
    fn right_ones_pass_and_each_wrong_one_is_found_wherever_it_stands() {
        assert_eq!(verify_same_message(&MESSAGE, &[]), Vec::<bool>::new());
        let good = pairs(9);
        assert_eq!(verify_same_message(&MESSAGE, &good), [true; 9]);
        for wrong in [vec![0], vec![8], vec![3, 4], vec![0, 2, 5, 7], (0..9).collect()] {
            let mut some = good.clone();
            for at in &wrong {
                some[*at].1 = pair(100, &[0x43; 32]).1;
            }
            let expected: Vec<bool> = (0..9).map(|at| !wrong.contains(&at)).collect();
            assert_eq!(verify_same_message(&MESSAGE, &some), expected, "{wrong:?}");
            let single: Vec<bool> = some.iter().map(|(key, it)| crate::verify(key, &MESSAGE, it)).collect();
            assert_eq!(single, expected);
        }
    }

    #[test]
    fn errors_that_cancel_out_are_found() {
        // Two signatures exchanged: their sum is that of the right ones.
        let mut swapped = pairs(4);
        (swapped[0].1, swapped[1].1) = (swapped[1].1, swapped[0].1);
        assert_eq!(verify_same_message(&MESSAGE, &swapped), [false, false, true, true]);
    }

    #[test]
    fn another_message_is_another_verdict() {
        assert_eq!(verify_same_message(&[0x43; 32], &pairs(3)), [false; 3]);
    }
}
