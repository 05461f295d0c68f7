//! The contracts as Rust types, generated from the committed `abi/*.json`.
//!
//! The documentation of every function, event and error is in `contracts/interfaces/*.sol`; this module repeats none
//! of it, so that the two cannot drift apart. Enums come out of an ABI as bare numbers: their Rust form is in
//! [`crate::types`].
#![allow(missing_docs)]
#![allow(clippy::too_many_arguments)]

use alloy::sol;

pub use resharing::Resharing;
pub use withdrawals::WithdrawalKeys;

sol!(
    #[sol(rpc, all_derives)]
    ServerRegistry,
    "../abi/ServerRegistry.json"
);
sol!(
    #[sol(rpc, all_derives)]
    Court,
    "../abi/Court.json"
);
sol!(
    #[sol(rpc, all_derives)]
    Acknowledgements,
    "../abi/Acknowledgements.json"
);
sol!(
    #[sol(rpc, all_derives)]
    ProviderRegistry,
    "../abi/ProviderRegistry.json"
);
sol!(
    #[sol(rpc, all_derives)]
    KeyRegistry,
    "../abi/KeyRegistry.json"
);

/// Apart, for both registries bring the libraries whose errors they raise.
mod resharing {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        Resharing,
        "../abi/Resharing.json"
    );
}
/// Apart, for the pools contract brings a library whose errors it shares.
mod withdrawals {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        WithdrawalKeys,
        "../abi/WithdrawalKeys.json"
    );
}
sol!(
    #[sol(rpc, all_derives)]
    Micropools,
    "../abi/Micropools.json"
);
sol!(
    #[sol(rpc, all_derives)]
    PoolVault,
    "../abi/PoolVault.json"
);

sol! {
    /// The beacon chain's official deposit contract.
    #[sol(rpc, all_derives)]
    interface IDepositContract {
        event DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index);
        function deposit(
            bytes calldata pubkey,
            bytes calldata withdrawal_credentials,
            bytes calldata signature,
            bytes32 deposit_data_root
        ) external payable;
        function get_deposit_root() external view returns (bytes32);
        function get_deposit_count() external view returns (bytes memory);
    }
}
