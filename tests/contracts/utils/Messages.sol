// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DutyRequest, Envelope} from "../../../contracts/interfaces/ICourt.sol";
import {DealtImport, IKeyRegistry} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Committee} from "../../../contracts/interfaces/IResharing.sol";
import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";
import {Test, Vm} from "forge-std/Test.sol";

/// @title What servers sign and blocks say, byte by byte
/// @notice Spelt out from docs/protocol.md and the yellow paper, apart from the contracts; every fixture builds on it.
abstract contract Messages is Test {
    using RLP for RLP.Encoder;

    bytes32 internal constant SIGNER_PROOF_TYPEHASH =
        keccak256("SignerProof(address operator,address signer)");
    bytes32 internal constant DUTY_KEY_PROOF_TYPEHASH =
        keccak256("DutyKeyProof(address provider,address dutyKey)");
    bytes32 internal constant ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
    );

    bytes32 internal constant RESHARE_ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "ReshareAcknowledgement(uint256 keyId,uint32 committeeEpoch,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
    );
    bytes32 internal constant SILENCE_VOTE_TYPEHASH =
        keccak256("SilenceVote(uint256 keyId,uint32 committeeEpoch,uint32 server,uint48 until)");

    bytes32 internal constant DEALT_ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "DealtAcknowledgement(address owner,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 historyHash)"
    );

    bytes32 internal constant ENVELOPE_TYPEHASH = keccak256(
        "Envelope(uint256 keyId,uint32 committeeEpoch,uint8 index,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot,bytes32 partialHash)"
    );
    bytes32 internal constant DUTY_REQUEST_TYPEHASH = keccak256(
        "DutyRequest(uint256 keyId,uint64 assignment,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot)"
    );

    // ----------------------------------------------------------------------------------------- EIP-712 messages

    function domainSeparator(address verifyingContract) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("Stkr"),
                keccak256("1"),
                block.chainid,
                verifyingContract
            )
        );
    }

    function typedDigest(address verifyingContract, bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domainSeparator(verifyingContract), structHash));
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @notice The proof that the holder of `secret` lets `account` register `signer`; honest if it is the signer's.
    function signerProofBy(address servers, uint256 secret, address account, address signer)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(abi.encode(SIGNER_PROOF_TYPEHASH, account, signer));
        return sign(secret, typedDigest(servers, structHash));
    }

    function dutyKeyProof(address providers, uint256 secret, address provider)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(abi.encode(DUTY_KEY_PROOF_TYPEHASH, provider, vm.addr(secret)));
        return sign(secret, typedDigest(providers, structHash));
    }

    /// @notice What each member of `committee` signs at the end of the ceremony of `keyId`.
    function acknowledgementDigest(
        IKeyRegistry registry,
        uint256 keyId,
        uint8 threshold,
        bytes memory points,
        uint32[] memory committee,
        address[] memory signers,
        bytes32 dealingsDigest
    ) internal view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                ACKNOWLEDGEMENT_TYPEHASH,
                keyId,
                registry.key(keyId).attempt,
                threshold,
                keccak256(points),
                keccak256(abi.encode(committee, signers)),
                dealingsDigest
            )
        );
        return typedDigest(address(registry), structHash);
    }

    /// @notice What each member of the new committee signs at the end of a reshare.
    function reshareDigest(
        IKeyRegistry registry,
        uint256 keyId,
        uint32 committeeEpoch,
        uint16 attempt,
        uint8 threshold,
        Committee memory made,
        bytes32 dealingsDigest
    ) internal view returns (bytes32) {
        bytes memory first = abi.encode(
            RESHARE_ACKNOWLEDGEMENT_TYPEHASH, keyId, committeeEpoch, attempt, threshold
        );
        bytes32 committeeHash = keccak256(abi.encode(made.servers, made.signers));
        bytes memory rest = abi.encode(keccak256(made.points), committeeHash, dealingsDigest);
        return typedDigest(address(registry), keccak256(bytes.concat(first, rest)));
    }

    /// @notice What members sign who vote that `server` is silent.
    function silenceDigest(
        IKeyRegistry registry,
        uint256 keyId,
        uint32 committeeEpoch,
        uint32 server,
        uint48 until
    ) internal view returns (bytes32) {
        bytes memory vote = abi.encode(SILENCE_VOTE_TYPEHASH, keyId, committeeEpoch, server, until);
        return typedDigest(address(registry), keccak256(vote));
    }

    /// @notice What each member of a dealt key and the group key itself sign before `owner` imports it.
    function dealtDigest(
        IKeyRegistry registry,
        address owner,
        DealtImport memory dealt,
        address[] memory signers
    ) internal view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                DEALT_ACKNOWLEDGEMENT_TYPEHASH,
                owner,
                dealt.threshold,
                keccak256(dealt.points),
                keccak256(abi.encode(dealt.committee, signers)),
                dealt.historyHash
            )
        );
        return typedDigest(address(registry), structHash);
    }

    /// @notice What a server signs beside a partial signature.
    function envelopeDigest(address registry, Envelope memory e) internal view returns (bytes32) {
        return typedDigest(
            registry,
            keccak256(
                bytes.concat(
                    abi.encode(ENVELOPE_TYPEHASH, e.keyId, e.committeeEpoch, e.index, e.dutyKind, e.slot),
                    abi.encode(e.sourceEpoch, e.targetEpoch, e.signingRoot, e.partialHash)
                )
            )
        );
    }

    /// @notice What a duty key signs to ask for a signature.
    function requestDigest(address registry, DutyRequest memory r) internal view returns (bytes32) {
        return typedDigest(
            registry,
            keccak256(
                bytes.concat(
                    abi.encode(DUTY_REQUEST_TYPEHASH, r.keyId, r.assignment, r.dutyKind, r.slot),
                    abi.encode(r.sourceEpoch, r.targetEpoch, r.signingRoot)
                )
            )
        );
    }

    // --------------------------------------------------------------------------------------------------- blocks

    /// @notice RLP of a header of today's shape (21 fields) with this number and PREVRANDAO.
    function header(uint256 number, bytes32 randao) internal pure returns (bytes memory) {
        RLP.Encoder memory list = RLP.encoder();
        list.push(keccak256(abi.encode("parent", number))).push(keccak256("ommers")).push(address(0xfee));
        list.push(keccak256("state")).push(keccak256("transactions")).push(keccak256("receipts"));
        list.push(new bytes(256)).push(uint256(0)).push(number).push(uint256(45_000_000));
        list.push(uint256(21_000)).push(uint256(1_700_000_000)).push(bytes("stkr")).push(randao);
        list.push(new bytes(8)).push(uint256(7)).push(keccak256("withdrawals")).push(uint256(0));
        list.push(uint256(0)).push(keccak256("beacon root")).push(keccak256("requests"));
        return list.encode();
    }

    /// @notice Moves past block `number`, whose header carries `randao`, and makes its hash known to the chain.
    function pastSeedBlock(uint256 number, bytes32 randao) internal returns (bytes memory encoded) {
        if (block.number <= number) vm.roll(number + 1);
        encoded = header(number, randao);
        vm.setBlockhash(number, keccak256(encoded));
    }

    /// @notice The committee of the last `CommitteeDrawn` since `vm.recordLogs`.
    function drawnCommittee() internal returns (uint32[] memory committee) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IKeyRegistry.CommitteeDrawn.selector) continue;
            (, committee,,) = abi.decode(logs[i].data, (uint16, uint32[], bytes32, uint48));
        }
    }
}
