//! From the contracts' events to the facts of the [`View`](crate::view::View).
//!
//! An event with a number that does not fit (an id above 2^64, an enum of a newer contract) is no fact: it cannot come
//! from the contracts this program was built for.

use alloy::primitives::{Address, U256};
use stkr_chain::acknowledgements::{self, Asked};
use stkr_chain::bindings::Acknowledgements::AcknowledgementsEvents;
use stkr_chain::bindings::Court::CourtEvents;
use stkr_chain::bindings::KeyRegistry::KeyRegistryEvents;
use stkr_chain::bindings::Micropools::MicropoolsEvents;
use stkr_chain::bindings::Resharing::{Committee, ResharingEvents};
use stkr_chain::bindings::ServerRegistry::ServerRegistryEvents;
use stkr_chain::bindings::WithdrawalKeys::WithdrawalKeysEvents;
use stkr_chain::court::answered;
use stkr_chain::types::{KeyKind, PoolState, ServerKind, ServerStatus};
use stkr_chain::{LoggedEvent, StkrEvent};
use stkr_protocol::reshare::ReshareId;

use crate::charges::SECONDS_PER_SLOT;
use crate::reshares::{ReshareFact, Stage};
use crate::view::{
    AcknowledgementChallenge, Ceremony, Challenge, ChangeOrder, DepositOrder, Fact, GivenAnswer, LiveKey, PendingDraw,
    Pool, Server, Shown,
};

/// The facts that an event states, as far as the relayer acts on them.
pub fn facts(logged: &LoggedEvent) -> impl Iterator<Item = Fact> {
    fact(logged).into_iter().chain(bond_fact(&logged.event))
}

/// What an event says of a bond, besides what it says else.
fn bond_fact(event: &StkrEvent) -> Option<Fact> {
    Some(match event {
        StkrEvent::Server(ServerRegistryEvents::ServerRegistered(it)) => Fact::BondChanged { id: it.id, bond: it.bond },
        StkrEvent::Server(ServerRegistryEvents::BondChanged(it)) => Fact::BondChanged { id: it.id, bond: it.bond },
        StkrEvent::Court(CourtEvents::FaultProven(it)) => Fact::Slashed { id: it.server, amount: it.slashed },
        _ => return None,
    })
}

/// The fact an event states, if it is one the relayer acts on.
#[must_use]
pub fn fact(logged: &LoggedEvent) -> Option<Fact> {
    match &logged.event {
        StkrEvent::Server(event) => server_fact(event),
        StkrEvent::Key(event) => key_fact(event, logged.block_number),
        StkrEvent::Pool(event) => pool_fact(event, logged.block_number),
        StkrEvent::Court(event) => court_fact(event, logged),
        StkrEvent::Acknowledgement(event) => acknowledgement_fact(event),
        StkrEvent::Reshare(event) => reshare_fact(event, logged.block_number),
        StkrEvent::Withdrawal(event) => withdrawal_fact(event, logged.block_number),
        StkrEvent::Provider(_) | StkrEvent::Unknown => None,
    }
}

fn id(number: &U256) -> Option<u64> {
    u64::try_from(*number).ok()
}

fn server_fact(event: &ServerRegistryEvents) -> Option<Fact> {
    Some(match event {
        ServerRegistryEvents::ServerRegistered(event) => Fact::ServerRegistered {
            id: event.id,
            server: Server {
                operator: event.operator,
                signer: event.signer,
                tls_fingerprint: event.tlsFingerprint,
                endpoint: event.endpoint.clone(),
                status: ServerStatus::Registered,
                locked_out: false,
                online: ServerKind::try_from(event.kind).ok()? == ServerKind::Online,
            },
        },
        ServerRegistryEvents::ServerEndpointChanged(event) => Fact::EndpointChanged {
            id: event.id,
            tls_fingerprint: event.tlsFingerprint,
            endpoint: event.endpoint.clone(),
        },
        ServerRegistryEvents::SignerChanged(event) => Fact::SignerChanged { id: event.id, signer: event.signer },
        ServerRegistryEvents::ServerStatusChanged(event) => {
            Fact::StatusChanged { id: event.id, status: ServerStatus::try_from(event.status).ok()? }
        }
        ServerRegistryEvents::ServerReinstated(event) => Fact::ServerReinstated { id: event.id },
        _ => return None,
    })
}

