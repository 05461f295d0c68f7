//! What nobody may learn from a resharing: the strongest combination of what an adversary has, tried; with one piece more it succeeds.

use super::{
    complaint::{decrypt_share, is_committed_value, y_of_one_time_key},
    tests::{Handover, domain, index, key_of, polynomial_of, threshold},
    *,
};
use crate::{PartialSignature, interpolate, points::HashedMessage, testing::TrustedDealer, verify};

const MESSAGE: [u8; 32] = [0x77; 32];

/// Linear equations over the secrets of a resharing: f_0 to f_{t-1} of the old polynomial, then g_1 to g_{t'-1} of each dealing (its g_0
/// is f at the dealer's index). Dealings are numbered over all attempts. Whatever shares, opened or dealt, tell is such an equation; commitments say the same in the exponent only.
struct Knowledge {
    old: usize,
    new: usize,
    /// Who dealt, by number of the dealing.
    dealers: Vec<u8>,
    equations: Vec<(Vec<Fr>, Fr)>,
}

impl Knowledge {
    /// Of attempts to reshare one key, with one new threshold.
    fn none(attempts: &[&Reshare]) -> Self {
        Self {
            old: attempts[0].old_keys().threshold().t().into(),
            new: attempts[0].new_threshold().t().into(),
            dealers: attempts.iter().flat_map(|reshare| reshare.dealers()).map(|dealer| dealer.get()).collect(),
            equations: Vec::new(),
        }
    }

    fn nothing(&self) -> Vec<Fr> {
        vec![Fr::default(); self.old + self.dealers.len() * (self.new - 1)]
    }

    /// Where g_k of a dealing stands.
    fn column(&self, dealing: usize, k: usize) -> usize {
        self.old + dealing * (self.new - 1) + k - 1
    }

    /// f(i) as an equation's left side.
    fn old_share(&self, i: u8) -> Vec<Fr> {
        let mut row = self.nothing();
        let mut power = Fr::from_u64(1);
        for coefficient in row.iter_mut().take(self.old) {
            *coefficient = power.clone();
            power = power.mul(&Fr::from_u64(i.into()));
        }
        row
    }

    fn learn_old_share(&mut self, share: &SecretShare) {
        self.equations.push((self.old_share(share.index().get()), share.scalar().clone()));
    }

    /// What a corrupt dealer knows besides its share: the coefficients that it chose.
    fn learn_chosen(&mut self, dealing: usize, chosen: &[Fr]) {
        for (k, coefficient) in (1..).zip(chosen) {
            let mut row = self.nothing();
            row[self.column(dealing, k)] = Fr::from_u64(1);
            self.equations.push((row, coefficient.clone()));
        }
    }

    /// The value at j of what was dealt.
    fn learn_dealt(&mut self, dealing: usize, j: u8, value: &Fr) {
        let mut row = self.old_share(self.dealers[dealing]);
        let mut power = Fr::from_u64(1);
        for k in 1..self.new {
            power = power.mul(&Fr::from_u64(j.into()));
            row[self.column(dealing, k)] = power.clone();
        }
        self.equations.push((row, value.clone()));
    }

    /// f_0, if it is a linear combination of what is known (Gauss).
    fn key(mut self) -> Option<Fr> {
        let columns = self.nothing().len();
        let minus = |row: &mut (Vec<Fr>, Fr), factor: &Fr, other: &(Vec<Fr>, Fr)| {
            let factor = factor.neg();
            for (a, b) in row.0.iter_mut().zip(&other.0) {
                *a = a.add(&factor.mul(b));
            }
            row.1 = row.1.add(&factor.mul(&other.1));
        };
        // f_0 is eliminated last, so that a row with nothing but f_0 is left over if there is one.
        for column in (1..columns).rev() {
            let Some(at) = self.equations.iter().position(|(row, _)| !row[column].is_zero()) else { continue };
            let pivot = self.equations.swap_remove(at);
            let inverse = pivot.0[column].inverse_vartime();
            for row in &mut self.equations {
                let factor = row.0[column].mul(&inverse);
                minus(row, &factor, &pivot);
            }
        }
        let (row, value) = self.equations.into_iter().find(|(row, _)| !row[0].is_zero())?;
        Some(value.mul(&row[0].inverse_vartime()))
    }
}

