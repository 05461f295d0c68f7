//! Differential: DKG and combining against commonware-cryptography.
//!
//! Both directions. Its arithmetic recomputes the outcome of our ceremony from our commitments; our types take
//! the outcome of its ceremony. Its one fault model, n = 3f + 1, gives 3-of-4, 5-of-7 and 7-of-10; the first
//! direction takes any threshold.

use std::{collections::BTreeMap, num::NonZeroU32};

use crate::ceremony::{Ceremony, MESSAGE};
use commonware_codec::{Decode, DecodeExt, Encode};
use commonware_cryptography::{
    Signer,
    bls12381::{
        dkg::feldman_desmedt::{Dealer, Info, Logs, Player, Reveal},
        primitives::{
            group::{G1, G2, G2_MESSAGE, Private, Share},
            ops::{self, threshold},
            sharing::{Mode, ModeVersion, Sharing},
            variant::{MinPk, PartialSignature as TheirPartial},
        },
    },
    ed25519,
};
use commonware_math::{algebra::Random, poly::Poly};
use commonware_parallel::Sequential;
use commonware_utils::{N3f1, Participant, TestRng, TryCollect, ordered::Set};
use stkr_core::{CommitteeKeys, PartialSignature, PublicKey, SecretShare, ShareIndex, Signature, Threshold, verify};

const LIMIT: NonZeroU32 = NonZeroU32::new(64).unwrap();

fn their_g1(key: &PublicKey) -> G1 {
    G1::decode(key.to_compressed().to_vec()).unwrap()
}

pub(crate) fn their_partial(partial: &PartialSignature) -> TheirPartial<MinPk> {
    TheirPartial {
        index: Participant::new(u32::from(partial.index.get()) - 1),
        value: G2::decode(partial.signature.to_compressed().to_vec()).unwrap(),
    }
}

pub(crate) fn our_key(point: &G1) -> PublicKey {
    PublicKey::from_compressed(&point.encode()).unwrap()
}

pub(crate) fn our_signature(point: &G2) -> Signature {
    Signature::from_compressed(&point.encode()).unwrap()
}

pub(crate) fn their_private(share: &SecretShare) -> Private {
    Private::decode(share.to_bytes().to_vec()).unwrap()
}

/// The commitments of one dealing as their polynomial: a count and the points.
pub(crate) fn polynomial(commitments: &[PublicKey]) -> Poly<G1> {
    let points: Vec<G1> = commitments.iter().map(their_g1).collect();
    Poly::decode_cfg(points.encode(), &((NonZeroU32::MIN..=LIMIT).into(), ())).unwrap()
}

/// A polynomial of theirs as their sharing among so many.
pub(crate) fn sharing_of(polynomial: &Poly<G1>, members: u8) -> Sharing<MinPk> {
    let counter_mode = [0];
    let bytes = [&counter_mode[..], &u32::from(members).encode(), &polynomial.encode()].concat();
    Sharing::decode_cfg(bytes, &(LIMIT, ModeVersion::v0())).unwrap()
}

/// Our ceremony as their sharing: their sum of our commitments.
fn sharing(ceremony: &Ceremony) -> Sharing<MinPk> {
    let mut polynomials = ceremony.dealings.iter().map(|dealing| polynomial(&dealing.commitments));
    let first = polynomials.next().unwrap();
    let sum = polynomials.fold(first, |sum, next| sum + &next);
    sharing_of(&sum, ceremony.threshold.n())
}