fn court_fact(event: &CourtEvents, logged: &LoggedEvent) -> Option<Fact> {
    let (fault, server_id, key_id, committee_epoch, evidence, reporter, charged) = match event {
        CourtEvents::EvidenceCommitted(it) => {
            return Some(Fact::EvidenceCommitted { commitment: it.commitment, block: logged.block_number });
        }
        CourtEvents::FaultProven(it) => {
            (it.fault, it.server, it.keyId, it.committeeEpoch, it.evidence, it.reporter, true)
        }
        CourtEvents::FaultRecorded(it) => {
            (it.fault, it.server, it.keyId, it.committeeEpoch, it.evidence, it.reporter, false)
        }
        CourtEvents::ProviderFaultProven(it) => {
            return Some(Fact::ProviderFaultProven {
                key_id: id(&it.keyId)?,
                assignment: it.assignment,
                evidence: it.evidence,
                shown: shown(it.reporter, logged),
            });
        }
        CourtEvents::SignatureChallenged(_) | CourtEvents::SignatureAnswered(_) | CourtEvents::ChallengeVoid(_) => {
            return challenge_fact(event, logged);
        }
        CourtEvents::FeesPaid(_) => return None,
    };
    Some(Fact::FaultUpheld {
        fault,
        server_id,
        key_id: id(&key_id)?,
        committee_epoch,
        evidence,
        shown: shown(reporter, logged),
        charged,
    })
}

const fn shown(reporter: Address, logged: &LoggedEvent) -> Shown {
    Shown { reporter, transaction: logged.transaction, block: logged.block_number }
}

fn challenge_fact(event: &CourtEvents, logged: &LoggedEvent) -> Option<Fact> {
    Some(match event {
        CourtEvents::SignatureChallenged(it) => Fact::Challenged {
            asked: (id(&it.keyId)?, it.index, it.signingRoot),
            challenge: Challenge {
                server_id: it.server,
                challenger: it.challenger,
                deadline: it.deadline,
                asked_at: logged.timestamp,
                due: logged.timestamp + it.deadline.saturating_sub(logged.block_number) * SECONDS_PER_SLOT,
                fee: it.fee,
            },
        },
        CourtEvents::SignatureAnswered(it) => {
            Fact::Answered(GivenAnswer { envelope: answered(it)?, partial: it.partial_.clone() })
        }
        CourtEvents::ChallengeVoid(it) => Fact::ChallengeVoid { asked: (id(&it.keyId)?, it.index, it.signingRoot) },
        _ => return None,
    })
}

fn acknowledgement_fact(event: &AcknowledgementsEvents) -> Option<Fact> {
    let ended = |key: &U256, attempt, index, signature| {
        Some(Fact::AcknowledgementChallengeEnded { asked: (id(key)?, attempt, index), signature })
    };
    match event {
        AcknowledgementsEvents::AcknowledgementChallenged(it) => {
            let asked: Asked = acknowledgements::asked_in(it)?;
            let challenge = AcknowledgementChallenge {
                server_id: it.server,
                challenger: it.challenger,
                deadline: it.deadline.to(),
                acknowledgement: it.acknowledgement,
                dealings: acknowledgements::dealings_in(it)?.into(),
            };
            Some(Fact::AcknowledgementChallenged { asked, challenge })
        }
        AcknowledgementsEvents::AcknowledgementAnswered(it) => {
            ended(&it.keyId, it.attempt, it.index, it.signature.as_ref().try_into().ok())
        }
        AcknowledgementsEvents::AcknowledgementRefused(it) => ended(&it.keyId, it.attempt, it.index, None),
        AcknowledgementsEvents::AcknowledgementChallengeClosed(it) => ended(&it.keyId, it.attempt, it.index, None),
        AcknowledgementsEvents::FeesPaid(_) => None,
    }
}

