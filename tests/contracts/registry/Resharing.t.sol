// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealtImport, IKeyRegistry} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {
    Committee,
    CommitteeRecord,
    Draft,
    IResharing,
    Reshare,
    ReshareState
} from "../../../contracts/interfaces/IResharing.sol";
import {IServerRegistry, ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @title A key moves to another committee and stays the same key; everything that must not pass on the way
contract ResharingTest is ReshareFixture {
    Ceremony private c;
    Committee private first;
    uint32 private lost;

    /// Ten servers; a live 3-of-4 key of some of them; its second member is locked out.
    function setUp() public {
        deployResharing();
        addServers(10);
        c = makeKey(3, 4, 1);
        first = committeeOf(c);
        lost = c.committee[1];
        vm.warp(block.timestamp + 1 hours);
    }

    function _secret() private view returns (uint256) {
        return c.keySet.coefficients[0];
    }

    function _requested() private returns (Move memory m) {
        lockOut(lost);
        m = requestMove(c.keyId, first);
    }

    function _drawn() private returns (Move memory m) {
        m = _requested();
        drawMove(m, "randao");
    }

    function _dealt() private returns (Move memory m) {
        m = _drawn();
        dealMove(m, _secret(), 7);
    }

    function _reshared() private returns (Move memory m) {
        m = _dealt();
        finaliseMove(m);
    }

    function _pastDeadline() private {
        vm.warp(uint256(resharing.reshare(c.keyId).mark) + 1);
    }

    function _refuse(bytes4 selector) private {
        vm.expectPartialRevert(selector);
    }

    // ------------------------------------------------------------------------------------------------ request

    function test_Request_OnceAMemberIsLost() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IResharing.NothingToReshare.selector, c.keyId, keys.key(c.keyId).mark + 90 days
            )
        );
        vm.prank(makeAddr("anyone"));
        resharing.request(c.keyId, first, 3, 4);

        lockOut(lost);
        vm.prank(makeAddr("anyone"));
        resharing.request(c.keyId, first, 3, 4);
        Reshare memory it = resharing.reshare(c.keyId);
        assertEq(uint8(it.state), uint8(ReshareState.Requested));
        assertEq(it.mark, block.number + SEED_DELAY);
        assertEq(it.committeeEpoch, 0);
        assertEq(it.attempt, 0);
        _refuse(IResharing.WrongReshareState.selector);
        resharing.request(c.keyId, first, 3, 4);
    }

    function test_Request_TakesTheSeatOfTheLostMemberAlone() public {
        Move memory m = _requested();
        for (uint256 i; i < 4; ++i) {
            assertEq(m.draft.seats[i], i == 1 ? 0 : c.committee[i]);
        }
        assertEq(m.draft.fresh, 0);
        assertEq(m.draft.dealers, 13, "the others are preferred");
        // None of the committee can be drawn: 10 servers less 4.
        assertEq(m.activeSet.length / 4, 6);
        assertEq(m.draft.activeSetHash, keccak256(m.activeSet));
    }

    /// A member that leaves or is suspended loses its seat as one that was locked out does; but it deals.
    function test_Request_ForWhoLeavesOrIsSuspended() public {
        vm.prank(servers.server(lost).operator);
        servers.announceLeave(lost);
        servers.suspend(c.committee[3], "test");
        Move memory m = requestMove(c.keyId, first);
        assertEq(m.draft.seats[1], 0);
        assertEq(m.draft.seats[3], 0);
        assertEq(m.draft.dealers, 15);
    }

    function test_Request_ARefreshWhenItIsDue() public {
        vm.warp(uint256(keys.key(c.keyId).mark) + 90 days - 1);
        _refuse(IResharing.NothingToReshare.selector);
        resharing.request(c.keyId, first, 3, 4);
        vm.warp(block.timestamp + 1);
        Move memory m = requestMove(c.keyId, first);
        assertEq(abi.encode(m.draft.seats), abi.encode(c.committee));
        assertEq(m.activeSet.length, 0);
        drawMove(m, "randao");
        assertEq(m.draft.fresh, 0);
        dealMove(m, _secret(), 3);
        finaliseMove(m);
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(c.committee[i]).seats, 1, "nobody took a second seat");
        }
    }

    /// Another t or n is for the consumer to say, and it needs no reason.
    function test_Request_AnotherSizeIsTheConsumers() public {
        lockOut(lost);
        _refuse(IResharing.NothingToReshare.selector);
        resharing.request(c.keyId, first, 5, 7);
        vm.startPrank(address(consumer));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 3, 5));
        resharing.request(c.keyId, first, 3, 5);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 9, 17));
        resharing.request(c.keyId, first, 9, 17);
        vm.recordLogs();
        resharing.request(c.keyId, first, 5, 7);
        vm.stopPrank();

        Move memory m;
        m.keyId = c.keyId;
        m.serving = first;
        readRequest(m);
        drawMove(m, "randao");
        assertEq(m.draft.seats.length, 7);
        assertEq(m.draft.seats[0], c.committee[0]);
        dealMove(m, _secret(), 5);
        finaliseMove(m);
        (uint32 epoch, CommitteeRecord memory record) = resharing.newest(c.keyId);
        assertEq(epoch, 1);
        assertEq(record.threshold, 5);
        assertEq(record.members, 7);
    }

    function test_Request_OfTheServingCommitteeAlone() public {
        lockOut(lost);
        Committee memory other = committeeOf(c);
        other.servers[0] = other.servers[2];
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.request(c.keyId, other, 3, 4);
        other = committeeOf(c);
        other.signers = new address[](3);
        _refuse(IKeyRegistry.BadLength.selector);
        resharing.request(c.keyId, other, 3, 4);
    }

    function test_Request_OnlyOfALiveKeyThatSomebodyAskedFor() public {
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, 99, 0));
        resharing.request(99, first, 3, 4);
        (uint256 dealtId, Committee memory dealt) = _dealtKey();
        servers.suspend(dealt.servers[0], "test");
        vm.expectRevert(abi.encodeWithSelector(IResharing.NotReshareable.selector, dealtId));
        resharing.request(dealtId, dealt, 3, 4);
        lockOut(lost);
        consumer.retire(c.keyId, false);
        _refuse(IKeyRegistry.WrongKeyState.selector);
        resharing.request(c.keyId, first, 3, 4);
    }

    function _dealtKey() private returns (uint256 keyId, Committee memory committee) {
        (DealtImport memory dealt,) = dealKey(address(this), 3, ids(1, 2, 3, 4), 50);
        keyId = keys.importDealt(dealt);
        committee = Committee(dealt.committee, signersOf(dealt.committee), dealt.points);
    }

    function test_Request_NeedsCandidates() public {
        for (uint32 id = 1; id <= 10; ++id) {
            if (!isMember(c.committee, id)) servers.suspend(id, "test");
        }
        lockOut(lost);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 0, 1));
        resharing.request(c.keyId, first, 3, 4);
    }

    /// One handover at a time: the committee that would deal does not sign yet.
    function test_Request_NotBeforeTheLastHandover() public {
        Move memory m = _reshared();
        (, CommitteeRecord memory record) = resharing.newest(c.keyId);
        lockOut(m.made.servers[0]);
        vm.warp(record.handover - 1);
        vm.expectRevert(abi.encodeWithSelector(IResharing.HandoverPending.selector, c.keyId, record.handover));
        resharing.request(c.keyId, m.made, 3, 4);
        vm.warp(record.handover);
        resharing.request(c.keyId, m.made, 3, 4);
        assertEq(resharing.reshare(c.keyId).committeeEpoch, 1);
    }

    // --------------------------------------------------------------------------------------------------- draw

    function test_Draw_FillsTheLostSeatAndNamesTheDealers() public {
        Move memory m = _drawn();
        assertFalse(isMember(c.committee, m.draft.seats[1]));
        assertEq(servers.server(m.draft.seats[1]).seats, 1);
        assertEq(m.draft.fresh, 2);
        assertEq(m.draft.dealers, 13, "three are preferred, three deal");
        Reshare memory it = resharing.reshare(c.keyId);
        assertEq(uint8(it.state), uint8(ReshareState.Drawn));
        assertEq(it.mark, block.timestamp + CEREMONY_WINDOW);
        assertEq(it.handover, it.mark + 1152);
    }

    function test_Draw_OnceAndOnlyOfWhatWasAskedFor() public {
        Move memory m = _requested();
        vm.expectPartialRevert(IKeyRegistry.SeedNotReady.selector);
        resharing.draw(m.keyId, header(1, ""), m.activeSet, m.draft);
        bytes memory seed = pastSeedBlock(resharing.reshare(m.keyId).mark, "randao");

        Draft memory other = abi.decode(abi.encode(m.draft), (Draft));
        other.dealers = 15;
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.draw(m.keyId, seed, m.activeSet, other);
        bytes memory all = servers.activeSet(ServerKind.Online);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.draw(m.keyId, seed, all, m.draft);
        bytes memory ground = header(resharing.reshare(m.keyId).mark, "other");
        _refuse(IKeyRegistry.UnknownHeader.selector);
        resharing.draw(m.keyId, ground, m.activeSet, m.draft);

        resharing.draw(m.keyId, seed, m.activeSet, m.draft);
        _refuse(IResharing.WrongReshareState.selector);
        resharing.draw(m.keyId, seed, m.activeSet, m.draft);
    }

    function test_Draw_NotForAKeyThatWasGivenUp() public {
        Move memory m = _requested();
        bytes memory seed = pastSeedBlock(resharing.reshare(m.keyId).mark, "randao");
        consumer.retire(c.keyId, false);
        _refuse(IKeyRegistry.WrongKeyState.selector);
        resharing.draw(m.keyId, seed, m.activeSet, m.draft);
    }

    /// The provider's own servers stay out, and one operator below its cap, as in the first draw.
    function test_Draw_KeepsTheCapAndTheExcludedOperatorOut() public {
        for (uint32 id = 1; id <= 10; ++id) {
            if (!isMember(c.committee, id)) servers.suspend(id, "test");
        }
        // Left: one server of a member's operator, which has its one seat, and one of the provider.
        addServer(servers.server(c.committee[0]).operator, 10 ether);
        address provider = makeAddr("provider");
        addServer(provider, 10 ether);
        consumer.exclude(c.keyId, provider);
        Move memory m = _requested();
        bytes memory seed = pastSeedBlock(resharing.reshare(m.keyId).mark, "randao");
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 0, 1));
        resharing.draw(m.keyId, seed, m.activeSet, m.draft);
    }

    /// A committee of which fewer than t are well still deals: who is locked out has its share.
    function test_Draw_DealersAmongTheLockedOutIfItMustBe() public {
        lockOut(c.committee[0]);
        Move memory m = _requested();
        assertEq(m.draft.dealers, 12);
        drawMove(m, "randao");
        assertEq(m.draft.dealers & 12, 12, "those preferred deal");
        assertEq(_bits(m.draft.dealers), 3);
    }

    function testFuzz_Draw_DealersAreThresholdManyAndPreferredFirst(bytes32 randao, uint8 lostMask) public {
        addServers(8);
        Ceremony memory k = makeKey(5, 7, 9);
        lostMask = uint8(bound(lostMask, 1, 127));
        uint256 well;
        for (uint256 i; i < 7; ++i) {
            if (lostMask >> i & 1 == 1) lockOut(k.committee[i]);
            else ++well;
        }
        Move memory m = requestMove(k.keyId, committeeOf(k));
        drawMove(m, randao);
        assertEq(_bits(m.draft.dealers), 5);
        uint16 preferred = uint16(~uint256(lostMask) & 127);
        if (well >= 5) assertEq(m.draft.dealers & ~preferred, 0, "a lost member deals");
        else assertEq(m.draft.dealers & preferred, preferred, "a well member does not deal");
        assertEq(m.draft.fresh, lostMask);
        for (uint256 i; i < 7; ++i) {
            for (uint256 j; j < i; ++j) {
                assertNotEq(m.draft.seats[i], m.draft.seats[j], "a server twice");
            }
        }
    }

    /// Reinstated between request and draw, it is not drawn back: its old seat comes free by itself, and it would have two.
    function testFuzz_Draw_NotWhoLostItsSeat(bytes32 randao) public {
        uint32 other;
        for (uint32 id = 1; id <= 10; ++id) {
            if (isMember(c.committee, id)) continue;
            if (other == 0) other = id;
            else servers.suspend(id, "test");
        }
        Move memory m = _requested();
        servers.reinstate(lost, "test");
        drawMove(m, randao);
        assertEq(m.draft.seats[1], other);
    }

    /// Which members deal depends on the seed: somebody that fails is not drawn for ever.
    function test_Draw_DealersChangeWithTheSeed() public {
        uint16 seen;
        vm.warp(block.timestamp + 90 days);
        Move memory m = requestMove(c.keyId, first);
        for (uint256 i; i < 20; ++i) {
            drawMove(m, bytes32(i));
            seen |= uint16(15 ^ m.draft.dealers);
            _pastDeadline();
            vm.recordLogs();
            resharing.restart(c.keyId, first, m.draft);
            readRequest(m);
        }
        assertEq(seen, 15, "each member once did not deal");
    }

    function _bits(uint256 mask) private pure returns (uint256 count) {
        for (; mask != 0; mask &= mask - 1) {
            ++count;
        }
    }

    // ------------------------------------------------------------------------------------------------ restart

    function test_Restart_OnlyWhenItsTimeIsOver() public {
        Move memory m = _requested();
        uint256 until = uint256(resharing.reshare(c.keyId).mark) + 8191;
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotExpired.selector, c.keyId, until));
        resharing.restart(c.keyId, first, m.draft);
        vm.roll(until + 1);
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        drawMove(m, "randao");
        until = resharing.reshare(c.keyId).mark;
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotExpired.selector, c.keyId, until));
        resharing.restart(c.keyId, first, m.draft);
        vm.warp(until + 1);
        resharing.restart(c.keyId, first, m.draft);
        assertEq(resharing.reshare(c.keyId).attempt, 2);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.restart(c.keyId, first, m.draft);
    }

    /// New members stay, for a dealer that fails must not have committees drawn until one suits it.
    function test_Restart_KeepsNewMembersOfGoodStanding() public {
        Move memory m = _drawn();
        uint32 drawn = m.draft.seats[1];
        _pastDeadline();
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        assertEq(m.draft.seats[1], drawn);
        assertEq(m.draft.fresh, 2);
        assertEq(servers.server(drawn).seats, 1);
        drawMove(m, "other");
        assertEq(servers.server(drawn).seats, 1, "it has its seat already");
    }

    /// A new member that is lost gives its seat back; an old one keeps its own until evidence has had its time.
    function test_Restart_FreesSeatsOfLostNewMembersOnly() public {
        Move memory m = _drawn();
        uint32 drawn = m.draft.seats[1];
        lockOut(drawn);
        lockOut(c.committee[2]);
        _pastDeadline();
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        assertEq(m.draft.seats[1], 0);
        assertEq(m.draft.seats[2], 0);
        assertEq(m.draft.fresh, 0);
        assertEq(m.draft.dealers, 15, "later attempts do with whoever has a share");
        assertEq(servers.server(drawn).seats, 0);
        assertEq(servers.server(c.committee[2]).seats, 1);
        assertEq(servers.server(lost).seats, 1);
    }

    // ------------------------------------------------------------------------------------------------- cancel

    function test_Cancel_OfAKeyThatWasGivenUpFreesTheNewSeats() public {
        Move memory m = _drawn();
        _refuse(IKeyRegistry.WrongKeyState.selector);
        resharing.cancel(c.keyId, m.draft);
        consumer.retire(c.keyId, false);
        Draft memory other = abi.decode(abi.encode(m.draft), (Draft));
        other.fresh = 15;
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.cancel(c.keyId, other);
        resharing.cancel(c.keyId, m.draft);
        assertEq(servers.server(m.draft.seats[1]).seats, 0);
        assertEq(servers.server(c.committee[0]).seats, 1);
        assertEq(uint8(resharing.reshare(c.keyId).state), uint8(ReshareState.None));
        _refuse(IResharing.WrongReshareState.selector);
        resharing.cancel(c.keyId, m.draft);
        vm.warp(block.timestamp + EVIDENCE_WINDOW);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        for (uint32 id = 1; id <= 10; ++id) {
            assertEq(servers.server(id).seats, 0);
        }
    }

    /// Whatever else is passed off as the draft: another committee, other dealers, seats that nobody took.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 2000
    function testFuzz_Draft_IsWhatTheChainCommittedTo(Draft calldata other, bool drawn) public {
        Move memory m = drawn ? _dealt() : _requested();
        vm.assume(keccak256(abi.encode(other)) != keccak256(abi.encode(m.draft)));
        bytes memory seed = drawn ? bytes("") : pastSeedBlock(resharing.reshare(c.keyId).mark, "randao");
        _refuse(drawn ? IResharing.WrongReshareState.selector : IKeyRegistry.WrongCommitment.selector);
        resharing.draw(c.keyId, seed, m.activeSet, other);
        _refuse(drawn ? IKeyRegistry.WrongCommitment.selector : IResharing.WrongReshareState.selector);
        resharing.finalise(c.keyId, other, m.made.points, 0, "");
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.restart(c.keyId, first, other);
        consumer.retire(c.keyId, false);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.cancel(c.keyId, other);
    }

    // ----------------------------------------------------------------------------------------------- finalise

    function test_Finalise_MakesTheNewCommitteeOfTheSameKey() public {
        Move memory m = _dealt();
        (bytes32 root, bytes32[] memory proof) = merkleOf(m.made, 1);
        uint48 handover = resharing.reshare(c.keyId).handover;
        vm.expectEmit(address(resharing));
        emit IResharing.Reshared(c.keyId, 1, 0, m.made, m.dealingsDigest, root, handover);
        vm.prank(makeAddr("anyone"));
        finaliseMove(m);

        CommitteeRecord memory record = resharing.committee(c.keyId, 1);
        assertEq(record.leavesRoot, root);
        assertEq(record.handover, handover);
        assertEq(record.threshold, 3);
        assertEq(record.members, 4);
        bytes32 leaf = shareLeaf(m.made, 1);
        assertTrue(keys.isShareLeaf(c.keyId, 1, leaf, proof));
        assertFalse(keys.isShareLeaf(c.keyId, 0, leaf, proof), "not of the first committee");
        assertFalse(keys.isShareLeaf(c.keyId, 2, leaf, proof), "nor of one that is not there");
        (, proof) = merkleOf(first, 1);
        assertTrue(keys.isShareLeaf(c.keyId, 0, shareLeaf(first, 1), proof), "who left stays punishable");
        assertEq(keys.keyOfGroupKey(keccak256(c.keySet.groupKey)), c.keyId);
    }

    /// The shares are others, what they sign together is the same.
    function test_Finalise_NewSharesSignAsTheOldOnesDid() public {
        Move memory m = _reshared();
        uint256[] memory indices = new uint256[](3);
        bytes[] memory partials = new bytes[](3);
        for (uint256 i; i < 3; ++i) {
            indices[i] = i + 2;
            partials[i] = ThresholdKeys.sign(m.keySet.shares[i + 1], "root");
        }
        assertEq(ThresholdKeys.combine(indices, partials), ThresholdKeys.sign(_secret(), "root"));
    }

    function test_Finalise_RefusesAnotherGroupKey() public {
        Move memory m = _drawn();
        dealMove(m, _secret() + 1, 7);
        vm.expectRevert(abi.encodeWithSelector(IResharing.GroupKeyChanged.selector, c.keyId));
        finaliseMove(m);
        // One that is another key's is none of this key either.
        Ceremony memory other = makeKey(3, 4, 2);
        dealMove(m, other.keySet.coefficients[0], 7);
        vm.expectRevert(abi.encodeWithSelector(IResharing.GroupKeyChanged.selector, c.keyId));
        finaliseMove(m);
    }

    /// Shares of another secret with the right group key beside them: SCRAPE sees it.
    function test_Finalise_RefusesSharesOfAnotherSecret() public {
        Move memory m = _drawn();
        dealMove(m, _secret() + 1, 7);
        bytes memory points = m.made.points;
        for (uint256 i; i < 128; ++i) {
            points[512 + i] = c.keySet.groupKey[i];
        }
        acknowledgeMove(m);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3));
        finaliseMove(m);
    }

    function test_Finalise_RefusesAHigherDegree() public {
        Move memory m = _drawn();
        uint256[] memory coefficients = new uint256[](4);
        coefficients[0] = _secret();
        (coefficients[1], coefficients[2], coefficients[3]) = (5, 6, 7);
        m.keySet = ThresholdKeys.fromPolynomial(coefficients, 3, 4);
        m.made = Committee(m.draft.seats, signersOf(m.draft.seats), m.keySet.points);
        acknowledgeMove(m);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3));
        finaliseMove(m);
    }

    function test_Finalise_NeedsEveryNewMember() public {
        Move memory m = _dealt();
        uint32 first_ = m.made.servers[0];
        bytes memory good = m.acknowledgements;
        signerSecret[m.made.servers[0]] = signerSecret[m.made.servers[2]];
        acknowledgeMove(m);
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.BadAcknowledgement.selector,
                1,
                vm.addr(signerSecret[first_]),
                servers.server(first_).signer
            )
        );
        finaliseMove(m);
        m.acknowledgements = good;
        finaliseMove(m);
    }

    function test_Finalise_OnlyByTheDeadline() public {
        Move memory m = _dealt();
        uint48 deadline = resharing.reshare(c.keyId).mark;
        vm.warp(uint256(deadline) + 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.CeremonyExpired.selector, c.keyId, deadline));
        finaliseMove(m);
        vm.warp(deadline);
        finaliseMove(m);
    }

    function test_Finalise_OnlyWhatWasDrawnOfALiveKey() public {
        Move memory m = _dealt();
        Draft memory other = abi.decode(abi.encode(m.draft), (Draft));
        other.dealers = 7;
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.finalise(m.keyId, other, m.made.points, m.dealingsDigest, m.acknowledgements);
        _refuse(IKeyRegistry.BadLength.selector);
        resharing.finalise(m.keyId, m.draft, "", m.dealingsDigest, m.acknowledgements);
        uint256 snapshot = vm.snapshotState();
        consumer.retire(c.keyId, true);
        _refuse(IKeyRegistry.WrongKeyState.selector);
        finaliseMove(m);
        vm.revertToState(snapshot);
        finaliseMove(m);
        _refuse(IResharing.WrongReshareState.selector);
        finaliseMove(m);
    }

    /// What was acknowledged in one attempt is nothing in the next, and a member that is lost stops it.
    function test_Finalise_OfThisAttemptByMembersOfGoodStanding() public {
        Move memory m = _dealt();
        bytes memory old = m.acknowledgements;
        _pastDeadline();
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        drawMove(m, "again");
        dealMove(m, _secret(), 7);
        bytes memory good = m.acknowledgements;
        m.acknowledgements = old;
        _refuse(IKeyRegistry.BadAcknowledgement.selector);
        finaliseMove(m);
        m.acknowledgements = good;
        lockOut(m.made.servers[3]);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.LockedOut.selector, m.made.servers[3]));
        finaliseMove(m);
    }

    /// forge-config: default.fuzz.runs = 150
    /// forge-config: long.fuzz.runs = 2000
    function testFuzz_Finalise_TakesEveryHonestReshare(uint256 seed, uint8 t, uint8 n, uint8 t2, uint8 n2)
        public
    {
        n = uint8(bound(n, 4, 16));
        t = uint8(bound(t, (n + 3) / 2, n - 1));
        n2 = uint8(bound(n2, 4, 16));
        t2 = uint8(bound(t2, (n2 + 3) / 2, n2 - 1));
        addServers(26);
        Ceremony memory k = makeKey(t, n, uint256(keccak256(abi.encode(seed))));
        vm.recordLogs();
        vm.prank(address(consumer));
        Committee memory serving = committeeOf(k);
        resharing.request(k.keyId, serving, t2, n2);
        Move memory m;
        (m.keyId, m.serving) = (k.keyId, serving);
        readRequest(m);
        drawMove(m, bytes32(seed));
        assertEq(_bits(m.draft.dealers), t);
        dealMove(m, k.keySet.coefficients[0], seed);
        resharing.finalise(m.keyId, m.draft, m.made.points, m.dealingsDigest, m.acknowledgements);
        for (uint256 i; i < n2; ++i) {
            (, bytes32[] memory proof) = merkleOf(m.made, i);
            assertTrue(keys.isShareLeaf(k.keyId, 1, shareLeaf(m.made, i), proof));
            if (i < n) assertEq(m.made.servers[i], k.committee[i], "kept members keep their index");
        }
    }

    // ------------------------------------------------------------------------------------------ whose turn it is

    function test_ServingEpoch_ChangesAtTheHandover() public {
        Move memory m = _reshared();
        uint48 handover = resharing.committee(c.keyId, 1).handover;
        assertEq(resharing.servingEpoch(c.keyId, handover - 1), 0);
        assertEq(resharing.servingEpoch(c.keyId, handover), 1);
        vm.warp(handover);
        lockOut(m.made.servers[2]);
        Move memory next = move(c.keyId, m.made, _secret(), 8);
        uint48 second = resharing.committee(c.keyId, 2).handover;
        assertEq(resharing.servingEpoch(c.keyId, second - 1), 1);
        assertEq(resharing.servingEpoch(c.keyId, second), 2);
        assertEq(next.made.servers[1], m.made.servers[1]);
    }

    function testFuzz_ServingEpoch_IsTheFirstOfAKeyNeverReshared(uint256 keyId, uint256 time) public view {
        assertEq(resharing.servingEpoch(keyId, time), 0);
        assertEq(resharing.committee(keyId, 0).leavesRoot, 0);
        assertFalse(resharing.isSilent(keyId, uint32(time)));
        Reshare memory none;
        assertEq(abi.encode(resharing.reshare(keyId)), abi.encode(none));
        (uint32 epoch, CommitteeRecord memory record) = resharing.newest(keyId);
        assertEq(epoch, 0);
        assertEq(record.leavesRoot, keys.key(keyId).commitment);
    }

    function test_Newest_IsTheRegistrysUntilThereIsAnother() public {
        (uint32 epoch, CommitteeRecord memory record) = resharing.newest(c.keyId);
        assertEq(epoch, 0);
        assertEq(record.leavesRoot, keys.key(c.keyId).commitment);
        assertEq(record.members, 4);
        assertEq(record.handover, 0);
        _reshared();
        (epoch, record) = resharing.newest(c.keyId);
        assertEq(epoch, 1);
        assertEq(resharing.committee(c.keyId, 0).leavesRoot, keys.key(c.keyId).commitment);
    }

    /// Health is that of the newest committee.
    function test_HealthyShares_OfTheNewCommittee() public {
        Move memory m = _reshared();
        (uint256 healthy, uint8 threshold) =
            keys.healthyShares(c.keyId, m.made.servers, m.made.signers, m.made.points);
        assertEq(healthy, 4);
        assertEq(threshold, 3);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        keys.healthyShares(c.keyId, c.committee, c.signers, c.keySet.points);
    }

    function test_Constants() public view {
        assertEq(resharing.KEY_REGISTRY(), address(keys));
        assertEq(resharing.HANDOVER_DELAY(), 1152);
        assertEq(resharing.REFRESH_AFTER(), 90 days);
        assertEq(resharing.MAX_VOTE(), 30 days);
        assertEq(servers.RESHARING(), address(resharing));
        assertEq(address(keys.RESHARING()), address(resharing));
    }

    // -------------------------------------------------------------------------------------------------- votes

    function test_VoteSilent_ThreeOfFourMakeAMemberLost() public {
        uint48 until = uint48(block.timestamp + 1 days);
        bytes memory two = votes(c.keyId, first, lost, until, 5);
        vm.expectRevert(abi.encodeWithSelector(IResharing.NotEnoughVotes.selector, 2, 3));
        resharing.voteSilent(c.keyId, first, lost, until, two);
        bytes memory three = votes(c.keyId, first, lost, until, 13);
        vm.expectEmit(address(resharing));
        emit IResharing.SilenceVoted(c.keyId, lost, until);
        resharing.voteSilent(c.keyId, first, lost, until, three);
        assertTrue(resharing.isSilent(c.keyId, lost));
        Move memory m = requestMove(c.keyId, first);
        assertEq(m.draft.seats[1], 0);
        assertEq(m.draft.dealers, 13, "it is not asked to deal");
        assertEq(servers.server(lost).bond, 10 ether, "nobody is slashed");
        vm.warp(uint256(until) + 1);
        assertFalse(resharing.isSilent(c.keyId, lost));
    }

    /// One in good standing that was voted silent is not drawn back into the committee.
    function testFuzz_VoteSilent_KeepsTheServerOut(bytes32 randao) public {
        for (uint32 id = 1; id <= 10; ++id) {
            if (!isMember(c.committee, id) && id % 2 == 0) servers.suspend(id, "test");
        }
        Move memory m = _drawn();
        uint32 silent = m.draft.seats[1];
        uint48 until = resharing.reshare(c.keyId).mark + 1 days;
        resharing.voteSilent(c.keyId, first, silent, until, votes(m, silent, until, 13));
        _pastDeadline();
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        assertEq(m.draft.seats[1], 0);
        drawMove(m, randao);
        assertNotEq(m.draft.seats[1], silent);
    }

    function test_VoteSilent_OfMembersThatAreNotLockedOutOnce() public {
        uint48 until = uint48(block.timestamp + 1 days);
        // A member that is locked out has no vote.
        bytes memory all = votes(c.keyId, first, c.committee[3], until, 7);
        lockOut(c.committee[0]);
        vm.expectRevert(abi.encodeWithSelector(IResharing.NotEnoughVotes.selector, 2, 3));
        resharing.voteSilent(c.keyId, first, c.committee[3], until, all);
        // One signature in another's place is none.
        bytes memory one = votes(c.keyId, first, c.committee[0], until, 2);
        bytes memory copies = one;
        for (uint256 i; i < 65; ++i) {
            copies[130 + i] = one[65 + i];
            copies[195 + i] = one[65 + i];
        }
        vm.expectRevert(abi.encodeWithSelector(IResharing.NotEnoughVotes.selector, 1, 3));
        resharing.voteSilent(c.keyId, first, c.committee[0], until, copies);
        _refuse(IKeyRegistry.BadLength.selector);
        resharing.voteSilent(c.keyId, first, c.committee[0], until, "");
    }

    /// 3-of-4: the first leaves, the last says nothing. The three that are honest are t, so the key moves without the last.
    function test_VoteSilent_OneLeavesAndOneIsSilent(bytes32 randao) public {
        vm.prank(servers.server(c.committee[0]).operator);
        servers.announceLeave(c.committee[0]);
        Move memory m = requestMove(c.keyId, first);
        assertEq(m.draft.dealers, 15, "who leaves is asked to deal");
        drawMove(m, randao);
        uint48 until = resharing.reshare(c.keyId).mark + 1 days;
        bytes memory three = votes(m, c.committee[3], until, 7);
        resharing.voteSilent(c.keyId, first, c.committee[3], until, three);
        _again(m, randao);
        assertEq(m.draft.dealers, 7, "who is silent deals no more");
        _movesOnWithout(m, c.committee[3]);
    }

    /// Governance must not end a key by suspending one of its members either.
    function test_VoteSilent_OneIsSuspendedAndOneIsSilent() public {
        servers.suspend(c.committee[1], "test");
        uint48 until = uint48(block.timestamp + 1 days);
        resharing.voteSilent(
            c.keyId, first, c.committee[3], until, votes(c.keyId, first, c.committee[3], until, 7)
        );
        Move memory m = requestMove(c.keyId, first);
        assertEq(m.draft.dealers, 7);
        drawMove(m, "randao");
        _movesOnWithout(m, c.committee[3]);
    }

    /// One is locked out, and its new member says nothing: it alone is drawn anew.
    function test_VoteSilent_OneIsLockedOutAndTheNewMemberIsSilent() public {
        Move memory m = _drawn();
        uint32 silent = m.draft.seats[1];
        uint48 until = resharing.reshare(c.keyId).mark + 1 days;
        resharing.voteSilent(c.keyId, first, silent, until, votes(m, silent, until, 13));
        assertEq(m.draft.dealers, 13);
        _again(m, "other");
        assertEq(m.draft.seats[0], c.committee[0]);
        assertEq(m.draft.seats[2], c.committee[2]);
        _movesOnWithout(m, silent);
    }

    /// One is locked out and one is silent, two are too few to vote: attempts go on, and some do without the silent one.
    function test_Restart_DealersAreNotTheSameForEver() public {
        Move memory m = _drawn();
        assertEq(m.draft.dealers, 13, "at first without who is locked out");
        for (uint256 i; i < 40 && m.draft.dealers & 8 != 0; ++i) {
            _again(m, bytes32(i));
        }
        assertEq(m.draft.dealers, 7, "the silent member deals in each attempt");
    }

    function _again(Move memory m, bytes32 randao) private {
        _pastDeadline();
        vm.recordLogs();
        resharing.restart(c.keyId, first, m.draft);
        readRequest(m);
        drawMove(m, keccak256(abi.encode(randao, "again")));
    }

    function _movesOnWithout(Move memory m, uint32 server) private {
        assertFalse(isMember(m.draft.seats, server));
        dealMove(m, _secret(), 8);
        finaliseMove(m);
        assertEq(resharing.reshare(c.keyId).committeeEpoch, 1);
    }

    function test_VoteSilent_ForATimeOnly() public {
        uint48 now_ = uint48(block.timestamp);
        bytes memory past = votes(c.keyId, first, lost, now_, 13);
        vm.expectRevert(abi.encodeWithSelector(IResharing.BadVoteTime.selector, now_));
        resharing.voteSilent(c.keyId, first, lost, now_, past);
        uint48 long = now_ + 30 days + 1;
        bytes memory tooLong = votes(c.keyId, first, lost, long, 13);
        vm.expectRevert(abi.encodeWithSelector(IResharing.BadVoteTime.selector, long));
        resharing.voteSilent(c.keyId, first, lost, long, tooLong);
        resharing.voteSilent(c.keyId, first, lost, long - 1, votes(c.keyId, first, lost, long - 1, 13));
    }

    /// A vote is of one committee epoch: shown again in the next it is nothing.
    function test_VoteSilent_NotAgainInTheNextEpoch() public {
        uint32 target = c.committee[2];
        uint48 until = uint48(block.timestamp + 20 days);
        // Of three members that stay at their index.
        bytes memory old = votes(c.keyId, first, target, until, 13);
        lockOut(lost);
        Move memory m = move(c.keyId, first, _secret(), 4);
        vm.expectPartialRevert(IResharing.NotEnoughVotes.selector);
        resharing.voteSilent(c.keyId, m.made, target, until, old);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.voteSilent(c.keyId, first, target, until, old);
    }

    // -------------------------------------------------------------------------------------------------- seats

    /// Who was reshared away stays bonded for what it signed, for as long as evidence may come.
    function test_FreePastSeats_AWindowAfterTheHandover() public {
        Move memory m = _reshared();
        uint256 from = uint256(resharing.committee(c.keyId, 1).handover) + EVIDENCE_WINDOW;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsReserved.selector, c.keyId, from));
        resharing.freePastSeats(c.keyId, 1, first, m.made);
        assertEq(servers.server(lost).seats, 1);
        vm.warp(from);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.freePastSeats(c.keyId, 1, m.made, m.made);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        resharing.freePastSeats(c.keyId, 1, first, first);
        resharing.freePastSeats(c.keyId, 1, first, m.made);
        assertEq(servers.server(lost).seats, 0);
        assertEq(servers.server(c.committee[0]).seats, 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsAlreadyFreed.selector, c.keyId));
        resharing.freePastSeats(c.keyId, 1, first, m.made);
    }

    function testFuzz_FreePastSeats_NotOfWhatIsNoPast(uint256 keyId, uint32 epoch) public {
        Move memory m = _reshared();
        vm.assume(keyId != c.keyId || epoch != 1);
        vm.expectRevert(abi.encodeWithSelector(IResharing.NoPastCommittee.selector, keyId, epoch));
        resharing.freePastSeats(keyId, epoch, first, m.made);
    }

    /// When a reshared key ends, its newest committee's seats come free, and the others by the past.
    function test_FreeSeats_OfAKeyThatWasReshared() public {
        Move memory m = _reshared();
        consumer.retire(c.keyId, false);
        vm.warp(uint256(resharing.committee(c.keyId, 1).handover) + EVIDENCE_WINDOW);
        _refuse(IKeyRegistry.WrongCommitment.selector);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        keys.freeSeats(c.keyId, m.made.servers, m.made.signers, m.made.points);
        resharing.freePastSeats(c.keyId, 1, first, m.made);
        for (uint32 id = 1; id <= 10; ++id) {
            assertEq(servers.server(id).seats, 0);
        }
    }
}
