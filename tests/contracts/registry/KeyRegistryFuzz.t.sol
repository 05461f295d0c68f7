// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyKind, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";

/// @notice How keys end and seats come free, from any state, and who may be a consumer.
contract KeyRegistryFuzzTest is RegistryFixture {
    function setUp() public {
        deployRegistries();
        addServers(6);
    }

    // ------------------------------------------------------------------------------------------------- retire

    function testFuzz_Retire_EndsAKeyOnceAndKeepsItsSeatsWhileEvidenceMayCome(
        uint8 stateSeed,
        bool burned,
        uint32 wait
    ) public {
        KeyState state = KeyState(stateSeed % 6);
        Ceremony memory c = _keyIn(state);
        skip(wait);
        Key memory before = keys.key(c.keyId);

        bool live = state == KeyState.Live;
        bool ends = live || (!burned && (state == KeyState.Requested || state == KeyState.Drawn));
        if (ends) {
            vm.expectEmit(address(keys));
            emit IKeyRegistry.KeyRetired(c.keyId, burned);
            before.state = burned ? KeyState.Burned : KeyState.Retired;
            before.mark = uint48(block.timestamp + (live ? EVIDENCE_WINDOW : 0));
        } else {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, c.keyId, state));
        }
        consumer.retire(c.keyId, burned);
        assertEq(abi.encode(keys.key(c.keyId)), abi.encode(before));
        assertEq(_seats(), c.committee.length, "no seat is free yet");
    }

    function testFuzz_Retire_OnlyByItsConsumer(address caller, uint8 stateSeed, bool burned) public {
        vm.assume(caller != address(consumer));
        Ceremony memory c = _keyIn(KeyState(1 + stateSeed % 5));
        bytes memory before = abi.encode(keys.key(c.keyId));
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, caller));
        keys.retire(c.keyId, burned);
        assertEq(abi.encode(keys.key(c.keyId)), before);
    }

    // -------------------------------------------------------------------------------------------------- seats

    function testFuzz_FreeSeats_FreesTheCommitteeOnceTheWindowIsOver(
        uint256 seed,
        bool burned,
        uint32 wait,
        address caller
    ) public {
        Ceremony memory c = makeKey(3, 4, seed);
        Ceremony memory other = requestAndDraw(3, 4, "other");
        consumer.retire(c.keyId, burned);
        wait = uint32(wait % 3 == 0 ? EVIDENCE_WINDOW : bound(wait, 0, 2 * EVIDENCE_WINDOW));
        skip(wait);
        Key memory key = keys.key(c.keyId);

        bool over = wait >= EVIDENCE_WINDOW;
        if (!over) {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsReserved.selector, c.keyId, key.mark));
        }
        vm.prank(caller);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        assertEq(_seats(), over ? 4 : 8);
        if (!over) return;
        key.commitment = 0;
        assertEq(abi.encode(keys.key(c.keyId)), abi.encode(key), "nothing but the commitment goes");
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(other.committee[i]).seats, 1, "of the other key");
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
    }

    /// @dev One bit of a member, of a signer or of a share key is another: the seats stay. The group key is in no leaf.
    function testFuzz_FreeSeats_RefusesEveryOtherCommittee(uint256 seed, uint256 bit, uint8 part) public {
        Ceremony memory c = makeKey(3, 4, seed % 16);
        consumer.retire(c.keyId, false);
        skip(EVIDENCE_WINDOW);
        if (part % 3 == 0) c.committee[bit % 4] ^= uint32(1) << ((bit >> 8) % 32);
        if (part % 3 == 1) {
            c.signers[bit % 4] = address(uint160(c.signers[bit % 4]) ^ uint160(1) << ((bit >> 8) % 160));
        }
        if (part % 3 == 2) c.keySet.points[bit % 512] ^= bytes1(uint8(1) << uint8((bit >> 16) % 8));
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        assertEq(_seats(), 4);
    }

    function testFuzz_FreeSeatsOfUnfinished_FreesWhatTheKeyHoldsAndNothingElse(
        bytes32 randao,
        uint8 lost,
        bytes32 anyHash,
        address caller
    ) public {
        Ceremony memory c = requestAndDraw(3, 4, randao);
        requestAndDraw(3, 4, "other");
        uint32[] memory held = c.committee;
        bytes32 setHash;
        // Up to two members were lost: the key was Requested again with the others, else it was Drawn.
        lost = lost % 3;
        if (lost > 0) {
            for (uint256 i; i < lost; ++i) {
                servers.suspend(c.committee[i], "silent");
            }
            vm.warp(keys.key(c.keyId).mark + 1);
            keys.restart(c.keyId, c.committee, 0);
            held = new uint32[](4 - lost);
            for (uint256 i; i < held.length; ++i) {
                held[i] = c.committee[lost + i];
            }
            setHash = keccak256(servers.activeSet(ServerKind.Online));
        }
        uint256 before = _seats();
        assertEq(before, 8 - lost);
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.WrongKeyState.selector, c.keyId, lost > 0 ? KeyState.Requested : KeyState.Drawn
            )
        );
        keys.freeSeatsOfUnfinished(c.keyId, held, setHash);

        consumer.retire(c.keyId, false);
        vm.assume(anyHash != setHash);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeatsOfUnfinished(c.keyId, held, anyHash);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeatsOfUnfinished(c.keyId, new uint32[](held.length), setHash);

        vm.prank(caller);
        keys.freeSeatsOfUnfinished(c.keyId, held, setHash);
        assertEq(_seats(), before - held.length);
        assertEq(keys.key(c.keyId).commitment, 0);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        keys.freeSeatsOfUnfinished(c.keyId, held, setHash);
    }

    // --------------------------------------------------------------------------------------------- governance

    function testFuzz_AddConsumer_AdmitsExactlyThatAccount(address admitted, address other) public {
        vm.assume(admitted != other && admitted != address(consumer) && other != address(consumer));
        vm.expectEmit(address(keys));
        emit IKeyRegistry.ConsumerAdded(admitted);
        keys.addConsumer(admitted);
        assertTrue(keys.isConsumer(admitted));
        assertTrue(keys.isConsumer(address(consumer)), "the one before stays");
        assertFalse(keys.isConsumer(other));

        vm.prank(admitted);
        uint256 keyId = keys.request(KeyKind.Validator, 3, 4);
        assertEq(keys.key(keyId).consumer, admitted);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, other));
        keys.request(KeyKind.Validator, 3, 4);
        // A key is its own consumer's, not any consumer's.
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, address(consumer)));
        consumer.retire(keyId, false);
    }

    function testFuzz_SetCeremonyWindow_IsThatOfTheNextDraw(uint48 window) public {
        Ceremony memory running = requestAndDraw(3, 4, "running");
        bytes memory before = abi.encode(keys.key(running.keyId));
        window = uint48(bound(window, 10 minutes, 7 days));
        keys.setCeremonyWindow(window);
        assertEq(keys.ceremonyWindow(), window);
        Ceremony memory next = requestAndDraw(3, 4, "next");
        assertEq(keys.key(next.keyId).mark, block.timestamp + window);
        assertEq(abi.encode(keys.key(running.keyId)), before, "a running ceremony keeps its deadline");
    }

    // -------------------------------------------------------------------------------------------------- views

    function testFuzz_Views_KnowNoKeyThatWasNotMade(
        uint256 keyId,
        bytes32 hash,
        address account,
        uint32 epoch,
        bytes32[] calldata proof
    ) public {
        Ceremony memory c = makeKey(3, 4, 1);
        assertEq(keys.keyOfGroupKey(keccak256(c.keySet.groupKey)), c.keyId);
        vm.assume(keyId != c.keyId && hash != keccak256(c.keySet.groupKey) && account != address(consumer));
        Key memory none;
        assertEq(abi.encode(keys.key(keyId)), abi.encode(none));
        assertEq(keys.keyOfGroupKey(hash), 0);
        assertFalse(keys.isOrdered(keyId, hash));
        assertFalse(keys.isShareLeaf(keyId, epoch, hash, proof));
        assertFalse(keys.isShareLeaf(c.keyId, epoch, hash, proof), "not of this key either");
        assertFalse(keys.isConsumer(account));
    }

    // ----------------------------------------------------------------------------------------------- internal

    /// @dev A key in any state; for None one that nobody asked for.
    function _keyIn(KeyState state) private returns (Ceremony memory c) {
        if (state == KeyState.None) {
            c.keyId = 1;
        } else if (state == KeyState.Requested) {
            c = request(3, 4);
        } else if (state == KeyState.Drawn) {
            c = requestAndDraw(3, 4, "randao");
        } else {
            c = makeKey(3, 4, 1);
            if (state == KeyState.Retired) consumer.retire(c.keyId, false);
            if (state == KeyState.Burned) consumer.retire(c.keyId, true);
        }
    }

    function _seats() private view returns (uint256 seats) {
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            seats += servers.server(id).seats;
        }
    }
}
