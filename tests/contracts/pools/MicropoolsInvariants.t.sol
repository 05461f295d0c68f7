// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";

import {Court} from "../../../contracts/court/Court.sol";
import {KeyKind, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Pool, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {IWithdrawalKeys} from "../../../contracts/interfaces/IWithdrawalKeys.sol";
import {Micropools} from "../../../contracts/pools/Micropools.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {Genesis} from "../utils/Genesis.sol";
import {Stubborn} from "./Actors.sol";
import {PoolsHandler} from "./PoolsHandler.sol";

/// @title Invariants of pools
/// @notice The sentences behind P1 to P8, P10 and W1 to W3 are in docs/invariants.md; P9 has a campaign of its own.
abstract contract PoolsCampaign is Campaign {
    PoolsHandler internal handler;
    Micropools internal pools;
    IWithdrawalKeys internal wkeys;
    KeyRegistry internal registry;

    function setUp() public {
        handler = new PoolsHandler();
        pools = Micropools(handler.micropools());
        wkeys = IWithdrawalKeys(handler.withdrawalKeys());
        registry = KeyRegistry(handler.registry());
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](27);
        selectors[0] = PoolsHandler.open.selector;
        selectors[1] = PoolsHandler.stake.selector;
        selectors[2] = PoolsHandler.fill.selector;
        selectors[3] = PoolsHandler.leavePool.selector;
        selectors[4] = PoolsHandler.transfer.selector;
        selectors[5] = PoolsHandler.transferFrom.selector;
        selectors[6] = PoolsHandler.requestKey.selector;
        selectors[7] = PoolsHandler.serve.selector;
        selectors[8] = PoolsHandler.orderDeposit.selector;
        selectors[9] = PoolsHandler.predeposit.selector;
        selectors[10] = PoolsHandler.proveForeignDeposit.selector;
        selectors[11] = PoolsHandler.topUp.selector;
        selectors[12] = PoolsHandler.cancel.selector;
        selectors[13] = PoolsHandler.refund.selector;
        selectors[14] = PoolsHandler.withdrawInsurance.selector;
        selectors[15] = PoolsHandler.arm.selector;
        selectors[16] = PoolsHandler.setAccepts.selector;
        selectors[17] = PoolsHandler.pass.selector;
        selectors[18] = PoolsHandler.govern.selector;
        selectors[19] = PoolsHandler.openWithWithdrawalKey.selector;
        selectors[20] = PoolsHandler.orderChange.selector;
        selectors[21] = PoolsHandler.showChange.selector;
        selectors[22] = PoolsHandler.cancelUnchanged.selector;
        selectors[23] = PoolsHandler.giveUpWithdrawalKey.selector;
        selectors[24] = PoolsHandler.withdrawKeyBond.selector;
        selectors[25] = PoolsHandler.proveProviderEquivocation.selector;
        selectors[26] = PoolsHandler.withdrawBounty.selector;
        targetSelector(FuzzSelector({addr: address(handler), selectors: selectors}));
        bytes4[] memory more = new bytes4[](4);
        more[0] = PoolsHandler.force.selector;
        for (uint256 i = 1; i < more.length; ++i) {
            more[i] = PoolsHandler.advance.selector;
        }
        targetSelector(FuzzSelector({addr: address(handler), selectors: more}));
    }
}

