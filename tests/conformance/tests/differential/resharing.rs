//! Differential: resharing against the arithmetic of commonware-cryptography.
//!
//! It interpolates our dealings' commitments by its own Lagrange coefficients and sums; what comes out must be the committee that our
//! members ended with. (Its own resharing is another protocol: its dealings cannot be put into ours.)

use commonware_cryptography::bls12381::primitives::{
    group::{G1, Private, Scalar, Share},
    ops::threshold,
    sharing::Sharing,
    variant::MinPk,
};
use commonware_math::poly::{Interpolator, Poly};
use commonware_parallel::Sequential;
use commonware_utils::{Participant, ordered::Map};
use stkr_core::{
    CommitteeKeys, SecretShare, ShareIndex, Threshold,
    reshare::{RecipientSecrets, Reshare, ReshareDomain},
};

use crate::{
    ceremony::{Ceremony, MESSAGE},
    commonware::{our_key, our_signature, polynomial, sharing_of, their_partial, their_private},
};

/// What a resharing by the last t members of a ceremony ends with: the dealt commitments by dealer, the keys and the shares.
struct Handover {
    commitments: Vec<(ShareIndex, Poly<G1>)>,
    keys: CommitteeKeys,
    shares: Vec<SecretShare>,
}

fn hand_over(ceremony: &Ceremony, new: Threshold) -> Handover {
    let domain = ReshareDomain {
        chain_id: ceremony.domain.chain_id,
        registry: ceremony.domain.registry,
        key_id: ceremony.domain.key_id,
        epoch: u32::MAX,
        attempt: u16::MAX,
    };
    let keys = ceremony.outcomes[0].keys.clone();
    let reshare = Reshare::new(domain, keys, ceremony.signers().collect(), new).unwrap();
    let secrets: Vec<_> = new.indices().map(|_| RecipientSecrets::random(&reshare).unwrap()).collect();
    let published: Vec<_> = secrets.iter().map(RecipientSecrets::public_keys).collect();
    let deal = |dealer: ShareIndex| reshare.deal(&ceremony.outcomes[dealer.position()].share, &published).unwrap();
    let dealings: Vec<_> = ceremony.signers().map(deal).collect();
    let members = new.indices().zip(secrets.iter().zip(&published));
    let outcomes = members.map(|(me, (mine, keys))| reshare.finish(me, mine, keys, &dealings).unwrap());
    Handover {
        commitments: ceremony.signers().zip(dealings.iter().map(|dealing| polynomial(&dealing.commitments))).collect(),
        keys: reshare.new_keys(&dealings).unwrap(),
        shares: outcomes.map(|outcome| outcome.share).collect(),
    }
}

/// Their interpolation of the dealt polynomials at the dealers' indices, as their sharing.
fn their_sharing(handover: &Handover) -> Sharing<MinPk> {
    let points = handover.commitments.iter().map(|(dealer, _)| (dealer.get(), Scalar::from_u64(dealer.get().into())));
    let dealt = handover.commitments.iter().map(|(dealer, dealt)| (dealer.get(), dealt.clone()));
    let interpolator = Interpolator::new(points);
    let new = interpolator.interpolate(&Map::from_iter_dedup(dealt), &Sequential).unwrap();
    sharing_of(&new, handover.keys.threshold().n())
}

#[test]
fn commonware_computes_the_same_new_committee_from_our_dealings() {
    let resharings = [
        ((1, 1), (2, 2)),
        ((2, 3), (3, 4)),
        ((3, 4), (3, 4)),
        ((3, 4), (5, 7)),
        ((5, 7), (2, 3)),
        ((7, 10), (9, 13)),
        ((22, 32), (3, 4)),
        ((3, 4), (22, 32)),
    ];
    for (old, new) in resharings {
        let ceremony = Ceremony::run(old.0, old.1);
        let handover = hand_over(&ceremony, Threshold::new(new.0, new.1).unwrap());
        let sharing = their_sharing(&handover);
        assert_eq!(sharing.required(), u32::from(new.0), "{old:?} -> {new:?}");
        assert_eq!(our_key(sharing.public()), ceremony.outcomes[0].keys.group_key());
        assert_eq!(handover.keys.group_key(), ceremony.outcomes[0].keys.group_key());
        for share in &handover.shares {
            let index = Participant::new(u32::from(share.index().get()) - 1);
            let key = sharing.partial_public(index).unwrap();
            assert_eq!(Some(&our_key(&key)), handover.keys.share_key(share.index()));
            let private: Private = their_private(share);
            assert_eq!(Share::new(index, private).public::<MinPk>(), key);
        }
        // What the new committee signs is what the old one signed.
        let before: Vec<_> = ceremony.signers().map(|i| ceremony.outcomes[i.position()].share.sign(&MESSAGE)).collect();
        let before = ceremony.outcomes[0].keys.combine(&MESSAGE, &before).unwrap().signature;
        let last = handover.shares.iter().skip(usize::from(new.1 - new.0));
        let partials: Vec<_> = last.map(|share| their_partial(&share.sign(&MESSAGE))).collect();
        let recovered = threshold::recover::<MinPk, _>(&sharing, &partials, &Sequential).unwrap();
        assert_eq!(our_signature(&recovered), before, "{old:?} -> {new:?}");
    }
    assert_eq!(resharings.len(), 8);
}
