//! The struct types of `docs/protocol.md`, letter for letter: their text is part of every digest.

#![allow(missing_docs, unreachable_pub, reason = "docs/protocol.md documents them; nothing leaves this crate")]

alloy_sol_types::sol! {
    struct SignerProof {
        address operator;
        address signer;
    }

    struct DutyKeyProof {
        address provider;
        address dutyKey;
    }

    struct OneTimeKey {
        uint256 keyId;
        uint16 attempt;
        uint8 index;
        bytes publicKey;
    }

    struct DealingCommitment {
        uint256 keyId;
        uint16 attempt;
        uint8 index;
        bytes32 dealingHash;
    }

    struct CommitmentSet {
        uint256 keyId;
        uint16 attempt;
        uint8 index;
        bytes32 committeeHash;
        bytes32 commitmentsHash;
    }

    struct Dealing {
        uint256 keyId;
        uint16 attempt;
        uint8 index;
        bytes32 oneTimeKeysHash;
        bytes oneTimeKey;
        bytes commitments;
        bytes proofOfPossession;
        bytes shares;
    }

    struct Acknowledgement {
        uint256 keyId;
        uint16 attempt;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 dealingsDigest;
    }

    struct ReshareKeys {
        uint256 keyId;
        uint32 committeeEpoch;
        uint16 attempt;
        uint8 index;
        bytes publicKeys;
    }

    struct ReshareDealing {
        uint256 keyId;
        uint32 committeeEpoch;
        uint16 attempt;
        uint8 index;
        bytes32 recipientKeysHash;
        bytes oneTimeKey;
        bytes commitments;
        bytes shares;
    }

    struct ReshareAcknowledgement {
        uint256 keyId;
        uint32 committeeEpoch;
        uint16 attempt;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 dealingsDigest;
    }

    struct OfflineAnswer {
        uint256 keyId;
        uint16 attempt;
        uint32 server;
        bytes32 committee;
        bytes32 responseHash;
    }

    struct OfflineReshareAnswer {
        uint256 keyId;
        uint32 committeeEpoch;
        uint16 attempt;
        uint32 server;
        bytes32 draft;
        bytes32 responseHash;
    }

    struct DutyRequest {
        uint256 keyId;
        uint64 assignment;
        uint8 dutyKind;
        uint64 slot;
        uint64 sourceEpoch;
        uint64 targetEpoch;
        bytes32 signingRoot;
    }

    struct DealtAcknowledgement {
        address owner;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 historyHash;
    }

    struct SilenceVote {
        uint256 keyId;
        uint32 committeeEpoch;
        uint32 server;
        uint48 until;
    }

    struct ImportKey {
        bytes publicKey;
    }

    struct Envelope {
        uint256 keyId;
        uint32 committeeEpoch;
        uint8 index;
        uint8 dutyKind;
        uint64 slot;
        uint64 sourceEpoch;
        uint64 targetEpoch;
        bytes32 signingRoot;
        bytes32 partialHash;
    }
}