/// forge-config: default.invariant.runs = 64
/// forge-config: default.invariant.depth = 128
contract MicropoolsInvariantsTest is PoolsCampaign {
    /// Every function that changes a pool or a position succeeded somewhere, and so did governance.
    function afterInvariant() public {
        bytes4[25] memory selectors = [
            Micropools.open.selector,
            Micropools.stake.selector,
            Micropools.leavePool.selector,
            ERC6909.transfer.selector,
            ERC6909.approve.selector,
            ERC6909.transferFrom.selector,
            Micropools.requestKey.selector,
            Micropools.orderDeposit.selector,
            Micropools.predeposit.selector,
            Micropools.proveForeignDeposit.selector,
            Micropools.topUp.selector,
            Micropools.cancel.selector,
            Micropools.refund.selector,
            Micropools.withdrawInsurance.selector,
            ServerRegistry.setBondParameters.selector,
            KeyRegistry.setCeremonyWindow.selector,
            Micropools.openWithWithdrawalKey.selector,
            Micropools.cancelUnchanged.selector,
            IWithdrawalKeys.request.selector,
            IWithdrawalKeys.giveUp.selector,
            IWithdrawalKeys.withdrawKeyBond.selector,
            IWithdrawalKeys.orderChange.selector,
            IWithdrawalKeys.showChange.selector,
            Court.proveProviderEquivocation.selector,
            Micropools.withdrawBounty.selector
        ];
        string[25] memory names = [
            "open",
            "stake",
            "leavePool",
            "transfer",
            "approve",
            "transferFrom",
            "requestKey",
            "orderDeposit",
            "predeposit",
            "proveForeignDeposit",
            "topUp",
            "cancel",
            "refund",
            "withdrawInsurance",
            "setBondParameters",
            "setCeremonyWindow",
            "openWithWithdrawalKey",
            "cancelUnchanged",
            "request",
            "giveUp",
            "withdrawKeyBond",
            "orderChange",
            "showChange",
            "proveProviderEquivocation",
            "withdrawBounty"
        ];
        string[] memory actions = new string[](25);
        uint256[] memory counts = new uint256[](25);
        for (uint256 i; i < 25; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(selectors[i]));
        }
        _conclude("pools", 64, actions, counts);
    }

    /// One campaign for all that only reads; every assertion names its sentence.
    function invariant_P1_to_P4_P6_to_P8_P10_and_W1_to_W3() public view {
        _P1_the_balance_covers_what_is_owed();
        _P2_positions_are_half_an_ether_at_least_and_add_up();
        _P3_no_gap_that_nobody_could_fill();
        _P4_states_move_along_their_edges();
        _P6_the_deposit_contract_has_what_the_steps_say();
        _P7_stakers_never_pay_for_a_foreign_deposit();
        _P8_keys_end_with_their_pools();
        _P10_what_providers_paid_is_claims_and_bounties();
        _W1_bonds_of_withdrawal_keys_are_there();
        _W2_a_withdrawal_key_has_one_pool_of_its_provider();
        _W3_no_31_ether_before_a_change_was_shown();
    }

    function _W1_bonds_of_withdrawal_keys_are_there() private view {
        uint256 bonded;
        for (uint256 id = 1; id <= registry.keyCount(); ++id) {
            if (wkeys.withdrawalKey(id).bonded) ++bonded;
        }
        assertEq(address(wkeys).balance, bonded * 2 ether, "W1");
    }

    function _W2_a_withdrawal_key_has_one_pool_of_its_provider() private view {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            uint256 keyId = wkeys.keyOfPool(id);
            assertEq(keyId != 0, p.blsCredentials, "W2: mode");
            assertEq(uint256(pools.withdrawalCredentials(id)) >> 248, p.blsCredentials ? 0 : 1, "W2: 0x00");
            if (keyId == 0) continue;
            assertEq(wkeys.withdrawalKey(keyId).poolId, id, "W2: pool");
            assertEq(wkeys.withdrawalKey(keyId).provider, p.provider, "W2: provider");
            assertEq(uint256(registry.key(keyId).kind), uint256(KeyKind.Withdrawal), "W2: kind");
            assertEq(pools.poolOfKey(keyId), 0, "W2: a validator key");
        }
    }

    function _W3_no_31_ether_before_a_change_was_shown() private view {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            if (p.blsCredentials && p.state == PoolState.Active) assertTrue(wkeys.isChangeShown(id), "W3");
        }
    }

    /// What the contract owes for one pool, from its state alone.
    function _owed(Pool memory p) internal pure returns (uint256) {
        if (p.state == PoolState.Active) return p.insurance;
        uint256 away = p.state == PoolState.Predeposited ? 1 ether : 0;
        return uint256(p.staked) + p.insurance - away;
    }

    function _P1_the_balance_covers_what_is_owed() private view {
        uint256 owed;
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            owed += _owed(pools.pool(id));
        }
        (uint256 claims, uint256 bounties) = _penalties();
        assertEq(address(pools).balance, owed + claims + bounties + handler.forced(), "P1");
    }

    /// Stakers' claims of all pools, and what reporters can withdraw.
    function _penalties() private view returns (uint256 claims, uint256 bounties) {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            (, uint128 claim) = pools.penalties(id);
            claims += claim;
        }
        address[] memory actors = handler.actors();
        for (uint256 i; i < actors.length; ++i) {
            bounties += pools.bountyOf(actors[i]);
        }
    }

    function _P10_what_providers_paid_is_claims_and_bounties() private view {
        (uint256 claims, uint256 bounties) = _penalties();
        assertEq(handler.penalties() * 1 ether, claims + bounties + handler.bountiesPaid(), "P10: sum");
        assertEq(claims, handler.penalties() * 0.9 ether, "P10: nine tenths are the stakers'");
        uint256 charged;
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            if (pools.isMigrationDue(id)) ++charged;
        }
        assertEq(charged, handler.penalties(), "P10: once per assignment");
    }

    function _P2_positions_are_half_an_ether_at_least_and_add_up() private view {
        address[] memory actors = handler.actors();
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            uint256 sum;
            for (uint256 i; i < actors.length; ++i) {
                uint256 held = pools.balanceOf(actors[i], id);
                if (held == 0) continue;
                assertGe(held, 0.5 ether, "P2: position");
                sum += held;
            }
            assertEq(sum, pools.pool(id).staked, "P2: sum");
            assertLe(sum, 32 ether, "P2: size");
        }
    }

    function _P3_no_gap_that_nobody_could_fill() private view {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            if (p.state == PoolState.Open) assertGe(32 ether - p.staked, 0.5 ether, "P3: gap");
            if (p.state > PoolState.Open && p.state < PoolState.Cancelled) {
                assertEq(p.staked, 32 ether, "P3: full");
            }
        }
    }

    function _P4_states_move_along_their_edges() private view {
        assertEq(handler.illegalEdge(), 0, "P4");
    }

    function _P6_the_deposit_contract_has_what_the_steps_say() private view {
        assertEq(
            Genesis.DEPOSIT_CONTRACT.balance,
            handler.predeposits() * 1 ether + handler.topUps() * 31 ether,
            "P6"
        );
    }

    function _P7_stakers_never_pay_for_a_foreign_deposit() private view {
        uint256 positions;
        uint256 insurance;
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            positions += p.staked;
            insurance += p.insurance;
            if (p.state == PoolState.Predeposited) assertGe(p.insurance, 1 ether, "P7: cover");
        }
        assertEq(handler.stakedIn(), positions + handler.paidBack(), "P7: stakes");
        assertEq(
            handler.insuranceIn(),
            insurance + handler.insuranceBack() + (handler.lostPredeposits() + handler.penalties()) * 1 ether,
            "P7: insurance"
        );
    }

    function _P8_keys_end_with_their_pools() private view {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            if (p.keyId == 0) continue;
            assertEq(pools.poolOfKey(p.keyId), id, "P8: key");
            assertEq(pools.excludedOperator(p.keyId), p.provider, "P8: provider");
            KeyState key = handler.keyState(id);
            bool ended = key == KeyState.Retired || key == KeyState.Burned;
            assertEq(ended, p.state == PoolState.Cancelled, "P8: end");
            if (p.state >= PoolState.KeyReady && p.state <= PoolState.Active) {
                assertEq(uint256(key), uint256(KeyState.Live), "P8: live");
            }
        }
    }

    /// The handler can do all of it: without this the invariants might hold because nothing happens.
    function test_The_handler_reaches_every_state() public {
        for (uint256 i; i < 4; ++i) {
            handler.open(i);
            handler.stake(0, i, 1 ether + 1);
            handler.fill(5, i);
            handler.requestKey(i);
            handler.serve(i);
            handler.orderDeposit(i, 1);
            handler.predeposit(i, 1);
        }
        handler.proveForeignDeposit(0, 4);
        handler.pass(2 days);
        for (uint256 i; i < 4; ++i) {
            handler.topUp(i);
        }
        handler.refund(0, 0);
        handler.withdrawInsurance(1, 0);
        assertEq(handler.illegalEdge(), 0);
        for (uint256 state; state <= uint256(PoolState.Cancelled); ++state) {
            assertGt(handler.visits(state), 0, vm.toString(state));
        }
        assertEq(handler.predeposits(), 4);
        assertEq(handler.topUps(), 3);
        assertEq(handler.lostPredeposits(), 1);
        assertGt(handler.paidBack(), 0);
        assertEq(handler.insuranceBack(), 1 ether);
    }
}

