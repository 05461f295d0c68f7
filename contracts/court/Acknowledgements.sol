// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {
    AcknowledgementChallenge,
    IAcknowledgements,
    SignedDealing
} from "../interfaces/IAcknowledgements.sol";
import {CeremonyMessage, Dealing, DealingDefect, Fault, ICourt, Opening} from "../interfaces/ICourt.sol";
import {IKeyRegistry, Key, KeyKind, KeyState} from "../interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerKind} from "../interfaces/IServerRegistry.sol";
import {BLS12381} from "../libraries/BLS12381.sol";
import {Evidence} from "./Evidence.sol";
import {OneTimeKeys} from "./OneTimeKeys.sol";
import {BadDealing} from "./faults/BadDealing.sol";
import {CeremonyEquivocation} from "./faults/CeremonyEquivocation.sol";
import {MalformedDealing} from "./faults/MalformedDealing.sol";

/// @title Questions to members of a ceremony that do not acknowledge the key
/// @notice Everything a caller needs to know is in `IAcknowledgements`.
/// @dev The Court deploys it and knows it for ever. Beside the fees of challenges it holds no ether.
contract Acknowledgements is IAcknowledgements {
    using Evidence for Dealing;
    using CeremonyEquivocation for CeremonyMessage;
    using SafeCast for uint256;

    /// @dev A running ceremony, in memory.
    struct Ceremony {
        uint256 keyId;
        Key key;
        /// Unix time (seconds) up to which the member that is asked can answer.
        uint48 deadline;
        /// keccak256(abi.encode(uint32[] committee)).
        bytes32 committee;
        address[] signers;
        bytes32 domain;
        /// keccak256 of the n digests of the dealings.
        bytes32 dealingsDigest;
    }

    /// @dev A fault of `signer` that was judged, in the ceremony of the key and attempt, shown by member `index`.
    struct Reason {
        Fault fault;
        uint256 keyId;
        uint16 attempt;
        uint8 index;
        address signer;
        /// What the Court calls this evidence.
        bytes32 evidence;
    }

    // ---------------------------------------------------------------------------------------------- constants

    bytes32 private constant COMMITMENT_SET_TYPEHASH = keccak256(
        "CommitmentSet(uint256 keyId,uint16 attempt,uint8 index,bytes32 committeeHash,bytes32 commitmentsHash)"
    );
    bytes32 private constant ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
    );
    uint256 private constant SHARE = 32;
    /// What the dearest answer, a proof of possession that is none in a 15-of-16 ceremony, costs at most as a whole transaction
    /// (snapshots/).
    uint256 private constant ANSWER_GAS = 380_000;
    uint256 private constant TIP = 1 gwei;

    /// @inheritdoc IAcknowledgements
    uint48 public constant ANSWER_TIME = 1 days;
    /// @inheritdoc IAcknowledgements
    uint48 public constant OFFLINE_ANSWER_TIME = 7 days;

    /// @inheritdoc IAcknowledgements
    address public immutable COURT;
    IKeyRegistry private immutable KEYS;
    IServerRegistry private immutable SERVERS;

    // ------------------------------------------------------------------------------------------------ storage

    /// @inheritdoc IAcknowledgements
    mapping(address account => uint256) public feesOf;
    mapping(bytes32 id => AcknowledgementChallenge) private _challenges;

    /// @dev Deployed by the Court, in its constructor.
    constructor(IKeyRegistry keys, IServerRegistry servers) {
        COURT = msg.sender;
        KEYS = keys;
        SERVERS = servers;
    }

    // ---------------------------------------------------------------------------------------------- questions

    /// @inheritdoc IAcknowledgements
    function challengeAcknowledgement(
        uint256 keyId,
        uint8 index,
        uint32[] calldata committee,
        SignedDealing[] calldata dealings,
        bytes calldata commitmentSet
    ) external payable {
        uint256 required = answerFee();
        require(msg.value >= required, ICourt.FeeTooSmall(msg.value, required));
        require(index != 0 && index <= committee.length, NoMember(index));
        Ceremony memory ceremony = _running(keyId, committee, committee[index - 1]);
        ceremony.dealingsDigest = _requireDealings(ceremony, index, dealings);
        _requireCommitmentSet(ceremony, committee, index, commitmentSet);
        bytes32 acknowledgement = _acknowledgement(ceremony, committee, _points(ceremony, dealings));
        _open(ceremony, index, committee[index - 1], acknowledgement, dealings);
    }

    // ------------------------------------------------------------------------------------------------ answers

    /// @inheritdoc IAcknowledgements
    function answerAcknowledgement(uint256 keyId, uint16 attempt, uint8 index, bytes calldata signature)
        external
    {
        bytes32 id = idOf(keyId, attempt, index);
        AcknowledgementChallenge memory it = _answerable(id);
        require(Evidence.recover(it.acknowledgement, signature) == it.signer, ICourt.NoAnswer(id));
        _pay(id, it);
        emit AcknowledgementAnswered(keyId, attempt, index, signature);
    }

    /// @inheritdoc IAcknowledgements
    function answerBadDealing(
        uint8 index,
        uint32[] calldata committee,
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata oneTimeKeys,
        Opening calldata opening
    ) external {
        Reason memory reason = _reason(Fault.BadDealing, index, dealing, signature);
        BadDealing.judge(dealing, oneTimeKeys, opening, address(KEYS));
        _refuse(reason, committee);
    }

    /// @inheritdoc IAcknowledgements
    function answerMalformedDealing(
        uint8 index,
        uint32[] calldata committee,
        Dealing calldata dealing,
        bytes calldata signature,
        bytes calldata hashed,
        DealingDefect defect,
        uint8 position
    ) external {
        Reason memory reason = _reason(Fault.MalformedDealing, index, dealing, signature);
        Key memory key = KEYS.key(reason.keyId);
        MalformedDealing.Ceremony memory of_ =
            MalformedDealing.Ceremony(key.threshold, key.members, address(KEYS));
        MalformedDealing.judge(dealing, hashed, defect, position, of_);
        _refuse(reason, committee);
    }

    /// @inheritdoc IAcknowledgements
    function answerEquivocation(
        uint8 index,
        uint32[] calldata committee,
        CeremonyMessage calldata first,
        bytes calldata firstSignature,
        CeremonyMessage calldata second,
        bytes calldata secondSignature
    ) external {
        (address sender, bytes32 evidence) = _twoThings(first, firstSignature, second, secondSignature);
        _refuse(
            Reason(Fault.CeremonyEquivocation, first.keyId, first.attempt, index, sender, evidence), committee
        );
    }

    // -------------------------------------------------------------------------------------------- end and fees

    /// @inheritdoc IAcknowledgements
    function close(uint256 keyId, uint16 attempt, uint8 index)
        external
        returns (AcknowledgementChallenge memory closed, bool guilty)
    {
        require(msg.sender == COURT, NotCourt(msg.sender));
        bytes32 id = idOf(keyId, attempt, index);
        closed = _challenges[id];
        require(closed.challenger != address(0), ICourt.NoChallenge(id));
        require(block.timestamp > closed.deadline, ICourt.StillTime(id, closed.deadline));
        delete _challenges[id];
        feesOf[closed.challenger] += closed.fee;
        Key memory key = KEYS.key(keyId);
        // A later attempt began after this one's end, which is after the deadline: nobody answered while it ran.
        guilty = key.attempt > attempt || key.state == KeyState.Drawn;
        emit AcknowledgementChallengeClosed(keyId, attempt, index, guilty);
    }

    /// @inheritdoc IAcknowledgements
    function withdrawFees() external {
        uint256 amount = feesOf[msg.sender];
        require(amount != 0, ICourt.NoFees(msg.sender));
        feesOf[msg.sender] = 0;
        emit FeesPaid(msg.sender, amount);
        (bool success,) = msg.sender.call{value: amount}("");
        require(success, ICourt.TransferFailed(msg.sender, amount));
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IAcknowledgements
    function challenge(uint256 keyId, uint16 attempt, uint8 index)
        external
        view
        returns (AcknowledgementChallenge memory)
    {
        return _challenges[idOf(keyId, attempt, index)];
    }

    /// @inheritdoc IAcknowledgements
    function idOf(uint256 keyId, uint16 attempt, uint8 index) public pure returns (bytes32) {
        return keccak256(abi.encode(keyId, attempt, index));
    }

    /// @inheritdoc IAcknowledgements
    function answerFee() public view returns (uint256) {
        return ANSWER_GAS * (2 * block.basefee + TIP);
    }

    // ------------------------------------------------------------------------------------- internal: questions

    /// @dev The ceremony that runs now, if its committee is this one and it goes on for as long as `asked` may take.
    function _running(uint256 keyId, uint32[] calldata committee, uint32 asked)
        private
        view
        returns (Ceremony memory ceremony)
    {
        ceremony.keyId = keyId;
        ceremony.key = KEYS.key(keyId);
        require(ceremony.key.state == KeyState.Drawn, NoCeremony(keyId));
        ceremony.committee = keccak256(abi.encode(committee));
        require(ceremony.committee == ceremony.key.commitment, WrongCommittee(keyId, ceremony.committee));
        ceremony.deadline = (block.timestamp + _answerTime(ceremony.key.kind, asked)).toUint48();
        require(ceremony.deadline <= ceremony.key.mark, TooLateToAsk(keyId, ceremony.key.mark));
        ceremony.signers = SERVERS.activeSigners(committee);
        ceremony.domain = KEYS.domainSeparator();
    }

    /// @dev Somebody has to walk to a machine without network.
    function _answerTime(KeyKind kind, uint32 server) private view returns (uint48) {
        // Those of a validator key are all online, and their records cost more to read.
        if (kind == KeyKind.Validator) return ANSWER_TIME;
        return SERVERS.server(server).kind == ServerKind.Online ? ANSWER_TIME : OFFLINE_ANSWER_TIME;
    }

    /// @dev That these are the dealings of all members, made for the one-time keys that the asked member holds. Returns the
    /// keccak256 of their digests.
    function _requireDealings(Ceremony memory ceremony, uint8 asked, SignedDealing[] calldata dealings)
        private
        pure
        returns (bytes32)
    {
        uint256 members = ceremony.signers.length;
        require(dealings.length == members, WrongNumberOfDealings(dealings.length, members));
        bytes32 oneTimeKeysHash = dealings[asked - 1].dealing.oneTimeKeysHash;
        bytes32[] memory digests = new bytes32[](members);
        for (uint256 i; i < members; ++i) {
            require(dealings[i].dealing.oneTimeKeysHash == oneTimeKeysHash, OtherOneTimeKeys(i + 1));
            digests[i] = _requireDealing(ceremony, i, dealings[i]);
        }
        return keccak256(abi.encodePacked(digests));
    }

    function _requireDealing(Ceremony memory ceremony, uint256 position, SignedDealing calldata it)
        private
        pure
        returns (bytes32 digest)
    {
        Dealing calldata dealing = it.dealing;
        require(
            dealing.keyId == ceremony.keyId && dealing.attempt == ceremony.key.attempt
                && dealing.index == position + 1
                && dealing.commitments.length == ceremony.key.threshold * BLS12381.G1_LENGTH
                && dealing.shares.length == ceremony.signers.length * SHARE
                && dealing.oneTimeKey.length == OneTimeKeys.LENGTH
                && it.proofOfPossession.length == BLS12381.G2_LENGTH,
            WrongDealing(position + 1)
        );
        bytes32 given = keccak256(it.proofOfPossession);
        require(given == dealing.possessionHash, ICourt.WrongPossession(given, dealing.possessionHash));
        digest = dealing.digest(ceremony.domain);
        address signer = Evidence.recover(digest, it.signature);
        address dealer = ceremony.signers[position];
        require(signer == dealer, WrongDealer(position + 1, signer, dealer));
    }

    /// @dev That the asked member itself said, as one of this committee, that it goes on with exactly these dealings.
    function _requireCommitmentSet(
        Ceremony memory ceremony,
        uint32[] calldata committee,
        uint8 index,
        bytes calldata signature
    ) private pure {
        bytes32 structHash = keccak256(
            abi.encode(
                COMMITMENT_SET_TYPEHASH,
                ceremony.keyId,
                ceremony.key.attempt,
                index,
                keccak256(abi.encode(committee, ceremony.signers)),
                ceremony.dealingsDigest
            )
        );
        bytes32 digest = MessageHashUtils.toTypedDataHash(ceremony.domain, structHash);
        address signer = Evidence.recover(digest, signature);
        require(signer == ceremony.signers[index - 1], NotCommittedTo(index, signer));
    }

    /// @dev n share keys and the group key, as every member computes them: the values of the sum of all polynomials.
    function _points(Ceremony memory ceremony, SignedDealing[] calldata dealings)
        private
        view
        returns (bytes memory points)
    {
        bytes memory sum = dealings[0].dealing.commitments;
        for (uint256 i = 1; i < dealings.length; ++i) {
            require(BLS12381.addEachG1(sum, dealings[i].dealing.commitments), NoKey(ceremony.keyId));
        }
        bytes[] memory all = new bytes[](dealings.length + 1);
        for (uint256 i; i <= dealings.length; ++i) {
            // The group key, at zero, comes last.
            (bool evaluated, bytes memory value) =
                i == dealings.length ? (true, _first(sum)) : BLS12381.evaluateG1(sum, i + 1);
            require(evaluated && !BLS12381.isInfinity(value), NoKey(ceremony.keyId));
            all[i] = value;
        }
        points = _concat(all);
    }

    function _first(bytes memory points) private pure returns (bytes memory point) {
        point = new bytes(BLS12381.G1_LENGTH);
        assembly ("memory-safe") {
            mcopy(add(point, 0x20), add(points, 0x20), 0x80)
        }
    }

    function _concat(bytes[] memory all) private pure returns (bytes memory joined) {
        joined = new bytes(all.length * BLS12381.G1_LENGTH);
        for (uint256 i; i < all.length; ++i) {
            bytes memory point = all[i];
            assembly ("memory-safe") {
                mcopy(add(add(joined, 0x20), mul(i, 0x80)), add(point, 0x20), 0x80)
            }
        }
    }

    /// @dev The same digest as `KeyRegistry.finalise` asks for.
    function _acknowledgement(Ceremony memory ceremony, uint32[] calldata committee, bytes memory points)
        private
        pure
        returns (bytes32)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                ACKNOWLEDGEMENT_TYPEHASH,
                ceremony.keyId,
                ceremony.key.attempt,
                ceremony.key.threshold,
                keccak256(points),
                keccak256(abi.encode(committee, ceremony.signers)),
                ceremony.dealingsDigest
            )
        );
        return MessageHashUtils.toTypedDataHash(ceremony.domain, structHash);
    }

    function _open(
        Ceremony memory ceremony,
        uint8 index,
        uint32 server,
        bytes32 acknowledgement,
        SignedDealing[] calldata dealings
    ) private {
        uint16 attempt = ceremony.key.attempt;
        bytes32 id = idOf(ceremony.keyId, attempt, index);
        require(_challenges[id].challenger == address(0), ICourt.AlreadyChallenged(id));
        _challenges[id] = AcknowledgementChallenge({
            challenger: msg.sender,
            deadline: ceremony.deadline,
            server: server,
            signer: ceremony.signers[index - 1],
            fee: msg.value.toUint96(),
            acknowledgement: acknowledgement,
            committee: ceremony.committee
        });
        emit AcknowledgementChallenged(
            ceremony.keyId,
            attempt,
            index,
            server,
            msg.sender,
            ceremony.deadline,
            msg.value,
            acknowledgement,
            dealings
        );
    }

    // --------------------------------------------------------------------------------------- internal: answers

    function _answerable(bytes32 id) private view returns (AcknowledgementChallenge memory it) {
        it = _challenges[id];
        require(it.challenger != address(0), ICourt.NoChallenge(id));
        require(block.timestamp <= it.deadline, ICourt.TooLate(id, it.deadline));
    }

    /// @dev The fault of whoever signed this dealing.
    function _reason(Fault fault, uint8 index, Dealing calldata dealing, bytes calldata signature)
        private
        view
        returns (Reason memory)
    {
        bytes32 digest = dealing.digest(KEYS.domainSeparator());
        address dealer = Evidence.recover(digest, signature);
        return Reason(fault, dealing.keyId, dealing.attempt, index, dealer, digest);
    }

    /// @dev Who said both.
    function _twoThings(
        CeremonyMessage calldata first,
        bytes calldata firstSignature,
        CeremonyMessage calldata second,
        bytes calldata secondSignature
    ) private view returns (address sender, bytes32 evidence) {
        bytes32 domain = KEYS.domainSeparator();
        bytes32 firstDigest = first.digest(domain);
        bytes32 secondDigest = second.digest(domain);
        CeremonyEquivocation.judge(first, firstDigest, second, secondDigest);
        sender = Evidence.recoverBoth(firstDigest, firstSignature, secondDigest, secondSignature);
        evidence = Hashes.commutativeKeccak256(firstDigest, secondDigest);
    }

    /// @dev Ends the challenge because of a fault that was judged, and has it sentenced: a colluder's nonsense, signed to save a
    /// silent member, costs what the silence would have.
    function _refuse(Reason memory reason, uint32[] calldata committee) private {
        bytes32 id = idOf(reason.keyId, reason.attempt, reason.index);
        AcknowledgementChallenge memory it = _answerable(id);
        bytes32 given = keccak256(abi.encode(committee));
        // Slither takes a hash for an amount.
        // slither-disable-next-line incorrect-equality
        require(given == it.committee, WrongCommittee(reason.keyId, given));
        // Of whoever changed its signer the old one counts too.
        uint32 culprit = SERVERS.serverOfSigner(reason.signer);
        require(_contains(committee, culprit), NotOfCommittee(reason.signer));
        // Or a silent member would sign some nonsense now, and stop the attempt because of itself.
        require(culprit != it.server, OwnFault(culprit));
        address operator = _pay(id, it);
        emit AcknowledgementRefused(reason.keyId, reason.attempt, reason.index, culprit);
        ICourt(COURT).sentence(reason.fault, culprit, reason.keyId, reason.evidence, operator);
    }

    function _contains(uint32[] calldata ids, uint32 id) private pure returns (bool) {
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] == id) return true;
        }
        return false;
    }

    function _pay(bytes32 id, AcknowledgementChallenge memory it) private returns (address operator) {
        delete _challenges[id];
        operator = SERVERS.server(it.server).operator;
        feesOf[operator] += it.fee;
    }
}
