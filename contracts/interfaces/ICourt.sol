// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAcknowledgements} from "./IAcknowledgements.sol";

/// @notice What can be proven. Penalties of one kind are not those of another. docs/court.md says what proves each.
enum Fault {
    None,
    InvalidPartial,
    GarbagePartial,
    ConflictingDuties,
    UnauthorisedSignature,
    ProviderEquivocation,
    BadDealing,
    MalformedDealing,
    CeremonyEquivocation,
    UnansweredChallenge
}

/// @notice What a server signs beside each partial signature (EIP-712, docs/protocol.md).
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

/// @notice What a provider's duty key signs to ask for a signature (EIP-712, docs/protocol.md).
struct DutyRequest {
    uint256 keyId;
    uint64 assignment;
    uint8 dutyKind;
    uint64 slot;
    uint64 sourceEpoch;
    uint64 targetEpoch;
    bytes32 signingRoot;
}

/// @notice Who holds a share of a key, as the key's Merkle root has it (`IKeyRegistry.isShareLeaf`). The index is in the
/// evidence, and the signer of the leaf, whose envelopes of the key count for ever, is whoever signed it.
struct ShareHolder {
    uint32 server;
    /// Public key of the share (EIP-2537, 128 bytes).
    bytes shareKey;
    bytes32[] proof;
}

/// @notice What a member signs in a round of a ceremony (EIP-712, docs/protocol.md).
struct CeremonyMessage {
    uint256 keyId;
    uint16 attempt;
    /// Sender; whatever both messages have in common for acknowledgements, which do not name it.
    uint8 index;
    /// 1 OneTimeKey, 2 DealingCommitment, 3 CommitmentSet, 4 Dealing, 5 Acknowledgement.
    uint8 round;
    /// The other fields in their order, as EIP-712 encodes them: a word each, of `bytes` their keccak256.
    bytes32[] fields;
}

/// @notice What a member deals in a ceremony (EIP-712, docs/protocol.md).
struct Dealing {
    uint256 keyId;
    uint16 attempt;
    /// The dealer.
    uint8 index;
    /// keccak256 of the n one-time keys that the shares are encrypted to, index order.
    bytes32 oneTimeKeysHash;
    /// The dealer's own (33 bytes).
    bytes oneTimeKey;
    /// t points of G1 (128 bytes each), constant term first.
    bytes commitments;
    /// keccak256 of the proof of possession, a point of G2 (256 bytes): as it is hashed anyway, and seldom needed.
    bytes32 possessionHash;
    /// n encrypted shares of 32 bytes.
    bytes shares;
}

/// @notice What opens the share of one member in a dealing. The secret opens all that was ever sent to this one-time key: worth
/// nothing once the ceremony is over, and a ceremony with a bad dealing is.
struct Opening {
    /// Index of the member.
    uint8 recipient;
    /// Its one-time secret.
    uint256 secret;
    /// y coordinate of its one-time key.
    uint256 y;
}

/// @notice What is wrong with a malformed dealing.
enum DealingDefect {
    /// Commitments, shares or one-time key of the wrong length, or an index that the committee does not have.
    Shape,
    /// The dealer's one-time key is no point, cannot be recovered, or is not its own among those that it encrypted to.
    OneTimeKey,
    /// A commitment is infinity or no point of the subgroup.
    Commitment,
    /// The proof of possession is none.
    Possession
}

/// @notice A question to a server for which its answer must come before the deadline.
struct Challenge {
    /// Who asked, gets the fee back if there is no answer, and the bounty if that is a fault. Zero: no such challenge is open.
    address challenger;
    /// Number of the last block in which it can be answered.
    uint32 deadline;
    /// Of the committee whose turn it was when it was asked.
    uint32 committeeEpoch;
    uint32 server;
    /// Who has to sign the answer: the signer of the share's leaf.
    address signer;
    /// Wei.
    uint64 fee;
    /// Unix time (seconds) before which the deadline's block cannot come. A handover after it, or an end of the key, excuses nobody.
    uint32 due;
}

