//! A key that moved to another committee, as strangers see it: whose faults are faults, who can be asked, who serves.

use alloy::primitives::U256;
use stkr_protocol::{
    evidence::{EvidenceFile, Proof, SignedEnvelope},
    kept::Kept,
};
use stkr_sdk::{ChallengeState, ReportOptions, bindings::KeyRegistry};

use crate::common::{
    Chain,
    reshares::{ResharedKey, Term},
    wallet,
};

fn envelopes(files: &[EvidenceFile]) -> Vec<SignedEnvelope> {
    let envelopes = files.iter().flat_map(|file| match &file.proof {
        Proof::InvalidPartial(it) => vec![it.envelope.clone()],
        Proof::ConflictingDuties(it) => vec![it.first.clone(), it.second.clone()],
        Proof::UnauthorisedSignature(it) => vec![it.envelope.clone()],
        other => panic!("{other:?}"),
    });
    envelopes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_every_committee_of_a_reshared_key_are_found_checked_and_proven() {
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let reshared = ResharedKey::make(&chain, folder.path()).await;
    reshared.hand_over(&chain).await;
    let (stkr, stranger) = (chain.stkr().await, chain.account().await);
    let faults = stkr.faults();
    let mut kept = Vec::new();
    for epoch in [0, 1] {
        let accused = reshared.accused(usize::try_from(epoch).unwrap());
        let files = accused.of_committee(&chain.deployment, epoch);
        for file in &files {
            let checked = faults.check(file).await.unwrap();
            assert_eq!((checked.verified.committee_epoch, checked.server_id), (epoch, Some(accused.committee[1])));
        }
        // The seat of one committee is none of another.
        for other in [1 - epoch, 2] {
            let error = faults.check(&accused.of_committee(&chain.deployment, other)[0]).await.unwrap_err();
            let reason = format!("is not one of key {} in committee {other}", reshared.key);
            assert!(error.to_string().contains(&reason), "{error}");
        }
        kept.extend(envelopes(&files[1..]));
        kept.extend(envelopes(&accused.of_committee(&chain.deployment, 2)[1..]));
    }

    let mut found = faults.find(Kept { envelopes: kept, requests: Vec::new() }).await.unwrap();
    let subject = |file: &EvidenceFile| (file.verify().unwrap().committee_epoch, file.proof.fault() as u8);
    found.sort_by_key(subject);
    let subjects: Vec<(u32, u8)> = found.iter().map(subject).collect();
    assert_eq!(subjects, [(0, 3), (0, 4), (1, 3), (1, 4)], "two faults of each committee, and none of one that is not");
    let options = ReportOptions { only_included: true, ..ReportOptions::default() };
    for file in &found {
        let report = chain.mining(faults.report(file, &wallet(&stranger), options)).await.unwrap();
        assert!(report.ours && report.on_record.judgement.charged, "the Court agrees: {report:?}");
    }
}

/// A member that stayed signs one vote as of the old committee and another as of the new one: neither committee's envelopes show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_two_committees_that_signs_a_vote_in_each_is_found_and_convicted_once() {
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let reshared = ResharedKey::make(&chain, folder.path()).await;
    reshared.hand_over(&chain).await;
    let (stkr, stranger) = (chain.stkr().await, chain.account().await);
    let vote = |epoch: u32, position, root| {
        reshared.accused(usize::try_from(epoch).unwrap()).vote_in(&chain.deployment, epoch, position, root)
    };
    let [old, new] = [vote(0, 0, 1), vote(1, 0, 2)];
    assert_eq!(old.1.server_id, new.1.server_id, "it is in both");
    // What the seat's two holders vote for is no conflict of either, nor is one vote in both committees.
    let honest = [vote(0, 1, 1), vote(1, 1, 2), vote(0, 2, 1), vote(1, 2, 1)].map(|(vote, _)| vote);
    let envelopes: Vec<_> = honest.into_iter().chain([new.0.clone(), old.0.clone()]).collect();

    let found = stkr.faults().find(Kept { envelopes, requests: Vec::new() }).await.unwrap();
    let [file] = &found[..] else { panic!("{found:?}") };
    let Proof::ConflictingDuties(duties) = &file.proof else { panic!("{file:?}") };
    assert_eq!((&duties.first, &duties.second), (&old.0, &new.0), "the earlier committee's first");
    let checked = stkr.faults().check(file).await.unwrap();
    assert_eq!((checked.server_id, checked.verified.committee_epoch), (Some(old.1.server_id), 1));
    // The seat in the earlier committee has to be one, too.
    let mut forged = file.clone();
    let Proof::ConflictingDuties(duties) = &mut forged.proof else { panic!("{file:?}") };
    duties.holder.proof.pop();
    let error = stkr.faults().check(&forged).await.unwrap_err();
    assert!(error.to_string().contains("is not one of key 1 in committee 0"), "{error}");

    let options = ReportOptions { only_included: true, ..ReportOptions::default() };
    let report = chain.mining(stkr.faults().report(file, &wallet(&stranger), options)).await.unwrap();
    assert!(report.ours && report.on_record.judgement.charged, "the Court agrees: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_goes_to_the_committee_that_serves_and_is_answered_for_the_one_that_was_asked() {
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let reshared = ResharedKey::make(&chain, folder.path()).await;
    let (stkr, challenger, key) = (chain.stkr().await, chain.account().await, reshared.key);
    let challenges = stkr.challenges();
    let asked = challenges.ordered(key).await.unwrap();
    let root = asked.signing_root();
    let [old, new] = [reshared.terms[0].servers[1], reshared.terms[1].servers[1]];

    // Up to the handover the old committee serves.
    let early = challenges.question(key, new, root).await.unwrap_err();
    assert!(early.to_string().contains("holds no share of key 1 in committee 0"), "{early}");
    let of_old = challenges.question(key, old, root).await.unwrap();
    challenges.open(&of_old, None).await.unwrap().send_with(&wallet(&challenger)).await.unwrap();
    reshared.hand_over(&chain).await;
    let late = challenges.question(key, old, root).await.unwrap_err();
    assert!(late.to_string().contains("holds no share of key 1 in committee 1"), "{late}");
    let of_old = challenges.asked(key, old, root).await.unwrap();
    let answer = reshared.accused(0).answer_in(&chain.deployment, 0, &asked, true);
    let write = challenges.answer(&of_old, &asked.subject(), &answer).unwrap();
    write.send_with(&wallet(&challenger)).await.unwrap();
    assert_eq!(challenges.get(key, old, root).await.unwrap().state, ChallengeState::Answered);
    let over = challenges.asked(key, old, root).await.unwrap_err();
    assert!(over.to_string().contains("the newest is answered"), "{over}");

    let of_new = challenges.question(key, new, root).await.unwrap();
    assert_eq!((of_new.committee_epoch, of_new.holder.server_id), (1, new));
    challenges.open(&of_new, None).await.unwrap().send_with(&wallet(&challenger)).await.unwrap();
    let of_new = challenges.asked(key, new, root).await.unwrap();
    // With the right share and signer, but said for the committee before.
    let stale = reshared.accused(1).answer_in(&chain.deployment, 0, &asked, true);
    let error = challenges.answer(&of_new, &asked.subject(), &stale).unwrap_err();
    assert!(error.to_string().contains("this is no answer of server"), "{error}");
    let answer = reshared.accused(1).answer_in(&chain.deployment, 1, &asked, true);
    let write = challenges.answer(&of_new, &asked.subject(), &answer).unwrap();
    write.send_with(&wallet(&challenger)).await.unwrap();
    assert_eq!(challenges.get(key, new, root).await.unwrap().state, ChallengeState::Answered);
}

/// What the contract counts of the newest committee.
async fn healthy_shares(chain: &Chain, reshared: &ResharedKey) -> (usize, u8) {
    let Term { servers, signers, dealer, .. } = &reshared.terms[1];
    let signers = signers.iter().map(|signer| signer.address()).collect();
    let (share_keys, group_key) = (dealer.keys.share_keys(), dealer.keys.group_key());
    let points: Vec<u8> = share_keys.iter().chain([&group_key]).flat_map(|key| key.to_eip2537()).collect();
    let registry = KeyRegistry::new(chain.deployment.key_registry, &chain.provider);
    let counted = registry.healthyShares(U256::from(reshared.key), servers.clone(), signers, points.into());
    let counted = counted.call().await.unwrap();
    (counted.healthy.to(), counted.threshold)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reshared_key_shows_who_serves_and_who_comes_next_and_counts_its_healthy_shares_as_the_contract_does() {
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let reshared = ResharedKey::make(&chain, folder.path()).await;
    let (stkr, key) = (chain.stkr().await, reshared.key);
    let [old, new] = [&reshared.terms[0], &reshared.terms[1]];
    let before = stkr.keys().get(key).await.unwrap();
    assert_eq!((before.committee_epoch, &before.committee, before.healthy), (0, &old.servers, Some(4)));
    let next = before.successor.clone().unwrap();
    assert_eq!((next.committee_epoch, &next.committee, next.healthy), (1, &new.servers, Some(4)));
    assert_eq!(next.handover, stkr.reshares().get(key).await.unwrap().handover);
    let listed = stkr.keys().list().await.unwrap().remove(0);
    assert_eq!((listed.committee_epoch, listed.healthy, listed.successor), (0, Some(4), before.successor));

    // The one that is only in the old committee, the one that is only in the new one, and two that are in both.
    let suspend =
        async |id| stkr.servers().suspend(id, "slow").unwrap().send_with(&wallet(&chain.governor)).await.unwrap();
    suspend(old.servers[1]).await;
    let shown = stkr.keys().get(key).await.unwrap();
    assert_eq!((shown.healthy, shown.successor.unwrap().healthy), (Some(3), Some(4)));
    assert_eq!(healthy_shares(&chain, &reshared).await, (4, 3));

    reshared.hand_over(&chain).await;
    let check = async |expected: usize| {
        let shown = stkr.keys().get(key).await.unwrap();
        assert_eq!((shown.committee_epoch, &shown.committee, &shown.successor), (1, &new.servers, &None));
        assert_eq!((shown.healthy, shown.threshold, shown.members), (Some(expected), 3, 4));
        let listed = stkr.keys().list().await.unwrap().remove(0);
        assert_eq!((listed.committee_epoch, listed.healthy), (1, Some(expected)));
        assert_eq!(healthy_shares(&chain, &reshared).await, (expected, 3), "the contract counts the same");
    };
    check(4).await;
    suspend(new.servers[1]).await;
    check(3).await;
    let leaving = new.servers[2];
    let operator = &reshared.operators[&leaving];
    stkr.servers().announce_leave(leaving).send_with(&wallet(operator)).await.unwrap();
    check(2).await;
    let mut accused = reshared.accused(1);
    // The accusations are of the second member, and this one names a signer and no seat.
    accused.signers.swap(1, 3);
    let (stranger, proof) = (chain.account().await, accused.equivocating(&chain.deployment));
    let options = ReportOptions { only_included: true, ..ReportOptions::default() };
    chain.mining(stkr.faults().report(&proof, &wallet(&stranger), options)).await.unwrap();
    assert!(stkr.servers().get(new.servers[3]).await.unwrap().locked_out);
    check(1).await;
}
