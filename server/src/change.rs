//! Deciding whether to sign a change of withdrawal credentials.
//!
//! A withdrawal key signs one thing only: `BLSToExecutionChange` from itself to the vault of the pool that was opened with it, where
//! the chain ordered it. [`judge`] is a pure function of the request and of [`Facts`] that this server, or a machine without network
//! from proofs, knows for itself; nothing in the request is believed. Signing again gives the same answer, so nothing is stored:
//! an order is never taken back, and two changes of one key lead to the same vault.

use alloy::primitives::{Address, B256};
use stkr_chain::types::{KeyKind, KeyState};
use stkr_core::PublicKey;
use stkr_protocol::sign::{Change, ChangeRequest, Refusal, RefusalKind};

use crate::serving::Seat;

/// What the chain says about a withdrawal key that is to sign a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// State of the key.
    pub state: KeyState,
    /// What the key is for.
    pub kind: KeyKind,
    /// Contract that asked for the key.
    pub consumer: Address,
    /// The withdrawal keys' contract of the deployment that this server is configured for.
    pub withdrawal_keys: Address,
    /// Group key, checked against the leaves root on-chain.
    pub group_key: PublicKey,
    /// This server's seat in the committee whose turn it is; `None` if it has none there.
    pub seat: Option<Seat>,
    /// Vault of the pool that uses the key in finalised state, derived here from the pool's id.
    pub vault: Address,
    /// Pinned genesis fork version.
    pub genesis_fork_version: [u8; 4],
    /// Pinned genesis validators root.
    pub genesis_validators_root: B256,
    /// Whether finalised state says that the root was ordered.
    pub ordered: bool,
}

/// Whether this change may be signed, and with which seat.
///
/// # Errors
/// The refusal to answer with.
pub fn judge(request: &ChangeRequest, facts: &Facts) -> Result<Seat, Refusal> {
    let key_id = request.key_id;
    if facts.state != KeyState::Live {
        return Err(Refusal::denied(
            format!("key {key_id} is {} on the chain, not Live", facts.state),
            "Ask for keys that are Live only.",
        ));
    }
    if facts.kind != KeyKind::Withdrawal || facts.consumer != facts.withdrawal_keys {
        return Err(Refusal::denied(
            format!(
                "key {key_id} is a {} key of {}, not a withdrawal key of {}",
                facts.kind, facts.consumer, facts.withdrawal_keys
            ),
            "Nothing can be done: only withdrawal keys of this deployment sign changes of credentials.",
        ));
    }
    let seat = facts.seat.ok_or_else(|| {
        Refusal::new(
            RefusalKind::UnknownKey,
            format!("this server is not in the committee of key {key_id}"),
            "Ask the members that the KeyFinalised event of the key names.",
        )
    })?;
    compare(&request.change, facts)?;
    let root = request.checked_signing_root()?;
    if !facts.ordered {
        return Err(Refusal::unavailable(
            format!("the chain has not ordered signing root {root} for key {key_id} at its finalized block"),
            "Order the change (stkr pool order-change) if that was not done yet, wait until the order is finalized, then ask again.",
        ));
    }
    Ok(seat)
}

