// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC6909} from "@openzeppelin/contracts/interfaces/IERC6909.sol";
import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools, Pool, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {DepositRoots} from "../../../contracts/libraries/DepositRoots.sol";
import {Genesis} from "../utils/Genesis.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {PoolFixture} from "./PoolFixture.sol";

/// @notice Each call from every state, at any time, by anybody: what it changes, and that it changes nothing else.
contract MicropoolsFuzzTest is PoolFixture {
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");

    mapping(PoolState => uint256 poolId) private _poolIn;
    /// Keys of the pools that have some, encoded.
    mapping(PoolState => bytes) private _keysIn;

    /// A pool in every state, made once for all runs.
    function setUp() public override {
        super.setUp();
        _poolIn[PoolState.None] = 99;
        _poolIn[PoolState.Cancelled] = _cancelled();
        ThresholdKeys.KeySet memory keys;
        (_poolIn[PoolState.Active], keys) = _active();
        _keysIn[PoolState.Active] = abi.encode(keys);
        (_poolIn[PoolState.Predeposited], keys) = _predeposited();
        _keysIn[PoolState.Predeposited] = abi.encode(keys);
        (_poolIn[PoolState.KeyReady], keys) = _keyReady();
        _keysIn[PoolState.KeyReady] = abi.encode(keys);
        (_poolIn[PoolState.Full], keys) = _live();
        _keysIn[PoolState.Full] = abi.encode(keys);
        _poolIn[PoolState.Open] = _open();
        _stake(_poolIn[PoolState.Open], _staker(0), 8 ether);
    }

    /// The pool in this state; `keys` is empty where it has none. A Full pool has a Live key.
    function _in(PoolState state) internal view returns (uint256 id, ThresholdKeys.KeySet memory keys) {
        id = _poolIn[state];
        if (_keysIn[state].length != 0) keys = abi.decode(_keysIn[state], (ThresholdKeys.KeySet));
        assertEq(uint8(_state(id)), uint8(state));
    }

    function _someState(uint8 seed) internal pure returns (PoolState) {
        return PoolState(seed % 7);
    }

    /// Either before the deadline, at it, or after it.
    function _skip(uint256 id, uint32 wait) internal {
        uint48 deadline = _pool(id).deadline;
        if (wait % 3 == 0 && deadline > block.timestamp) vm.warp(deadline);
        else skip(bound(wait, 0, 60 days));
    }

    // ------------------------------------------------------------------------------------------ key and order

    function testFuzz_requestKey_asks_once_for_a_full_pool_whoever_calls(
        address caller,
        uint8 state,
        uint32 wait
    ) public {
        PoolState before = _someState(state);
        // A Full pool, without a key yet or with one.
        bool fresh = before == PoolState.Full && state % 2 == 0;
        uint256 id;
        if (fresh) id = _full();
        else (id,) = _in(before);
        _skip(id, wait);
        Pool memory p = _pool(id);
        uint256 keyCount = d.keyRegistry.keyCount();

        if (before != PoolState.Full) {
            vm.expectRevert(_revertState(id, before));
        } else if (!fresh) {
            vm.expectRevert(abi.encodeWithSelector(IMicropools.KeyAlreadyRequested.selector, id, p.keyId));
        } else {
            p.keyId = uint64(keyCount) + 1;
            p.deadline = uint48(block.timestamp) + KEY_WINDOW;
        }
        vm.prank(caller);
        pools.requestKey(id);
        assertEq(abi.encode(_pool(id)), abi.encode(p));
        assertEq(d.keyRegistry.keyCount(), fresh ? keyCount + 1 : keyCount);
        if (fresh) {
            assertEq(pools.poolOfKey(p.keyId), id);
            assertEq(pools.excludedOperator(p.keyId), provider);
        }
    }

    function testFuzz_orderDeposit_orders_exactly_one_message_for_the_vault(
        uint256 seed,
        bytes32 other,
        address caller
    ) public {
        uint256 id = _full();
        ThresholdKeys.KeySet memory keys =
            _makeLive(pools.requestKey(id), uint256(keccak256(abi.encode(seed))));
        Pool memory p = _pool(id);
        bytes memory pubkey = BLS12381.compressG1(keys.groupKey);
        bytes32 credentials = bytes32(abi.encodePacked(hex"010000000000000000000000", pools.vaultOf(id)));
        bytes32 root = DepositRoots.depositSigningRoot(FORK_VERSION, pubkey, credentials, 1e9);
        vm.assume(other != root);

        uint256 held = address(pools).balance;
        vm.prank(caller);
        pools.orderDeposit(id, keys.groupKey);
        p.state = PoolState.KeyReady;
        p.deadline = uint48(block.timestamp) + PREDEPOSIT_WINDOW;
        assertEq(abi.encode(_pool(id)), abi.encode(p));
        assertTrue(d.keyRegistry.isOrdered(p.keyId, root));
        assertFalse(d.keyRegistry.isOrdered(p.keyId, other));
        assertGt(pools.vaultOf(id).code.length, 0);
        assertEq(address(pools).balance, held, "an order costs nothing");
    }

    function testFuzz_orderDeposit_takes_no_other_bytes_for_the_group_key(bytes calldata garbage, uint256 bit)
        public
    {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _in(PoolState.Full);
        vm.assume(keccak256(garbage) != keccak256(keys.groupKey));
        bytes memory refusal = abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, _pool(id).keyId);
        vm.expectRevert(refusal);
        pools.orderDeposit(id, garbage);
        keys.groupKey[bit % 128] ^= bytes1(uint8(1) << uint8((bit >> 8) % 8));
        vm.expectRevert(refusal);
        pools.orderDeposit(id, keys.groupKey);
        _assertState(id, PoolState.Full);
        assertEq(pools.vaultOf(id).code.length, 0);
    }

    // ------------------------------------------------------------------------------------------------ deposits

    /// The same committee signs anything: only one message of all is the one that was ordered.
    function testFuzz_predeposit_takes_the_signature_over_the_ordered_message_only(
        bytes32 credentials,
        uint64 amountGwei,
        uint8 same,
        address caller
    ) public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _in(PoolState.KeyReady);
        bytes32 own = pools.withdrawalCredentials(id);
        if (same % 4 < 2) credentials = own;
        if (same % 4 > 0) amountGwei = 1e9;
        bool good = credentials == own && amountGwei == 1e9;
        bytes memory signature = _foreignSignature(keys, credentials, amountGwei);
        Pool memory p = _pool(id);
        uint256 held = address(pools).balance;
        uint256 deposited = Genesis.DEPOSIT_CONTRACT.balance;
        if (!good) {
            vm.expectRevert(
                abi.encodeWithSelector(IMicropools.InvalidSignature.selector, id, _root(keys, own, 1e9))
            );
        }
        vm.prank(caller);
        pools.predeposit(id, keys.groupKey, signature);
        if (good) {
            p.state = PoolState.Predeposited;
            p.deadline = uint48(block.timestamp) + CHALLENGE_WINDOW;
        }
        assertEq(abi.encode(_pool(id)), abi.encode(p));
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, good ? deposited + 1 ether : deposited);
        assertEq(address(pools).balance, good ? held - 1 ether : held);
    }

    function testFuzz_topUp_sends_31_ether_once_from_the_end_of_the_window_on(
        uint8 state,
        uint32 wait,
        bool wrongKey,
        address caller
    ) public {
        PoolState before = state % 2 == 0 ? PoolState.Predeposited : _someState(state / 2);
        (uint256 id, ThresholdKeys.KeySet memory keys) = _in(before);
        _skip(id, wait);
        Pool memory p = _pool(id);
        bytes memory groupKey = wrongKey ? ThresholdKeys.publicKey(7) : keys.groupKey;

        bool sends;
        if (before != PoolState.Predeposited) {
            vm.expectRevert(_revertState(id, before));
        } else if (block.timestamp < p.deadline) {
            vm.expectRevert(abi.encodeWithSelector(IMicropools.TooEarly.selector, id, p.deadline));
        } else if (wrongKey) {
            vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, p.keyId));
        } else {
            sends = true;
        }
        uint256 held = address(pools).balance;
        uint256 deposited = Genesis.DEPOSIT_CONTRACT.balance;
        vm.prank(caller);
        pools.topUp(id, groupKey);
        if (sends) (p.state, p.deadline) = (PoolState.Active, 0);
        assertEq(abi.encode(_pool(id)), abi.encode(p));
        assertEq(address(pools).balance, sends ? held - 31 ether : held);
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, sends ? deposited + 31 ether : deposited);
    }

    // ------------------------------------------------------------------------------------------------ ways out

    function testFuzz_cancel_works_for_anyone_from_the_deadline_on_and_never_after_the_predeposit(
        uint8 state,
        uint32 wait,
        address caller
    ) public {
        PoolState before = _someState(state);
        (uint256 id,) = _in(before);
        _skip(id, wait);
        Pool memory p = _pool(id);
        KeyState key = d.keyRegistry.key(p.keyId).state;

        bool cancels;
        if (before < PoolState.Open || before > PoolState.KeyReady) {
            vm.expectRevert(_revertState(id, before));
        } else if (block.timestamp < p.deadline) {
            vm.expectRevert(abi.encodeWithSelector(IMicropools.TooEarly.selector, id, p.deadline));
        } else {
            cancels = true;
        }
        uint256 held = address(pools).balance;
        vm.prank(caller);
        pools.cancel(id);
        if (cancels) (p.state, p.deadline) = (PoolState.Cancelled, 0);
        assertEq(abi.encode(_pool(id)), abi.encode(p));
        assertEq(address(pools).balance, held, "ether leaves to its owners only");
        if (cancels && p.keyId != 0) key = KeyState.Retired;
        assertEq(uint8(d.keyRegistry.key(p.keyId).state), uint8(key));
    }

    function testFuzz_refund_pays_each_holder_its_position_once_and_nobody_else(
        uint256[5] memory amounts,
        address stranger
    ) public {
        uint256 id = _open();
        uint256 others = address(pools).balance - 2 ether;
        uint256 left = 31.5 ether;
        for (uint256 i; i < amounts.length; ++i) {
            if (left < 0.5 ether) amounts[i] = 0;
            else amounts[i] = amounts[i] % 4 == 0 ? 0 : bound(amounts[i], 0.5 ether, left);
            if (amounts[i] == 0) continue;
            left -= amounts[i];
            _stake(id, _staker(i), amounts[i]);
            vm.assume(stranger != _staker(i));
        }
        vm.expectRevert(_revertState(id, PoolState.Open));
        vm.prank(_staker(0));
        pools.refund(id);
        skip(OPEN_WINDOW);
        pools.cancel(id);

        uint256 staked = 31.5 ether - left;
        for (uint256 i; i < amounts.length; ++i) {
            address holder = _staker(i);
            uint256 had = holder.balance;
            if (amounts[i] != 0) {
                vm.prank(holder);
                pools.refund(id);
            }
            staked -= amounts[i];
            assertEq(holder.balance, had + amounts[i]);
            assertEq(pools.balanceOf(holder, id), 0);
            assertEq(_pool(id).staked, staked);
            assertEq(address(pools).balance, others + staked + 2 ether, "the insurance is not theirs");
            vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, holder));
            vm.prank(holder);
            pools.refund(id);
        }
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, stranger));
        vm.prank(stranger);
        pools.refund(id);
    }

    function testFuzz_withdrawInsurance_goes_to_the_provider_of_a_cancelled_pool_only(
        uint8 state,
        uint8 foreign,
        address caller
    ) public {
        vm.assume(caller != provider);
        PoolState before = _someState(state);
        (uint256 id, ThresholdKeys.KeySet memory keys) = _in(before);
        uint256 left = 2 ether;
        bool provable = before == PoolState.KeyReady || before == PoolState.Predeposited;
        if (foreign % 2 == 0 && provable) {
            if (before == PoolState.Predeposited) left = 1 ether;
            pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, _foreignSignature(keys, FOREIGN, 1e9));
            before = PoolState.Cancelled;
        }
        uint256 held = address(pools).balance;
        uint256 had = provider.balance;
        bytes memory refusal = _revertState(id, before);
        bool pays = before == PoolState.Cancelled;
        if (pays) refusal = abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, caller);
        vm.expectRevert(refusal);
        vm.prank(caller);
        pools.withdrawInsurance(id);

        if (!pays) vm.expectRevert(refusal);
        vm.prank(provider);
        pools.withdrawInsurance(id);
        assertEq(provider.balance, pays ? had + left : had);
        assertEq(address(pools).balance, pays ? held - left : held);
        if (!pays) return;
        assertEq(_pool(id).insurance, 0);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, provider));
        vm.prank(provider);
        pools.withdrawInsurance(id);
    }

    // ----------------------------------------------------------------------------------------------- positions

    function testFuzz_approve_lets_one_spender_move_that_much_of_one_pool(
        address spender,
        address other,
        uint256 amount,
        uint256 next,
        uint256 pool
    ) public {
        vm.assume(spender != address(0) && spender != other);
        uint256 id = _open();
        vm.assume(pool != id);
        vm.expectEmit(address(pools));
        emit IERC6909.Approval(alice, spender, id, amount);
        vm.prank(alice);
        pools.approve(spender, id, amount);
        assertEq(pools.allowance(alice, spender, id), amount);
        assertEq(pools.allowance(alice, spender, pool), 0, "another pool");
        assertEq(pools.allowance(alice, other, id), 0, "another spender");
        assertEq(pools.allowance(spender, alice, id), 0, "the other way");
        assertFalse(pools.isOperator(alice, spender));
        vm.prank(alice);
        pools.approve(spender, id, next);
        assertEq(pools.allowance(alice, spender, id), next, "replaced, not added");
    }

    function testFuzz_setOperator_holds_for_one_pair_until_it_is_taken_back(address operator, address other)
        public
    {
        vm.assume(operator != address(0) && operator != other && operator != alice && other != alice);
        uint256 id = _open();
        _stake(id, alice, 2 ether);
        vm.expectEmit(address(pools));
        emit IERC6909.OperatorSet(alice, operator, true);
        vm.prank(alice);
        pools.setOperator(operator, true);
        assertTrue(pools.isOperator(alice, operator));
        assertFalse(pools.isOperator(alice, other));
        assertFalse(pools.isOperator(operator, alice));
        assertEq(pools.allowance(alice, operator, id), 0);
        vm.prank(operator);
        pools.transferFrom(alice, bob, id, 1 ether);
        assertEq(pools.balanceOf(bob, id), 1 ether);

        vm.prank(alice);
        pools.setOperator(operator, false);
        assertFalse(pools.isOperator(alice, operator));
        vm.expectRevert(
            abi.encodeWithSelector(ERC6909.ERC6909InsufficientAllowance.selector, operator, 0, 1 ether, id)
        );
        vm.prank(operator);
        pools.transferFrom(alice, bob, id, 1 ether);
    }

    /// Against the rule in words: the spender may, the owner has it, and both positions are 0 or half an ether at least.
    function testFuzz_transferFrom_spends_the_allowance_and_keeps_the_rule(
        uint256 held,
        uint256 allowed,
        uint256 amount,
        uint256 receiver,
        uint8 as_
    ) public {
        uint256 id = _open();
        held = bound(held, 0.5 ether, 20 ether);
        amount = amount % 3 == 0 ? held : bound(amount, 0, held + 1);
        allowed = allowed % 3 == 0 ? type(uint256).max : bound(allowed, 0, 2 * held);
        receiver = receiver % 2 == 0 ? 0 : bound(receiver, 0.5 ether, 11 ether);
        _stake(id, alice, held);
        if (receiver != 0) _stake(id, bob, receiver);
        // The owner itself, its operator, or a spender with an allowance.
        address spender = as_ % 3 == 0 ? alice : makeAddr("spender");
        vm.startPrank(alice);
        pools.approve(spender, id, allowed);
        if (as_ % 3 == 1) pools.setOperator(spender, true);
        vm.stopPrank();

        bool may = as_ % 3 != 2 || allowed >= amount;
        bool good = may && amount <= held && (held == amount || held - amount >= 0.5 ether)
            && (receiver + amount == 0 || receiver + amount >= 0.5 ether);
        vm.prank(spender);
        (bool success,) = address(pools).call(abi.encodeCall(ERC6909.transferFrom, (alice, bob, id, amount)));
        assertEq(success, good);
        uint256 moved = good ? amount : 0;
        assertEq(pools.balanceOf(alice, id), held - moved);
        assertEq(pools.balanceOf(bob, id), receiver + moved);
        assertEq(_pool(id).staked, held + receiver, "a transfer is no matter of the pool");
        bool spent = as_ % 3 == 2 && allowed != type(uint256).max;
        assertEq(pools.allowance(alice, spender, id), spent ? allowed - moved : allowed);
    }

    // ------------------------------------------------------------------------------------------------- reading

    function testFuzz_vaultOf_is_the_address_that_the_order_deploys_to(uint256 id, uint256 other)
        public
        view
    {
        vm.assume(id != other);
        // CREATE2 of an EIP-1167 clone with the pool's id behind it, spelt out.
        bytes memory code = abi.encodePacked(
            hex"61004d3d81600a3d39f3363d3d373d3d3d363d73",
            pools.VAULT_IMPLEMENTATION(),
            hex"5af43d82803e903d91602b57fd5bf3",
            abi.encode(id)
        );
        bytes32 hash = keccak256(abi.encodePacked(hex"ff", pools, id, keccak256(code)));
        address vault = address(uint160(uint256(hash)));
        assertEq(pools.vaultOf(id), vault);
        assertNotEq(pools.vaultOf(other), vault);
        assertEq(
            pools.withdrawalCredentials(id), bytes32(abi.encodePacked(hex"010000000000000000000000", vault))
        );
    }

    function testFuzz_depositSigningRoot_is_that_of_the_consensus_specs(
        bytes32 first,
        bytes16 rest,
        bytes32 credentials,
        uint64 amountGwei
    ) public view {
        bytes8 amount;
        for (uint256 i; i < 8; ++i) {
            amount |= bytes8(bytes1(uint8(amountGwei >> (8 * i)))) >> (8 * i);
        }
        // hash_tree_root(DepositMessage) and compute_signing_root with the deposit domain.
        bytes32 message = sha256(
            abi.encodePacked(
                sha256(abi.encodePacked(sha256(abi.encodePacked(first, rest, bytes16(0))), credentials)),
                sha256(abi.encodePacked(amount, bytes24(0), bytes32(0)))
            )
        );
        bytes32 fork = sha256(abi.encodePacked(FORK_VERSION, bytes28(0), bytes32(0)));
        bytes32 domain = bytes32(abi.encodePacked(hex"03000000", bytes28(fork)));
        assertEq(
            pools.depositSigningRoot(abi.encodePacked(first, rest), credentials, amountGwei),
            sha256(abi.encodePacked(message, domain))
        );
    }

    function testFuzz_Views_know_no_pool_key_or_position_that_is_not_there(
        uint256 id,
        uint256 keyId,
        address account
    ) public view {
        (uint256 there,) = _in(PoolState.Full);
        uint256 key = _pool(there).keyId;
        vm.assume((id == 0 || id > pools.poolCount()) && (keyId == 0 || keyId > key));
        Pool memory none;
        assertEq(abi.encode(pools.pool(id)), abi.encode(none));
        assertEq(pools.poolOfKey(keyId), 0);
        assertEq(pools.excludedOperator(keyId), address(0));
        (address dutyKey, uint64 number) = pools.dutyAssignment(keyId);
        assertEq(dutyKey, address(0));
        assertEq(number, 0);
        assertEq(pools.balanceOf(account, id), 0);
        assertEq(pools.poolOfKey(key), there);
        assertEq(pools.excludedOperator(key), provider);
        (dutyKey, number) = pools.dutyAssignment(key);
        assertEq(dutyKey, d.providerRegistry.dutyKey(provider));
        assertEq(number, 1);
    }

    function testFuzz_supportsInterface_of_ERC6909_and_ERC165_only(bytes4 other) public view {
        bytes4 erc6909 = 0x0f632fb3;
        vm.assume(other != erc6909 && other != type(IERC165).interfaceId);
        assertTrue(pools.supportsInterface(erc6909));
        assertTrue(pools.supportsInterface(type(IERC165).interfaceId));
        assertFalse(pools.supportsInterface(other));
    }
}
