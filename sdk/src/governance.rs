//! Governance acts with a delay: announce a call in the AccessManager, wait, then send the call itself.

use alloy::{primitives::B256, providers::Provider, rpc::types::TransactionReceipt, sol};

use crate::{client::Stkr, write::Write};

/// AccessManager's role that grants roles and maps functions to them.
pub(crate) const ADMIN: u64 = 0;
/// The role that the deploy script maps every restricted function to (script/Deployer.sol).
pub(crate) const GOVERNANCE: u64 = 1;

sol! {
    /// The part of OpenZeppelin's AccessManager that governance sends itself, and what tells who governs.
    #[sol(rpc)]
    #[derive(Debug, PartialEq, Eq)]
    interface IAccessManager {
        error AccessManagerAlreadyScheduled(bytes32 operationId);
        error AccessManagerNotScheduled(bytes32 operationId);
        error AccessManagerNotReady(bytes32 operationId);
        error AccessManagerExpired(bytes32 operationId);
        error AccessManagerUnauthorizedAccount(address msgsender, uint64 roleId);
        error AccessManagerUnauthorizedCall(address caller, address target, bytes4 selector);
        event RoleGranted(uint64 indexed roleId, address indexed account, uint32 delay, uint48 since, bool newMember);
        event OperationScheduled(
            bytes32 indexed operationId,
            uint32 indexed nonce,
            uint48 schedule,
            address caller,
            address target,
            bytes data
        );
        function schedule(address target, bytes calldata data, uint48 when) external returns (bytes32 operationId, uint32 nonce);
        function getAccess(uint64 roleId, address account) external view returns (uint48 since, uint32 currentDelay, uint32 pendingDelay, uint48 effect);
        function getRoleAdmin(uint64 roleId) external view returns (uint64);
        function getTargetFunctionRole(address target, bytes4 selector) external view returns (uint64);
    }
}

impl<P: Provider> Stkr<P> {
    /// Announces a governance call (`servers().approve(..)` and the like) at the earliest time its delay allows; makes
    /// the operation's id. When the delay is over the same account sends the call itself, unchanged.
    pub fn schedule<T>(&self, write: &Write<'_, P, T>) -> Write<'_, P, B256> {
        let request = write.unsigned();
        let call = IAccessManager::scheduleCall {
            target: request.to.and_then(|to| to.to().copied()).unwrap_or_default(),
            data: request.input.into_input().unwrap_or_default(),
            when: Default::default(),
        };
        self.write(self.deployment().access_manager, "announcing the call", &call, operation_id)
    }
}

fn operation_id(receipt: &TransactionReceipt) -> Option<B256> {
    receipt.decoded_log::<IAccessManager::OperationScheduled>().map(|event| event.data.operationId)
}