fn compare(given: &Change, facts: &Facts) -> Result<(), Refusal> {
    let bytes = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    let group_key = facts.group_key.to_compressed();
    let fields = [
        ("from_bls_pubkey", bytes(&given.from_bls_pubkey), bytes(&group_key)),
        ("to_execution_address", given.to_execution_address.to_string(), facts.vault.to_string()),
        ("genesis_fork_version", bytes(&given.genesis_fork_version), bytes(&facts.genesis_fork_version)),
        (
            "genesis_validators_root",
            given.genesis_validators_root.to_string(),
            facts.genesis_validators_root.to_string(),
        ),
    ];
    match fields.into_iter().find(|(_, given, expected)| given != expected) {
        None => Ok(()),
        Some((field, given, expected)) => Err(Refusal::denied(
            format!("the change's {field} is {given}, but for this key it must be {expected}"),
            "Ask for exactly the change that a ChangeOrdered event of the pool names.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stkr_core::testing::TrustedDealer;
    use stkr_core::{ShareIndex, Threshold};

    fn facts() -> Facts {
        let dealt = TrustedDealer::deal(Threshold::new(5, 6).unwrap(), [3; 32]);
        let index = ShareIndex::new(2).unwrap();
        Facts {
            state: KeyState::Live,
            kind: KeyKind::Withdrawal,
            consumer: Address::repeat_byte(5),
            withdrawal_keys: Address::repeat_byte(5),
            group_key: dealt.keys.group_key(),
            seat: Some(Seat {
                committee_epoch: 0,
                index,
                share_key: *dealt.keys.share_key(index).unwrap(),
                signer: Address::repeat_byte(2),
            }),
            vault: Address::repeat_byte(6),
            genesis_fork_version: *b"Stkr",
            genesis_validators_root: B256::repeat_byte(9),
            ordered: true,
        }
    }

    fn change(facts: &Facts) -> Change {
        Change {
            validator_index: 1_234,
            from_bls_pubkey: facts.group_key.to_compressed(),
            to_execution_address: facts.vault,
            genesis_fork_version: facts.genesis_fork_version,
            genesis_validators_root: facts.genesis_validators_root,
        }
    }

    fn refused(change: Change, facts: &Facts) -> Refusal {
        judge(&ChangeRequest::new(7, change), facts).unwrap_err()
    }

    #[test]
    fn the_ordered_change_from_the_key_to_its_pools_vault_is_signed_with_the_servers_own_seat() {
        let facts = facts();
        assert_eq!(judge(&ChangeRequest::new(7, change(&facts)), &facts).unwrap(), facts.seat.unwrap());
    }

    #[test]
    fn any_other_change_is_denied_even_if_the_chain_could_be_made_to_order_it() {
        let facts = facts();
        let other_key = TrustedDealer::deal(Threshold::new(5, 6).unwrap(), [4; 32]).keys.group_key();
        let others = [
            ("from_bls_pubkey", Change { from_bls_pubkey: other_key.to_compressed(), ..change(&facts) }),
            ("to_execution_address", Change { to_execution_address: Address::repeat_byte(7), ..change(&facts) }),
            ("genesis_fork_version", Change { genesis_fork_version: [0; 4], ..change(&facts) }),
            ("genesis_validators_root", Change { genesis_validators_root: B256::ZERO, ..change(&facts) }),
        ];
        for (field, change) in others {
            let refusal = refused(change, &facts);
            assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(field), "{refusal}");
        }
        let claimed = ChangeRequest { signing_root: B256::ZERO, ..ChangeRequest::new(7, change(&facts)) };
        assert_eq!(judge(&claimed, &facts).unwrap_err().kind, RefusalKind::Denied);
    }

    #[test]
    fn without_a_finalised_order_nothing_is_signed_whoever_asks() {
        let facts = Facts { ordered: false, ..facts() };
        assert_eq!(refused(change(&facts), &facts).kind, RefusalKind::Unavailable);
    }

    #[test]
    fn neither_a_validator_key_nor_one_of_another_contract_nor_one_given_up_signs_a_change() {
        let good = facts();
        let bad = [
            Facts { kind: KeyKind::Validator, ..good.clone() },
            Facts { consumer: Address::repeat_byte(8), ..good.clone() },
            Facts { state: KeyState::Retired, ..good.clone() },
        ];
        for facts in bad {
            assert_eq!(refused(change(&facts), &facts).kind, RefusalKind::Denied);
        }
        let nobody = Facts { seat: None, ..good };
        assert_eq!(refused(change(&nobody), &nobody).kind, RefusalKind::UnknownKey);
    }
}
