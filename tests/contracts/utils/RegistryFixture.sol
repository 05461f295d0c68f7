// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Court} from "../../../contracts/court/Court.sol";
import {DealtImport, IKeyConsumer, KeyKind} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Messages} from "./Messages.sol";
import {ThresholdKeys} from "./ThresholdKeys.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @notice A consumer that names whatever operator the test wants left out.
contract TestConsumer is IKeyConsumer {
    KeyRegistry private immutable KEYS;
    mapping(uint256 keyId => address) public excludedOperator;
    mapping(uint256 keyId => Assignment) public dutyAssignment;

    struct Assignment {
        address dutyKey;
        uint64 number;
    }

    constructor(KeyRegistry keys) {
        KEYS = keys;
    }

    function request(uint8 threshold, uint8 members) external returns (uint256) {
        return KEYS.request(KeyKind.Validator, threshold, members);
    }

    function requestWithdrawal(uint8 threshold, uint8 members) external returns (uint256) {
        return KEYS.request(KeyKind.Withdrawal, threshold, members);
    }

    function exclude(uint256 keyId, address operator) external {
        excludedOperator[keyId] = operator;
    }

    function assign(uint256 keyId, address dutyKey, uint64 number) external {
        dutyAssignment[keyId] = Assignment(dutyKey, number);
    }

    function order(uint256 keyId, bytes32 signingRoot) external {
        KEYS.order(keyId, signingRoot);
    }

    /// @dev No provider of this consumer can be penalised.
    function penaliseProvider(uint256, uint64, address[2] calldata, address)
        external
        pure
        returns (uint256, uint256)
    {
        revert("no provider");
    }

    function retire(uint256 keyId, bool burned) external {
        KEYS.retire(keyId, burned);
    }
}