/// @title The Court: faults that the chain can judge
/// @notice Anyone who holds a proof reports it. Upheld, it slashes the server's bond, locks the server out at once and credits
/// the reporter. Nothing is taken on anybody's word, and what cannot be decided is never held against a server.
/// @dev **Reporting takes two transactions.** First `commit`, a hash that names the reporter; `COMMITMENT_BLOCKS` later the proof
/// itself. Who copies a proof out of the mempool has no commitment of its own, and one that it makes then is as many blocks too
/// young: the reporter's proof has that many blocks to be mined in. A commitment is good for one report and never expires.
///
/// **One penalty** per server, key, committee epoch and kind until the server is reinstated; more is recorded by
/// `FaultRecorded` and charged to nobody. So is a duty whose slot began before the server was last reinstated, of any key and kind;
/// of two that conflict the later counts. What has no slot (deposit, exit, credential change, RANDAO, registration, ceremony), or one
/// more than an epoch ahead, is charged once per signed digest, before and after: else a server could sign exits for free.
///
/// Every proof function raises `NotCommitted`, `CommitmentTooYoung` and `BadEvidenceSignature`, those against servers
/// `NotShareHolder` too; beside them what its own documentation names.
interface ICourt {
    /// @notice Emitted when `commitment` is made.
    event EvidenceCommitted(bytes32 indexed commitment);
    /// @notice Emitted when a fault of `server` is upheld and charged. `evidence` is the digest that the reporter committed to.
    event FaultProven(
        Fault indexed fault,
        uint32 indexed server,
        uint256 indexed keyId,
        uint32 committeeEpoch,
        bytes32 evidence,
        address reporter,
        uint256 slashed,
        uint256 bounty
    );
    /// @notice Emitted when a fault of `server` is upheld that was paid for already.
    event FaultRecorded(
        Fault indexed fault,
        uint32 indexed server,
        uint256 indexed keyId,
        uint32 committeeEpoch,
        bytes32 evidence,
        address reporter
    );
    /// @notice Emitted when a fault of the provider that held `assignment` is upheld. `dutyKeys` are its keys that signed the
    /// first and the second request, mostly the same.
    event ProviderFaultProven(
        uint256 indexed keyId,
        uint64 indexed assignment,
        address[2] dutyKeys,
        bytes32 evidence,
        address reporter,
        uint256 penalty,
        uint256 bounty
    );

    /// @notice Emitted when the holder of share `index` of a key is asked to sign `signingRoot`, which the chain ordered.
    event SignatureChallenged(
        uint256 indexed keyId,
        uint8 indexed index,
        bytes32 indexed signingRoot,
        uint32 server,
        address challenger,
        uint64 deadline,
        uint256 fee
    );
    /// @notice Emitted when a challenge is answered; with the envelope's fields the signature is evidence if the partial is bad.
    event SignatureAnswered(
        uint256 indexed keyId,
        uint8 indexed index,
        bytes32 indexed signingRoot,
        uint8 dutyKind,
        uint64 slot,
        uint64 sourceEpoch,
        uint64 targetEpoch,
        bytes signature,
        bytes partial_
    );
    /// @notice Emitted when a challenge ends without an answer and without a fault: its key was given up or reshared before it was due.
    event ChallengeVoid(uint256 indexed keyId, uint8 indexed index, bytes32 indexed signingRoot);
    /// @notice Emitted when `account` withdraws fees of challenges.
    event FeesPaid(address indexed account, uint256 amount);

