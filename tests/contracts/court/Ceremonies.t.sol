// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title A member that says two things in one round of a ceremony
contract CeremoniesTest is CourtFixture {
    uint32 private constant SERVER = 5;

    function _message(uint8 round, bytes32 word) private pure returns (CeremonyMessage memory m) {
        m.keyId = 7;
        m.attempt = 2;
        m.index = 3;
        m.round = round;
        m.fields = new bytes32[](round == 4 ? 5 : round == 5 ? 4 : round == 3 ? 2 : 1);
        m.fields[m.fields.length - 1] = word;
    }

    function _convict(CeremonyMessage memory a, CeremonyMessage memory b) private {
        uint256 snapshot = vm.snapshotState();
        reportEquivocation(SERVER, a, b);
        assertSlashed(SERVER, 1);
        vm.revertToState(snapshot);
    }

    function _refuse(bytes4 error_, CeremonyMessage memory a, CeremonyMessage memory b) private {
        refuse(
            Fault.CeremonyEquivocation,
            pairOf(messageDigest(a), messageDigest(b)),
            equivocationCall(signerSecret[SERVER], a, b),
            selector(error_)
        );
    }

    function test_ProveCeremonyEquivocation_SlashesAndLocksOut() public {
        CeremonyMessage memory a = _message(4, "one dealing");
        CeremonyMessage memory b = _message(4, "another");
        bytes32 evidence = pairOf(messageDigest(a), messageDigest(b));
        commitAs(reporter, Fault.CeremonyEquivocation, evidence);
        bytes memory aSig = sign(signerSecret[SERVER], messageDigest(a));
        bytes memory bSig = sign(signerSecret[SERVER], messageDigest(b));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.CeremonyEquivocation, SERVER, 7, 0, evidence, reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveCeremonyEquivocation(a, aSig, b, bSig);
        assertSlashed(SERVER, 1);
    }

    function test_ProveCeremonyEquivocation_InEveryRound() public {
        for (uint8 round = 1; round < 6; ++round) {
            _convict(_message(round, "a"), _message(round, "b"));
        }
    }

    function test_ProveCeremonyEquivocation_ADealingThatIsNotTheCommittedOne() public {
        CeremonyMessage memory dealing = _message(4, "dealing");
        CeremonyMessage memory commitment = _message(2, messageDigest(dealing));
        _refuse(ICourt.NoConflict.selector, commitment, dealing);
        _convict(_message(2, "what was committed to"), dealing);
    }

    function test_ProveCeremonyEquivocation_HonestTranscriptsDoNot() public {
        CeremonyMessage memory a = _message(2, "a");
        // Said again, as a server does that was restarted.
        _refuse(ICourt.NoConflict.selector, a, _message(2, "a"));
        // Different rounds, and a commitment after its dealing.
        _refuse(ICourt.NoConflict.selector, _message(1, "a"), _message(2, "b"));
        _refuse(ICourt.NoConflict.selector, _message(4, "a"), _message(2, "b"));
        // The next attempt, another key.
        CeremonyMessage memory b = _message(2, "b");
        b.attempt = 3;
        _refuse(ICourt.DifferentSubjects.selector, a, b);
        b = _message(2, "b");
        b.keyId = 8;
        _refuse(ICourt.DifferentSubjects.selector, a, b);
        b = _message(2, "b");
        b.index = 4;
        _refuse(ICourt.DifferentSubjects.selector, a, b);
    }

    /// A reorganisation takes the seed's block back, and the same attempt has another committee: an honest server with another seat in it
    /// says all once more. An acknowledgement has no index, so a framer writes one into both.
    function test_ProveCeremonyEquivocation_WhatWasSaidInAReorganisedCommitteeFramesNobody() public {
        CeremonyMessage memory a = _message(5, "a");
        CeremonyMessage memory b = _message(5, "b");
        (a.fields[2], b.fields[2]) = ("committee A", "committee B");
        _refuse(ICourt.DifferentSubjects.selector, a, b);
        a = _message(3, "a");
        b = _message(3, "b");
        (a.fields[0], b.fields[0]) = ("committee A", "committee B");
        _refuse(ICourt.DifferentSubjects.selector, a, b);
    }

    /// Whoever signs the same as a guilty server, and has no bond, is no reason to spare the guilty one; nor is a fault of another kind.
    function test_ProveCeremonyEquivocation_AScapegoatSavesNobody() public {
        for (uint8 round = 1; round < 6; ++round) {
            uint256 snapshot = vm.snapshotState();
            reportEquivocation(6, _message(round, "a"), _message(round, "b"));
            assertSlashed(6, 1);
            commitAs(
                address(9),
                Fault.CeremonyEquivocation,
                pairOf(messageDigest(_message(round, "a")), messageDigest(_message(round, "b")))
            );
            vm.prank(address(9));
            (bool convicted,) = address(court)
                .call(equivocationCall(signerSecret[SERVER], _message(round, "a"), _message(round, "b")));
            assertTrue(convicted);
            assertSlashed(SERVER, 1);
            vm.revertToState(snapshot);
        }
    }

    function test_ProveCeremonyEquivocation_NobodyIsFramed() public {
        CeremonyMessage memory a = _message(2, "a");
        CeremonyMessage memory b = _message(2, "b");
        bytes32 evidence = pairOf(messageDigest(a), messageDigest(b));
        refuse(
            Fault.CeremonyEquivocation,
            evidence,
            equivocationCall(0xbad, a, b),
            abi.encodeWithSelector(ICourt.NoServer.selector, vm.addr(0xbad))
        );
        bytes memory mixed = abi.encodeCall(
            court.proveCeremonyEquivocation,
            (a, sign(signerSecret[SERVER], messageDigest(a)), b, sign(signerSecret[4], messageDigest(b)))
        );
        refuse(Fault.CeremonyEquivocation, evidence, mixed, selector(ICourt.DifferentSigners.selector));
    }

    /// Fields of one type cannot be read as those of another, and there are no other rounds.
    function test_ProveCeremonyEquivocation_MalformedMessages() public {
        CeremonyMessage memory a = _message(4, "a");
        CeremonyMessage memory b = _message(4, "b");
        b.fields = new bytes32[](3);
        _refuse(ICourt.MalformedMessage.selector, a, b);
        b = _message(2, "b");
        b.fields = new bytes32[](0);
        _refuse(ICourt.MalformedMessage.selector, b, b);
        bytes memory sig = new bytes(65);
        for (uint8 round; round < 10; round += 6) {
            b = _message(2, "b");
            b.round = round;
            vm.expectRevert(abi.encodeWithSelector(ICourt.MalformedMessage.selector, round, 1));
            court.proveCeremonyEquivocation(b, sig, b, sig);
        }
    }

    function test_ProveCeremonyEquivocation_OldSignersAnswerToo() public {
        address operator = servers.server(SERVER).operator;
        bytes memory proof = signerProof(0xbeef, operator);
        vm.prank(operator);
        servers.setSigner(SERVER, vm.addr(0xbeef), proof);
        _convict(_message(5, "a"), _message(5, "b"));
    }

    /// Once for a key, and the same evidence in the other order is the same.
    function test_ProveCeremonyEquivocation_Once() public {
        reportEquivocation(SERVER, _message(2, "a"), _message(2, "b"));
        reportEquivocation(SERVER, _message(3, "a"), _message(3, "b"));
        assertSlashed(SERVER, 1);
        servers.reinstate(SERVER, "found and fixed");
        reportEquivocation(SERVER, _message(2, "b"), _message(2, "a"));
        assertTrue(servers.isActive(SERVER));
        assertEq(servers.server(SERVER).bond, 10 ether - SEAT_BOND);
    }

    function testFuzz_ProveCeremonyEquivocation_ExactlyWhereTheyDiffer(
        uint8 round,
        uint8 position,
        bytes32 first,
        bytes32 second
    ) public {
        round = uint8(bound(round, 1, 5));
        CeremonyMessage memory a = _message(round, "");
        CeremonyMessage memory b = _message(round, "");
        position = uint8(position % a.fields.length);
        a.fields[position] = first;
        b.fields[position] = second;
        commitAs(reporter, Fault.CeremonyEquivocation, pairOf(messageDigest(a), messageDigest(b)));
        bytes memory aSig = sign(signerSecret[SERVER], messageDigest(a));
        bytes memory bSig = sign(signerSecret[SERVER], messageDigest(b));
        vm.prank(reporter);
        (bool success,) =
            address(court).call(abi.encodeCall(court.proveCeremonyEquivocation, (a, aSig, b, bSig)));
        // What names the committee says which ceremony it is.
        bool isSubject = (round == 5 && position == 2) || (round == 3 && position == 0);
        assertEq(success, first != second && !isSubject);
        assertSlashed(SERVER, success ? 1 : 0);
    }
}
