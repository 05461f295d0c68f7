// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Dealing, DutyRequest, Envelope, Fault, ICourt, ShareHolder} from "../interfaces/ICourt.sol";

/// @title Who signed what: digests and signatures of evidence
library Evidence {
    bytes32 private constant ENVELOPE_TYPEHASH = keccak256(
        "Envelope(uint256 keyId,uint32 committeeEpoch,uint8 index,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot,bytes32 partialHash)"
    );
    bytes32 private constant DUTY_REQUEST_TYPEHASH = keccak256(
        "DutyRequest(uint256 keyId,uint64 assignment,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot)"
    );

    bytes32 internal constant DEALING_TYPEHASH = keccak256(
        "Dealing(uint256 keyId,uint16 attempt,uint8 index,bytes32 oneTimeKeysHash,bytes oneTimeKey,bytes commitments,bytes proofOfPossession,bytes shares)"
    );

    /// @notice EIP-712 digest of an envelope.
    /// @dev A struct of words in calldata is its own encoding, so it is hashed as it came: 800 gas less than field by field. A word too
    /// large for its type gives a digest that no server signs, and the field reverts where it is read.
    function digest(Envelope calldata envelope, bytes32 domainSeparator) internal pure returns (bytes32) {
        bytes32 typehash = ENVELOPE_TYPEHASH;
        bytes32 structHash;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, typehash)
            calldatacopy(add(input, 0x20), envelope, 0x120)
            structHash := keccak256(input, 0x140)
        }
        return MessageHashUtils.toTypedDataHash(domainSeparator, structHash);
    }

    /// @notice EIP-712 digest of a request for a duty.
    function digest(DutyRequest calldata request, bytes32 domainSeparator) internal pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(
            domainSeparator, keccak256(abi.encode(DUTY_REQUEST_TYPEHASH, request))
        );
    }

    /// @notice EIP-712 digest of a dealing.
    function digest(Dealing calldata dealing, bytes32 domainSeparator) internal pure returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(
            domainSeparator,
            keccak256(
                abi.encode(
                    DEALING_TYPEHASH,
                    dealing.keyId,
                    dealing.attempt,
                    dealing.index,
                    dealing.oneTimeKeysHash,
                    keccak256(dealing.oneTimeKey),
                    keccak256(dealing.commitments),
                    dealing.possessionHash,
                    keccak256(dealing.shares)
                )
            )
        );
    }

    /// @notice The share leaf that `IKeyRegistry.isShareLeaf` takes. A share key of another length gives no leaf of any key:
    /// its preimage has another length than all of theirs.
    /// @dev keccak256(abi.encodePacked(uint256(index), uint256(server), uint256(uint160(signer)), shareKey)), 300 gas cheaper.
    function leaf(ShareHolder calldata holder, uint8 index, address signer)
        internal
        pure
        returns (bytes32 hash)
    {
        uint256 server = holder.server;
        bytes calldata shareKey = holder.shareKey;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, index)
            mstore(add(input, 0x20), server)
            mstore(add(input, 0x40), signer)
            calldatacopy(add(input, 0x60), shareKey.offset, shareKey.length)
            hash := keccak256(input, add(0x60, shareKey.length))
        }
    }

    /// @notice What a reporter commits to before it shows evidence: keccak256(abi.encode(reporter, fault, evidence)).
    function commitment(address reporter, Fault fault, bytes32 evidence)
        internal
        pure
        returns (bytes32 result)
    {
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, reporter)
            mstore(add(input, 0x20), fault)
            mstore(add(input, 0x40), evidence)
            result := keccak256(input, 0x60)
        }
    }

    /// @notice keccak256 of bytes in calldata.
    /// @dev Without the copy in memory that Solidity keeps, which costs three times as much for a partial.
    function hash(bytes calldata data) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let input := mload(0x40)
            calldatacopy(input, data.offset, data.length)
            result := keccak256(input, data.length)
        }
    }

    /// @notice Account that signed `digest_`: 65 bytes, low s. Raised: `ICourt.BadEvidenceSignature` if nobody did.
    /// @dev Zero is what a failed recovery gives, and must never pass for a signer.
    function recover(bytes32 digest_, bytes calldata signature) internal pure returns (address signer) {
        // Why it failed does not matter.
        // slither-disable-next-line unused-return
        (signer,,) = ECDSA.tryRecoverCalldata(digest_, signature);
        require(signer != address(0), ICourt.BadEvidenceSignature(digest_));
    }

    /// @notice Account that signed both. Raised: `ICourt.BadEvidenceSignature`, `ICourt.DifferentSigners`.
    function recoverBoth(
        bytes32 first,
        bytes calldata firstSignature,
        bytes32 second,
        bytes calldata secondSignature
    ) internal pure returns (address signer) {
        signer = recover(first, firstSignature);
        address other = recover(second, secondSignature);
        require(other == signer, ICourt.DifferentSigners(signer, other));
    }
}