#[test]
fn commonware_computes_the_same_keys_shares_and_signatures_from_our_ceremony() {
    let committees = [(1, 1), (2, 2), (2, 3), (3, 4), (3, 5), (4, 5), (5, 7), (7, 10), (22, 43)];
    for (t, n) in committees {
        let ceremony = Ceremony::run(t, n);
        let sharing = sharing(&ceremony);
        let keys = &ceremony.outcomes[0].keys;
        assert_eq!(sharing.required(), u32::from(t));
        assert_eq!(our_key(sharing.public()), keys.group_key(), "{t}-of-{n}");

        let mut partials = Vec::new();
        for outcome in &ceremony.outcomes {
            let index = Participant::new(u32::from(outcome.share.index().get()) - 1);
            let key = sharing.partial_public(index).unwrap();
            assert_eq!(our_key(&key), outcome.share.public_key());
            let share = Share::new(index, their_private(&outcome.share));
            assert_eq!(share.public::<MinPk>(), key);
            let partial = outcome.share.sign(&MESSAGE);
            let theirs = ops::sign::<MinPk>(&share.private, G2_MESSAGE, &MESSAGE);
            assert_eq!(our_signature(&theirs), partial.signature);
            partials.push(partial);
        }

        let chosen: Vec<PartialSignature> = ceremony.signers().map(|i| partials[i.position()]).collect();
        let ours = keys.combine(&MESSAGE, &chosen).unwrap().signature;
        let theirs: Vec<_> = chosen.iter().map(their_partial).collect();
        let recovered = threshold::recover::<MinPk, _>(&sharing, &theirs, &Sequential).unwrap();
        assert_eq!(our_signature(&recovered), ours, "{t}-of-{n}");
        ops::verify::<MinPk>(sharing.public(), G2_MESSAGE, &MESSAGE, &recovered).unwrap();
    }
    assert_eq!(committees.len(), 9);
}

/// A whole ceremony of theirs; returns the public sharing and all shares in index order.
fn their_ceremony(members: usize, seed: u64) -> (Sharing<MinPk>, Vec<Share>) {
    let mut rng = TestRng::new(seed);
    let signers: Vec<_> = (0..members).map(|_| ed25519::PrivateKey::random(&mut rng)).collect();
    let set: Set<ed25519::PublicKey> = signers.iter().map(Signer::public_key).try_collect().unwrap();
    let info =
        Info::<MinPk, _>::new::<N3f1>(b"stkr", 0, None, Mode::NonZeroCounter, Reveal::V1, set.clone(), set).unwrap();
    let mut players: BTreeMap<_, _> =
        signers.iter().map(|s| (s.public_key(), Player::<MinPk, _>::new(info.clone(), s.clone()).unwrap())).collect();
    let mut logs = Logs::<MinPk, _, N3f1>::new(info.clone());
    for signer in &signers {
        let (mut dealer, public, private) =
            Dealer::start::<N3f1>(&mut rng, info.clone(), signer.clone(), None).unwrap();
        for (to, message) in private {
            let player = players.get_mut(&to).unwrap();
            let ack = player.dealer_message::<N3f1>(signer.public_key(), public.clone(), message).unwrap();
            dealer.receive_player_ack(to, ack.unwrap()).unwrap();
        }
        let (from, log) = dealer.finalize::<N3f1>().check(&info).unwrap();
        logs.record(from, log);
    }
    let mut public = None;
    let mut shares = Vec::new();
    for (_, player) in players {
        let (output, share) = player.finalize::<N3f1>(&mut rng, logs.clone(), &Sequential).unwrap();
        public = Some(output.public().clone());
        shares.push(share);
    }
    shares.sort_by_key(|share| share.index.get());
    (public.unwrap(), shares)
}

#[test]
fn our_types_take_the_outcome_of_a_commonware_ceremony_and_sign_the_same() {
    let committees = [(3, 4), (5, 7), (7, 10)];
    for (t, n) in committees {
        let (sharing, their_shares) = their_ceremony(usize::from(n), u64::from(n));
        assert_eq!(sharing.required(), u32::from(t));
        let shares: Vec<SecretShare> = their_shares
            .iter()
            .map(|share| {
                let index = ShareIndex::new(u8::try_from(share.index.get() + 1).unwrap()).unwrap();
                let bytes: [u8; 32] = share.private.encode().as_ref().try_into().unwrap();
                SecretShare::from_bytes(index, &bytes).unwrap()
            })
            .collect();
        let share_keys = shares.iter().map(SecretShare::public_key).collect();
        let threshold = Threshold::new(t, n).unwrap();
        let keys = CommitteeKeys::new(threshold, our_key(sharing.public()), share_keys).unwrap();
        let partials: Vec<_> = shares.iter().map(|share| share.sign(&MESSAGE)).collect();
        let combined = keys.combine(&MESSAGE, &partials[usize::from(n - t)..]).unwrap();
        assert!(verify(&keys.group_key(), &MESSAGE, &combined.signature));
        let theirs: Vec<_> = partials.iter().map(their_partial).collect();
        let recovered = threshold::recover::<MinPk, _>(&sharing, &theirs, &Sequential).unwrap();
        assert_eq!(our_signature(&recovered), combined.signature);
    }
    assert_eq!(committees.len(), 3);
}
