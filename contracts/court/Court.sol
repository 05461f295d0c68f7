// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {AcknowledgementChallenge, IAcknowledgements} from "../interfaces/IAcknowledgements.sol";
import {
    CeremonyMessage,
    Challenge,
    Dealing,
    DealingDefect,
    DutyRequest,
    Envelope,
    Fault,
    ICourt,
    Opening,
    ShareHolder
} from "../interfaces/ICourt.sol";
import {IKeyConsumer, IKeyRegistry, Key, KeyKind, KeyState} from "../interfaces/IKeyRegistry.sol";
import {IResharing} from "../interfaces/IResharing.sol";
import {IServerRegistry, ServerKind} from "../interfaces/IServerRegistry.sol";
import {Acknowledgements} from "./Acknowledgements.sol";
import {DutyKinds} from "./DutyKinds.sol";
import {Evidence} from "./Evidence.sol";
import {BadDealing} from "./faults/BadDealing.sol";
import {CeremonyEquivocation} from "./faults/CeremonyEquivocation.sol";
import {ConflictingDuties} from "./faults/ConflictingDuties.sol";
import {GarbagePartial} from "./faults/GarbagePartial.sol";
import {InvalidPartial} from "./faults/InvalidPartial.sol";
import {MalformedDealing} from "./faults/MalformedDealing.sol";
import {UnansweredChallenge} from "./faults/UnansweredChallenge.sol";
import {UnauthorisedSignature} from "./faults/UnauthorisedSignature.sol";