fn key_fact(event: &KeyRegistryEvents, block: u64) -> Option<Fact> {
    Some(match event {
        KeyRegistryEvents::KeyRequested(event) => Fact::KeyRequested {
            key_id: id(&event.keyId)?,
            consumer: event.consumer,
            kind: KeyKind::try_from(event.kind).ok()?,
            threshold: event.threshold,
            members: event.members,
            draw: PendingDraw {
                seed_block: event.seedBlock.to(),
                active_set: event.activeSet.clone(),
                kept: Vec::new(),
            },
            block,
        },
        KeyRegistryEvents::DealtKeyImported(event) => {
            Fact::DealtKeyImported { key_id: id(&event.keyId)?, threshold: event.threshold, block }
        }
        KeyRegistryEvents::CeremonyRestarted(event) => {
            let seed_block: u64 = event.seedBlock.to();
            let draw = PendingDraw { seed_block, active_set: event.activeSet.clone(), kept: event.kept.clone() };
            Fact::CeremonyRestarted {
                key_id: id(&event.keyId)?,
                attempt: event.attempt,
                kept: event.kept.clone(),
                draw: (seed_block != 0).then_some(draw),
                deadline: event.deadline.to(),
                block,
            }
        }
        KeyRegistryEvents::CommitteeDrawn(event) => Fact::CommitteeDrawn {
            key_id: id(&event.keyId)?,
            attempt: event.attempt,
            ceremony: Ceremony { committee: event.committee.clone(), deadline: event.deadline.to(), begun_in: block },
        },
        KeyRegistryEvents::KeyFinalised(event) => Fact::KeyFinalised {
            key_id: id(&event.keyId)?,
            live: LiveKey {
                committee: event.committee.clone(),
                signers: event.signers.clone(),
                points: event.points.clone(),
                dealings_digest: event.dealingsDigest,
                leaves_root: event.leavesRoot,
            },
        },
        KeyRegistryEvents::KeyRetired(event) => Fact::KeyRetired { key_id: id(&event.keyId)?, burned: event.burned },
        KeyRegistryEvents::SeatsFreed(event) => Fact::SeatsFreed { key_id: id(&event.keyId)? },
        _ => return None,
    })
}

fn reshare_fact(event: &ResharingEvents, block: u64) -> Option<Fact> {
    let of = |key: &U256, fact| Some(Fact::Reshare { key_id: id(key)?, fact });
    let reshare = |key: &U256, committee_epoch, attempt| Some(ReshareId { key_id: id(key)?, committee_epoch, attempt });
    match event {
        ResharingEvents::ReshareRequested(it) => {
            let stage = Stage::Requested { seed_block: it.seedBlock.to(), active_set: it.activeSet.clone() };
            let (threshold, draft) = (Some(it.threshold), it.draft.clone());
            let id = reshare(&it.keyId, it.committeeEpoch, it.attempt)?;
            of(&it.keyId, ReshareFact::Moved { id, threshold, draft, stage })
        }
        ResharingEvents::ReshareDrawn(it) => {
            let (deadline, handover) = (it.deadline.to(), it.handover.to());
            let stage = Stage::Drawn { deadline, handover, begun_in: block };
            let id = reshare(&it.keyId, it.committeeEpoch, it.attempt)?;
            of(&it.keyId, ReshareFact::Moved { id, threshold: None, draft: it.draft.clone(), stage })
        }
        ResharingEvents::Reshared(it) => {
            let Committee { servers, signers, points } = it.committee.clone();
            let (dealings_digest, leaves_root) = (it.dealingsDigest, it.leavesRoot);
            let live = LiveKey { committee: servers, signers, points, dealings_digest, leaves_root };
            let id = reshare(&it.keyId, it.committeeEpoch, it.attempt)?;
            of(&it.keyId, ReshareFact::Made { id, live, handover: it.handover.to() })
        }
        ResharingEvents::ReshareCancelled(it) => of(&it.keyId, ReshareFact::Cancelled),
        ResharingEvents::SilenceVoted(it) => {
            of(&it.keyId, ReshareFact::SilenceVoted { server: it.server, until: it.until.to() })
        }
        ResharingEvents::PastSeatsFreed(it) => {
            of(&it.keyId, ReshareFact::PastSeatsFreed { committee_epoch: it.committeeEpoch })
        }
    }
}

