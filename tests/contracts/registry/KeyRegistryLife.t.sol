// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {RegistryFixture, TestConsumer} from "../utils/RegistryFixture.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

/// @notice What happens to a key after it is made: orders, its end, its seats; and the parameters.
contract KeyRegistryLifeTest is RegistryFixture {
    function setUp() public {
        deployRegistries();
        addServers(6);
    }

    // ------------------------------------------------------------------------------------------------ orders

    function testFuzz_Order_IsRememberedForEver(bytes32 root, bytes32 other) public {
        vm.assume(root != other);
        Ceremony memory c = makeKey(3, 4, 1);
        assertFalse(keys.isOrdered(c.keyId, root));
        vm.expectEmit(address(keys));
        emit IKeyRegistry.MessageOrdered(c.keyId, root);
        consumer.order(c.keyId, root);
        assertTrue(keys.isOrdered(c.keyId, root));
        assertFalse(keys.isOrdered(c.keyId, other), "another message");
        assertFalse(keys.isOrdered(c.keyId + 1, root), "another key");

        consumer.retire(c.keyId, true);
        assertTrue(keys.isOrdered(c.keyId, root));
    }

    function testFuzz_Order_OnlyTheKeysConsumer(address caller) public {
        vm.assume(caller != address(consumer));
        Ceremony memory c = makeKey(3, 4, 1);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, caller));
        keys.order(c.keyId, "root");
    }

    function test_Order_AnotherConsumerCannotOrderForThisKey() public {
        Ceremony memory c = makeKey(3, 4, 1);
        TestConsumer other = new TestConsumer(keys);
        keys.addConsumer(address(other));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, address(other)));
        other.order(c.keyId, "root");
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, address(other)));
        other.retire(c.keyId, true);
        assertFalse(keys.isOrdered(c.keyId, "root"));
        assertEq(uint8(keys.key(c.keyId).state), uint8(KeyState.Live));
    }

    function test_Order_OnlyForALiveKey() public {
        _expectState(1, KeyState.None);
        consumer.order(1, "root");

        Ceremony memory c = request(3, 4);
        _expectState(c.keyId, KeyState.Requested);
        consumer.order(c.keyId, "root");

        reachSeed(c, "randao");
        draw(c);
        _expectState(c.keyId, KeyState.Drawn);
        consumer.order(c.keyId, "root");

        runDkg(c, 1);
        finalise(c);
        consumer.retire(c.keyId, false);
        _expectState(c.keyId, KeyState.Retired);
        consumer.order(c.keyId, "root");
    }

    // ----------------------------------------------------------------------------------- who may ask for duties

    function test_DutyAssignment_OfALiveKeyOnly() public {
        _assertNoDuties(1);
        Ceremony memory c = request(3, 4);
        address dutyKey = makeAddr("duty key");
        consumer.assign(c.keyId, dutyKey, 3);
        _assertNoDuties(c.keyId);
        reachSeed(c, "randao");
        draw(c);
        _assertNoDuties(c.keyId);
        runDkg(c, 1);
        finalise(c);
        (address asked, uint64 number) = keys.dutyAssignment(c.keyId);
        assertEq(asked, dutyKey);
        assertEq(number, 3);

        uint256 live = vm.snapshotState();
        consumer.retire(c.keyId, false);
        _assertNoDuties(c.keyId);
        vm.revertToState(live);
        consumer.retire(c.keyId, true);
        _assertNoDuties(c.keyId);
    }

    function testFuzz_DutyAssignment_IsWhatTheKeysConsumerSays(
        uint8 made,
        uint256 keyId,
        address dutyKey,
        uint64 number
    ) public {
        Ceremony memory c = makeKey(3, 4, made);
        consumer.assign(c.keyId, dutyKey, number);
        // What another consumer says of it, or this one of a key that is not its own, is nobody's business.
        new TestConsumer(keys).assign(c.keyId, makeAddr("other"), number);
        (address asked, uint64 named) = keys.dutyAssignment(c.keyId);
        assertEq(asked, dutyKey);
        assertEq(named, number);
        vm.assume(keyId != c.keyId);
        consumer.assign(keyId, makeAddr("unknown"), number);
        _assertNoDuties(keyId);
    }

    function _assertNoDuties(uint256 keyId) private view {
        (address asked, uint64 number) = keys.dutyAssignment(keyId);
        assertEq(asked, address(0));
        assertEq(number, 0);
    }

    // -------------------------------------------------------------------------------------------- end of a key

    function test_Retire_ALiveKeyKeepsItsSeatsForTheEvidenceWindow() public {
        Ceremony memory c = makeKey(3, 4, 1);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyRetired(c.keyId, false);
        consumer.retire(c.keyId, false);
        Key memory key = keys.key(c.keyId);
        assertEq(uint8(key.state), uint8(KeyState.Retired));
        assertEq(key.mark, block.timestamp + EVIDENCE_WINDOW);

        vm.warp(key.mark - 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsReserved.selector, c.keyId, key.mark));
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);

        vm.warp(key.mark);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.SeatsFreed(c.keyId);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(c.committee[i]).seats, 0);
        }

        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
    }

    function test_Retire_ABurnedKeyKeepsItsSeatsToo() public {
        Ceremony memory c = makeKey(3, 4, 1);
        consumer.retire(c.keyId, true);
        Key memory key = keys.key(c.keyId);
        assertEq(uint8(key.state), uint8(KeyState.Burned));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsReserved.selector, c.keyId, key.mark));
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        _expectState(c.keyId, KeyState.Burned);
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
        vm.warp(key.mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
    }

    function test_FreeSeats_ChecksTheLeaves() public {
        Ceremony memory c = makeKey(3, 4, 1);
        consumer.retire(c.keyId, false);
        vm.warp(keys.key(c.keyId).mark);

        uint32[] memory committee = abi.decode(abi.encode(c.committee), (uint32[]));
        committee[0] = c.committee[0] == 1 ? 2 : 1;
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeats(c.keyId, committee, c.signers, c.keySet.points);

        address[] memory signers = abi.decode(abi.encode(c.signers), (address[]));
        signers[3] = address(1);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeats(c.keyId, c.committee, signers, c.keySet.points);

        bytes memory points = bytes.concat(c.keySet.points);
        points[511] ^= 0x01;
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeats(c.keyId, c.committee, c.signers, points);

        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadLength.selector, 3, 4));
        keys.freeSeats(c.keyId, new uint32[](3), c.signers, c.keySet.points);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadLength.selector, 5, 4));
        keys.freeSeats(c.keyId, c.committee, new address[](5), c.keySet.points);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadLength.selector, 512, 640));
        keys.freeSeats(c.keyId, c.committee, c.signers, new bytes(512));
    }

    function test_FreeSeats_OnlyOfAnEndedKey() public {
        Ceremony memory c = makeKey(3, 4, 1);
        _expectState(c.keyId, KeyState.Live);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        _expectState(c.keyId, KeyState.Live);
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
    }

    function test_FreeSeatsOfUnfinished_FreesTheSeatsOfADrawnKeyAtOnce() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        consumer.retire(c.keyId, false);
        assertEq(keys.key(c.keyId).mark, block.timestamp);
        uint32[] memory other = ids(1, 2, 3, 4);
        if (keccak256(abi.encode(other)) == keccak256(abi.encode(c.committee))) other = ids(2, 3, 4, 5);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeatsOfUnfinished(c.keyId, other, 0);

        vm.expectEmit(address(keys));
        emit IKeyRegistry.SeatsFreed(c.keyId);
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(c.committee[i]).seats, 0);
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
    }

    function test_FreeSeatsOfUnfinished_FreesTheKeptSeatsOfARequestedKey() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        servers.suspend(c.committee[0], "silent");
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);
        uint32[] memory kept = new uint32[](3);
        (kept[0], kept[1], kept[2]) = (c.committee[1], c.committee[2], c.committee[3]);
        bytes32 setHash = keccak256(servers.activeSet(servers.server(kept[0]).kind));

        consumer.retire(c.keyId, false);
        keys.freeSeatsOfUnfinished(c.keyId, kept, setHash);
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(c.committee[i]).seats, 0);
        }
    }

    function test_FreeSeatsOfUnfinished_NeverOfAKeyThatWasLive() public {
        Ceremony memory c = makeKey(3, 4, 1);
        consumer.retire(c.keyId, false);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
        bytes32 root = keys.key(c.keyId).commitment;
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeatsOfUnfinished(c.keyId, c.committee, root);
    }

    function test_Retire_OnlyALiveKeyBurns() public {
        Ceremony memory c = request(3, 4);
        _expectState(c.keyId, KeyState.Requested);
        consumer.retire(c.keyId, true);
        consumer.retire(c.keyId, false);
        _expectState(c.keyId, KeyState.Retired);
        consumer.retire(c.keyId, false);
        _expectState(c.keyId, KeyState.Retired);
        keys.draw(c.keyId, "", c.activeSet, c.kept);
    }

    function test_IsShareLeaf_NothingBeforeLiveAndNothingAfterTheSeatsAreFreed() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        bytes32 commitment = keys.key(c.keyId).commitment;
        assertFalse(keys.isShareLeaf(c.keyId, 0, commitment, new bytes32[](0)));
        consumer.retire(c.keyId, false);
        assertFalse(keys.isShareLeaf(c.keyId, 0, commitment, new bytes32[](0)));
        assertFalse(keys.isShareLeaf(99, 0, 0, new bytes32[](0)));

        c = makeKey(3, 4, 1);
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i; i < 4; ++i) {
            leaves[i] = shareLeaf(c, i);
        }
        (, bytes32[] memory proof) = merkle(leaves, 2);
        assertTrue(keys.isShareLeaf(c.keyId, 0, leaves[2], proof));
        consumer.retire(c.keyId, false);
        assertTrue(keys.isShareLeaf(c.keyId, 0, leaves[2], proof), "evidence may still come");
        vm.warp(keys.key(c.keyId).mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        assertFalse(keys.isShareLeaf(c.keyId, 0, leaves[2], proof));
    }

    // --------------------------------------------------------------------------------------------- parameters

    function testFuzz_Governance_Only(address caller) public {
        vm.assume(caller != address(this));
        vm.startPrank(caller);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller));
        keys.addConsumer(caller);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller));
        keys.setCeremonyWindow(1 hours);
    }

    function test_AddConsumer_AdmitsAContract() public {
        address account = makeAddr("pools");
        assertFalse(keys.isConsumer(account));
        vm.expectEmit(address(keys));
        emit IKeyRegistry.ConsumerAdded(account);
        keys.addConsumer(account);
        assertTrue(keys.isConsumer(account));
    }

    function testFuzz_SetCeremonyWindow_WithinItsBounds(uint48 window) public {
        bool inside = window >= 10 minutes && window <= 7 days;
        if (inside) {
            vm.expectEmit(address(keys));
            emit IKeyRegistry.CeremonyWindowChanged(window);
        } else {
            vm.expectRevert(
                abi.encodeWithSelector(IKeyRegistry.ParameterOutOfBounds.selector, window, 10 minutes, 7 days)
            );
        }
        keys.setCeremonyWindow(window);
        assertEq(keys.ceremonyWindow(), inside ? window : CEREMONY_WINDOW);
    }

    function test_SetCeremonyWindow_RunningCeremoniesKeepTheirs() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint48 deadline = keys.key(c.keyId).mark;
        keys.setCeremonyWindow(10 minutes);
        assertEq(keys.key(c.keyId).mark, deadline);
    }

    function test_Views_AreThoseOfTheDeployment() public view {
        assertEq(keys.SERVER_REGISTRY(), address(servers));
        assertEq(servers.KEY_REGISTRY(), address(keys));
        assertEq(keys.SEED_DELAY(), SEED_DELAY);
        assertEq(keys.ceremonyWindow(), CEREMONY_WINDOW);
        assertEq(keys.EVIDENCE_WINDOW(), EVIDENCE_WINDOW);
        assertEq(keys.MAX_MEMBERS(), 16);
        assertEq(keys.domainSeparator(), domainSeparator(address(keys)));
        assertEq(keys.authority(), address(manager));
    }

    function test_Deployment_RefusesAServerRegistryThatObeysAnother() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.ForeignServerRegistry.selector, address(servers), address(keys)
            )
        );
        new KeyRegistry(address(manager), servers, SEED_DELAY, EVIDENCE_WINDOW, CEREMONY_WINDOW);
    }

    function test_Deployment_RefusesASeedTheProposerKnows() public {
        // The proposer of the block that includes the request knows PREVRANDAO of the next one.
        _refuseDelay(1, EVIDENCE_WINDOW, 1, 2, 1024);
        _refuseDelay(1025, EVIDENCE_WINDOW, 1025, 2, 1024);
        _refuseDelay(SEED_DELAY, 365 days + 1, 365 days + 1, 0, 365 days);
    }

    // ---------------------------------------------------------------------------------------------- internal

    function _refuseDelay(uint48 seedDelay, uint48 evidenceWindow, uint256 value, uint256 low, uint256 high)
        private
    {
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        ServerRegistry other = new ServerRegistry(
            address(manager), predicted, address(court), MIN_BOND, SEAT_BOND, UNBONDING_DELAY
        );
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.ParameterOutOfBounds.selector, value, low, high));
        new KeyRegistry(address(manager), other, seedDelay, evidenceWindow, CEREMONY_WINDOW);
    }

    function _expectState(uint256 keyId, KeyState state) private {
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, keyId, state));
    }
}
