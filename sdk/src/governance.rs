//! Governance acts with a delay: announce a call in the AccessManager, wait, then send the call itself.

use alloy::{primitives::B256, providers::Provider, rpc::types::TransactionReceipt, sol};

use crate::{client::Stkr, write::Write};

sol! {
    /// The part of OpenZeppelin's AccessManager that governance sends itself.
    interface IAccessManager {
        event OperationScheduled(
            bytes32 indexed operationId,
            uint32 indexed nonce,
            uint48 schedule,
            address caller,
            address target,
            bytes data
        );
        function schedule(address target, bytes calldata data, uint48 when) external returns (bytes32 operationId, uint32 nonce);
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
