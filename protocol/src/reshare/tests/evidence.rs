//! Evidence files: what convicts, and everything that must not.

use super::*;
use crate::reshare::evidence::{Defect, DefectiveReshareDealing, EvidenceError, ReshareMessagesProof};

fn verify_proof(proof: Proof) -> Result<super::super::evidence::Verified, EvidenceError> {
    ReshareEvidence::new(&domain(), proof).verify()
}

fn complaint() -> OpenedReshareDealing {
    let rigged = Rigged::run(|_, body| body.shares[2 * 32] ^= 1);
    rigged.servers.into_iter().find_map(|server| server.complaint).unwrap()
}

/// Honest dealing of 104, with its recipients' secrets for it.
fn honest() -> (World, ReshareMessage, Vec<OpenedReshareDealing>) {
    let world = World::usual();
    let mut servers = world.servers();
    let keys = published_keys(&mut servers);
    let dealing = servers[3].advance(keys.clone()).pop().unwrap();
    let mut opened = Vec::new();
    for server in servers.iter_mut().filter(|server| server.secrets.is_some()) {
        server.take(keys.clone());
        let secret = *server.part.secrets.as_ref().unwrap().for_dealer(index(4)).unwrap().to_bytes();
        let recipient_keys = server.part.board().recipient_keys(index(4)).unwrap();
        let recipient = world.plan.member_of(server.id).unwrap().get();
        opened.push(OpenedReshareDealing { dealing: dealing.clone(), recipient_keys, recipient, secret });
    }
    (world, dealing, opened)
}

#[test]
fn an_honest_dealing_convicts_nobody_whoever_opens_it() {
    let (world, dealing, opened) = honest();
    assert_eq!(opened.len(), 4);
    for complaint in &opened {
        let refused = verify_proof(Proof::BadReshareDealing(complaint.clone()));
        assert_eq!(refused, Err(EvidenceError::GoodDealing(complaint.recipient)));
    }
    let holder = crate::evidence::Holder::of(world.plan.old(), index(4)).unwrap();
    assert_eq!(DefectiveReshareDealing::find(&dealing, (3, 4), &holder, &domain()), None);
    for defect in [Defect::Shape, Defect::OneTimeKey, Defect::Commitment, Defect::AnotherSecret] {
        let (dealing, holder) = (dealing.clone(), holder.clone());
        let claim = DefectiveReshareDealing { dealing, holder, threshold: 3, members: 4, defect, position: 0 };
        let refused = verify_proof(Proof::MalformedReshareDealing(claim));
        assert_eq!(refused, Err(EvidenceError::NotMalformed(defect)));
    }
}

#[test]
fn a_complaint_with_anything_changed_convicts_nobody() {
    let right = complaint();
    assert!(verify_proof(Proof::BadReshareDealing(right.clone())).is_ok());
    let refused = |change: &dyn Fn(&mut OpenedReshareDealing)| {
        let mut changed = right.clone();
        change(&mut changed);
        verify_proof(Proof::BadReshareDealing(changed))
    };
    let other = OneTimeSecret::random().unwrap();
    // A key of the accuser's own making, which the dealer never saw.
    let framed = refused(&|it| {
        it.recipient_keys[2 * 33..3 * 33].copy_from_slice(&other.public_key());
        it.secret = *other.to_bytes();
    });
    assert!(matches!(framed, Err(EvidenceError::OtherRecipientKeys { .. })));
    assert_eq!(refused(&|it| it.secret = *other.to_bytes()), Err(EvidenceError::WrongOpening(3)));
    for recipient in [0, 2, 5, 255] {
        assert_eq!(refused(&|it| it.recipient = recipient), Err(EvidenceError::WrongOpening(recipient)));
    }
    // Another reshare, or another dealer: somebody else's signature, and so nobody that had to deal.
    for change in [
        &(|it: &mut OpenedReshareDealing| it.dealing.id.attempt += 1) as &dyn Fn(&mut OpenedReshareDealing),
        &|it| it.dealing.id.committee_epoch += 1,
        &|it| it.dealing.index = index(1),
    ] {
        let found = refused(change);
        assert!(found.is_err() || found.unwrap().signer != signer(104).address());
    }
}

