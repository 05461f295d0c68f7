// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {
    IServerRegistry,
    Server,
    ServerKind,
    ServerStatus
} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

/// @notice An account that takes no ether.
contract Closed {
    function withdraw(IServerRegistry servers) external {
        servers.withdrawBounty();
    }
}

/// @notice Takes its bounties and asks for them again while it is paid.
contract Greedy {
    IServerRegistry private immutable SERVERS;
    bool public refused;

    constructor(IServerRegistry servers) {
        SERVERS = servers;
    }

    function withdraw() external {
        SERVERS.withdrawBounty();
    }

    receive() external payable {
        try SERVERS.withdrawBounty() {}
        catch {
            refused = true;
        }
    }
}

/// @title What an upheld fault does to a server: slash, lock-out, and the way back
contract ConsequencesTest is RegistryFixture {
    address private reporter = makeAddr("reporter");
    uint256 private constant NEW_SECRET = 0xbeef;

    function setUp() public {
        deployRegistries();
        addServers(5);
    }

    function _slash(uint32 id, address who) private returns (uint256 amount, uint256 bounty) {
        vm.prank(address(court));
        (, amount, bounty) = servers.slash(id, who, 0, 0);
    }

    // --------------------------------------------------------------------------------------------------- slash

    function test_Slash_TakesASeatsBondAndLocksOutAtOnce() public {
        (uint256 amount, uint256 bounty) = _slash(2, reporter);
        assertEq(amount, SEAT_BOND);
        assertEq(bounty, SEAT_BOND / 10);
        Server memory it = servers.server(2);
        assertTrue(it.lockedOut);
        assertEq(it.bond, 9.5 ether);
        assertEq(uint256(it.status), uint256(ServerStatus.Active));
        assertFalse(servers.isActive(2));
        assertEq(servers.bountyOf(reporter), 0.05 ether);
        // All of it is still here: nine tenths for ever.
        assertEq(address(servers).balance, 50 ether);
        assertEq(servers.COURT(), address(court));
    }

    function test_Slash_IsTheCourtsAlone() public {
        address[4] memory callers = [address(this), address(keys), operatorOf(0), address(manager)];
        for (uint256 i; i < callers.length; ++i) {
            vm.prank(callers[i]);
            vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotCourt.selector, callers[i]));
            servers.slash(1, reporter, 0, 0);
        }
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 6));
        _slash(6, reporter);
    }

    /// What was charged in a term is not charged in it again; after a reinstatement it is.
    function test_Slash_NotInATermThatWasCharged() public {
        (uint32 term,,) = _slashUnless(2, 0);
        assertEq(term, 1);
        (uint32 again, uint256 amount, uint256 bounty) = _slashUnless(2, term);
        assertEq(again, 1);
        assertEq(amount + bounty, 0);
        assertEq(servers.server(2).bond, 9.5 ether);
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10);
        servers.reinstate(2, "disk failure");
        (again, amount,) = _slashUnless(2, 2);
        assertEq(amount, 0);
        assertFalse(servers.server(2).lockedOut, "nothing charged, nothing locked out");
        (again, amount,) = _slashUnless(2, term);
        assertEq(again, 2);
        assertEq(amount, SEAT_BOND);
        assertTrue(servers.server(2).lockedOut);
    }

    /// What happened before the last reinstatement is settled, in whatever group the Court counts it; what nobody can date is not.
    function testFuzz_Slash_NothingForTheTimeBeforeAReinstatement(uint32 chargedTerm, uint64 time) public {
        vm.assume(chargedTerm != 1 && chargedTerm != 2);
        _slash(2, reporter);
        assertEq(servers.server(2).reinstatedAt, 0);
        skip(3 days);
        servers.reinstate(2, "disk failure");
        assertEq(servers.server(2).reinstatedAt, block.timestamp);
        vm.prank(address(court));
        (uint32 term, uint256 amount, uint256 bounty) = servers.slash(2, reporter, chargedTerm, time);
        bool settled = time != 0 && time < block.timestamp;
        assertEq(term, settled ? chargedTerm : 2);
        assertEq(amount, settled ? 0 : SEAT_BOND);
        assertEq(bounty, amount / 10);
        assertEq(servers.server(2).lockedOut, !settled);
        // Who was never reinstated pays for any time.
        vm.prank(address(court));
        (, amount,) = servers.slash(3, reporter, 0, 1);
        assertEq(amount, SEAT_BOND);
    }

    function _slashUnless(uint32 id, uint32 chargedTerm) private returns (uint32, uint256, uint256) {
        vm.prank(address(court));
        return servers.slash(id, reporter, chargedTerm, 0);
    }

    /// A server that is suspended or leaves pays as any other; one that has left has nothing left.
    function test_Slash_NobodyEscapesByItsStatus() public {
        servers.suspend(1, "investigation");
        vm.prank(operatorOf(1));
        servers.announceLeave(2);
        _slash(1, reporter);
        _slash(2, reporter);
        assertEq(servers.server(1).bond, 9.5 ether);
        assertEq(servers.server(2).bond, 9.5 ether);
        skip(UNBONDING_DELAY);
        vm.prank(operatorOf(1));
        servers.withdrawBond(2);
        assertEq(operatorOf(1).balance, 9.5 ether);
        (uint256 amount,) = _slash(2, reporter);
        assertEq(amount, 0);
    }

    /// Leaving does not free the bond of a seat: it waits for the key's end and the evidence window after it.
    function test_Slash_TheBondOfASeatWaitsForTheEvidence() public {
        Ceremony memory c = makeKey(3, 4, 1);
        uint32 id = c.committee[0];
        address operator = servers.server(id).operator;
        vm.startPrank(operator);
        servers.announceLeave(id);
        skip(UNBONDING_DELAY * 3);
        vm.expectPartialRevert(IServerRegistry.BondLocked.selector);
        servers.withdrawBond(id);
        vm.stopPrank();

        consumer.retire(c.keyId, false);
        vm.expectPartialRevert(IKeyRegistry.SeatsReserved.selector);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        skip(EVIDENCE_WINDOW);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        vm.prank(operator);
        servers.withdrawBond(id);
    }

    function testFuzz_Slash_SplitsWhatIsThereExactly(uint96 seatBond, uint8 times, address who) public {
        seatBond = uint96(bound(seatBond, 0.1 ether, 20 ether));
        times = uint8(bound(times, 1, 4));
        servers.setBondParameters(MIN_BOND, seatBond);
        uint256 slashed;
        for (uint256 i; i < times; ++i) {
            uint256 bond = servers.server(3).bond;
            vm.prank(address(court));
            (, uint256 amount, uint256 bounty) = servers.slash(3, who, 0, 0);
            assertEq(amount, bond < seatBond ? bond : seatBond);
            assertEq(bounty, amount / 10);
            assertTrue(amount == 0 || bounty < amount, "a report of oneself must lose");
            slashed += amount;
        }
        assertEq(servers.server(3).bond, 10 ether - slashed);
        assertEq(address(servers).balance, 50 ether);
        assertLe(servers.bountyOf(who), slashed / 10);
    }

    // ------------------------------------------------------------------------------------------------- lock-out

    function test_LockOut_ADrawPassesOver() public {
        _slash(1, reporter);
        bytes memory set = servers.activeSet(ServerKind.Online);
        assertEq(set.length, 20, "it stays in the set");
        for (uint256 seed; seed < 20; ++seed) {
            vm.prank(address(keys));
            uint32[] memory drawn =
                servers.drawSeats(bytes32(seed), set, new uint32[](0), 4, 4, 1, address(0));
            for (uint256 i; i < 4; ++i) {
                assertNotEq(drawn[i], 1);
            }
            vm.prank(address(keys));
            servers.freeSeats(drawn);
        }
        _slash(2, reporter);
        vm.prank(address(keys));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 3, 4));
        servers.drawSeats(0, set, new uint32[](0), 4, 4, 1, address(0));
    }

    function test_LockOut_NoSeatInADealtKey() public {
        _slash(3, reporter);
        vm.prank(address(keys));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.LockedOut.selector, 3));
        servers.takeSeats(ids(1, 2, 3, 4));
    }

    /// Its seat is redrawn; the others keep theirs.
    function test_LockOut_DuringACeremonyEndsIt() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 7);
        _slash(c.committee[1], reporter);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.LockedOut.selector, c.committee[1]));
        finalise(c);
        skip(CEREMONY_WINDOW + 1);
        keys.restart(c.keyId, c.committee, 0);
        assertEq(uint256(keys.key(c.keyId).state), uint256(KeyState.Requested));
        assertEq(servers.server(c.committee[1]).seats, 0);
        assertEq(servers.server(c.committee[0]).seats, 1);
    }

    // ---------------------------------------------------------------------------------------------- the way back

    function test_Reinstate_AfterAToppedUpBondWithAReason() public {
        servers.setBondParameters(10 ether, SEAT_BOND);
        _slash(1, reporter);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.BondTooSmall.selector, 9.5 ether, 10 ether));
        servers.reinstate(1, "disk failure");
        servers.addBond{value: 0.5 ether}(1);
        vm.expectRevert(IServerRegistry.MissingReason.selector);
        servers.reinstate(1, "");
        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerReinstated(1, 1, "disk failure");
        servers.reinstate(1, "disk failure");
        Server memory it = servers.server(1);
        assertFalse(it.lockedOut);
        assertEq(it.terms, 1);
        assertEq(servers.terms(1), 1);
        assertTrue(servers.isActive(1));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotLockedOut.selector, 1));
        servers.reinstate(1, "again");
    }

    /// What its seats reserve must be there too.
    function test_Reinstate_CoversEverySeat() public {
        for (uint256 i; i < 20; ++i) {
            vm.prank(address(keys));
            servers.takeSeats(ids(1, 2, 3, 4));
        }
        _slash(1, reporter);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.BondTooSmall.selector, 9.5 ether, 10 ether));
        servers.reinstate(1, "bug fixed");
    }

    function test_Reinstate_IsGovernancesAlone() public {
        _slash(1, reporter);
        vm.prank(operatorOf(0));
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, operatorOf(0))
        );
        servers.reinstate(1, "trust me");
        vm.prank(operatorOf(0));
        servers.announceLeave(1);
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, 1, ServerStatus.Leaving)
        );
        servers.reinstate(1, "too late");
    }

    /// Approval is not reinstatement: a suspension in between must not wash a fault off.
    function test_Reinstate_ASuspensionDoesNotClearTheFlag() public {
        _slash(1, reporter);
        servers.suspend(1, "investigation");
        servers.approve(1);
        assertFalse(servers.isActive(1));
    }

    /// A term that began again with the number of an old one would make old penalties those of the new.
    function test_Reinstate_TermsNeverBeginAgain() public {
        vm.deal(address(this), 256 ether);
        for (uint256 i; i < 255; ++i) {
            _slash(4, reporter);
            servers.addBond{value: 0.5 ether}(4);
            servers.reinstate(4, "again");
        }
        _slash(4, reporter);
        servers.addBond{value: 0.5 ether}(4);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NoMoreTerms.selector, 4));
        servers.reinstate(4, "again");
        assertEq(servers.terms(4), 255);
    }

    function testFuzz_Reinstate_OnceForEachLockOut(uint8 rounds, uint96 topUp, string calldata reason)
        public
    {
        vm.assume(bytes(reason).length != 0);
        for (uint256 i; i < rounds % 6; ++i) {
            _slash(4, reporter);
            uint96 more = topUp % 1 ether;
            vm.deal(address(this), more);
            servers.addBond{value: more}(4);
            servers.reinstate(4, reason);
            assertEq(servers.terms(4), i + 1);
            assertTrue(servers.isActive(4));
        }
    }

    // -------------------------------------------------------------------------------------------------- bounties

    function test_WithdrawBounty_PaysOnce() public {
        _slash(1, reporter);
        vm.startPrank(reporter);
        vm.expectEmit(address(servers));
        emit IServerRegistry.BountyPaid(reporter, 0.05 ether);
        servers.withdrawBounty();
        assertEq(reporter.balance, 0.05 ether);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NoBounty.selector, reporter));
        servers.withdrawBounty();
    }

    function test_WithdrawBounty_NotTwiceByReentrance() public {
        Greedy greedy = new Greedy(servers);
        _slash(1, address(greedy));
        greedy.withdraw();
        assertTrue(greedy.refused());
        assertEq(address(greedy).balance, 0.05 ether);
    }

    function test_WithdrawBounty_StaysOwedToAnAccountThatTakesNone() public {
        Closed closed = new Closed();
        _slash(1, address(closed));
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.TransferFailed.selector, address(closed), 0.05 ether)
        );
        closed.withdraw(servers);
        assertEq(servers.bountyOf(address(closed)), 0.05 ether);
    }

    function testFuzz_BountyOf_IsWhatTheReporterEarned(uint8 times, uint160 who) public {
        address account = address(uint160(bound(who, 1e6, type(uint160).max)));
        vm.assume(account.code.length == 0 && account != address(vm) && account != reporter);
        uint256 earned;
        for (uint256 i; i < times % 10; ++i) {
            (, uint256 bounty) = _slash(uint32(1 + i % 5), account);
            earned += bounty;
        }
        assertEq(servers.bountyOf(account), earned);
        assertEq(servers.bountyOf(reporter), 0);
    }

    // --------------------------------------------------------------------------------------------------- signers

    function test_SetSigner_TheOldOneStaysTheServers() public {
        address old = servers.server(1).signer;
        address operator = operatorOf(0);
        bytes memory proof = signerProof(NEW_SECRET, operator);
        vm.expectEmit(address(servers));
        emit IServerRegistry.SignerChanged(1, vm.addr(NEW_SECRET));
        vm.prank(operator);
        servers.setSigner(1, vm.addr(NEW_SECRET), proof);
        assertEq(servers.server(1).signer, vm.addr(NEW_SECRET));
        assertEq(servers.serverOfSigner(vm.addr(NEW_SECRET)), 1);
        assertEq(servers.serverOfSigner(old), 1, "evidence against the old key finds the server");

        // Neither another operator nor its own takes it again.
        for (uint256 i; i < 2; ++i) {
            bytes memory again = signerProof(signerSecret[1], operatorOf(i));
            vm.prank(operatorOf(i));
            vm.expectRevert(abi.encodeWithSelector(IServerRegistry.SignerTaken.selector, old, 1));
            servers.setSigner(uint32(i + 1), old, again);
        }
    }

    /// Or an operator would end each attempt of a ceremony as it comes, for nothing.
    function test_SetSigner_OnceInThirtyDays() public {
        assertEq(servers.SIGNER_CHANGE_DELAY(), 30 days);
        assertEq(servers.signerChangedAt(1), 0);
        address operator = operatorOf(0);
        vm.startPrank(operator);
        servers.setSigner(1, vm.addr(NEW_SECRET), signerProof(NEW_SECRET, operator));
        uint256 changed = block.timestamp;
        assertEq(servers.signerChangedAt(1), changed);
        bytes memory proof = signerProof(NEW_SECRET + 1, operator);
        skip(30 days - 1);
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.SignerJustChanged.selector, 1, changed + 30 days)
        );
        servers.setSigner(1, vm.addr(NEW_SECRET + 1), proof);
        skip(1);
        servers.setSigner(1, vm.addr(NEW_SECRET + 1), proof);
        assertEq(servers.signerChangedAt(1), block.timestamp);
        assertEq(servers.signerChangedAt(2), 0, "another server's");
    }

    function test_SetSigner_NeedsTheOperatorAndItsProof() public {
        bytes memory proof = signerProof(NEW_SECRET, operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotOperator.selector, 1, address(this)));
        servers.setSigner(1, vm.addr(NEW_SECRET), proof);
        vm.prank(operatorOf(1));
        vm.expectPartialRevert(IServerRegistry.BadSignerProof.selector);
        servers.setSigner(2, vm.addr(NEW_SECRET), proof);
        vm.startPrank(operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.SignerTaken.selector, address(0), 0));
        servers.setSigner(1, address(0), proof);
        servers.announceLeave(1);
        skip(UNBONDING_DELAY);
        servers.withdrawBond(1);
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, 1, ServerStatus.Left)
        );
        servers.setSigner(1, vm.addr(NEW_SECRET), proof);
    }

    function testFuzz_SetSigner_ChangesTheSignerAndNothingElse(uint256 secret) public {
        secret = bound(secret, 1, 2 ** 255);
        address signer = vm.addr(secret);
        vm.assume(servers.serverOfSigner(signer) == 0);
        Server memory expected = servers.server(2);
        expected.signer = signer;
        bytes memory proof = signerProof(secret, operatorOf(1));
        vm.prank(operatorOf(1));
        servers.setSigner(2, signer, proof);
        assertEq(abi.encode(servers.server(2)), abi.encode(expected));
        assertEq(servers.signerChangedAt(2), block.timestamp);
    }

    // -------------------------------------------------------------------------------------------- healthy shares

    function test_HealthyShares_AgainstWhatTheKeyNeeds() public {
        Ceremony memory c = makeKey(3, 4, 1);
        (uint256 healthy, uint8 threshold) = _healthy(c);
        assertEq(healthy, 4);
        assertEq(threshold, 3);
        _slash(c.committee[0], reporter);
        servers.suspend(c.committee[1], "investigation");
        (healthy,) = _healthy(c);
        assertEq(healthy, 2);

        c.committee[0] = c.committee[1];
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        _healthy(c);
        consumer.retire(c.keyId, false);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, 1, KeyState.Retired));
        _healthy(c);
    }

    function testFuzz_HealthyShares_AreThoseThatMayTakePart(uint8 lockedOut) public {
        Ceremony memory c = makeKey(3, 4, 2);
        uint256 expected = 4;
        for (uint256 i; i < 4; ++i) {
            if (lockedOut >> i & 1 == 0) continue;
            _slash(c.committee[i], reporter);
            --expected;
        }
        (uint256 healthy,) = keys.healthyShares(c.keyId, c.committee, c.signers, c.keySet.points);
        assertEq(healthy, expected);
    }

    function _healthy(Ceremony memory c) private view returns (uint256 healthy, uint8 threshold) {
        return keys.healthyShares(c.keyId, c.committee, c.signers, c.keySet.points);
    }
}