fn pool_fact(event: &MicropoolsEvents, block: u64) -> Option<Fact> {
    Some(match event {
        MicropoolsEvents::PoolOpened(event) => Fact::PoolOpened {
            pool_id: id(&event.poolId)?,
            pool: Pool {
                provider: event.provider,
                threshold: event.threshold,
                members: event.members,
                vault: event.vault,
                staked: U256::ZERO,
                state: PoolState::Open,
                deadline: event.deadline.to(),
                key_id: None,
                order: None,
                deposits_gwei: Vec::new(),
                proven: None,
                withdrawal: None,
            },
        },
        MicropoolsEvents::Staked(event) => Fact::StakeChanged { pool_id: id(&event.poolId)?, staked: event.staked },
        MicropoolsEvents::Left(event) => Fact::StakeChanged { pool_id: id(&event.poolId)?, staked: event.staked },
        MicropoolsEvents::PoolStateChanged(event) => Fact::PoolStateChanged {
            pool_id: id(&event.poolId)?,
            state: PoolState::try_from(event.state).ok()?,
            deadline: event.deadline.to(),
        },
        MicropoolsEvents::PoolKeyRequested(event) => {
            Fact::PoolKeyRequested { pool_id: id(&event.poolId)?, key_id: id(&event.keyId)? }
        }
        MicropoolsEvents::DepositOrdered(event) => Fact::DepositOrdered {
            pool_id: id(&event.poolId)?,
            order: DepositOrder {
                key_id: id(&event.keyId)?,
                pubkey: event.pubkey.clone(),
                withdrawal_credentials: event.withdrawalCredentials,
                amount_gwei: event.amountGwei,
                signing_root: event.signingRoot,
                block,
            },
        },
        MicropoolsEvents::DepositSent(event) => {
            Fact::DepositSent { pool_id: id(&event.poolId)?, amount_gwei: event.amountGwei }
        }
        MicropoolsEvents::ForeignDepositProven(event) => Fact::ForeignDepositProven {
            pool_id: id(&event.poolId)?,
            withdrawal_credentials: event.foreignCredentials,
            amount_gwei: event.amountGwei,
        },
        _ => return None,
    })
}

fn withdrawal_fact(event: &WithdrawalKeysEvents, block: u64) -> Option<Fact> {
    Some(match event {
        WithdrawalKeysEvents::WithdrawalKeyUsed(event) => {
            Fact::WithdrawalKeyUsed { pool_id: id(&event.poolId)?, key_id: id(&event.keyId)? }
        }
        WithdrawalKeysEvents::ChangeOrdered(event) => Fact::ChangeOrdered {
            pool_id: id(&event.poolId)?,
            validator_index: event.validatorIndex,
            order: ChangeOrder { signing_root: event.signingRoot, block, signature: None },
        },
        WithdrawalKeysEvents::ChangeShown(event) => Fact::ChangeShown {
            pool_id: id(&event.poolId)?,
            validator_index: event.validatorIndex,
            signature: event.signature.clone(),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, Bytes};
    use stkr_chain::bindings::KeyRegistry;

    use super::*;
    use crate::view::{KeyPhase, View};

    #[test]
    fn the_two_events_of_an_import_make_a_dealt_key() {
        let (key_id, leaves_root, points) = (U256::from(9), B256::repeat_byte(6), Bytes::from(vec![7; 5 * 128]));
        let imported = KeyRegistry::DealtKeyImported {
            keyId: key_id,
            owner: Address::repeat_byte(1),
            threshold: 3,
            historyHash: B256::repeat_byte(2),
        };
        let finalised = KeyRegistry::KeyFinalised {
            keyId: key_id,
            attempt: 0,
            committee: vec![1, 2, 4, 6],
            signers: vec![Address::repeat_byte(5); 4],
            points: points.clone(),
            dealingsDigest: B256::ZERO,
            leavesRoot: leaves_root,
        };
        let mut view = View::default();
        for event in [KeyRegistryEvents::DealtKeyImported(imported), KeyRegistryEvents::KeyFinalised(finalised)] {
            view.apply(1, key_fact(&event, 10).unwrap());
        }
        let key = &view.keys[&9];
        assert!(key.is_dealt());
        assert_eq!((key.kind, key.threshold, key.members, key.requested_in), (KeyKind::Validator, 3, 4, 10));
        let KeyPhase::Live(live) = &key.phase else { panic!("{key:?}") };
        assert_eq!((&live.committee, &live.points, live.leaves_root), (&vec![1, 2, 4, 6], &points, leaves_root));
    }
}