impl Knowledge {
    /// All that old members `corrupt_old` and new members `corrupt_new` get out of one attempt, whose dealings are numbered from `first`.
    fn learn_attempt(
        &mut self,
        key: &TrustedDealer,
        handover: &mut Handover,
        first: usize,
        corrupt_old: &[u8],
        corrupt_new: &[u8],
    ) {
        for &i in corrupt_old {
            let share = &key.shares[usize::from(i) - 1];
            self.learn_old_share(share);
            let Some(position) = handover.reshare.position(share.index()) else { continue };
            let chosen: Vec<Fr> = (1..self.new).map(|_| crate::polynomial::random_scalar().unwrap()).collect();
            self.learn_chosen(first + position, &chosen);
            let coefficients = std::iter::once(share.scalar()).chain(&chosen).cloned().collect();
            handover.rig(i, &Polynomial::from_coefficients(coefficients), |_, value| value);
        }
        for &j in corrupt_new {
            // What it opens; its new share is a combination of that.
            for (k, (dealer, dealing)) in handover.reshare.dealers().iter().zip(&handover.dealings).enumerate() {
                let secret = handover.secrets[usize::from(j) - 1].for_dealer(*dealer).unwrap();
                let opened = dealing.open(&domain(), *dealer, index(j), secret).unwrap();
                self.learn_dealt(first + k, j, opened.scalar());
            }
            assert!(handover.finish(j).is_ok());
        }
    }

    /// Whether this is the key, shown by a signature under it.
    fn signs(self, key: &TrustedDealer) -> bool {
        let Some(secret) = self.key() else { return false };
        let signature = HashedMessage::signing_root(&MESSAGE).sign(&secret);
        assert_eq!(signature, key.group_signature(&MESSAGE));
        verify(&key.keys.group_key(), &MESSAGE, &signature)
    }
}

/// Whether they sign together after one resharing.
fn sign(old: (u8, u8), new: (u8, u8), dealers: &[u8], corrupt_old: &[u8], corrupt_new: &[u8]) -> bool {
    let key = key_of(old);
    let mut handover = Handover::honest(&key.keys, &key.shares, dealers, new);
    let mut knowledge = Knowledge::none(&[&handover.reshare]);
    knowledge.learn_attempt(&key, &mut handover, 0, corrupt_old, corrupt_new);
    knowledge.signs(&key)
}

#[test]
fn t_minus_1_old_and_t_minus_1_new_members_together_know_nothing_and_one_more_knows_all() {
    for (old, new, dealers, all_old, all_new) in [
        ((3, 4), (3, 4), &[1, 2, 3][..], &[1, 2, 3][..], &[2, 3, 4][..]),
        // The corrupt ones partly do not deal, then not at all.
        ((3, 4), (3, 4), &[1, 2, 3], &[3, 4, 1], &[1, 2, 3]),
        ((4, 7), (2, 3), &[1, 2, 3, 4], &[5, 6, 7, 1], &[1, 3]),
        ((2, 3), (5, 7), &[1, 3], &[3, 1], &[1, 2, 4, 6, 7]),
        ((5, 7), (3, 4), &[1, 3, 4, 6, 7], &[1, 3, 4, 6, 7], &[4, 1, 2]),
    ] {
        let (few_old, few_new) = (&all_old[..all_old.len() - 1], &all_new[..all_new.len() - 1]);
        assert!(!sign(old, new, dealers, few_old, few_new), "{old:?} -> {new:?}");
        assert!(sign(old, new, dealers, all_old, few_new), "{old:?} -> {new:?}: one old member more");
        assert!(sign(old, new, dealers, few_old, all_new), "{old:?} -> {new:?}: one new member more");
        assert!(!sign(old, new, dealers, &[], few_new) && !sign(old, new, dealers, few_old, &[]));
    }
}