/// @notice P5, which plays on from wherever a campaign got to.
/// forge-config: default.invariant.depth = 64
contract MicropoolsWayOutTest is PoolsCampaign {
    /// Plays it through: at the deadline a stranger cancels, and everybody who takes ether has everything back.
    function invariant_P5_before_the_predeposit_there_is_always_a_way_out() public {
        uint256 before = vm.snapshotState();
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            Pool memory p = pools.pool(id);
            if (p.state == PoolState.Predeposited || p.state == PoolState.Active) continue;
            if (p.state != PoolState.Cancelled) {
                assertLe(p.deadline, block.timestamp + 30 days, "P5: deadline");
                if (block.timestamp < p.deadline) vm.warp(p.deadline);
                vm.prank(address(0x57a));
                pools.cancel(id);
            }
            _everybodyOut(id);
        }
        vm.revertToState(before);
    }

    function _everybodyOut(uint256 id) private {
        address[] memory actors = handler.actors();
        for (uint256 i; i < actors.length; ++i) {
            uint256 held = pools.balanceOf(actors[i], id);
            if (held == 0) continue;
            uint256 balance = actors[i].balance;
            _willing(actors[i]);
            vm.prank(actors[i]);
            pools.refund(id);
            assertEq(actors[i].balance, balance + held, "P5: refund");
        }
        Pool memory p = pools.pool(id);
        assertEq(p.staked, 0, "P5: all out");
        if (p.insurance == 0) return;
        uint256 before = p.provider.balance;
        _willing(p.provider);
        vm.prank(p.provider);
        pools.withdrawInsurance(id);
        assertEq(p.provider.balance, before + p.insurance, "P5: insurance");
    }

    /// A contract that refuses ether holds up nobody but itself; here it changes its mind.
    function _willing(address who) private {
        (bool success,) = who.call(abi.encodeCall(Stubborn.setAccepts, (true)));
        success;
    }
}