/// @title The Court
/// @notice Everything a caller needs to know is in `ICourt`; docs/court.md tells how a fault is added.
/// @dev Nobody governs this contract, and it holds no ether but the fees of challenges. Each entry goes the same way: who signed the evidence, the
/// fault's own library, the commitment of the reporter, the sentence. All registries are fixed and never call back.
contract Court is ICourt {
    using Evidence for Envelope;
    using Evidence for DutyRequest;
    using Evidence for Dealing;
    using Evidence for ShareHolder;
    using CeremonyEquivocation for CeremonyMessage;

    /// @dev A fault that was upheld.
    struct Upheld {
        Fault fault;
        uint32 server;
        uint256 keyId;
        uint32 committeeEpoch;
        /// Unix time (seconds) of the slot of the duty; 0 where it has none.
        uint256 time;
        bytes32 evidence;
    }

    // ---------------------------------------------------------------------------------------------- constants

    uint256 private constant SECONDS_PER_SLOT = 12;
    uint256 private constant SLOTS_PER_EPOCH = 32;
    /// What `answerSignature` costs at most, as a whole transaction (snapshots/Court.json).
    uint256 private constant ANSWER_GAS = 120_000;
    uint256 private constant TIP = 1 gwei;

    /// @inheritdoc ICourt
    uint256 public constant COMMITMENT_BLOCKS = 3;
    /// @inheritdoc ICourt
    uint64 public constant CHALLENGE_BLOCKS = 7_200;
    /// @inheritdoc ICourt
    uint64 public constant OFFLINE_CHALLENGE_BLOCKS = 50_400;
    /// @inheritdoc ICourt
    uint64 public constant BOUNTY_HOLD_BLOCKS = 50;

    /// @inheritdoc ICourt
    uint64 public immutable GENESIS_TIME;
    IKeyRegistry private immutable KEYS;
    IServerRegistry private immutable SERVERS;
    IResharing private immutable RESHARING;
    /// @inheritdoc ICourt
    IAcknowledgements public immutable ACKNOWLEDGEMENTS;
    /// EIP-712 domain of all evidence, and the chain of which it is: a proof of a ceremony then asks the key registry nothing.
    bytes32 private immutable DOMAIN;
    uint256 private immutable CHAIN_ID;

    // ------------------------------------------------------------------------------------------------ storage

    /// @inheritdoc ICourt
    mapping(bytes32 commitment => uint256 blockNumber) public committedAt;
    /// @inheritdoc ICourt
    mapping(address account => uint256) public feesOf;

    /// Term of the server in which one server, key, committee epoch and kind was last charged, as `IServerRegistry.slash` counts
    /// them; 0: never. A whole word: it is written without being read again.
    mapping(bytes32 group => uint256) private _chargedTerms;
    /// Evidence without a time that was shown, by group: what two servers signed alike has one digest, and a worthless
    /// accomplice would pay for both.
    mapping(bytes32 groupAndEvidence => bool) private _isJudged;
    mapping(bytes32 id => Challenge) private _challenges;

    constructor(IKeyRegistry keys, uint64 genesisTime) {
        IServerRegistry servers = IServerRegistry(keys.SERVER_REGISTRY());
        address court = servers.COURT();
        require(court == address(this), ForeignServerRegistry(address(servers), court));
        KEYS = keys;
        SERVERS = servers;
        RESHARING = keys.RESHARING();
        ACKNOWLEDGEMENTS = new Acknowledgements(keys, servers);
        DOMAIN = keys.domainSeparator();
        CHAIN_ID = block.chainid;
        GENESIS_TIME = genesisTime;
    }

    // ---------------------------------------------------------------------------------------------- reporters

    /// @inheritdoc ICourt
    function commit(bytes32 commitment) external {
        // Slither takes zero, which stands for never, for an amount.
        // slither-disable-next-line incorrect-equality
        require(committedAt[commitment] == 0, AlreadyCommitted(commitment));
        committedAt[commitment] = block.number;
        emit EvidenceCommitted(commitment);
    }

    /// @inheritdoc ICourt
    function proveInvalidPartial(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder,
        bytes calldata partial_
    ) external {
        bytes32 evidence = _requirePartial(envelope, signature, holder, partial_);
        InvalidPartial.judge(holder.shareKey, envelope.signingRoot, partial_);
        _sentence(Fault.InvalidPartial, envelope, holder, _timeOf(envelope), evidence);
    }

    /// @inheritdoc ICourt
    function proveGarbagePartial(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder,
        bytes calldata partial_
    ) external {
        bytes32 evidence = _requirePartial(envelope, signature, holder, partial_);
        GarbagePartial.judge(partial_);
        _sentence(Fault.GarbagePartial, envelope, holder, _timeOf(envelope), evidence);
    }

    /// @inheritdoc ICourt
    function proveConflictingDuties(
        Envelope calldata first,
        bytes calldata firstSignature,
        Envelope calldata second,
        bytes calldata secondSignature,
        ShareHolder[] calldata holders
    ) external {
        bytes32 evidence = _conflictingEnvelopes(first, firstSignature, second, secondSignature, holders);
        uint256 time = _timeOf(first.slot);
        uint256 other = _timeOf(second.slot);
        // Of two committees the later pays, so that one pair is not two faults.
        _sentence(
            Fault.ConflictingDuties,
            second,
            holders[holders.length - 1],
            time > other ? time : other,
            evidence
        );
    }

    /// @inheritdoc ICourt
    function proveUnauthorisedSignature(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder
    ) external {
        bytes32 evidence = _requireEnvelope(envelope, signature, holder);
        UnauthorisedSignature.judge(KEYS, envelope.keyId, envelope.dutyKind, envelope.signingRoot);
        // No message of these kinds has a slot. One written into the envelope would date it before a reinstatement, free of charge.
        _sentence(Fault.UnauthorisedSignature, envelope, holder, 0, evidence);
    }

    /// @inheritdoc ICourt
    function proveCeremonyEquivocation(
        CeremonyMessage calldata first,
        bytes calldata firstSignature,
        CeremonyMessage calldata second,
        bytes calldata secondSignature
    ) external {
        bytes32 domain = _domain();
        bytes32 firstDigest = first.digest(domain);
        bytes32 secondDigest = second.digest(domain);
        CeremonyEquivocation.judge(first, firstDigest, second, secondDigest);
        uint32 server =
            _serverOf(Evidence.recoverBoth(firstDigest, firstSignature, secondDigest, secondSignature));
        bytes32 evidence = Hashes.commutativeKeccak256(firstDigest, secondDigest);
        _sentence(_upheldWithoutTime(Fault.CeremonyEquivocation, server, first.keyId, evidence));
    }

    /// @inheritdoc ICourt
    function proveBadDealing(
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata oneTimeKeys,
        Opening calldata opening
    ) external {
        bytes32 evidence = dealing.digest(_domain());
        uint32 server = _serverOf(Evidence.recover(evidence, signature));
        BadDealing.judge(dealing, oneTimeKeys, opening, address(KEYS));
        _sentence(_upheldWithoutTime(Fault.BadDealing, server, dealing.keyId, evidence));
    }

    /// @inheritdoc ICourt
    function proveMalformedDealing(
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata hashed,
        DealingDefect defect,
        uint8 position
    ) external {
        bytes32 evidence = dealing.digest(_domain());
        uint32 server = _serverOf(Evidence.recover(evidence, signature));
        MalformedDealing.judge(dealing, hashed, defect, position, _ceremonyOf(dealing.keyId));
        _sentence(_upheldWithoutTime(Fault.MalformedDealing, server, dealing.keyId, evidence));
    }

    /// @inheritdoc ICourt
    function proveProviderEquivocation(
        DutyRequest calldata first,
        bytes calldata firstSignature,
        DutyRequest calldata second,
        bytes calldata secondSignature
    ) external {
        (address[2] memory dutyKeys, bytes32 evidence) =
            _conflictingRequests(first, firstSignature, second, secondSignature);
        _useCommitment(Fault.ProviderEquivocation, evidence);
        _penaliseProvider(first.keyId, first.assignment, dutyKeys, evidence);
    }

    // ---------------------------------------------------------------------------------------------- challenges

    /// @inheritdoc ICourt
    function challengeSignature(
        uint256 keyId,
        uint8 index,
        bytes32 signingRoot,
        address signer,
        ShareHolder calldata holder
    ) external payable {
        UnansweredChallenge.requireOwed(KEYS, keyId, signingRoot);
        uint32 committeeEpoch = RESHARING.servingEpoch(keyId, block.timestamp);
        _requireLeaf(keyId, committeeEpoch, index, signer, holder);
        uint256 required = answerFee();
        require(msg.value >= required, FeeTooSmall(msg.value, required));
        bytes32 id = UnansweredChallenge.idOf(keyId, index, signingRoot);
        if (_challenges[id].challenger != address(0)) {
            _endOfOlderCommittee(id, keyId, index, signingRoot, committeeEpoch);
        }
        uint256 blocks = _challengeBlocks(keyId, holder.server);
        uint32 deadline = SafeCast.toUint32(block.number + blocks);
        _challenges[id] = Challenge({
            challenger: msg.sender,
            committeeEpoch: committeeEpoch,
            deadline: deadline,
            server: holder.server,
            signer: signer,
            fee: SafeCast.toUint64(msg.value),
            due: SafeCast.toUint32(block.timestamp + blocks * SECONDS_PER_SLOT)
        });
        emit SignatureChallenged(keyId, index, signingRoot, holder.server, msg.sender, deadline, msg.value);
    }

    /// @inheritdoc ICourt
    function answerSignature(Envelope calldata envelope, bytes calldata signature, bytes calldata partial_)
        external
    {
        bytes32 id = UnansweredChallenge.idOf(envelope.keyId, envelope.index, envelope.signingRoot);
        Challenge memory it = _challenges[id];
        address signer = Evidence.recover(envelope.digest(_domain()), signature);
        UnansweredChallenge.requireAnswer(it, id, envelope, signer, partial_);
        delete _challenges[id];
        feesOf[SERVERS.server(it.server).operator] += it.fee;
        emit SignatureAnswered(
            envelope.keyId,
            envelope.index,
            envelope.signingRoot,
            envelope.dutyKind,
            envelope.slot,
            envelope.sourceEpoch,
            envelope.targetEpoch,
            signature,
            partial_
        );
    }

    /// @inheritdoc ICourt
    function proveUnansweredChallenge(uint256 keyId, uint8 index, bytes32 signingRoot) external {
        bytes32 id = UnansweredChallenge.idOf(keyId, index, signingRoot);
        Challenge memory it = _challenges[id];
        UnansweredChallenge.judge(it, id);
        delete _challenges[id];
        feesOf[it.challenger] += it.fee;
        if (!UnansweredChallenge.isOwed(KEYS, RESHARING, keyId, it)) {
            emit ChallengeVoid(keyId, index, signingRoot);
            return;
        }
        bytes32 evidence = keccak256(abi.encode(id, it.deadline));
        Upheld memory upheld = _upheldWithoutTime(Fault.UnansweredChallenge, it.server, keyId, evidence);
        upheld.committeeEpoch = it.committeeEpoch;
        _punish(upheld, block.number > it.deadline + BOUNTY_HOLD_BLOCKS ? msg.sender : it.challenger);
    }

    /// @inheritdoc ICourt
    function proveUnansweredAcknowledgement(uint256 keyId, uint16 attempt, uint8 index) external {
        (AcknowledgementChallenge memory it, bool guilty) = ACKNOWLEDGEMENTS.close(keyId, attempt, index);
        if (!guilty) return;
        bytes32 evidence = keccak256(abi.encode(keyId, attempt, index, it.deadline));
        bool held = block.timestamp <= it.deadline + BOUNTY_HOLD_BLOCKS * SECONDS_PER_SLOT;
        _punish(
            _upheldWithoutTime(Fault.UnansweredChallenge, it.server, keyId, evidence),
            held ? it.challenger : msg.sender
        );
    }

    /// @inheritdoc ICourt
    function sentence(Fault fault, uint32 server, uint256 keyId, bytes32 evidence, address reporter)
        external
    {
        require(msg.sender == address(ACKNOWLEDGEMENTS), NotAcknowledgements(msg.sender));
        _punish(_upheldWithoutTime(fault, server, keyId, evidence), reporter);
    }

    /// @inheritdoc ICourt
    function withdrawFees() external {
        uint256 amount = feesOf[msg.sender];
        require(amount != 0, NoFees(msg.sender));
        feesOf[msg.sender] = 0;
        emit FeesPaid(msg.sender, amount);
        (bool success,) = msg.sender.call{value: amount}("");
        require(success, TransferFailed(msg.sender, amount));
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc ICourt
    function challenge(uint256 keyId, uint8 index, bytes32 signingRoot)
        external
        view
        returns (Challenge memory)
    {
        return _challenges[UnansweredChallenge.idOf(keyId, index, signingRoot)];
    }

    /// @inheritdoc ICourt
    function answerFee() public view returns (uint256) {
        return ANSWER_GAS * (2 * block.basefee + TIP);
    }

    /// @inheritdoc ICourt
    function KEY_REGISTRY() external view returns (address) {
        return address(KEYS);
    }

    /// @inheritdoc ICourt
    function SERVER_REGISTRY() external view returns (address) {
        return address(SERVERS);
    }

    // ----------------------------------------------------------------------------------- internal: who signed

    /// @dev A member that is about to go must not shield who comes after it by a challenge of its own. One that was at fault is proven
    /// first, by anyone.
    function _endOfOlderCommittee(
        bytes32 id,
        uint256 keyId,
        uint8 index,
        bytes32 signingRoot,
        uint32 committeeEpoch
    ) private {
        Challenge memory it = _challenges[id];
        require(
            it.committeeEpoch != committeeEpoch && !UnansweredChallenge.isOwed(KEYS, RESHARING, keyId, it),
            AlreadyChallenged(id)
        );
        feesOf[it.challenger] += it.fee;
        emit ChallengeVoid(keyId, index, signingRoot);
    }

    /// @dev Somebody has to walk to a machine without network.
    function _challengeBlocks(uint256 keyId, uint32 server) private view returns (uint64) {
        // Those of a validator key are all online, and their records cost more to read.
        if (KEYS.key(keyId).kind == KeyKind.Validator) return CHALLENGE_BLOCKS;
        bool online = SERVERS.server(server).kind == ServerKind.Online;
        return online ? CHALLENGE_BLOCKS : OFFLINE_CHALLENGE_BLOCKS;
    }

    /// @dev The leaf names the signer, so only the holder of the share answers for what was signed with it; of a committee that was
    /// reshared away too.
    function _requireHolder(Envelope calldata envelope, ShareHolder calldata holder, address signer)
        private
        view
    {
        _requireLeaf(envelope.keyId, envelope.committeeEpoch, envelope.index, signer, holder);
    }

    function _requireLeaf(
        uint256 keyId,
        uint32 committeeEpoch,
        uint8 index,
        address signer,
        ShareHolder calldata holder
    ) private view {
        require(
            KEYS.isShareLeaf(keyId, committeeEpoch, holder.leaf(index, signer), holder.proof),
            NotShareHolder(keyId, index, holder.server, signer)
        );
    }

    function _requireEnvelope(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder
    ) private view returns (bytes32 digest) {
        digest = envelope.digest(_domain());
        _requireHolder(envelope, holder, Evidence.recover(digest, signature));
    }

    function _requirePartial(
        Envelope calldata envelope,
        bytes calldata signature,
        ShareHolder calldata holder,
        bytes calldata partial_
    ) private view returns (bytes32 digest) {
        digest = _requireEnvelope(envelope, signature, holder);
        bytes32 given = Evidence.hash(partial_);
        require(given == envelope.partialHash, WrongPartial(given, envelope.partialHash));
    }

    /// @dev That one server signed two envelopes of one key that conflict, of one committee or of two that it was a member of.
    function _conflictingEnvelopes(
        Envelope calldata first,
        bytes calldata firstSignature,
        Envelope calldata second,
        bytes calldata secondSignature,
        ShareHolder[] calldata holders
    ) private view returns (bytes32 evidence) {
        ShareHolder calldata holder = holders[0];
        ShareHolder calldata later = holders[holders.length - 1];
        require(
            first.keyId == second.keyId && first.committeeEpoch <= second.committeeEpoch
                && holder.server == later.server,
            DifferentSubjects()
        );
        bytes32 firstDigest = _requireEnvelope(first, firstSignature, holder);
        bytes32 secondDigest = _requireEnvelope(second, secondSignature, later);
        ConflictingDuties.judge(_duty(first), _duty(second));
        evidence = Hashes.commutativeKeccak256(firstDigest, secondDigest);
    }

    /// @dev Who signed each of two requests of one assignment that conflict. Whether both are one provider's is not known here.
    function _conflictingRequests(
        DutyRequest calldata first,
        bytes calldata firstSignature,
        DutyRequest calldata second,
        bytes calldata secondSignature
    ) private view returns (address[2] memory dutyKeys, bytes32 evidence) {
        require(first.keyId == second.keyId && first.assignment == second.assignment, DifferentSubjects());
        bytes32 domain = _domain();
        bytes32 firstDigest = first.digest(domain);
        bytes32 secondDigest = second.digest(domain);
        dutyKeys[0] = Evidence.recover(firstDigest, firstSignature);
        dutyKeys[1] = Evidence.recover(secondDigest, secondSignature);
        ConflictingDuties.judge(_duty(first), _duty(second));
        evidence = Hashes.commutativeKeccak256(firstDigest, secondDigest);
    }

    /// @dev On a fork with another chain id nothing that was signed before it is evidence.
    function _domain() private view returns (bytes32) {
        return block.chainid == CHAIN_ID ? DOMAIN : KEYS.domainSeparator();
    }

    /// @dev A ceremony has no leaves yet: the registry says whose the signer is or once was.
    function _serverOf(address signer) private view returns (uint32 server) {
        server = SERVERS.serverOfSigner(signer);
        require(server != 0, NoServer(signer));
    }

    /// @dev t and n of a key never change. Of a key that is not there any more, after a reorganisation, nothing is known.
    function _ceremonyOf(uint256 keyId) private view returns (MalformedDealing.Ceremony memory) {
        Key memory it = KEYS.key(keyId);
        require(it.state != KeyState.None, UnknownKey(keyId));
        return MalformedDealing.Ceremony(it.threshold, it.members, address(KEYS));
    }

    function _duty(Envelope calldata it) private pure returns (ConflictingDuties.Duty memory) {
        return ConflictingDuties.Duty(it.dutyKind, it.slot, it.sourceEpoch, it.targetEpoch, it.signingRoot);
    }

    function _duty(DutyRequest calldata it) private pure returns (ConflictingDuties.Duty memory) {
        return ConflictingDuties.Duty(it.dutyKind, it.slot, it.sourceEpoch, it.targetEpoch, it.signingRoot);
    }

    // --------------------------------------------------------------------------------------- internal: sentence

    /// @dev The accused signed the slot. Slot 0 dates nothing. One in the far future would be after every reinstatement still to
    /// come, and charged after each: it counts as none. One too low gains nothing: no collector takes a partial whose envelope has
    /// another slot than the duty it sent.
    function _timeOf(Envelope calldata envelope) private view returns (uint256) {
        return DutyKinds.mustBeOrdered(envelope.dutyKind) ? 0 : _timeOf(envelope.slot);
    }

    function _timeOf(uint64 slot) private view returns (uint256 time) {
        if (slot == 0) return 0;
        time = GENESIS_TIME + slot * SECONDS_PER_SLOT;
        if (time > block.timestamp + SLOTS_PER_EPOCH * SECONDS_PER_SLOT) return 0;
    }

    function _upheldWithoutTime(Fault fault, uint32 server, uint256 keyId, bytes32 evidence)
        private
        pure
        returns (Upheld memory)
    {
        return Upheld({
            fault: fault, server: server, keyId: keyId, committeeEpoch: 0, time: 0, evidence: evidence
        });
    }

    /// @dev The sender is in it: a proof seen in the mempool is of no use to anybody who did not commit to it before.
    function _useCommitment(Fault fault, bytes32 evidence) private {
        bytes32 commitment = Evidence.commitment(msg.sender, fault, evidence);
        uint256 blockNumber = committedAt[commitment];
        require(blockNumber != 0, NotCommitted(commitment));
        uint256 provableFrom = blockNumber + COMMITMENT_BLOCKS;
        require(block.number >= provableFrom, CommitmentTooYoung(commitment, provableFrom));
        delete committedAt[commitment];
    }

    function _penaliseProvider(uint256 keyId, uint64 assignment, address[2] memory dutyKeys, bytes32 evidence)
        private
    {
        address consumer = KEYS.key(keyId).consumer;
        require(consumer != address(0), NoProvider(keyId));
        // The consumer is a contract that governance admitted, and there is nothing here to re-enter for.
        // slither-disable-next-line reentrancy-events
        (uint256 penalty, uint256 bounty) =
            IKeyConsumer(consumer).penaliseProvider(keyId, assignment, dutyKeys, msg.sender);
        emit ProviderFaultProven(keyId, assignment, dutyKeys, evidence, msg.sender, penalty, bounty);
    }

    function _sentence(Upheld memory it) private {
        _useCommitment(it.fault, it.evidence);
        _punish(it, msg.sender);
    }

    function _sentence(
        Fault fault,
        Envelope calldata envelope,
        ShareHolder calldata holder,
        uint256 time,
        bytes32 evidence
    ) private {
        _sentence(
            Upheld({
                fault: fault,
                server: holder.server,
                keyId: envelope.keyId,
                committeeEpoch: envelope.committeeEpoch,
                time: time,
                evidence: evidence
            })
        );
    }

    /// @dev Charges once in a term of the server; what is not charged is recorded.
    function _punish(Upheld memory it, address reporter) private {
        bytes32 group = _group(it);
        uint32 chargedTerm = uint32(_chargedTerms[group]);
        uint32 term = chargedTerm;
        uint256 slashed = 0;
        uint256 bounty = 0;
        if (it.time != 0 || _isNews(group, it.evidence)) {
            // The registry never calls back.
            // slither-disable-next-line reentrancy-no-eth,reentrancy-benign
            (term, slashed, bounty) = SERVERS.slash(it.server, reporter, chargedTerm, it.time);
        }
        if (term != chargedTerm) {
            _chargedTerms[group] = term;
            emit FaultProven(
                it.fault, it.server, it.keyId, it.committeeEpoch, it.evidence, reporter, slashed, bounty
            );
        } else {
            emit FaultRecorded(it.fault, it.server, it.keyId, it.committeeEpoch, it.evidence, reporter);
        }
    }

    /// @dev Server (32 bits), committee epoch (32) and kind (8) in one word: half the gas of hashing four.
    function _group(Upheld memory it) private pure returns (bytes32) {
        uint256 rest = (uint256(it.server) << 40) | (uint256(it.committeeEpoch) << 8) | uint8(it.fault);
        return Hashes.efficientKeccak256(bytes32(it.keyId), bytes32(rest));
    }

    /// @dev Evidence without a time may be of any term: it counts if it was not shown before, which is noted.
    function _isNews(bytes32 group, bytes32 evidence) private returns (bool isNews) {
        bytes32 shown = Hashes.efficientKeccak256(group, evidence);
        isNews = !_isJudged[shown];
        if (isNews) _isJudged[shown] = true;
    }
}