#[test]
fn an_adversary_that_moves_between_two_epochs_has_more_than_t_shares_and_no_key() {
    // 5-of-7 refreshed: servers 1 to 4 in the old epoch, 4 to 7 in the new one. Eight shares, seven servers, none corrupt for long.
    assert!(!sign((5, 7), (5, 7), &[1, 2, 3, 4, 5], &[1, 2, 3, 4], &[4, 5, 6, 7]));
    assert!(sign((5, 7), (5, 7), &[1, 2, 3, 4, 5], &[1, 2, 3, 4], &[3, 4, 5, 6, 7]));
}

#[test]
fn attempts_that_failed_add_nothing() {
    // 3-of-4 to 3-of-4, three times over: other dealers, other new members, two of which are corrupt each time.
    let attempts = [(&[1, 2, 3][..], [1, 2]), (&[1, 3, 4], [3, 4]), (&[2, 3, 4], [2, 4])];
    let signs = |one_more: &[u8]| {
        let key = key_of((3, 4));
        let mut handovers: Vec<_> =
            attempts.iter().map(|(dealers, _)| Handover::honest(&key.keys, &key.shares, dealers, (3, 4))).collect();
        let mut knowledge = Knowledge::none(&handovers.iter().map(|handover| &handover.reshare).collect::<Vec<_>>());
        for (k, (handover, (_, corrupt))) in handovers.iter_mut().zip(&attempts).enumerate() {
            let corrupt = [corrupt.as_slice(), if k == 2 { one_more } else { &[] }].concat();
            knowledge.learn_attempt(&key, handover, 3 * k, &[1, 4], &corrupt);
        }
        knowledge.signs(&key)
    };
    assert!(!signs(&[]));
    assert!(signs(&[1]), "with three new members of one attempt");
}

#[test]
fn partials_of_two_epochs_never_combine() {
    let key = key_of((3, 4));
    let handover = Handover::honest(&key.keys, &key.shares, &[1, 2, 4], (3, 4));
    let outcomes: Vec<Outcome> = (1..=4).map(|member| handover.finish(member).unwrap()).collect();
    let (old, new) = (&key.keys, &outcomes[0].keys);
    let expected = key.group_signature(&MESSAGE);
    for members in [[1, 2, 3], [1, 2, 4], [1, 3, 4], [2, 3, 4]] {
        // Bit k says of which epoch the k-th partial is.
        for epochs in 0_u8..8 {
            let partials: Vec<PartialSignature> = members
                .iter()
                .enumerate()
                .map(|(k, member)| {
                    let share =
                        if epochs >> k & 1 == 0 { &key.shares[member - 1] } else { &outcomes[member - 1].share };
                    share.sign(&MESSAGE)
                })
                .collect();
            let pure = epochs == 0 || epochs == 7;
            let unverified = interpolate(old.threshold(), &partials).unwrap();
            assert_eq!(unverified == expected, pure, "{members:?} {epochs:03b}");
            assert_eq!(verify(&old.group_key(), &MESSAGE, &unverified), pure);
            assert_eq!(old.combine(&MESSAGE, &partials).is_ok(), epochs == 0 || epochs == 7);
            assert_eq!(new.combine(&MESSAGE, &partials).is_ok(), epochs == 0 || epochs == 7);
        }
    }
    // With partials to spare the new committee leaves out what is of the old epoch, and names it.
    let mut partials: Vec<_> = outcomes.iter().map(|outcome| outcome.share.sign(&MESSAGE)).collect();
    partials[0] = key.shares[0].sign(&MESSAGE);
    let combined = new.combine(&MESSAGE, &partials).unwrap();
    assert_eq!((combined.signature, combined.culprits), (expected, vec![index(1)]));
}

/// 3-of-4; dealer 1 sends wrong shares to everybody. What all new members then show in complaints.
fn cheated(secrets: impl Fn(&Reshare) -> RecipientSecrets) -> (TrustedDealer, Handover, Vec<[u8; 32]>) {
    let key = key_of((3, 4));
    let mut handover = Handover::honest(&key.keys, &key.shares, &[1, 2, 3], (3, 4));
    handover.secrets = (0..4).map(|_| secrets(&handover.reshare)).collect();
    handover.published = handover.secrets.iter().map(RecipientSecrets::public_keys).collect();
    for dealer in [2, 3] {
        handover.rig(dealer, &polynomial_of(&key.shares[usize::from(dealer) - 1], 3), |_, share| share);
    }
    handover.rig(1, &polynomial_of(&key.shares[0], 3), |_, mut share| {
        share[31] ^= 1;
        share
    });
    let mut shown = Vec::new();
    for member in 1..=4 {
        let fault = DealingFault::ShareMismatch { recipient: index(member) };
        assert_eq!(handover.finish(member).unwrap_err(), ReshareError::Dealer { dealer: index(1), fault });
        shown.push(*handover.secrets[usize::from(member) - 1].for_dealer(index(1)).unwrap().to_bytes());
    }
    (key, handover, shown)
}