    /// @notice Raised when `ACKNOWLEDGEMENTS` alone may call.
    error NotAcknowledgements(address caller);
    /// @notice Raised when the caller made no such commitment.
    error NotCommitted(bytes32 commitment);
    /// @notice Raised when the commitment is good from block `provableFrom` only: a copy of a proof that waits for its block could be first.
    error CommitmentTooYoung(bytes32 commitment, uint256 provableFrom);
    /// @notice Raised when the commitment was made already.
    error AlreadyCommitted(bytes32 commitment);
    /// @notice Raised when `signer`, who signed the evidence, and `server` with this share key do not hold share `index` of the
    /// key in the committee epoch that was named: the leaf is not in its root, or there is no such committee.
    error NotShareHolder(uint256 keyId, uint8 index, uint32 server, address signer);
    /// @notice Raised when nobody signed `digest`: no signature of 65 bytes with a low s.
    error BadEvidenceSignature(bytes32 digest);
    /// @notice Raised when two of evidence were signed by two.
    error DifferentSigners(address first, address second);
    /// @notice Raised when the partial is not the one of the envelope.
    error WrongPartial(bytes32 given, bytes32 signed);
    /// @notice Raised when the partial verifies under the share key: no fault.
    error ValidPartial(bytes32 signingRoot);
    /// @notice Raised when the partial is a point, so that at most `InvalidPartial` is its fault.
    error NotGarbage(bytes32 partialHash);
    /// @notice Raised when the precompiles gave no answer that proves anything: too little gas, or no EIP-2537 here. It has no
    /// arguments: what went wrong is what the Court cannot know.
    error Inconclusive();
    /// @notice Raised when the two do not conflict.
    error NoConflict(bytes32 firstRoot, bytes32 secondRoot);
    /// @notice Raised when the two are not of one key and server, or of two committees and the later first; of a ceremony, when they are
    /// not of one attempt, member and round.
    error DifferentSubjects();
    /// @notice Raised when signing `signingRoot` needs no order, or was ordered.
    error Authorised(uint256 keyId, uint8 dutyKind, bytes32 signingRoot);
    /// @notice Raised when key `keyId` has no consumer whose provider could be at fault (a dealt key).
    error NoProvider(uint256 keyId);
    /// @notice Raised when there is no round `round` whose message has `fields` more fields.
    error MalformedMessage(uint8 round, uint256 fields);
    /// @notice Raised when `signer` is and was no server's.
    error NoServer(address signer);
    /// @notice Raised when these are not the one-time keys that the dealer encrypted to.
    error WrongOneTimeKeys(bytes32 given, bytes32 signed);
    /// @notice Raised when this is not the proof of possession of the dealing.
    error WrongPossession(bytes32 given, bytes32 signed);
    /// @notice Raised when there is no such recipient, or the secret is not that of its one-time key.
    error WrongOpening(uint8 recipient);
    /// @notice Raised when a dealing's own one-time key opens nothing: that is `MalformedDealing`. It has no arguments: the key
    /// is in the dealing.
    error UnusableOneTimeKey();
    /// @notice Raised when the share for `recipient` is the one that the dealing commits to: no fault.
    error GoodDealing(uint8 recipient);
    /// @notice Raised when the dealing has no such defect.
    error NotMalformed(DealingDefect defect);
    /// @notice Raised when there is no key `keyId`: what was signed for one that a reorganisation took away is no fault.
    error UnknownKey(uint256 keyId);
    /// @notice Raised when the committee of key `keyId` has not to sign `signingRoot`: it was never ordered, or the key is not Live.
    error NotOwed(uint256 keyId, bytes32 signingRoot);
    /// @notice Raised when the fee of a challenge is less than an answer costs now.
    error FeeTooSmall(uint256 fee, uint256 required);
    /// @notice Raised when the same is being asked already, or was and nobody proved yet that there was no answer.
    error AlreadyChallenged(bytes32 id);
    /// @notice Raised when no such challenge is open.
    error NoChallenge(bytes32 id);
    /// @notice Raised when the server may still answer, up to block (of an acknowledgement: unix time) `deadline`.
    error StillTime(bytes32 id, uint64 deadline);
    /// @notice Raised when the last block (of an acknowledgement: second) for an answer is over.
    error TooLate(bytes32 id, uint64 deadline);
    /// @notice Raised when this does not answer the challenge: of another signer, committee or kind, or no partial of 256 bytes.
    error NoAnswer(bytes32 id);
    /// @notice Raised when `account` has no fees to withdraw.
    error NoFees(address account);
    /// @notice Raised when ether cannot be delivered to `to`.
    error TransferFailed(address to, uint256 amount);
    /// @notice Raised at deployment when `servers` obeys `court` and not this contract.
    error ForeignServerRegistry(address servers, address court);

    /// @notice Announces a report: keccak256(abi.encode(address reporter, Fault fault, bytes32 evidence)), where
    /// `evidence` is what the proof function says. It tells nothing to those who do not have the evidence.
    /// @dev Emitted: `EvidenceCommitted`. Raised: `AlreadyCommitted`.
    function commit(bytes32 commitment) external;

    /// @notice A partial that is a point of the subgroup and does not verify under the share key.
    /// @dev evidence: EIP-712 digest of the envelope. The envelope is what convicts: from any t partials anyone computes
    /// everybody else's, so a partial alone says nothing of its author.
    /// Raised: `WrongPartial`, `ValidPartial`, `Inconclusive`, `BLS12381.PrecompileFailed` (as inconclusive).
    /// @param partial_ 256 bytes (EIP-2537).
    function proveInvalidPartial(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder,
        bytes calldata partial_
    ) external;

    /// @notice A partial that is no point of the subgroup, or has not 256 bytes.
    /// @dev evidence: EIP-712 digest of the envelope. A point that G2MSM refuses proves nothing by itself, for too little gas
    /// fails too: the **canary**, a call of equal length and gas cap on a point known to be good, must succeed after it.
    /// Raised: `WrongPartial`, `NotGarbage`, `Inconclusive`.
    function proveGarbagePartial(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder,
        bytes calldata partial_
    ) external;

