// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyKind, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {IWithdrawalKeys, WithdrawalKey} from "../../../contracts/interfaces/IWithdrawalKeys.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {Genesis} from "../utils/Genesis.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Stubborn} from "./Actors.sol";
import {WithdrawalKeyFixture} from "./WithdrawalKeyFixture.sol";

/// @title Withdrawal keys and the pools that use them
contract WithdrawalKeysTest is WithdrawalKeyFixture {
    address internal alice = makeAddr("alice");

    function _expect(bytes memory revertData) internal {
        vm.expectRevert(revertData);
    }

    // ------------------------------------------------------------------------------------------------ asking

    function test_The_configuration_can_be_read() public view {
        assertEq(wkeys.KEY_BOND(), 2 ether);
        assertEq(wkeys.MICROPOOLS(), address(pools));
        assertEq(wkeys.KEY_REGISTRY(), address(d.keyRegistry));
        assertEq(wkeys.GENESIS_VALIDATORS_ROOT(), VALIDATORS_ROOT);
        assertTrue(d.keyRegistry.isConsumer(address(wkeys)));
    }

    function test_A_provider_asks_for_a_withdrawal_key_and_leaves_a_bond() public {
        vm.deal(provider, 2 ether);
        vm.expectEmit(address(wkeys));
        emit IWithdrawalKeys.WithdrawalKeyRequested(1, provider);
        vm.prank(provider);
        uint256 keyId = wkeys.request{value: 2 ether}(5, 6);

        assertEq(address(wkeys).balance, 2 ether);
        Key memory key = d.keyRegistry.key(keyId);
        assertEq(uint256(key.kind), uint256(KeyKind.Withdrawal));
        assertEq(key.consumer, address(wkeys));
        assertEq(wkeys.excludedOperator(keyId), provider);
        WithdrawalKey memory it = wkeys.withdrawalKey(keyId);
        assertEq(it.provider, provider);
        assertEq(it.poolId, 0);
        assertTrue(it.bonded);
        assertFalse(it.changeShown);
    }

    function test_Nobody_but_a_provider_asks_and_never_without_the_bond() public {
        vm.deal(alice, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NotProvider.selector, alice));
        vm.prank(alice);
        wkeys.request{value: 2 ether}(5, 6);
    }

    function testFuzz_Request_TakesExactlyTheBond(uint96 value) public {
        vm.deal(provider, value);
        vm.prank(provider);
        if (value != 2 ether) {
            _expect(abi.encodeWithSelector(IWithdrawalKeys.WrongKeyBond.selector, uint256(value), 2 ether));
        }
        wkeys.request{value: value}(5, 6);
        assertEq(address(wkeys).balance, value == 2 ether ? value : 0);
    }

    function test_A_withdrawal_key_has_no_duties_and_no_provider_to_penalise() public {
        (uint256 keyId,) = _withdrawalKey();
        (address dutyKey, uint64 number) = wkeys.dutyAssignment(keyId);
        assertEq(dutyKey, address(0));
        assertEq(number, 0);
        (dutyKey, number) = d.keyRegistry.dutyAssignment(keyId);
        assertEq(dutyKey, address(0));
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoDuties.selector, keyId));
        wkeys.penaliseProvider(keyId, 1, [alice, alice], alice);
    }

    function testFuzz_PenaliseProvider_NeverOfAWithdrawalKey(uint256 keyId, uint64 number, address who)
        public
    {
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoDuties.selector, keyId));
        wkeys.penaliseProvider(keyId, number, [who, who], who);
    }

    function testFuzz_Views_know_no_key_and_no_pool_that_is_not_there(uint256 id) public view {
        assertEq(wkeys.withdrawalKey(id).provider, address(0));
        assertEq(wkeys.keyOfPool(id), 0);
        assertEq(wkeys.credentialsOf(id), 0);
        assertFalse(wkeys.isChangeShown(id));
        assertEq(wkeys.excludedOperator(id), address(0));
        (address dutyKey, uint64 number) = wkeys.dutyAssignment(id);
        assertEq(dutyKey, address(0));
        assertEq(number, 0);
    }

    // ----------------------------------------------------------------------------------------------- opening

    function test_A_pool_is_opened_with_the_credentials_of_a_withdrawal_key() public {
        (uint256 keyId, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        bytes memory pubkey = BLS12381.compressG1(w.groupKey);
        bytes32 credentials = bytes32(uint256(sha256(pubkey)) & (type(uint256).max >> 8));
        vm.expectEmit(address(wkeys));
        emit IWithdrawalKeys.WithdrawalKeyUsed(keyId, 1, pubkey, credentials);
        uint256 poolId = _openWith(w.groupKey);

        assertTrue(_pool(poolId).blsCredentials);
        assertEq(_pool(poolId).insurance, 2 ether);
        assertEq(pools.withdrawalCredentials(poolId), credentials);
        assertEq(wkeys.credentialsOf(poolId), credentials);
        assertEq(wkeys.keyOfPool(poolId), keyId);
        assertEq(wkeys.withdrawalKey(keyId).poolId, poolId);
        // A pool without one is as before.
        uint256 other = _open();
        assertFalse(_pool(other).blsCredentials);
        assertEq(uint256(pools.withdrawalCredentials(other)) >> 248, 1);
    }

    function test_A_withdrawal_key_serves_one_pool_only() public {
        (uint256 poolId, uint256 keyId, ThresholdKeys.KeySet memory w) = _openBls();
        vm.deal(provider, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.KeyInUse.selector, keyId, poolId));
        vm.prank(provider);
        pools.openWithWithdrawalKey{value: 2 ether}(3, 4, w.groupKey);
    }

    function test_Another_provider_opens_no_pool_with_it() public {
        (uint256 keyId, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        _registerProvider(alice);
        vm.deal(alice, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NotKeysProvider.selector, keyId, alice));
        vm.prank(alice);
        pools.openWithWithdrawalKey{value: 2 ether}(3, 4, w.groupKey);
    }

    /// A validator key, one nobody knows, and one that was given up or is not finished are no withdrawal keys.
    function test_Only_a_live_withdrawal_key_opens_a_pool() public {
        (, ThresholdKeys.KeySet memory validator) = _live();
        uint256 validatorKey = d.keyRegistry.keyOfGroupKey(keccak256(validator.groupKey));
        _expectNoKey(validatorKey, validator.groupKey);
        _expectNoKey(0, ThresholdKeys.publicKey(7));
        _expectNoKey(0, "");
        (uint256 keyId, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        vm.prank(provider);
        wkeys.giveUp(keyId);
        _expectNoKey(keyId, w.groupKey);
    }

    function _expectNoKey(uint256 keyId, bytes memory groupKey) private {
        vm.deal(provider, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoSuchKey.selector, keyId));
        vm.prank(provider);
        pools.openWithWithdrawalKey{value: 2 ether}(3, 4, groupKey);
    }

    function testFuzz_OpenWithWithdrawalKey_TakesNoOtherKeyOrInsurance(bytes calldata groupKey, uint96 value)
        public
    {
        vm.deal(provider, value);
        vm.prank(provider);
        if (value != 2 ether) {
            _expect(abi.encodeWithSelector(IMicropools.WrongInsurance.selector, uint256(value), 2 ether));
        } else {
            _expect(abi.encodeWithSelector(IWithdrawalKeys.NoSuchKey.selector, 0));
        }
        pools.openWithWithdrawalKey{value: value}(3, 4, groupKey);
    }

    function testFuzz_Use_IsThePoolsContractsAlone(address caller, uint256 poolId) public {
        vm.assume(caller != address(pools));
        (, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NotMicropools.selector, caller));
        vm.prank(caller);
        wkeys.use(poolId, provider, w.groupKey);
    }

    function test_Use_BindsAKeyToOnePool() public {
        (uint256 keyId, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        vm.startPrank(address(pools));
        wkeys.use(7, provider, w.groupKey);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.KeyInUse.selector, keyId, 7));
        wkeys.use(8, provider, w.groupKey);
    }

    // ----------------------------------------------------------------------------------------------- changes

    function test_The_chain_orders_a_change_to_the_pools_own_vault() public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        uint256 keyId = wkeys.keyOfPool(poolId);
        bytes memory pubkey = BLS12381.compressG1(w.groupKey);
        bytes32 root = wkeys.changeSigningRoot(INDEX, pubkey, pools.vaultOf(poolId));
        assertFalse(d.keyRegistry.isOrdered(keyId, root));
        vm.expectEmit(address(wkeys));
        emit IWithdrawalKeys.ChangeOrdered(poolId, keyId, INDEX, pubkey, pools.vaultOf(poolId), root);
        vm.prank(_staker(1));
        wkeys.orderChange(poolId, INDEX, w.groupKey);
        assertTrue(d.keyRegistry.isOrdered(keyId, root));
    }

    function test_Only_those_whose_ether_it_is_order_a_change_and_only_of_a_validator() public {
        (uint256 poolId, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w) = _predepositedBls();
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoPartOfPool.selector, poolId, alice));
        vm.prank(alice);
        wkeys.orderChange(poolId, INDEX, w.groupKey);
        _expect(
            abi.encodeWithSelector(
                IWithdrawalKeys.WrongWithdrawalKey.selector, poolId, wkeys.keyOfPool(poolId)
            )
        );
        vm.prank(provider);
        wkeys.orderChange(poolId, INDEX, v.groupKey);

        (uint256 young,, ThresholdKeys.KeySet memory other) = _openBls();
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoValidator.selector, young));
        vm.prank(provider);
        wkeys.orderChange(young, INDEX, other.groupKey);
        // One with 0x01 credentials has nothing to change.
        (uint256 plain,) = _predeposited();
        bytes memory unknown = ThresholdKeys.publicKey(7);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.WrongWithdrawalKey.selector, plain, 0));
        vm.prank(provider);
        wkeys.orderChange(plain, INDEX, unknown);
    }

    /// Whatever the index, the change is from the key to the vault; no other pool's key has it ordered.
    ///
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_OrderChange_OrdersExactlyOneMessage(uint64 index, address other) public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        uint256 keyId = wkeys.keyOfPool(poolId);
        vm.assume(other != pools.vaultOf(poolId));
        vm.prank(provider);
        wkeys.orderChange(poolId, index, w.groupKey);
        bytes memory pubkey = BLS12381.compressG1(w.groupKey);
        assertTrue(d.keyRegistry.isOrdered(keyId, _changeRoot(poolId, index, w)));
        assertFalse(d.keyRegistry.isOrdered(keyId, wkeys.changeSigningRoot(index, pubkey, other)));
        assertFalse(d.keyRegistry.isOrdered(keyId, _changeRoot(poolId, index ^ 1, w)));
        assertFalse(d.keyRegistry.isOrdered(_pool(poolId).keyId, _changeRoot(poolId, index, w)));
    }

    function test_The_committees_signature_is_shown_and_emitted() public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        _orderChange(poolId, INDEX, w);
        bytes memory signature = _changeSignature(poolId, INDEX, w);
        vm.expectEmit(address(wkeys));
        emit IWithdrawalKeys.ChangeShown(
            poolId, wkeys.keyOfPool(poolId), INDEX, BLS12381.compressG2(signature)
        );
        vm.prank(alice);
        wkeys.showChange(poolId, INDEX, w.groupKey, signature);
        assertTrue(wkeys.isChangeShown(poolId));
        // A second one, for another index, is as good.
        _orderChange(poolId, INDEX + 1, w);
        wkeys.showChange(poolId, INDEX + 1, w.groupKey, _changeSignature(poolId, INDEX + 1, w));
    }

    function test_A_signature_over_what_was_not_ordered_is_not_shown() public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        bytes memory signature = _changeSignature(poolId, INDEX, w);
        bytes32 root = _changeRoot(poolId, INDEX, w);
        uint256 keyId = wkeys.keyOfPool(poolId);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NotOrdered.selector, keyId, root));
        wkeys.showChange(poolId, INDEX, w.groupKey, signature);
    }

    /// As many shares as members are online are one short: whatever they combine to does not pass. With one more it does.
    function test_One_share_less_than_sign_makes_no_signature() public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        _orderChange(poolId, INDEX, w);
        bytes32 root = _changeRoot(poolId, INDEX, w);
        for (uint256 count = 4; count <= 5; ++count) {
            uint256[] memory indices = new uint256[](count);
            bytes[] memory partials = new bytes[](count);
            for (uint256 i; i < count; ++i) {
                (indices[i], partials[i]) = (i + 1, ThresholdKeys.sign(w.shares[i], root));
            }
            bytes memory signature = ThresholdKeys.combine(indices, partials);
            if (count == 4) {
                uint256 keyId = wkeys.keyOfPool(poolId);
                _expect(abi.encodeWithSelector(IWithdrawalKeys.InvalidChangeSignature.selector, keyId, root));
            }
            wkeys.showChange(poolId, INDEX, w.groupKey, signature);
        }
        assertTrue(wkeys.isChangeShown(poolId));
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_ShowChange_TakesTheSignatureOverThisChangeOnly(uint64 index, uint256 byteAt) public {
        (uint256 poolId, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w) = _predepositedBls();
        _orderChange(poolId, index, w);
        bytes32 root = _changeRoot(poolId, index, w);
        uint256 keyId = wkeys.keyOfPool(poolId);
        bytes memory refused =
            abi.encodeWithSelector(IWithdrawalKeys.InvalidChangeSignature.selector, keyId, root);
        bytes memory signature = _changeSignature(poolId, index, w);
        bytes memory other = _changeSignature(poolId, index ^ 1, w);
        _expect(refused);
        wkeys.showChange(poolId, index, w.groupKey, other);
        bytes memory foreign = ThresholdKeys.sign(v.coefficients[0], root);
        _expect(refused);
        wkeys.showChange(poolId, index, w.groupKey, foreign);
        bytes memory broken = bytes.concat(signature);
        byteAt = bound(byteAt, 0, 255);
        broken[byteAt] = bytes1(uint8(broken[byteAt]) ^ 1);
        _expect(refused);
        wkeys.showChange(poolId, index, w.groupKey, broken);
        assertFalse(wkeys.isChangeShown(poolId));
        wkeys.showChange(poolId, index, w.groupKey, signature);
        assertTrue(wkeys.isChangeShown(poolId));
    }

    // ---------------------------------------------------------------------------------------------- the 31 ETH

    function test_The_predeposit_goes_with_the_credentials_of_the_key() public {
        (uint256 poolId, ThresholdKeys.KeySet memory v,) = _predepositedBls();
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, 1 ether);
        // To the vault itself nobody ordered a deposit.
        bytes32 vault = bytes32(uint256(1) << 248 | uint160(pools.vaultOf(poolId)));
        pools.proveForeignDeposit(poolId, v.groupKey, vault, 1e9, _foreignSignature(v, vault, 1e9));
        _assertState(poolId, PoolState.Cancelled);
    }

    function test_The_31_ether_wait_for_a_change_that_was_shown() public {
        (uint256 poolId, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w) = _predepositedBls();
        skip(CHALLENGE_WINDOW);
        _expect(abi.encodeWithSelector(IMicropools.NoChangeShown.selector, poolId));
        pools.topUp(poolId, v.groupKey);
        _orderChange(poolId, INDEX, w);
        _expect(abi.encodeWithSelector(IMicropools.NoChangeShown.selector, poolId));
        pools.topUp(poolId, v.groupKey);
        wkeys.showChange(poolId, INDEX, w.groupKey, _changeSignature(poolId, INDEX, w));
        pools.topUp(poolId, v.groupKey);
        _assertState(poolId, PoolState.Active);
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, 32 ether);
    }

    function test_The_challenge_window_stands_as_well() public {
        (uint256 poolId, ThresholdKeys.KeySet memory v, ThresholdKeys.KeySet memory w) = _predepositedBls();
        _orderChange(poolId, INDEX, w);
        wkeys.showChange(poolId, INDEX, w.groupKey, _changeSignature(poolId, INDEX, w));
        _expect(abi.encodeWithSelector(IMicropools.TooEarly.selector, poolId, _pool(poolId).deadline));
        pools.topUp(poolId, v.groupKey);
    }

    function test_A_pool_whose_committee_signs_no_change_is_cancelled_and_its_stakers_lose_nothing() public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        uint48 end = _pool(poolId).deadline + 90 days;
        vm.warp(end - 1);
        _expect(abi.encodeWithSelector(IMicropools.TooEarly.selector, poolId, end));
        pools.cancelUnchanged(poolId);
        vm.warp(end);
        pools.cancelUnchanged(poolId);
        _assertState(poolId, PoolState.Cancelled);
        assertEq(_pool(poolId).insurance, 1 ether);
        assertEq(uint256(d.keyRegistry.key(_pool(poolId).keyId).state), uint256(KeyState.Retired));
        for (uint256 i; i < 4; ++i) {
            vm.prank(_staker(i));
            pools.refund(poolId);
            assertEq(_staker(i).balance, 8 ether);
        }
        // The withdrawal key is of no more use, and anybody gives it up.
        wkeys.giveUp(wkeys.keyOfPool(poolId));
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NoValidator.selector, poolId));
        vm.prank(provider);
        wkeys.orderChange(poolId, INDEX, w.groupKey);
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CancelUnchanged_OnlyAPoolThatWaitsForAChangeInVain(uint32 time, bool shown) public {
        (uint256 poolId,, ThresholdKeys.KeySet memory w) = _predepositedBls();
        (uint256 plain,) = _predeposited();
        uint48 end = _pool(poolId).deadline + pools.CHANGE_WINDOW();
        if (shown) {
            _orderChange(poolId, INDEX, w);
            wkeys.showChange(poolId, INDEX, w.groupKey, _changeSignature(poolId, INDEX, w));
        }
        skip(time % 200 days);
        _expect(abi.encodeWithSelector(IMicropools.NoWithdrawalKey.selector, plain));
        pools.cancelUnchanged(plain);
        bool due = block.timestamp >= end;
        if (shown) _expect(abi.encodeWithSelector(IMicropools.ChangeShown.selector, poolId));
        else if (!due) _expect(abi.encodeWithSelector(IMicropools.TooEarly.selector, poolId, end));
        pools.cancelUnchanged(poolId);
        _assertState(poolId, due && !shown ? PoolState.Cancelled : PoolState.Predeposited);
    }

    // --------------------------------------------------------------------------------------- giving up, bonds

    function test_Only_its_provider_gives_up_a_key_and_none_in_use() public {
        (uint256 poolId, uint256 keyId,) = _openBls();
        _expect(abi.encodeWithSelector(IWithdrawalKeys.KeyInUse.selector, keyId, poolId));
        vm.prank(provider);
        wkeys.giveUp(keyId);
        uint256 second = _requestWithdrawalKey(provider);
        vm.prank(provider);
        wkeys.giveUp(second);
        assertEq(uint256(d.keyRegistry.key(second).state), uint256(KeyState.Retired));
    }

    function testFuzz_GiveUp_NeverByAStranger(address caller) public {
        vm.assume(caller != provider);
        uint256 keyId = _requestWithdrawalKey(provider);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.NotKeysProvider.selector, keyId, caller));
        vm.prank(caller);
        wkeys.giveUp(keyId);
    }

    function test_The_bond_comes_back_when_a_pool_uses_the_key() public {
        (uint256 keyId, ThresholdKeys.KeySet memory w) = _withdrawalKey();
        _expect(abi.encodeWithSelector(IWithdrawalKeys.BondNotFree.selector, keyId));
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
        _openWith(w.groupKey);
        vm.expectEmit(address(wkeys));
        emit IWithdrawalKeys.KeyBondReturned(keyId, provider, 2 ether);
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
        assertEq(provider.balance, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.BondNotFree.selector, keyId));
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
    }

    /// Who takes seats and gives them up pays for as long as they stay taken.
    function test_The_bond_of_a_key_that_was_given_up_stays_as_long_as_its_seats() public {
        (uint256 keyId,) = _withdrawalKey();
        vm.prank(provider);
        wkeys.giveUp(keyId);
        skip(36 days - 1);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.BondNotFree.selector, keyId));
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
        skip(1);
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
        assertEq(provider.balance, 2 ether);
        assertEq(address(wkeys).balance, 0);
    }

    function test_A_provider_that_takes_no_ether_keeps_its_bond_where_it_is() public {
        address stubborn = address(new Stubborn());
        _registerProvider(stubborn);
        uint256 keyId = _requestWithdrawalKey(stubborn);
        vm.prank(stubborn);
        wkeys.giveUp(keyId);
        Stubborn(payable(stubborn)).setAccepts(false);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.TransferFailed.selector, stubborn, 2 ether));
        vm.prank(stubborn);
        wkeys.withdrawKeyBond(keyId);
        assertTrue(wkeys.withdrawalKey(keyId).bonded);
    }

    function testFuzz_WithdrawKeyBond_GoesToTheProviderOnceAndNeverBeforeItIsFree(address caller, uint32 time)
        public
    {
        uint256 keyId = _requestWithdrawalKey(provider);
        vm.prank(provider);
        wkeys.giveUp(keyId);
        // It never was Live: its seats come free at once.
        skip(time);
        if (caller != provider) {
            _expect(abi.encodeWithSelector(IWithdrawalKeys.NotKeysProvider.selector, keyId, caller));
            vm.prank(caller);
            wkeys.withdrawKeyBond(keyId);
        }
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
        assertEq(provider.balance, 2 ether);
        _expect(abi.encodeWithSelector(IWithdrawalKeys.BondNotFree.selector, keyId));
        vm.prank(provider);
        wkeys.withdrawKeyBond(keyId);
    }

    /// Nobody but this contract orders anything for its keys, nor gives one up.
    function test_The_registry_obeys_nobody_else_for_a_withdrawal_key() public {
        (uint256 keyId,) = _withdrawalKey();
        vm.startPrank(address(pools));
        _expect(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, address(pools)));
        d.keyRegistry.order(keyId, "root");
        _expect(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, address(pools)));
        d.keyRegistry.retire(keyId, true);
    }

    /// Independent of the library: containers hashed by hand.
    function testFuzz_ChangeSigningRoot_IsThatOfTheConsensusSpecs(uint64 index, bytes32 half, address account)
        public
        view
    {
        bytes memory pubkey = bytes.concat(half, bytes16(half));
        bytes memory little = new bytes(32);
        for (uint256 i; i < 8; ++i) {
            little[i] = bytes1(uint8(index >> (8 * i)));
        }
        bytes32 left = sha256(bytes.concat(little, sha256(bytes.concat(pubkey, new bytes(16)))));
        bytes32 right = sha256(bytes.concat(bytes20(account), new bytes(12), new bytes(32)));
        bytes32 fork = sha256(bytes.concat(FORK_VERSION, new bytes(28), VALIDATORS_ROOT));
        bytes32 domain = bytes32(bytes.concat(hex"0a000000", bytes28(fork)));
        bytes32 expected = sha256(bytes.concat(sha256(bytes.concat(left, right)), domain));
        assertEq(wkeys.changeSigningRoot(index, pubkey, account), expected);
    }

    receive() external payable {}
}
