// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Acknowledgements} from "../../../contracts/court/Acknowledgements.sol";
import {SignedDealing} from "../../../contracts/interfaces/IAcknowledgements.sol";
import {CeremonyMessage} from "../../../contracts/interfaces/ICourt.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {DealingFixture} from "./DealingFixture.sol";

/// @title Ceremonies up to the acknowledgements, and questions to their members
/// @notice What a member has to acknowledge is computed from the secret polynomials, apart from the contract.
abstract contract AcknowledgementFixture is DealingFixture {
    uint8 internal constant COMMITMENT_SET = 3;

    Acknowledgements internal acknowledgements;
    address internal challenger = makeAddr("challenger");
    uint256 internal fee;

    /// @dev A ceremony in which all dealings are on the table.
    struct Running {
        Ceremony c;
        Dealt[] dealt;
        SignedDealing[] dealings;
    }

    function setUp() public virtual override {
        super.setUp();
        acknowledgements = Acknowledgements(address(court.ACKNOWLEDGEMENTS()));
        vm.fee(7 gwei);
        fee = acknowledgements.answerFee();
        vm.deal(challenger, 100 ether);
    }

    /// @notice A ceremony of a new key, with honest dealings of everybody.
    function running(uint8 threshold, uint8 members, uint256 seed) internal returns (Running memory r) {
        r.c = requestAndDraw(threshold, members, keccak256(abi.encode("acknowledged", seed)));
        deal_(r, seed);
    }

    function deal_(Running memory r, uint256 seed) internal {
        Ceremony memory c = r.c;
        r.dealt = new Dealt[](c.members);
        r.dealings = new SignedDealing[](c.members);
        uint256[] memory sum = new uint256[](c.threshold);
        for (uint256 i; i < c.members; ++i) {
            uint256 own = uint256(keccak256(abi.encode(seed, i)));
            r.dealt[i] = honestDealing(c.keyId, c.committee[i], uint8(i + 1), c.threshold, c.members, own);
            uint256[] memory polynomial = ThresholdKeys.generate(own, c.threshold, c.members).coefficients;
            for (uint256 k; k < c.threshold; ++k) {
                sum[k] = addmod(sum[k], polynomial[k], ThresholdKeys.R);
            }
        }
        c.keySet = ThresholdKeys.fromPolynomial(sum, c.threshold, c.members);
        table(r);
    }

    /// @notice Puts the dealings on the table as they are now, and acknowledges them.
    function table(Running memory r) internal view {
        bytes memory digests;
        for (uint256 i; i < r.dealt.length; ++i) {
            Dealt memory d = r.dealt[i];
            r.dealings[i] = SignedDealing(d.dealing, d.proof, d.signature);
            digests = bytes.concat(digests, dealingDigest(d.dealing));
        }
        r.c.dealingsDigest = keccak256(digests);
        r.c.acknowledgements = acknowledge(r.c);
    }

    function committeeHash(Ceremony memory c) internal pure returns (bytes32) {
        return keccak256(abi.encode(c.committee, c.signers));
    }

    /// @notice What member `index` said in the third round.
    function setOf(Ceremony memory c, uint8 index) internal pure returns (CeremonyMessage memory m) {
        m = CeremonyMessage(c.keyId, 0, index, COMMITMENT_SET, new bytes32[](2));
        (m.fields[0], m.fields[1]) = (committeeHash(c), c.dealingsDigest);
    }

    function signedSet(Ceremony memory c, uint8 index) internal view returns (bytes memory) {
        return sign(signerSecret[c.committee[index - 1]], messageDigest(setOf(c, index)));
    }

    function questionTo(Running memory r, uint8 index) internal view returns (bytes memory) {
        return abi.encodeCall(
            acknowledgements.challengeAcknowledgement,
            (r.c.keyId, index, r.c.committee, r.dealings, signedSet(r.c, index))
        );
    }

    function ask(Running memory r, uint8 index) internal {
        vm.prank(challenger);
        (bool success, bytes memory answer) = address(acknowledgements).call{value: fee}(questionTo(r, index));
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    function refuseAsking(uint256 value, bytes memory data, bytes memory refusal) internal {
        uint256 before = challenger.balance;
        vm.prank(challenger);
        (bool success, bytes memory answer) = address(acknowledgements).call{value: value}(data);
        assertFalse(success, "taken");
        assertEq(answer, refusal, "another refusal");
        assertEq(challenger.balance, before);
    }

    /// @notice The acknowledgement of member `index`.
    function acknowledgementOf(Ceremony memory c, uint8 index) internal view returns (bytes memory) {
        return sign(signerSecret[c.committee[index - 1]], acknowledgementDigest(c));
    }

    function pastDeadline(Ceremony memory c, uint8 index) internal {
        vm.warp(uint256(acknowledgements.challenge(c.keyId, 0, index).deadline) + 1);
    }
}
