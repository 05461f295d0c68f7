// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDepositContract} from "../../../contracts/interfaces/IDepositContract.sol";
import {IMicropools, Pool, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {Micropools} from "../../../contracts/pools/Micropools.sol";
import {Ceremony} from "../utils/Ceremony.sol";
import {Genesis} from "../utils/Genesis.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @title Pools in every state, on the real registries and the official deposit contract
abstract contract PoolFixture is Ceremony {
    Micropools internal pools;
    address internal provider = makeAddr("provider");

    uint256 internal constant GROUP = 32;
    bytes32 internal constant FOREIGN = bytes32(uint256(1) << 248 | 0xbad);

    function setUp() public virtual {
        _deployAll(6);
        pools = d.micropools;
        _registerProvider(provider);
    }

    function _registerProvider(address who) internal {
        uint256 secret = uint256(keccak256(abi.encode("duty key", who))) >> 1;
        bytes memory proof = _dutyKeyProof(secret, who);
        vm.prank(who);
        d.providerRegistry.register(vm.addr(secret), proof);
    }

    // ------------------------------------------------------------------------------- pools state by state

    function _open() internal returns (uint256) {
        deal(provider, 2 ether);
        vm.prank(provider);
        return pools.open{value: 2 ether}(3, 4);
    }

    function _stake(uint256 poolId, address staker, uint256 amount) internal {
        vm.deal(staker, staker.balance + amount);
        vm.prank(staker);
        pools.stake{value: amount}(poolId);
    }

    function _staker(uint256 i) internal returns (address) {
        return makeAddr(string.concat("staker", vm.toString(i)));
    }

    /// Four stakers of 8 ETH, where it does not matter how many there are.
    function _full() internal returns (uint256 poolId) {
        poolId = _open();
        for (uint256 i; i < 4; ++i) {
            _stake(poolId, _staker(i), 8 ether);
        }
    }

    function _live() internal returns (uint256 poolId, ThresholdKeys.KeySet memory keys) {
        poolId = _full();
        keys = _makeLive(pools.requestKey(poolId));
    }

    function _keyReady() internal returns (uint256 poolId, ThresholdKeys.KeySet memory keys) {
        (poolId, keys) = _live();
        pools.orderDeposit(poolId, keys.groupKey);
    }

    function _predeposited() internal returns (uint256 poolId, ThresholdKeys.KeySet memory keys) {
        (poolId, keys) = _keyReady();
        pools.predeposit(poolId, keys.groupKey, _ownSignature(poolId, keys));
    }

    function _active() internal returns (uint256 poolId, ThresholdKeys.KeySet memory keys) {
        (poolId, keys) = _predeposited();
        skip(CHALLENGE_WINDOW);
        pools.topUp(poolId, keys.groupKey);
    }

    function _cancelled() internal returns (uint256 poolId) {
        poolId = _full();
        skip(OPEN_WINDOW);
        pools.cancel(poolId);
    }

    // ----------------------------------------------------------------------------------------- signatures

    /// What three of the four servers make together.
    function _threshold(ThresholdKeys.KeySet memory keys, bytes32 root) internal view returns (bytes memory) {
        uint256[] memory indices = new uint256[](3);
        bytes[] memory partials = new bytes[](3);
        for (uint256 i; i < 3; ++i) {
            indices[i] = i + 2;
            partials[i] = ThresholdKeys.sign(keys.shares[i + 1], root);
        }
        return ThresholdKeys.combine(indices, partials);
    }

    function _root(ThresholdKeys.KeySet memory keys, bytes32 credentials, uint64 amountGwei)
        internal
        view
        returns (bytes32)
    {
        return pools.depositSigningRoot(BLS12381.compressG1(keys.groupKey), credentials, amountGwei);
    }

    function _ownSignature(uint256 poolId, ThresholdKeys.KeySet memory keys)
        internal
        view
        returns (bytes memory)
    {
        return _threshold(keys, _root(keys, pools.withdrawalCredentials(poolId), 1e9));
    }

    function _foreignSignature(ThresholdKeys.KeySet memory keys, bytes32 credentials, uint64 amountGwei)
        internal
        view
        returns (bytes memory)
    {
        return _threshold(keys, _root(keys, credentials, amountGwei));
    }

    // -------------------------------------------------------------------------------------------- reading

    function _state(uint256 poolId) internal view returns (PoolState) {
        return pools.pool(poolId).state;
    }

    function _assertState(uint256 poolId, PoolState state) internal view {
        assertEq(uint256(_state(poolId)), uint256(state), "pool state");
    }

    /// deposit_count of the official contract: eight bytes, least first.
    function _depositCount() internal view returns (uint256 count) {
        bytes memory raw = IDepositContract(Genesis.DEPOSIT_CONTRACT).get_deposit_count();
        for (uint256 i = 8; i > 0; --i) {
            count = count << 8 | uint8(raw[i - 1]);
        }
    }

    /// Root of the deposit tree over `leaves`, computed here level by level: depth 32, length mixed in.
    function _depositRoot(bytes32[] memory leaves) internal pure returns (bytes32) {
        bytes32 zero;
        bytes32[] memory level = leaves;
        for (uint256 depth; depth < 32; ++depth) {
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i; i < next.length; ++i) {
                bytes32 right = 2 * i + 1 < level.length ? level[2 * i + 1] : zero;
                next[i] = sha256(abi.encodePacked(level[2 * i], right));
            }
            zero = sha256(abi.encodePacked(zero, zero));
            level = next;
        }
        bytes32 length = bytes32(leaves.length << 248);
        return sha256(abi.encodePacked(level[0], length));
    }

    function _revertState(uint256 poolId, PoolState state) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMicropools.WrongPoolState.selector, poolId, state);
    }

    function _pool(uint256 poolId) internal view returns (Pool memory) {
        return pools.pool(poolId);
    }
}
