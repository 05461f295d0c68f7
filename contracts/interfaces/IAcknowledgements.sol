// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, Dealing, DealingDefect, Opening} from "./ICourt.sol";

/// @notice A dealing as its recipients need it: nothing of it is only hashed.
struct SignedDealing {
    Dealing dealing;
    /// A point of G2 (256 bytes), of which `dealing` has the hash.
    bytes proofOfPossession;
    /// The dealer's, 65 bytes.
    bytes signature;
}

/// @notice What a member of a ceremony is asked to acknowledge.
struct AcknowledgementChallenge {
    /// Who asked, gets the fee back if there is no answer, and the bounty if that is a fault. Zero: no such challenge is open.
    address challenger;
    /// Last unix time (seconds) at which it can be answered.
    uint48 deadline;
    uint32 server;
    /// Who has to sign the answer.
    address signer;
    /// Wei.
    uint96 fee;
    /// EIP-712 digest of the `Acknowledgement` that is asked for.
    bytes32 acknowledgement;
    /// keccak256(abi.encode(uint32[] committee)).
    bytes32 committee;
}

/// @title Questions to members of a ceremony that do not acknowledge the key
/// @notice A ceremony ends with n acknowledgements of one transcript, so one silent member stops it. Whoever holds all dealings
/// asks it on-chain: it acknowledges, or shows whose fault it is that it does not, or is punished by the Court.
/// @dev Nobody can be asked for what an honest member must not sign. What is asked follows from the dealings alone, and those are
/// bound to the member by two things that it signed itself: its set of commitments, which has the hash of each dealing and of the
/// committee, and its own dealing, which has the hash of the one-time keys that it holds and which no honest member reveals before
/// it has n equal sets. From then on an honest member keeps silent for three reasons, and each of them is an answer here: a
/// dealing that does not open (`answerBadDealing`), one that is none (`answerMalformedDealing`), and a member that says two things
/// (`answerEquivocation`). A member that lost its state is silent for ever, and pays for it.
///
/// What the member needs to answer is in the event: it must not hang on who carries messages, nor on how the challenger called.
/// Every function raises `ICourt.BadEvidenceSignature` for a signature that is none.
interface IAcknowledgements {
    /// @notice Emitted when member `index` of a ceremony is asked to acknowledge the key that `dealings` make.
    event AcknowledgementChallenged(
        uint256 indexed keyId,
        uint16 indexed attempt,
        uint8 indexed index,
        uint32 server,
        address challenger,
        uint48 deadline,
        uint256 fee,
        bytes32 acknowledgement,
        SignedDealing[] dealings
    );
    /// @notice Emitted when the member acknowledged; the signature is good for `IKeyRegistry.finalise`.
    event AcknowledgementAnswered(
        uint256 indexed keyId, uint16 indexed attempt, uint8 indexed index, bytes signature
    );
    /// @notice Emitted when the member showed that server `culprit` of its committee is at fault.
    event AcknowledgementRefused(
        uint256 indexed keyId, uint16 indexed attempt, uint8 indexed index, uint32 culprit
    );
    /// @notice Emitted when the Court closes a challenge without an answer. Not `guilty`: the key was made, or given up, meanwhile.
    event AcknowledgementChallengeClosed(
        uint256 indexed keyId, uint16 indexed attempt, uint8 indexed index, bool guilty
    );
    /// @notice Emitted when `account` withdraws fees of challenges.
    event FeesPaid(address indexed account, uint256 amount);

    /// @notice Raised when key `keyId` has no ceremony now.
    error NoCeremony(uint256 keyId);
    /// @notice Raised when `committee` (its hash) is not the one of key `keyId`, or of the challenge.
    error WrongCommittee(uint256 keyId, bytes32 committee);
    /// @notice Raised when the committee has no member `index`.
    error NoMember(uint8 index);
    /// @notice Raised when the ceremony ends at `deadline` (unix time), before an answer is due.
    error TooLateToAsk(uint256 keyId, uint256 deadline);
    /// @notice Raised when there are not n dealings.
    error WrongNumberOfDealings(uint256 number, uint256 members);
    /// @notice Raised when the dealing in the place of member `index` is not of this key, attempt and member, or of the wrong shape.
    error WrongDealing(uint256 index);
    /// @notice Raised when the dealing in the place of member `index` was signed by `signer` and not by `dealer`.
    error WrongDealer(uint256 index, address signer, address dealer);
    /// @notice Raised when the dealing of member `index` was made for other one-time keys than the asked member's own: it must not
    /// acknowledge that, and nobody is at fault.
    error OtherOneTimeKeys(uint256 index);
    /// @notice Raised when the asked member did not sign, for this committee, the set of the commitments to these dealings.
    error NotCommittedTo(uint8 index, address signer);
    /// @notice Raised when the dealings make no key: they cancel, or a commitment is off the curve. Too little gas looks the same.
    error NoKey(uint256 keyId);
    /// @notice Raised when `signer` is no server of the committee.
    error NotOfCommittee(address signer);
    /// @notice Raised when the fault is of the asked member itself, `server`: no reason for its silence.
    error OwnFault(uint32 server);
    /// @notice Raised when the Court alone may call.
    error NotCourt(address caller);

