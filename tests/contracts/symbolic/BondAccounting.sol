// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Server, ServerKind, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Straight} from "./Straight.sol";

/// @notice Governance that allows everybody everything: no bond may depend on its good will.
contract Anarchy {
    function canCall(address, address, bytes4) external pure returns (bool, uint32) {
        return (true, 0);
    }
}

/// @title The bonds of ServerRegistry, for every state, caller and amount at once
/// @notice As `PoolAccountingCheck`: one call of anybody, from storage that is arbitrary.
/// @dev Not reached: whatever takes a server out of the active set (`suspend`, and `announceLeave` of an Active server), a
/// loop over the set that ends only where the set is what B5 says. The fuzzed invariants have it.
contract BondAccountingCheck is Test {
    using Straight for bool;

    /// What every caller has: more than all ether there is.
    uint256 private constant PURSE = 2 ** 96;
    address private constant KEYS = address(0x6b657973);
    address private constant COURT = address(0x636f757274);

    /// Which call: each uses what it needs of the rest.
    struct Call {
        uint8 action;
        address caller;
        uint32 id;
        uint256 amount;
        ServerKind kind;
        address signer;
        bytes32 word;
    }

    ServerRegistry private servers;

    function setUp() public {
        servers = new ServerRegistry(address(new Anarchy()), KEYS, COURT, 1 ether, 0.5 ether, 36 days);
        vm.setArbitraryStorage(address(servers));
    }

    // ------------------------------------------------------------------------------------------------ sentences

    /// B1: the balance changes by what the bond of the server called changes, and no other bond changes.
    function check_B1_the_balance_moves_with_the_bonds(Call memory c, uint256 balance, uint32 other) public {
        Server memory before = _prepare(c, balance);
        vm.assume(other != c.id);
        uint256 elsewhere = servers.server(other).bond;
        _perform(c);
        assertEq(address(servers).balance + before.bond, balance + servers.server(c.id).bond);
        assertEq(servers.server(other).bond, elsewhere);
    }

    /// B2: a bond shrinks only as a whole, by the call of its operator, who gets it, after the delay, and with no seat left:
    /// what a seat reserves is never paid out.
    function check_B2_no_bond_is_paid_while_it_is_reserved(Call memory c, uint256 balance) public {
        Server memory before = _prepare(c, balance);
        _perform(c);
        Server memory afterwards = servers.server(c.id);
        if (afterwards.bond >= before.bond) {
            assertLe(c.caller.balance, PURSE);
            return;
        }
        assertTrue((before.seats == 0).both(afterwards.bond == 0));
        assertTrue((before.status == ServerStatus.Leaving).both(afterwards.status == ServerStatus.Left));
        assertLe(before.unbondingEnds, block.timestamp);
        assertEq(c.caller, before.operator);
        assertEq(c.caller.balance, PURSE + before.bond);
    }

    /// B4: a draw gives a seat to an Active server only, and only if the bond covers it beside those it holds.
    function check_B4_a_new_seat_is_covered_by_the_bond(
        uint32 id,
        uint96 seatBond,
        bytes32 seed,
        address excluded
    ) public {
        servers.setBondParameters(1 ether, seatBond);
        Server memory before = servers.server(id);
        // The kind is a place in memory, and Halmos goes to those only that it knows. One of the other kind has the other place.
        vm.assume(before.kind == ServerKind.Online);
        vm.prank(KEYS);
        servers.drawSeats(seed, abi.encodePacked(id), new uint32[](0), 1, 1, 1, excluded);
        Server memory afterwards = servers.server(id);
        assertEq(afterwards.seats, uint256(before.seats) + 1);
        // The same number, in the words of the contract: a product of other words is more than a solver has time for.
        assertLe((uint256(before.seats) + 1) * seatBond, before.bond);
        assertEq(afterwards.bond, before.bond);
        assertTrue((before.status == ServerStatus.Active).both(before.operator != excluded));
    }

    // ----------------------------------------------------------------------------------------- before and after

    /// What is taken for granted before a call. The caller has no code. There is not so much ether that a sum overflows. A
    /// server not registered yet has no bond.
    function _prepare(Call memory c, uint256 balance) private returns (Server memory it) {
        vm.assume(
            (c.caller != address(servers)).both(c.caller != address(this)).both(c.caller != address(vm))
        );
        vm.assume((c.caller != servers.authority()).both(c.caller != KEYS));
        vm.assume((balance < PURSE).both(c.amount < PURSE));
        vm.deal(address(servers), balance);
        vm.deal(c.caller, PURSE);

        it = servers.server(c.id);
        vm.assume((it.status != ServerStatus.None).either(it.bond == 0));
        bool next = (c.id == servers.serverCount() + 1).both(it.status == ServerStatus.None);
        vm.assume((c.action != 0).either(next));
        vm.assume((c.action != 3).either(it.status != ServerStatus.Active));
    }

    function _perform(Call memory c) private {
        vm.prank(c.caller);
        if (c.action == 0) {
            servers.register{value: c.amount}(
                c.signer, c.word, c.kind, "host:1", abi.encodePacked(c.word, c.word, uint8(27))
            );
        } else if (c.action == 1) {
            servers.addBond{value: c.amount}(c.id);
        } else if (c.action == 2) {
            servers.setEndpoint(c.id, c.word, "host:1");
        } else if (c.action == 3) {
            servers.announceLeave(c.id);
        } else if (c.action == 4) {
            servers.withdrawBond(c.id);
        } else if (c.action == 5) {
            servers.approve(c.id);
        } else {
            servers.setBondParameters(uint96(c.amount), uint96(c.amount));
        }
    }
}