    /// @notice Two signatures for duties that would get the validator slashed: double vote, surround vote, double proposal.
    /// @dev evidence: keccak256 of the two EIP-712 digests, the smaller first. A server that was in two committees of the key owes both
    /// one memory: `second` is of the later of them, and its penalty is that one's. Raised: `DifferentSubjects`, `NoConflict`.
    /// @param holders Who signed both, as the committee of each envelope knows it; one where both are of one committee.
    function proveConflictingDuties(
        Envelope calldata first,
        bytes calldata firstSignature,
        Envelope calldata second,
        bytes calldata secondSignature,
        ShareHolder[] calldata holders
    ) external;

    /// @notice A signature over a deposit, an exit or a change of credentials that the chain never ordered.
    /// @dev evidence: EIP-712 digest of the envelope. Orders are never taken back, so one that a server saw is there.
    /// Raised: `Authorised`.
    function proveUnauthorisedSignature(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder
    ) external;

    /// @notice Two messages of one member and round of a ceremony that say different things, or a commitment and a dealing that is
    /// not the one it commits to (in this order).
    /// @dev evidence: keccak256 of the two EIP-712 digests, the smaller first. Nobody needs to be a member of that ceremony to be
    /// guilty of it: an honest server signs one message of a round in its life. A server that changed its signer answers for the
    /// old one too. Penalties are those of committee epoch 0.
    /// Raised: `MalformedMessage`, `DifferentSubjects`, `DifferentSigners`, `NoConflict`, `NoServer`.
    function proveCeremonyEquivocation(
        CeremonyMessage calldata first,
        bytes calldata firstSignature,
        CeremonyMessage calldata second,
        bytes calldata secondSignature
    ) external;

    /// @notice A dealing whose encrypted share for a member is not the one that it commits to.
    /// @dev evidence: EIP-712 digest of the dealing. The dealer signed the one-time keys that it encrypted to, so a complainant
    /// cannot open its share with another key than the dealer had, nor say that the dealer used another of its own.
    /// Raised: `NoServer`, `WrongOneTimeKeys`, `WrongOpening`, `UnusableOneTimeKey`, `GoodDealing`, `Inconclusive`.
    /// @param oneTimeKeys n keys of 33 bytes, index order.
    function proveBadDealing(
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata oneTimeKeys,
        Opening calldata opening
    ) external;

    /// @notice A dealing that anybody can see is none.
    /// @dev evidence: EIP-712 digest of the dealing. A point that a precompile refuses is one only with the canary, as in
    /// `proveGarbagePartial`. Raised: `NoServer`, `UnknownKey`, `NotMalformed`, `WrongOneTimeKeys`,
    /// `WrongPossession`, `Inconclusive`, `BLS12381.PrecompileFailed` (as inconclusive).
    /// @param hashed What a hash in the dealing stands for. Of `DealingDefect.OneTimeKey`: the n one-time keys, unless the key is
    /// bad by itself; of `DealingDefect.Possession`: the proof; else empty.
    /// @param position Of `DealingDefect.Commitment`: which commitment, from 0; else 0.
    function proveMalformedDealing(
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata hashed,
        DealingDefect defect,
        uint8 position
    ) external;

    /// @notice Two requests by one provider in one assignment that no two signatures may answer, each by whichever of its duty keys.
    /// @dev evidence: keccak256 of the two EIP-712 digests, the smaller first. A provider can name another duty key between
    /// the two, and a duty key is one provider's for ever: the key's consumer knows whose both are, refuses one that is not the
    /// accused's, and pays (`IKeyConsumer.penaliseProvider`), once per assignment. Raised: `DifferentSubjects`, `NoConflict`,
    /// `NoProvider`, and what the consumer raises.
    function proveProviderEquivocation(
        DutyRequest calldata first,
        bytes calldata firstSignature,
        DutyRequest calldata second,
        bytes calldata secondSignature
    ) external;

    /// @notice Asks the holder of share `index` of a Live key, in the committee whose turn it is, for its partial signature over
    /// `signingRoot`, which the chain ordered. `msg.value` is the fee, at least `answerFee()`: it pays for the answer, or comes back.
    /// @dev What was not ordered must not be signed and cannot be asked for; so nothing of a dealt key can. Whoever runs the server
    /// has CHALLENGE_BLOCKS to answer (OFFLINE_CHALLENGE_BLOCKS without network), far longer than an order takes to be finalized.
    /// An open one of a committee that does not serve any more, and that is no fault, ends: `ChallengeVoid`, its fee goes back.
    /// Emitted: `SignatureChallenged`. Raised: `NotOwed`, `NotShareHolder`, `FeeTooSmall`, `AlreadyChallenged`.
    /// @param signer Of the leaf: who has to sign the answer.
    function challengeSignature(
        uint256 keyId,
        uint8 index,
        bytes32 signingRoot,
        address signer,
        ShareHolder calldata holder
    ) external payable;