/// @notice Both registries under a real AccessManager, servers with real signer keys, block headers with a real RLP, and
/// every step of a key's life as one call.
/// @dev The test contract is governance (admin of the manager, no delay).
abstract contract RegistryFixture is Messages {
    uint96 internal constant MIN_BOND = 1 ether;
    uint96 internal constant SEAT_BOND = 0.5 ether;
    uint40 internal constant UNBONDING_DELAY = 36 days;
    uint48 internal constant SEED_DELAY = 8;
    uint64 internal constant GENESIS_TIME = 1_699_000_000;
    uint48 internal constant EVIDENCE_WINDOW = 36 days;
    uint48 internal constant CEREMONY_WINDOW = 2 days;
    address internal constant HISTORY_CONTRACT = 0x0000F90827F1C53a10cb7A02335B175320002935;

    AccessManager internal manager;
    ServerRegistry internal servers;
    KeyRegistry internal keys;
    Court internal court;
    TestConsumer internal consumer;

    /// Secret of the signer of a server.
    mapping(uint32 id => uint256) internal signerSecret;

    /// @dev A ceremony as the outside sees it.
    struct Ceremony {
        uint256 keyId;
        uint8 threshold;
        uint8 members;
        bytes header;
        bytes activeSet;
        uint32[] kept;
        uint32[] committee;
        address[] signers;
        bytes32 dealingsDigest;
        bytes acknowledgements;
        ThresholdKeys.KeySet keySet;
    }

    function deployRegistries() internal {
        vm.roll(20_000);
        vm.warp(1_700_000_000);
        manager = new AccessManager(address(this));
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        address predictedCourt = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 2);
        servers = new ServerRegistry(
            address(manager), predicted, predictedCourt, MIN_BOND, SEAT_BOND, UNBONDING_DELAY
        );
        keys = new KeyRegistry(address(manager), servers, SEED_DELAY, EVIDENCE_WINDOW, CEREMONY_WINDOW);
        court = new Court(keys, GENESIS_TIME);
        consumer = new TestConsumer(keys);
        keys.addConsumer(address(consumer));
        installHistory();
    }

    /// @dev The EIP-2935 system contract with its official code.
    function installHistory() internal {
        vm.etch(
            HISTORY_CONTRACT,
            hex"3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
        );
    }

    // ------------------------------------------------------------------------------------------------ servers

    /// @notice Registers and approves an online server of `operator` with a bond of `bond` wei.
    function addServer(address operator, uint256 bond) internal returns (uint32 id) {
        id = registerServer(operator, ServerKind.Online, bond);
        servers.approve(id);
    }

    /// @notice Registers a server with a fresh signer key.
    function registerServer(address operator, ServerKind kind, uint256 bond) internal returns (uint32 id) {
        uint256 secret = uint256(keccak256(abi.encode("stkr/test/signer", servers.serverCount() + 1)));
        bytes memory proof = signerProof(secret, operator);
        vm.deal(operator, operator.balance + bond);
        vm.prank(operator);
        id = servers.register{value: bond}(
            vm.addr(secret), keccak256("certificate"), kind, "https://127.0.0.1:9000", proof
        );
        signerSecret[id] = secret;
    }

    /// @notice `count` approved servers, each of an operator of its own, with bond for many seats.
    function addServers(uint256 count) internal {
        for (uint256 i; i < count; ++i) {
            addServer(operatorOf(servers.serverCount()), 10 ether);
        }
    }

    function operatorOf(uint256 i) internal returns (address) {
        return makeAddr(string.concat("operator ", vm.toString(i)));
    }

    function signerProof(uint256 secret, address operator) internal view returns (bytes memory) {
        return signerProofBy(address(servers), secret, operator, vm.addr(secret));
    }

    // -------------------------------------------------------------------------------------------- ceremonies

    function request(uint8 threshold, uint8 members) internal returns (Ceremony memory c) {
        c.threshold = threshold;
        c.members = members;
        c.activeSet = servers.activeSet(ServerKind.Online);
        c.keyId = consumer.request(threshold, members);
    }

    /// @notice Moves past the seed block, whose header carries `randao`.
    function reachSeed(Ceremony memory c, bytes32 randao) internal {
        c.header = pastSeedBlock(keys.key(c.keyId).mark, randao);
    }

    /// @notice Draws, after `reachSeed`; fills committee and signers.
    function draw(Ceremony memory c) internal {
        vm.recordLogs();
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
        c.committee = drawnCommittee();
        c.signers = servers.activeSigners(c.committee);
    }

    function requestAndDraw(uint8 threshold, uint8 members, bytes32 randao)
        internal
        returns (Ceremony memory c)
    {
        c = request(threshold, members);
        reachSeed(c, randao);
        draw(c);
    }

    /// @notice Makes a real t-of-n key and all acknowledgements.
    function runDkg(Ceremony memory c, uint256 seed) internal view {
        c.keySet = ThresholdKeys.generate(seed, c.threshold, c.members);
        c.dealingsDigest = keccak256(abi.encode("dealings", seed));
        c.acknowledgements = acknowledge(c);
    }

    function acknowledge(Ceremony memory c) internal view returns (bytes memory all) {
        bytes32 digest = acknowledgementDigest(c);
        for (uint256 i; i < c.committee.length; ++i) {
            all = bytes.concat(all, sign(signerSecret[c.committee[i]], digest));
        }
    }

    function acknowledgementDigest(Ceremony memory c) internal view returns (bytes32) {
        return acknowledgementDigest(
            keys, c.keyId, c.threshold, c.keySet.points, c.committee, c.signers, c.dealingsDigest
        );
    }

    function finalise(Ceremony memory c) internal {
        keys.finalise(c.keyId, c.committee, c.keySet.points, c.dealingsDigest, c.acknowledgements);
    }

    /// @notice From request to Live.
    function makeKey(uint8 threshold, uint8 members, uint256 seed) internal returns (Ceremony memory c) {
        c = requestAndDraw(threshold, members, keccak256(abi.encode("randao", seed)));
        runDkg(c, seed);
        finalise(c);
    }

    // -------------------------------------------------------------------------------------------- dealt keys

    /// @notice What `owner` imports: the key that `seed` makes, dealt to `committee`, signed by everybody.
    function dealKey(address owner, uint8 threshold, uint32[] memory committee, uint256 seed)
        internal
        view
        returns (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet)
    {
        keySet = ThresholdKeys.generate(seed, threshold, uint8(committee.length));
        dealt.threshold = threshold;
        dealt.committee = committee;
        dealt.points = keySet.points;
        dealt.dutyKey = address(uint160(uint256(keccak256(abi.encode("duty key", seed)))));
        dealt.historyHash = keccak256(abi.encode("history", seed));
        signDealt(dealt, owner, keySet.coefficients[0]);
    }

    /// @notice Acknowledgements and possession, for what `dealt` says now.
    function signDealt(DealtImport memory dealt, address owner, uint256 groupSecret) internal view {
        address[] memory signers = signersOf(dealt.committee);
        bytes32 digest = dealtDigest(keys, owner, dealt, signers);
        dealt.acknowledgements = "";
        for (uint256 i; i < dealt.committee.length; ++i) {
            dealt.acknowledgements =
                bytes.concat(dealt.acknowledgements, sign(signerSecret[dealt.committee[i]], digest));
        }
        dealt.possession = ThresholdKeys.sign(groupSecret, digest);
    }

    /// @notice Signers of servers, Active or not.
    function signersOf(uint32[] memory committee) internal view returns (address[] memory signers) {
        signers = new address[](committee.length);
        for (uint256 i; i < signers.length; ++i) {
            signers[i] = servers.server(committee[i]).signer;
        }
    }

    // ------------------------------------------------------------------------------------------ Merkle leaves

    /// @notice The share leaf of member `position` (from 0).
    function shareLeaf(Ceremony memory c, uint256 position) internal pure returns (bytes32) {
        bytes32[4] memory point = abi.decode(c.keySet.shareKeys[position], (bytes32[4]));
        return keccak256(abi.encode(position + 1, uint256(c.committee[position]), c.signers[position], point));
    }

    /// @notice Root and proof by recursion, written apart from the contract's loop.
    function merkle(bytes32[] memory nodes, uint256 position)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proof)
    {
        if (nodes.length == 1) return (nodes[0], new bytes32[](0));
        bytes32[] memory above = new bytes32[]((nodes.length + 1) / 2);
        for (uint256 i; i < above.length; ++i) {
            above[i] = 2 * i + 1 == nodes.length
                ? nodes[2 * i]
                : Hashes.commutativeKeccak256(nodes[2 * i], nodes[2 * i + 1]);
        }
        bytes32[] memory rest;
        (root, rest) = merkle(above, position / 2);
        uint256 sibling = position ^ 1;
        if (sibling >= nodes.length) return (root, rest);
        proof = new bytes32[](rest.length + 1);
        proof[0] = nodes[sibling];
        for (uint256 i; i < rest.length; ++i) {
            proof[i + 1] = rest[i];
        }
    }

    function ids(uint32 a, uint32 b, uint32 c, uint32 d) internal pure returns (uint32[] memory list) {
        list = new uint32[](4);
        (list[0], list[1], list[2], list[3]) = (a, b, c, d);
    }
}
