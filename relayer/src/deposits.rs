//! Judges deposits that somebody made with a pool's key.

use alloy::primitives::{B256, Bytes};
use stkr_chain::LoggedDeposit;
use stkr_core::{PublicKey, Signature, verify};
use stkr_duties::DepositMessage;

use crate::view::DepositOrder;

/// A deposit to other credentials than the pool's, validly signed by the pool's key: what
/// `Micropools.proveForeignDeposit` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDeposit {
    /// Where the thieves want the stake to go.
    pub withdrawal_credentials: B256,
    /// Gwei.
    pub amount_gwei: u64,
    /// 256 bytes, EIP-2537.
    pub signature: Bytes,
    /// Block of the deposit.
    pub block: u64,
    /// Transaction of the deposit.
    pub transaction: B256,
}

/// Whether `deposit` proves that at least t members signed what nobody ordered. `group_key` is in EIP-2537.
///
/// The deposit contract checks no signature: anyone can top up any validator, with any bytes for a signature and any
/// credentials, and the beacon chain ignores both once the validator exists. So a deposit without a valid signature of the
/// group key says nothing about the committee, and one to the pool's own credentials is a gift to its stakers (the contract,
/// too, refuses it with `NotForeign`).
#[must_use]
pub fn foreign(
    order: &DepositOrder,
    group_key: &[u8],
    genesis_fork_version: [u8; 4],
    deposit: &LoggedDeposit,
) -> Option<ForeignDeposit> {
    let LoggedDeposit { pubkey, withdrawal_credentials, amount_gwei, .. } = *deposit;
    if order.pubkey.as_ref() != pubkey.as_slice() || withdrawal_credentials == order.withdrawal_credentials {
        return None;
    }
    let key = PublicKey::from_eip2537(group_key).ok()?;
    let signature = Signature::from_compressed(deposit.signature.as_slice()).ok()?;
    let message = DepositMessage { pubkey: pubkey.0, withdrawal_credentials, amount_gwei };
    verify(&key, &message.signing_root(genesis_fork_version).0, &signature).then(|| ForeignDeposit {
        withdrawal_credentials,
        amount_gwei,
        signature: Bytes::copy_from_slice(&signature.to_eip2537()),
        block: deposit.block_number,
        transaction: deposit.transaction,
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::FixedBytes;
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;

    use super::*;

    const FORK: [u8; 4] = *b"Stkr";
    const OURS: B256 = B256::repeat_byte(1);
    const THEIRS: B256 = B256::repeat_byte(0x7e);

    fn dealer(seed: u8) -> TrustedDealer {
        TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [seed; 32])
    }

    fn order(dealer: &TrustedDealer) -> DepositOrder {
        DepositOrder {
            key_id: 1,
            pubkey: dealer.keys.group_key().to_compressed().to_vec().into(),
            withdrawal_credentials: OURS,
            amount_gwei: 1_000_000_000,
            signing_root: B256::ZERO,
            block: 5,
        }
    }

    /// A deposit with the dealer's key, signed by `signer`.
    fn deposit(dealer: &TrustedDealer, signer: &TrustedDealer, to: B256, amount_gwei: u64) -> LoggedDeposit {
        let pubkey = dealer.keys.group_key().to_compressed();
        let message = DepositMessage { pubkey, withdrawal_credentials: to, amount_gwei };
        LoggedDeposit {
            id: 1,
            pubkey: pubkey.into(),
            withdrawal_credentials: to,
            amount_gwei,
            signature: signer.group_signature(&message.signing_root(FORK).0).to_compressed().into(),
            block_number: 9,
            transaction: B256::repeat_byte(2),
        }
    }

    fn judged(dealer: &TrustedDealer, deposit: &LoggedDeposit) -> Option<ForeignDeposit> {
        foreign(&order(dealer), &dealer.keys.group_key().to_eip2537(), FORK, deposit)
    }

    #[test]
    fn a_signed_deposit_to_other_credentials_is_foreign_whatever_its_amount() {
        let dealer = dealer(1);
        for amount in [1_000_000_000, 32_000_000_000, 1] {
            let deposit = deposit(&dealer, &dealer, THEIRS, amount);
            let foreign = judged(&dealer, &deposit).unwrap();
            assert_eq!((foreign.withdrawal_credentials, foreign.amount_gwei, foreign.block), (THEIRS, amount, 9));
            let signature = Signature::from_eip2537(&foreign.signature).unwrap();
            assert_eq!(signature.to_compressed(), deposit.signature.0);
        }
    }

    #[test]
    fn a_deposit_without_the_keys_signature_over_exactly_it_stops_nothing() {
        let dealer = dealer(1);
        let good = deposit(&dealer, &dealer, THEIRS, 1_000_000_000);
        let by_a_stranger = deposit(&dealer, &super::tests::dealer(2), THEIRS, 1_000_000_000);
        let zeroes = LoggedDeposit { signature: FixedBytes::ZERO, ..good.clone() };
        let infinity = {
            let mut bytes = [0; 96];
            bytes[0] = 0xc0;
            LoggedDeposit { signature: bytes.into(), ..good.clone() }
        };
        let other_amount = LoggedDeposit { amount_gwei: 2_000_000_000, ..good.clone() };
        let other_credentials = LoggedDeposit { withdrawal_credentials: B256::repeat_byte(3), ..good.clone() };
        let of_another_network = {
            let key = dealer.keys.group_key().to_eip2537();
            foreign(&order(&dealer), &key, [0; 4], &good)
        };
        for harmless in [by_a_stranger, zeroes, infinity, other_amount, other_credentials] {
            assert_eq!(judged(&dealer, &harmless), None, "{harmless:?}");
        }
        assert_eq!(of_another_network, None);
    }

    #[test]
    fn a_deposit_to_the_pools_own_credentials_is_a_gift() {
        let dealer = dealer(1);
        for amount in [1_000_000_000, 31_000_000_000] {
            assert_eq!(judged(&dealer, &deposit(&dealer, &dealer, OURS, amount)), None);
        }
    }

    #[test]
    fn a_deposit_with_another_key_is_none_of_this_pools_business() {
        let (dealer, other) = (dealer(1), dealer(2));
        assert_eq!(judged(&dealer, &deposit(&other, &other, THEIRS, 1_000_000_000)), None);
    }
}