    /// @notice Answers a challenge, for the server, by anyone: the envelope and the partial as `/v1/sign` gives them.
    /// @dev The fee is the operator's, so that a copied answer earns nothing. Emitted: `SignatureAnswered`. Raised:
    /// `BadEvidenceSignature`, `NoChallenge`, `TooLate`, `NoAnswer`, `WrongPartial`.
    function answerSignature(Envelope calldata envelope, bytes calldata signature, bytes calldata partial_)
        external;

    /// @notice A challenge that nobody answered in time; anyone may say so. The bounty is the challenger's, who needs no
    /// commitment, and BOUNTY_HOLD_BLOCKS after the deadline whoever's who says so: else a silent server would challenge itself, prove
    /// nothing, and have nobody who gains by it. If the key was given up before the challenge was due, or another committee began to serve it, it is no fault;
    /// what comes later changes nothing.
    /// @dev evidence: keccak256(abi.encode(challenge id, deadline)). The fee goes back to the challenger.
    /// Emitted: `FaultProven`, `FaultRecorded` or `ChallengeVoid`. Raised: `NoChallenge`, `StillTime`.
    function proveUnansweredChallenge(uint256 keyId, uint8 index, bytes32 signingRoot) external;

    /// @notice A challenge to acknowledge a key (`IAcknowledgements`) that nobody answered in time; anyone may say so. The bounty is
    /// the challenger's, and BOUNTY_HOLD_BLOCKS slots after the deadline the sender's. If the key was made or given up meanwhile it is
    /// no fault.
    /// @dev evidence: keccak256(abi.encode(keyId, attempt, index, deadline)). Emitted: `FaultProven` or `FaultRecorded`, and
    /// `IAcknowledgements.AcknowledgementChallengeClosed`. Raised: `NoChallenge`, `StillTime`.
    function proveUnansweredAcknowledgement(uint256 keyId, uint16 attempt, uint8 index) external;

    /// @notice `ACKNOWLEDGEMENTS` only: a fault of `server` that was shown there, and judged, as the reason why another member does
    /// not acknowledge a key. `reporter` is that member's operator.
    /// @dev Emitted: `FaultProven` or `FaultRecorded`. Raised: `NotAcknowledgements`.
    function sentence(Fault fault, uint32 server, uint256 keyId, bytes32 evidence, address reporter) external;

    /// @notice Pays the caller its fees: of challenges to its servers that were answered, and of its own that were not.
    /// @dev Emitted: `FeesPaid`. Raised: `NoFees`, `TransferFailed`.
    function withdrawFees() external;

    /// @notice The open challenge to the holder of share `index` of the key to sign `signingRoot`; zeros for none.
    function challenge(uint256 keyId, uint8 index, bytes32 signingRoot)
        external
        view
        returns (Challenge memory);

    /// @notice Least fee (wei) of a challenge now: an answer's gas at twice the base fee, and a gwei of tip.
    function answerFee() external view returns (uint256);

    /// @notice Fees (wei) that `account` can withdraw.
    function feesOf(address account) external view returns (uint256);

    /// @notice Blocks from a commitment to the first block in which its proof is taken.
    function COMMITMENT_BLOCKS() external view returns (uint256);

    /// @notice Blocks in which a challenge to an online server can be answered: a day.
    function CHALLENGE_BLOCKS() external view returns (uint64);

    /// @notice Blocks in which a challenge to an offline server can be answered: a week.
    function OFFLINE_CHALLENGE_BLOCKS() external view returns (uint64);

    /// @notice Blocks after the deadline of a challenge for which the bounty is held for the challenger.
    function BOUNTY_HOLD_BLOCKS() external view returns (uint64);

    /// @notice Number of the block in which `commitment` was made; 0 for none, or used.
    function committedAt(bytes32 commitment) external view returns (uint256);

    /// @notice The registry of keys; verifying contract of all evidence.
    function KEY_REGISTRY() external view returns (address);

    /// @notice Unix time of the beacon chain's genesis: slots more than an epoch ahead of it date nothing.
    function GENESIS_TIME() external view returns (uint64);

    /// @notice Where members of ceremonies are asked to acknowledge.
    function ACKNOWLEDGEMENTS() external view returns (IAcknowledgements);

    /// @notice The registry that holds the bonds.
    function SERVER_REGISTRY() external view returns (address);
}
