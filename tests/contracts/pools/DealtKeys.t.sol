// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealtImport, IKeyRegistry, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {PoolFixture} from "./PoolFixture.sol";

/// @title A key that somebody held whole never serves a pool, whichever way it is tried
contract DealtKeysTest is PoolFixture {
    /// @dev The provider of the pool holds the whole key.
    function _import() private returns (uint256 keyId, ThresholdKeys.KeySet memory keys) {
        keys = ThresholdKeys.generate(99, 3, 4);
        DealtImport memory dealt = _deal(provider, 99);
        vm.prank(provider);
        keyId = d.keyRegistry.importDealt(dealt);
        assertEq(dealt.points, keys.points);
    }

    function test_A_pool_takes_no_group_key_but_that_of_its_own_request() public {
        (uint256 keyId, ThresholdKeys.KeySet memory dealt) = _import();
        bytes memory root = bytes.concat(_root(dealt, FOREIGN, 1e9));
        bytes memory signature = ThresholdKeys.sign(dealt.coefficients[0], bytes32(root));

        // Before the pool asked for a key, while its ceremony runs, and with its own key made.
        uint256 id = _full();
        _refuse(id, 0, dealt.groupKey, signature);
        uint256 own = pools.requestKey(id);
        _refuse(id, own, dealt.groupKey, signature);
        ThresholdKeys.KeySet memory keys = _makeLive(own);
        _refuse(id, own, dealt.groupKey, signature);
        pools.orderDeposit(id, keys.groupKey);
        bytes memory refusal = abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, own);
        vm.expectRevert(refusal);
        pools.predeposit(id, dealt.groupKey, signature);
        vm.expectRevert(refusal);
        pools.proveForeignDeposit(id, dealt.groupKey, FOREIGN, 1e9, signature);
        pools.predeposit(id, keys.groupKey, _ownSignature(id, keys));
        skip(CHALLENGE_WINDOW);
        vm.expectRevert(refusal);
        pools.topUp(id, dealt.groupKey);

        assertEq(pools.poolOfKey(keyId), 0);
        assertEq(uint256(d.keyRegistry.key(keyId).state), uint256(KeyState.Live));
    }

    function _refuse(uint256 id, uint256 own, bytes memory groupKey, bytes memory signature) private {
        bytes memory refusal = abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, own);
        vm.expectRevert(refusal);
        pools.orderDeposit(id, groupKey);
        vm.expectRevert(_revertState(id, PoolState.Full));
        pools.predeposit(id, groupKey, signature);
    }

    function test_The_ceremony_of_a_pool_cannot_end_with_a_dealt_key() public {
        uint256 id = _full();
        uint256 own = pools.requestKey(id);
        (uint256 keyId, ThresholdKeys.KeySet memory dealt) = _import();
        uint32[] memory committee = _draw(own);
        bytes memory acknowledgements = _acknowledgements(own, committee, dealt, "dealings");
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.GroupKeyTaken.selector, keyId));
        d.keyRegistry.finalise(own, committee, dealt.points, "dealings", acknowledgements);
    }

    function test_Neither_the_pools_contract_nor_the_owner_orders_a_deposit_with_it() public {
        (uint256 keyId, ThresholdKeys.KeySet memory dealt) = _import();
        uint256 id = _full();
        bytes32 root = pools.depositSigningRoot(
            BLS12381.compressG1(dealt.groupKey), pools.withdrawalCredentials(id), 1e9
        );
        address[3] memory callers = [address(pools), provider, governance];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, callers[i]));
            vm.prank(callers[i]);
            d.keyRegistry.order(keyId, root);
        }
        assertFalse(d.keyRegistry.isOrdered(keyId, root));
    }

    function test_The_duties_of_a_dealt_key_are_not_for_a_pool_to_give() public {
        (uint256 keyId,) = _import();
        (address dutyKey, uint64 number) = d.keyRegistry.dutyAssignment(keyId);
        assertEq(dutyKey, address(99));
        assertEq(number, 1);
        (dutyKey, number) = pools.dutyAssignment(keyId);
        assertEq(dutyKey, address(0));
        assertEq(number, 0);
    }
}
