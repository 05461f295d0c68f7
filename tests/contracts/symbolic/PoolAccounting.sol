// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {KeyKind} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Pool, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {Micropools} from "../../../contracts/pools/Micropools.sol";
import {Straight} from "./Straight.sol";

/// @notice The registries as far as a pool's books depend on them: everybody is a provider, keys are never refused.
contract Registries {
    uint8 public constant MAX_MEMBERS = 16;
    uint256 private keys;

    function isProvider(address) external pure returns (bool) {
        return true;
    }

    function request(KeyKind, uint8, uint8) external returns (uint256) {
        return ++keys;
    }

    function retire(uint256, bool) external {}
}

/// @title The books of Micropools, for every state, caller and amount at once
/// @notice Each check is one step of an induction: storage is arbitrary as far as P2 and P3 held before, anybody makes any
/// one call, and the sentence holds after it. The sentences are those of docs/invariants.md.
/// @dev Not reached: the four steps that hash with SHA-256 or use the BLS precompiles (order, predeposit, foreign deposit,
/// top-up), which Halmos does not model, and callers with code. The fuzzed invariants have both.
contract PoolAccountingCheck is Test {
    using Straight for bool;

    uint256 private constant HALF = 0.5 ether;
    uint256 private constant SIZE = 32 ether;
    /// What every caller has: more than all ether there is.
    uint256 private constant PURSE = 2 ** 96;

    /// Which call: from `action` on, each uses what it needs of the rest.
    struct Call {
        uint8 action;
        address caller;
        address from;
        address to;
        uint256 id;
        uint256 amount;
        uint8 threshold;
        uint8 members;
    }

    /// The pool called, and the accounts whose positions the call may change (twice the same if there is one only).
    struct Books {
        Pool pool;
        address a;
        address b;
        uint256 positions;
    }

    Micropools private pools;

    function setUp() public {
        address registries = address(new Registries());
        pools = new Micropools(
            Micropools.Config({
                keyRegistry: registries,
                providerRegistry: registries,
                depositContract: registries,
                genesisForkVersion: 0,
                genesisValidatorsRoot: 0,
                openWindow: 7 days,
                keyWindow: 7 days,
                predepositWindow: 7 days,
                challengeWindow: 12 hours
            })
        );
        vm.setArbitraryStorage(address(pools));
    }

    // ------------------------------------------------------------------------------------------------ sentences

    /// P1: the balance changes by what the pool called is owed, and no other pool is owed more or less than before.
    function check_P1_the_balance_moves_with_what_is_owed(Call memory c, uint256 balance, uint256 other)
        public
    {
        Books memory before = _prepare(c, balance);
        vm.assume(other != c.id);
        uint256 elsewhere = _owed(pools.pool(other));
        _perform(c);
        assertEq(address(pools).balance + _owed(before.pool), balance + _owed(pools.pool(c.id)));
        assertEq(_owed(pools.pool(other)), elsewhere);
    }

    /// P2: a position is 0.5 ETH at least, or none; those that the call may change move with `staked`, no third one moves.
    function check_P2_positions_are_half_an_ether_and_add_up(Call memory c, uint256 balance, address third)
        public
    {
        Books memory before = _prepare(c, balance);
        vm.assume((third != before.a).both(third != before.b));
        uint256 thirds = pools.balanceOf(third, c.id);
        _perform(c);
        Books memory afterwards = _books(c);
        assertTrue(_positionsAreSound(afterwards, c.id));
        assertEq(afterwards.pool.staked + before.positions, before.pool.staked + afterwards.positions);
        assertEq(pools.balanceOf(third, c.id), thirds);
    }

    /// P3: an Open pool lacks 0.5 ETH at least; one from Full to Active nothing.
    function check_P3_no_gap_that_nobody_could_fill(Call memory c, uint256 balance) public {
        _prepare(c, balance);
        _perform(c);
        assertTrue(_roomIsSound(pools.pool(c.id)));
    }

    /// P7: nobody takes from another. A position shrinks by its owner's call or one that the owner allowed, and the ether that
    /// a caller gets is what left its own position, or the insurance of its own pool.
    function check_P7_nobody_takes_from_another(Call memory c, uint256 balance, address victim) public {
        Books memory before = _prepare(c, balance);
        vm.assume(victim != c.caller);
        vm.assume(!pools.isOperator(victim, c.caller));
        vm.assume(pools.allowance(victim, c.caller, c.id) == 0);
        uint256 position = pools.balanceOf(victim, c.id);
        uint256 own = pools.balanceOf(c.caller, c.id);
        _perform(c);
        assertGe(pools.balanceOf(victim, c.id), position);
        if (c.caller.balance <= PURSE) return;
        uint256 insurance = before.pool.insurance - pools.pool(c.id).insurance;
        assertEq(c.caller.balance - PURSE, own - pools.balanceOf(c.caller, c.id) + insurance);
        assertTrue((insurance == 0).either(c.caller == before.pool.provider));
    }

    // ----------------------------------------------------------------------------------------- before and after

    /// What is taken for granted before a call. The caller has no code. There is not so much ether that a sum overflows. A pool
    /// not opened yet is empty. P2 and P3 hold.
    function _prepare(Call memory c, uint256 balance) private returns (Books memory it) {
        vm.assume((c.caller != address(pools)).both(c.caller != address(this)).both(c.caller != address(vm)));
        vm.assume((c.caller != pools.KEY_REGISTRY()).both(c.caller != pools.VAULT_IMPLEMENTATION()));
        vm.assume((balance < PURSE).both(c.amount < PURSE));
        vm.deal(address(pools), balance);
        vm.deal(c.caller, PURSE);

        it = _books(c);
        bool empty = (it.pool.staked == 0).both(it.pool.insurance == 0);
        vm.assume((it.pool.state != PoolState.None).either(empty));
        vm.assume(
            (c.action != 0).either((c.id == pools.poolCount() + 1).both(it.pool.state == PoolState.None))
        );
        vm.assume(_roomIsSound(it.pool));
        vm.assume(_positionsAreSound(it, c.id));
    }

    function _perform(Call memory c) private {
        vm.prank(c.caller);
        if (c.action == 0) pools.open{value: c.amount}(c.threshold, c.members);
        else if (c.action == 1) pools.stake{value: c.amount}(c.id);
        else if (c.action == 2) pools.leavePool(c.id, c.amount);
        else if (c.action == 3) pools.transfer(c.to, c.id, c.amount);
        else if (c.action == 4) pools.transferFrom(c.from, c.to, c.id, c.amount);
        else if (c.action == 5) pools.requestKey(c.id);
        else if (c.action == 6) pools.cancel(c.id);
        else if (c.action == 7) pools.refund(c.id);
        else pools.withdrawInsurance(c.id);
    }

    function _books(Call memory c) private view returns (Books memory it) {
        it.pool = pools.pool(c.id);
        uint256 from = (c.action == 4).choose(uint160(c.from), uint160(c.caller));
        uint256 to = (c.action == 3).either(c.action == 4).choose(uint160(c.to), from);
        it.a = address(uint160(from));
        it.b = address(uint160(to));
        unchecked {
            it.positions = pools.balanceOf(it.a, c.id) + (from == to).choose(0, pools.balanceOf(it.b, c.id));
        }
    }

    function _positionsAreSound(Books memory it, uint256 id) private view returns (bool) {
        uint256 a = pools.balanceOf(it.a, id);
        uint256 b = pools.balanceOf(it.b, id);
        bool large = (a == 0).either(a >= HALF).both((b == 0).either(b >= HALF));
        return large.both(a <= SIZE).both(b <= SIZE).both(it.positions <= it.pool.staked);
    }

    function _roomIsSound(Pool memory p) private pure returns (bool) {
        bool none = (p.state == PoolState.None).either(p.state == PoolState.Cancelled);
        bool room = (p.state != PoolState.Open).either(p.staked <= SIZE - HALF);
        bool full = none.either(p.state == PoolState.Open).either(p.staked == SIZE);
        return room.both(full).both(p.staked <= SIZE);
    }

    /// As in the fuzzed invariant P1.
    function _owed(Pool memory p) private pure returns (uint256) {
        unchecked {
            uint256 away = (p.state == PoolState.Predeposited).choose(1 ether, 0);
            return (p.state == PoolState.Active).choose(0, uint256(p.staked) - away) + p.insurance;
        }
    }
}
