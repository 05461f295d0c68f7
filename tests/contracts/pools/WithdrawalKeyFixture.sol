// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {IWithdrawalKeys} from "../../../contracts/interfaces/IWithdrawalKeys.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {PoolFixture} from "./PoolFixture.sol";

/// @title Pools with 0x00 credentials in every state; withdrawal keys are 5-of-6 over four online and two offline servers
abstract contract WithdrawalKeyFixture is PoolFixture {
    IWithdrawalKeys internal wkeys;

    uint64 internal constant INDEX = 1_234_567;

    function setUp() public virtual override {
        super.setUp();
        _addWithdrawalKeys();
    }

    function _addWithdrawalKeys() internal {
        wkeys = pools.WITHDRAWAL_KEYS();
        for (uint256 i; i < 3; ++i) {
            _approveServer(ServerKind.Offline);
        }
    }

    function _requestWithdrawalKey(address who) internal returns (uint256) {
        vm.deal(who, who.balance + 2 ether);
        vm.prank(who);
        return wkeys.request{value: 2 ether}(5, 6);
    }

    function _withdrawalKey() internal returns (uint256 keyId, ThresholdKeys.KeySet memory w) {
        keyId = _requestWithdrawalKey(provider);
        w = _makeLive(keyId);
    }

    function _openWith(bytes memory groupKey) internal returns (uint256) {
        vm.deal(provider, provider.balance + 2 ether);
        vm.prank(provider);
        return pools.openWithWithdrawalKey{value: 2 ether}(3, 4, groupKey);
    }

    function _openBls() internal returns (uint256 poolId, uint256 keyId, ThresholdKeys.KeySet memory w) {
        (keyId, w) = _withdrawalKey();
        poolId = _openWith(w.groupKey);
    }

    /// A pool whose 1 ETH has gone, with its validator key and its withdrawal key.
    function _predepositedBls()
        internal
        returns (uint256 poolId, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w)
    {
        (poolId,, w) = _openBls();
        for (uint256 i; i < 4; ++i) {
            _stake(poolId, _staker(i), 8 ether);
        }
        v = _makeLive(pools.requestKey(poolId));
        pools.orderDeposit(poolId, v.groupKey);
        pools.predeposit(poolId, v.groupKey, _ownSignature(poolId, v));
    }

    function _orderChange(uint256 poolId, uint64 index, ThresholdKeys.KeySet memory w) internal {
        vm.prank(provider);
        wkeys.orderChange(poolId, index, w.groupKey);
    }

    function _changeRoot(uint256 poolId, uint64 index, ThresholdKeys.KeySet memory w)
        internal
        view
        returns (bytes32)
    {
        return wkeys.changeSigningRoot(index, BLS12381.compressG1(w.groupKey), pools.vaultOf(poolId));
    }

    /// What five of the six members make together, the second offline one among them.
    function _changeSignature(uint256 poolId, uint64 index, ThresholdKeys.KeySet memory w)
        internal
        view
        returns (bytes memory)
    {
        bytes32 root = _changeRoot(poolId, index, w);
        uint256[] memory indices = new uint256[](5);
        bytes[] memory partials = new bytes[](5);
        for (uint256 i; i < 5; ++i) {
            indices[i] = i + 2;
            partials[i] = ThresholdKeys.sign(w.shares[i + 1], root);
        }
        return ThresholdKeys.combine(indices, partials);
    }
}