#[test]
fn a_leaf_of_somebody_else_makes_no_dealing_malformed() {
    let (world, dealing, _) = honest();
    let holder = |dealer| crate::evidence::Holder::of(world.plan.old(), index(dealer)).unwrap();
    let claim = |holder| DefectiveReshareDealing {
        dealing: dealing.clone(),
        holder,
        threshold: 3,
        members: 4,
        defect: Defect::AnotherSecret,
        position: 0,
    };
    // The share key of another member: its leaf names another signer.
    let refused = verify_proof(Proof::MalformedReshareDealing(claim(holder(1))));
    assert!(matches!(refused, Err(EvidenceError::OtherSigner { .. })));
    // The same with the dealer's signer put in: the leaf leads to a root that the chain does not have.
    let forged = crate::evidence::Holder { signer: signer(104).address(), ..holder(1) };
    let found = verify_proof(Proof::MalformedReshareDealing(claim(forged))).unwrap().holds_if.unwrap();
    assert_ne!(found.old_root, holder(4).root(index(4)));
    assert_eq!((found.threshold, found.members), (3, 4));
}

#[test]
fn two_messages_convict_only_if_one_sender_signed_both_in_one_round() {
    let world = World::usual();
    let keys = |server| {
        let secrets = RecipientSecrets::random(world.plan.reshare()).unwrap();
        world.say(server, Body::Keys(ReshareKeysBody { public_keys: secrets.public_keys().as_flattened().to_vec() }))
    };
    let (first, second) = (keys(101), keys(101));
    let judge = |first: &ReshareMessage, second: &ReshareMessage| {
        verify_proof(Proof::ReshareEquivocation(ReshareMessagesProof { first: first.clone(), second: second.clone() }))
    };
    let found = judge(&first, &second).unwrap();
    assert_eq!((found.signer, found.holds_if), (signer(101).address(), None));
    assert_eq!(judge(&second, &first).unwrap().evidence, found.evidence);
    assert_eq!(judge(&first, &first), Err(EvidenceError::NoConflict));
    assert_eq!(judge(&first, &keys(102)), Err(EvidenceError::DifferentSubjects));
    let by_another = ReshareMessage { index: index(1), ..keys(102) };
    assert!(matches!(judge(&first, &by_another), Err(EvidenceError::OtherSigner { .. })));
    let dealing = honest().1;
    assert_eq!(judge(&first, &dealing), Err(EvidenceError::DifferentSubjects));
    let later = World::of(ReshareId { attempt: 2, ..id() });
    let public_keys = RecipientSecrets::random(later.plan.reshare()).unwrap().public_keys().as_flattened().to_vec();
    let again = later.say(101, Body::Keys(ReshareKeysBody { public_keys }));
    assert_eq!(judge(&first, &again), Err(EvidenceError::DifferentSubjects));
    let no_dealing = OpenedReshareDealing { dealing: first, ..complaint() };
    assert_eq!(verify_proof(Proof::BadReshareDealing(no_dealing)), Err(EvidenceError::NoDealing));
}

#[test]
fn files_read_back_and_wrong_ones_are_refused() {
    let file = ReshareEvidence::new(&domain(), Proof::BadReshareDealing(complaint()));
    let text = serde_json::to_string(&file).unwrap();
    assert!(text.starts_with(r#"{"version":"1","chainId":"31337","keyRegistry":"0x4242"#), "{text}");
    assert!(text.contains(r#""proof":{"fault":"bad_reshare_dealing","dealing":{"round":"reshare_dealing""#));
    let read = ReshareEvidence::from_json(text.as_bytes()).unwrap();
    assert_eq!((read.verify(), &read), (file.verify(), &file));
    let refused = |text: String| ReshareEvidence::from_json(text.as_bytes()).unwrap_err();
    assert!(matches!(refused(text.replace(r#""version":"1""#, r#""version":"2""#)), EvidenceError::Malformed(_)));
    assert!(matches!(refused(text.replace(r#""recipient""#, r#""receiver""#)), EvidenceError::Malformed(_)));
    assert!(matches!(refused(" ".repeat(crate::evidence::MAX_FILE + 1)), EvidenceError::TooLong(_)));
    // The Court's files have no such fault: nothing can take one for the other.
    assert!(crate::evidence::EvidenceFile::from_json(text.as_bytes()).is_err());
}