    /// @notice Asks member `index` of the running ceremony of a key to acknowledge what `dealings` make. `msg.value` is the fee, at
    /// least `answerFee()`.
    /// @dev A dealing that members do not even read, because something in it has a wrong length, cannot be asked about: they could
    /// not answer. The contract adds up the commitments, evaluates all share keys, and so knows what an honest member signs. All members
    /// must be active, for without each of them there is no key, and the ceremony must last longer than the asked member has:
    /// ANSWER_TIME, or OFFLINE_ANSWER_TIME without network.
    /// Emitted: `AcknowledgementChallenged`. Raised: `NoCeremony`, `WrongCommittee`, `NoMember`, `TooLateToAsk`,
    /// `WrongNumberOfDealings`, `WrongDealing`, `WrongDealer`, `ICourt.WrongPossession`, `OtherOneTimeKeys`, `NotCommittedTo`,
    /// `NoKey`, `ICourt.FeeTooSmall`, `ICourt.AlreadyChallenged`, and what `IServerRegistry.activeSigners` raises.
    /// @param dealings All n, index order.
    /// @param commitmentSet Signature of the asked member over its `CommitmentSet`.
    function challengeAcknowledgement(
        uint256 keyId,
        uint8 index,
        uint32[] calldata committee,
        SignedDealing[] calldata dealings,
        bytes calldata commitmentSet
    ) external payable;

    /// @notice Answers with the acknowledgement, by anyone; the fee is the operator's.
    /// @dev Emitted: `AcknowledgementAnswered`. Raised: `ICourt.NoChallenge`, `ICourt.TooLate`, `ICourt.NoAnswer`.
    function answerAcknowledgement(uint256 keyId, uint16 attempt, uint8 index, bytes calldata signature)
        external;

    /// @notice Answers with a dealing of a member of the committee whose share for somebody does not open (`ICourt.proveBadDealing`).
    /// @dev The dealer is sentenced at once, and the bounty is the asked member's operator's, whoever sends the answer: nothing is
    /// gained by copying it, so it needs no commitment. A member cannot refuse because of its own fault.
    /// Emitted: `AcknowledgementRefused`, and `ICourt.FaultProven` or `ICourt.FaultRecorded`. Raised: `ICourt.NoChallenge`,
    /// `ICourt.TooLate`, `WrongCommittee`, `NotOfCommittee`, `OwnFault`, and what `ICourt.proveBadDealing` raises.
    function answerBadDealing(
        uint8 index,
        uint32[] calldata committee,
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata oneTimeKeys,
        Opening calldata opening
    ) external;

    /// @notice Answers with a dealing of a member of the committee that is none (`ICourt.proveMalformedDealing`).
    /// @dev Emitted and raised as above, and what `ICourt.proveMalformedDealing` raises.
    function answerMalformedDealing(
        uint8 index,
        uint32[] calldata committee,
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata hashed,
        DealingDefect defect,
        uint8 position
    ) external;

    /// @notice Answers with two messages of a member of the committee that say different things (`ICourt.proveCeremonyEquivocation`).
    /// @dev Emitted and raised as above, and what `ICourt.proveCeremonyEquivocation` raises.
    function answerEquivocation(
        uint8 index,
        uint32[] calldata committee,
        CeremonyMessage calldata first,
        bytes calldata firstSignature,
        CeremonyMessage calldata second,
        bytes calldata secondSignature
    ) external;

    /// @notice The Court only: ends a challenge that nobody answered in time; the fee goes back to the challenger.
    /// @dev Guilty unless the key was made or given up in that very attempt: an attempt lasts longer than its challenges, so no
    /// restart, whoever calls it, saves a silent member. Emitted: `AcknowledgementChallengeClosed`. Raised: `NotCourt`,
    /// `ICourt.NoChallenge`, `ICourt.StillTime`.
    function close(uint256 keyId, uint16 attempt, uint8 index)
        external
        returns (AcknowledgementChallenge memory closed, bool guilty);

    /// @notice Pays the caller its fees: of challenges to its servers that were answered, and of its own that were not.
    /// @dev Emitted: `FeesPaid`. Raised: `ICourt.NoFees`, `ICourt.TransferFailed`.
    function withdrawFees() external;

    /// @notice The open challenge to member `index`; zeros for none.
    function challenge(uint256 keyId, uint16 attempt, uint8 index)
        external
        view
        returns (AcknowledgementChallenge memory);

    /// @notice Name of the challenge to member `index`: keccak256(abi.encode(uint256 keyId, uint16 attempt, uint8 index)).
    function idOf(uint256 keyId, uint16 attempt, uint8 index) external pure returns (bytes32);

    /// @notice Least fee (wei) of a challenge now: the dearest answer's gas at twice the base fee, and a gwei of tip.
    function answerFee() external view returns (uint256);

    /// @notice Fees (wei) that `account` can withdraw.
    function feesOf(address account) external view returns (uint256);

    /// @notice Seconds in which an online server can answer a challenge: a day.
    function ANSWER_TIME() external view returns (uint48);

    /// @notice Seconds in which an offline server can: a week.
    function OFFLINE_ANSWER_TIME() external view returns (uint48);

    /// @notice The Court, which alone ends what was not answered.
    function COURT() external view returns (address);
}