/// What anybody decrypts of the dealing of `dealer` with the secret that `member` showed, if it is the true share.
fn overheard(handover: &Handover, shown: &[[u8; 32]], dealer: u8, member: u8) -> Option<Fr> {
    let dealing = &handover.dealings[usize::from(dealer) - 1];
    let position = usize::from(member) - 1;
    let share =
        decrypt_share(&domain(), (dealer, member), &dealing.one_time_key, &shown[position], &dealing.shares[position])?;
    (is_committed_value(&dealing.commitments_to_wire(), member, &share) == Some(true))
        .then(|| Fr::from_canonical(&share).unwrap())
}

#[test]
fn a_complaint_convicts_its_dealer_and_opens_nothing_else() {
    let (_, handover, shown) = cheated(|reshare| RecipientSecrets::random(reshare).unwrap());
    for member in 1..=4 {
        let position = usize::from(member) - 1;
        assert!(y_of_one_time_key(&handover.keys_for(index(1))[position], &shown[position]).is_some());
        let dealing = &handover.dealings[0];
        let share =
            decrypt_share(&domain(), (1, member), &dealing.one_time_key, &shown[position], &dealing.shares[position]);
        assert_eq!(is_committed_value(&dealing.commitments_to_wire(), member, &share.unwrap()), Some(false));
        for honest in [2, 3] {
            assert!(y_of_one_time_key(&handover.keys_for(index(honest))[position], &shown[position]).is_none());
            assert!(overheard(&handover, &shown, honest, member).is_none(), "dealer {honest}, member {member}");
        }
    }
}

#[test]
fn with_one_key_for_all_dealers_complaints_would_show_the_key_to_everybody() {
    // As in the DKG, where it is harmless because the key dies with the ceremony. One bad dealer, four honest new members.
    let one_for_all = |reshare: &Reshare| {
        let secret = OneTimeSecret::random().unwrap().to_bytes();
        RecipientSecrets(reshare.dealers().iter().map(|d| (*d, OneTimeSecret::from_bytes(&secret).unwrap())).collect())
    };
    let (key, handover, shown) = cheated(one_for_all);
    let mut knowledge = Knowledge::none(&[&handover.reshare]);
    knowledge.learn_old_share(&key.shares[0]);
    for (dealing, dealer) in [(1, 2), (2, 3)] {
        for member in 1..=3 {
            knowledge.learn_dealt(dealing, member, &overheard(&handover, &shown, dealer, member).unwrap());
        }
    }
    assert!(knowledge.signs(&key), "the attack works");
    // So nobody deals to such keys.
    let fault = RecipientKeysFault::SameKey(index(1), index(2));
    let error = handover.reshare.deal(&key.shares[1], &handover.published).unwrap_err();
    assert_eq!(error, ReshareError::RecipientKeys { member: index(1), fault });
    let same = Err(fault);
    let stored = handover.secrets[0].to_bytes();
    assert_eq!(RecipientSecrets::from_bytes(&handover.reshare, &stored).map(|_| ()), same);
    // A negated key is the same secret in another dress.
    let fresh = RecipientSecrets::random(&handover.reshare).unwrap().public_keys();
    let mut negated = fresh[0];
    negated[0] ^= 1;
    let dressed = [fresh[0], fresh[1], negated];
    assert_eq!(handover.reshare.check_recipient_keys(&dressed), Err(RecipientKeysFault::SameKey(index(1), index(3))));
    assert_eq!(handover.reshare.check_recipient_keys(&fresh), Ok(()));
    assert_eq!(handover.reshare.new_threshold(), threshold((3, 4)));
}
