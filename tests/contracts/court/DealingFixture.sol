// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Dealing, DealingDefect, Fault, Opening} from "../../../contracts/interfaces/ICourt.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title Dealings of a ceremony, made as docs/protocol.md has it, apart from the contracts
/// @notice Shared keys come from the product of the two secrets and not from ecrecover.
abstract contract DealingFixture is CourtFixture {
    uint256 internal constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 internal constant MODULUS = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f;

    /// @dev A dealing and what its members know of it.
    struct Dealt {
        Dealing dealing;
        bytes signature;
        bytes oneTimeKeys;
        bytes proof;
        /// One-time secrets of the members, the dealer's too.
        uint256[] secrets;
        /// The dealer's server.
        uint32 server;
    }

    function oneTimeSecret(uint256 member) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("one-time", member))) % (ORDER - 1) + 1;
    }

    function compressed(uint256 secret) internal returns (bytes memory) {
        (uint256 x, uint256 y) = publicPoint(secret);
        return abi.encodePacked(y % 2 == 0 ? bytes1(0x02) : bytes1(0x03), x);
    }

    function publicPoint(uint256 secret) internal returns (uint256 x, uint256 y) {
        return (vm.createWallet(secret).publicKeyX, vm.createWallet(secret).publicKeyY);
    }

    /// @notice An honest dealing of the server at `position` (index: one more) of the 3-of-4 key 1.
    function honestDealing(uint256 position) internal returns (Dealt memory d) {
        return honestDealing(1, serverAt(position), uint8(position + 1), 3, 4, 7);
    }

    function honestDealing(uint256 keyId, uint32 server, uint8 index, uint8 t, uint8 n, uint256 seed)
        internal
        returns (Dealt memory d)
    {
        d.server = server;
        d.secrets = new uint256[](n);
        for (uint256 i; i < n; ++i) {
            d.secrets[i] = oneTimeSecret(i + 1);
            d.oneTimeKeys = bytes.concat(d.oneTimeKeys, compressed(d.secrets[i]));
        }
        Dealing memory it = d.dealing;
        (it.keyId, it.attempt, it.index) = (keyId, 0, index);
        it.oneTimeKeysHash = keccak256(d.oneTimeKeys);
        it.oneTimeKey = compressed(d.secrets[index - 1]);
        ThresholdKeys.KeySet memory polynomial = ThresholdKeys.generate(seed, t, n);
        for (uint256 k; k < t; ++k) {
            it.commitments = bytes.concat(it.commitments, ThresholdKeys.publicKey(polynomial.coefficients[k]));
        }
        d.proof = possession(it, polynomial.coefficients[0]);
        it.possessionHash = keccak256(d.proof);
        for (uint256 i; i < n; ++i) {
            bytes32 pad = padOf(d, uint8(i + 1));
            it.shares = bytes.concat(it.shares, bytes32(polynomial.shares[i]) ^ pad);
        }
        sealDealing(d);
    }

    /// @notice Signature of `secret` over possession of the constant term that the dealing has now.
    function possession(Dealing memory it, uint256 secret) internal view returns (bytes memory proof) {
        bool success;
        (success, proof) = address(0x0e)
            .staticcall(bytes.concat(BLS12381.hashPossessionToG2(possessionMessage(it)), bytes32(secret)));
        require(success, "G2MSM");
    }

    function possessionMessage(Dealing memory it) internal view returns (bytes32) {
        bytes memory constantTerm = new bytes(128);
        for (uint256 i; i < 128; ++i) {
            constantTerm[i] = it.commitments[i];
        }
        bytes32 hash = keccak256(constantTerm);
        return keccak256(
            abi.encode("stkr/dkg/pop", block.chainid, address(keys), it.keyId, it.attempt, it.index, hash)
        );
    }

    function padOf(Dealt memory d, uint8 recipient) internal view returns (bytes32) {
        uint256 product = mulmod(d.secrets[d.dealing.index - 1], d.secrets[recipient - 1], ORDER);
        return keccak256(
            abi.encode(
                vm.addr(product),
                block.chainid,
                address(keys),
                d.dealing.keyId,
                d.dealing.attempt,
                d.dealing.index,
                recipient
            )
        );
    }

    function shareOf(Dealt memory d, uint8 recipient) internal view returns (uint256) {
        bytes memory shares = d.dealing.shares;
        bytes32 ciphertext;
        assembly ("memory-safe") {
            ciphertext := mload(add(shares, mul(recipient, 0x20)))
        }
        return uint256(ciphertext ^ padOf(d, recipient));
    }

    /// @notice Encrypts another share to `recipient` and signs.
    function withShare(Dealt memory d, uint8 recipient, uint256 share) internal view returns (Dealt memory) {
        bytes32 ciphertext = bytes32(share) ^ padOf(d, recipient);
        bytes memory shares = d.dealing.shares;
        assembly ("memory-safe") {
            mstore(add(shares, mul(recipient, 0x20)), ciphertext)
        }
        sealDealing(d);
        return d;
    }

    function sealDealing(Dealt memory d) internal view {
        d.signature = sign(signerSecret[d.server], dealingDigest(d.dealing));
    }

    function dealingDigest(Dealing memory it) internal view returns (bytes32) {
        bytes memory encoded = abi.encode(
            keccak256(
                "Dealing(uint256 keyId,uint16 attempt,uint8 index,bytes32 oneTimeKeysHash,bytes oneTimeKey,bytes commitments,bytes proofOfPossession,bytes shares)"
            ),
            it.keyId,
            it.attempt,
            it.index,
            it.oneTimeKeysHash
        );
        encoded = bytes.concat(
            encoded,
            abi.encode(
                keccak256(it.oneTimeKey), keccak256(it.commitments), it.possessionHash, keccak256(it.shares)
            )
        );
        return typedDigest(address(keys), keccak256(encoded));
    }

    function opening(Dealt memory d, uint8 recipient) internal returns (Opening memory o) {
        o.recipient = recipient;
        o.secret = d.secrets[recipient - 1];
        (, o.y) = publicPoint(o.secret);
    }

    // -------------------------------------------------------------------------------------------------- reports

    function badCall(Dealt memory d, Opening memory o) internal view returns (bytes memory) {
        return abi.encodeCall(court.proveBadDealing, (d.dealing, d.signature, d.oneTimeKeys, o));
    }

    /// @notice What a proof of `defect` shows beside the dealing.
    function hashedOf(Dealt memory d, DealingDefect defect) internal pure returns (bytes memory) {
        if (defect == DealingDefect.OneTimeKey) return d.oneTimeKeys;
        return defect == DealingDefect.Possession ? d.proof : bytes("");
    }

    function malformedCall(Dealt memory d, DealingDefect defect, uint8 position)
        internal
        view
        returns (bytes memory)
    {
        bytes memory hashed = hashedOf(d, defect);
        return abi.encodeCall(court.proveMalformedDealing, (d.dealing, d.signature, hashed, defect, position));
    }

    function reportBad(Dealt memory d, Opening memory o) internal {
        report(Fault.BadDealing, dealingDigest(d.dealing), badCall(d, o));
    }

    function reportMalformed(Dealt memory d, DealingDefect defect, uint8 position) internal {
        report(Fault.MalformedDealing, dealingDigest(d.dealing), malformedCall(d, defect, position));
    }
}
