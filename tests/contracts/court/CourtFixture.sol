// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, Envelope, Fault, ShareHolder} from "../../../contracts/interfaces/ICourt.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @title A live 3-of-4 key, what its servers answer, and a reporter
abstract contract CourtFixture is RegistryFixture {
    uint8 internal constant DEPOSIT = 1;
    uint8 internal constant ATTESTATION = 2;
    uint8 internal constant BLOCK = 3;
    uint8 internal constant RANDAO = 6;
    uint8 internal constant EXIT = 7;
    uint8 internal constant CREDENTIALS = 12;

    /// Blocks from a commitment to its proof, as the interface has them.
    uint256 internal constant COMMITMENT_BLOCKS = 3;

    bytes32 internal constant ROOT = keccak256("a duty");

    address internal reporter = makeAddr("reporter");
    /// The ceremony of the key, encoded.
    bytes private _encoded;

    /// @dev What one server answered.
    struct Answer {
        Envelope envelope;
        bytes signature;
        ShareHolder holder;
        bytes partial_;
    }

    function setUp() public virtual {
        deployRegistries();
        addServers(6);
        _encoded = abi.encode(makeKey(3, 4, 1));
    }

    function made() internal view returns (Ceremony memory) {
        return abi.decode(_encoded, (Ceremony));
    }

    /// @notice Id of the server that holds the share at `position` (from 0).
    function serverAt(uint256 position) internal view returns (uint32) {
        return made().committee[position];
    }

    // ------------------------------------------------------------------------------------------------- answers

    function holderOf(Ceremony memory c, uint256 position) internal pure returns (ShareHolder memory holder) {
        bytes32[] memory leaves = new bytes32[](c.members);
        for (uint256 i; i < leaves.length; ++i) {
            leaves[i] = shareLeaf(c, i);
        }
        holder.server = c.committee[position];
        holder.shareKey = c.keySet.shareKeys[position];
        (, holder.proof) = merkle(leaves, position);
    }

    /// @notice The correct partial of an honest server with its envelope: an attestation of slot 320, source 9, target 10.
    function honest(Ceremony memory c, uint256 position, bytes32 root)
        internal
        view
        returns (Answer memory a)
    {
        a.holder = holderOf(c, position);
        a.partial_ = ThresholdKeys.sign(c.keySet.shares[position], root);
        a.envelope = Envelope({
            keyId: c.keyId,
            committeeEpoch: 0,
            index: uint8(position + 1),
            dutyKind: ATTESTATION,
            slot: 320,
            sourceEpoch: 9,
            targetEpoch: 10,
            signingRoot: root,
            partialHash: keccak256(a.partial_)
        });
        seal(a);
    }

    /// @notice Signs the envelope as it is now, with the signer of its server.
    function seal(Answer memory a) internal view {
        a.signature = sign(signerSecret[a.holder.server], envelopeDigest(address(keys), a.envelope));
    }

    /// @notice `a` with another partial, vouched for by the server.
    function withPartial(Answer memory a, bytes memory partial_) internal view returns (Answer memory) {
        a.partial_ = partial_;
        a.envelope.partialHash = keccak256(partial_);
        seal(a);
        return a;
    }

    /// @notice A point of the subgroup that is not the server's partial.
    function invalid(uint256 position, bytes32 root) internal view returns (Answer memory) {
        return withPartial(honest(made(), position, root), ThresholdKeys.sign(12_345, root));
    }

    /// @notice No point.
    function garbage(uint256 position, bytes32 root) internal view returns (Answer memory a) {
        a = honest(made(), position, root);
        bytes memory partial_ = a.partial_;
        partial_[255] ^= 0x01;
        return withPartial(a, partial_);
    }

    /// @notice A vote as the server signed it, correct partial and all.
    function vote(uint256 position, uint64 source, uint64 target, bytes32 root)
        internal
        view
        returns (Answer memory a)
    {
        a = honest(made(), position, root);
        a.envelope.slot = target * 32;
        a.envelope.sourceEpoch = source;
        a.envelope.targetEpoch = target;
        seal(a);
    }

    /// @notice A message of a kind that is no vote.
    function other(uint256 position, uint8 kind, uint64 slot, bytes32 root)
        internal
        view
        returns (Answer memory a)
    {
        a = honest(made(), position, root);
        a.envelope.dutyKind = kind;
        a.envelope.slot = slot;
        a.envelope.sourceEpoch = 0;
        a.envelope.targetEpoch = 0;
        seal(a);
    }

    // -------------------------------------------------------------------------------------------------- reports

    function evidenceOf(Answer memory a) internal view returns (bytes32) {
        return envelopeDigest(address(keys), a.envelope);
    }

    function evidenceOf(Answer memory a, Answer memory b) internal view returns (bytes32) {
        return pairOf(evidenceOf(a), evidenceOf(b));
    }

    function pairOf(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return keccak256(a < b ? bytes.concat(a, b) : bytes.concat(b, a));
    }

    function commitmentOf(address who, Fault fault, bytes32 evidence) internal pure returns (bytes32) {
        return keccak256(abi.encode(who, fault, evidence));
    }

    /// @notice Commits for `who` and goes on to the first block that takes the proof.
    function commitAs(address who, Fault fault, bytes32 evidence) internal {
        court.commit(commitmentOf(who, fault, evidence));
        // Not block.number, which the optimiser reads once in a test.
        vm.roll(vm.getBlockNumber() + COMMITMENT_BLOCKS);
    }

    function invalidCall(Answer memory a) internal view returns (bytes memory) {
        return abi.encodeCall(court.proveInvalidPartial, (a.envelope, a.signature, a.holder, a.partial_));
    }

    function garbageCall(Answer memory a) internal view returns (bytes memory) {
        return abi.encodeCall(court.proveGarbagePartial, (a.envelope, a.signature, a.holder, a.partial_));
    }

    function conflictCall(Answer memory a, Answer memory b) internal view returns (bytes memory) {
        return abi.encodeCall(
            court.proveConflictingDuties,
            (a.envelope, a.signature, b.envelope, b.signature, holdersOf(a.holder))
        );
    }

    function holdersOf(ShareHolder memory one) internal pure returns (ShareHolder[] memory holders) {
        holders = new ShareHolder[](1);
        holders[0] = one;
    }

    function unauthorisedCall(Answer memory a) internal view returns (bytes memory) {
        return abi.encodeCall(court.proveUnauthorisedSignature, (a.envelope, a.signature, a.holder));
    }

    /// @notice Commits, and makes the call as the reporter.
    function report(Fault fault, bytes32 evidence, bytes memory data) internal {
        commitAs(reporter, fault, evidence);
        callCourt(reporter, data);
    }

    function reportInvalid(Answer memory a) internal {
        report(Fault.InvalidPartial, evidenceOf(a), invalidCall(a));
    }

    function reportGarbage(Answer memory a) internal {
        report(Fault.GarbagePartial, evidenceOf(a), garbageCall(a));
    }

    function reportConflict(Answer memory a, Answer memory b) internal {
        report(Fault.ConflictingDuties, evidenceOf(a, b), conflictCall(a, b));
    }

    function reportUnauthorised(Answer memory a) internal {
        report(Fault.UnauthorisedSignature, evidenceOf(a), unauthorisedCall(a));
    }

    /// @notice EIP-712 digest of a ceremony's message, its type spelt out.
    function messageDigest(CeremonyMessage memory m) internal view returns (bytes32) {
        string[5] memory types = [
            "OneTimeKey(uint256 keyId,uint16 attempt,uint8 index,bytes publicKey)",
            "DealingCommitment(uint256 keyId,uint16 attempt,uint8 index,bytes32 dealingHash)",
            "CommitmentSet(uint256 keyId,uint16 attempt,uint8 index,bytes32 committeeHash,bytes32 commitmentsHash)",
            "Dealing(uint256 keyId,uint16 attempt,uint8 index,bytes32 oneTimeKeysHash,bytes oneTimeKey,bytes commitments,bytes proofOfPossession,bytes shares)",
            "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
        ];
        bytes memory encoded = abi.encode(keccak256(bytes(types[m.round - 1])), m.keyId, m.attempt, m.index);
        if (m.round == 5) encoded = abi.encode(ACKNOWLEDGEMENT_TYPEHASH, m.keyId, m.attempt);
        for (uint256 i; i < m.fields.length; ++i) {
            encoded = bytes.concat(encoded, m.fields[i]);
        }
        return typedDigest(address(keys), keccak256(encoded));
    }

    function equivocationCall(uint256 secret, CeremonyMessage memory a, CeremonyMessage memory b)
        internal
        view
        returns (bytes memory)
    {
        return abi.encodeCall(
            court.proveCeremonyEquivocation,
            (a, sign(secret, messageDigest(a)), b, sign(secret, messageDigest(b)))
        );
    }

    function reportEquivocation(uint32 server, CeremonyMessage memory a, CeremonyMessage memory b) internal {
        report(
            Fault.CeremonyEquivocation,
            pairOf(messageDigest(a), messageDigest(b)),
            equivocationCall(signerSecret[server], a, b)
        );
    }

    /// @notice A call that must succeed; a failure is passed on as it is.
    function callCourt(address who, bytes memory data) internal {
        vm.prank(who);
        (bool success, bytes memory answer) = address(court).call(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    /// @notice The call must fail with `refusal` although it is committed to, and cost nobody anything.
    function refuse(Fault fault, bytes32 evidence, bytes memory data, bytes memory refusal) internal {
        uint256 snapshot = vm.snapshotState();
        commitAs(reporter, fault, evidence);
        vm.prank(reporter);
        (bool success, bytes memory answer) = address(court).call(data);
        assertFalse(success, "upheld");
        if (refusal.length == 4) assertEq(bytes4(answer), bytes4(refusal), "another refusal");
        else assertEq(answer, refusal, "another refusal");
        vm.revertToState(snapshot);
    }

    function selector(bytes4 error_) internal pure returns (bytes memory) {
        return abi.encodePacked(error_);
    }

    // -------------------------------------------------------------------------------------------------- verdicts

    function assertSlashed(uint32 id, uint256 times) internal view {
        assertEq(servers.server(id).bond, 10 ether - times * SEAT_BOND, "bond");
        assertEq(servers.server(id).lockedOut, times > 0, "lock-out");
    }
}
