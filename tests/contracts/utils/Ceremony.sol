// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealtImport, Key, KeyKind} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {Deployer, Deployment, Parameters} from "../../../script/Deployer.sol";
import {Genesis} from "./Genesis.sol";
import {Messages} from "./Messages.sol";
import {ThresholdKeys} from "./ThresholdKeys.sol";

/// @title The real contracts, deployed as the deploy script does, and real ceremonies on them
abstract contract Ceremony is Messages, Deployer {
    Deployment internal d;
    address internal governance = makeAddr("governance");
    /// Secret keys of the servers' signers.
    mapping(uint32 server => uint256 secret) internal signerOf;

    uint48 internal constant OPEN_WINDOW = 30 days;
    uint48 internal constant KEY_WINDOW = 7 days;
    uint48 internal constant PREDEPOSIT_WINDOW = 2 days;
    uint48 internal constant CHALLENGE_WINDOW = 1 days;
    bytes4 internal constant FORK_VERSION = 0x10000910;
    bytes32 internal constant VALIDATORS_ROOT = keccak256("genesis validators root");

    function _deployAll(uint256 servers) internal {
        vm.warp(1_800_000_000);
        vm.roll(1_000);
        Genesis.installDepositContract();
        Genesis.installWithdrawalRequests();
        Parameters memory p;
        p.governance = governance;
        p.minBond = 4 ether;
        p.seatBond = 0.2 ether;
        p.unbondingDelay = 36 days;
        p.seedDelay = 8;
        p.ceremonyWindow = 2 days;
        p.evidenceWindow = 36 days;
        p.pools.depositContract = Genesis.DEPOSIT_CONTRACT;
        p.pools.genesisForkVersion = FORK_VERSION;
        p.pools.genesisValidatorsRoot = VALIDATORS_ROOT;
        p.pools.openWindow = OPEN_WINDOW;
        p.pools.keyWindow = KEY_WINDOW;
        p.pools.predepositWindow = PREDEPOSIT_WINDOW;
        p.pools.challengeWindow = CHALLENGE_WINDOW;
        d = _deploy(p, address(this));
        for (uint256 i; i < servers; ++i) {
            _approveServer(ServerKind.Online);
        }
    }

    /// An active server of an operator of its own.
    function _approveServer(ServerKind kind) internal {
        string memory number = vm.toString(d.serverRegistry.serverCount());
        uint32 id = _registerServer(makeAddr(string.concat("operator", number)), kind);
        vm.prank(governance);
        d.serverRegistry.approve(id);
    }

    function _registerServer(address operator) internal returns (uint32) {
        return _registerServer(operator, ServerKind.Online);
    }

    function _registerServer(address operator, ServerKind kind) internal returns (uint32) {
        uint32 id = d.serverRegistry.serverCount() + 1;
        (address signer, uint256 secret) = makeAddrAndKey(string.concat("signer", vm.toString(id)));
        signerOf[id] = secret;
        bytes memory proof = signerProofBy(address(d.serverRegistry), secret, operator, signer);
        deal(operator, 4 ether);
        vm.prank(operator);
        return d.serverRegistry.register{value: 4 ether}(
            signer, bytes32(uint256(id)), kind, "https://server.example:9000", proof
        );
    }

    function _dutyKeyProof(uint256 secret, address provider) internal view returns (bytes memory) {
        return dutyKeyProof(address(d.providerRegistry), secret, provider);
    }

    // ----------------------------------------------------------------------------------------- a ceremony

    /// @notice Moves past the seed block and returns what `draw` needs.
    function _prepareDraw(uint256 keyId) internal returns (bytes memory seedHeader, bytes memory activeSet) {
        Key memory key = d.keyRegistry.key(keyId);
        seedHeader = pastSeedBlock(key.mark, keccak256(abi.encode("seed", keyId)));
        activeSet = d.serverRegistry.activeSet(ServerKind.Online);
        if (key.kind == KeyKind.Withdrawal) {
            activeSet = bytes.concat(activeSet, d.serverRegistry.activeSet(ServerKind.Offline));
        }
    }

    function _draw(uint256 keyId) internal returns (uint32[] memory committee) {
        (bytes memory seedHeader, bytes memory activeSet) = _prepareDraw(keyId);
        vm.recordLogs();
        d.keyRegistry.draw(keyId, seedHeader, activeSet, new uint32[](0));
        committee = drawnCommittee();
    }

    /// @notice What n honest servers acknowledge.
    function _acknowledgements(
        uint256 keyId,
        uint32[] memory committee,
        ThresholdKeys.KeySet memory keys,
        bytes32 dealingsDigest
    ) internal view returns (bytes memory all) {
        address[] memory signers = d.serverRegistry.activeSigners(committee);
        bytes32 digest = acknowledgementDigest(
            d.keyRegistry, keyId, keys.threshold, keys.points, committee, signers, dealingsDigest
        );
        for (uint256 i; i < committee.length; ++i) {
            all = bytes.concat(all, sign(signerOf[committee[i]], digest));
        }
    }

    /// @notice Draw, ceremony and finalisation of a requested key.
    function _makeLive(uint256 keyId) internal returns (ThresholdKeys.KeySet memory) {
        return _makeLive(keyId, keyId);
    }

    /// @notice The same with the key that `seed` makes.
    function _makeLive(uint256 keyId, uint256 seed) internal returns (ThresholdKeys.KeySet memory keys) {
        Key memory key = d.keyRegistry.key(keyId);
        uint32[] memory committee = _draw(keyId);
        keys = ThresholdKeys.generate(seed, key.threshold, key.members);
        bytes32 dealings = keccak256("dealings");
        bytes memory acks = _acknowledgements(keyId, committee, keys, dealings);
        d.keyRegistry.finalise(keyId, committee, keys.points, dealings, acks);
    }

    /// @notice What `owner` imports: the 3-of-4 key that `seed` makes, dealt to servers 1 to 4, signed by everybody.
    function _deal(address owner, uint256 seed) internal view returns (DealtImport memory dealt) {
        ThresholdKeys.KeySet memory keys = ThresholdKeys.generate(seed, 3, 4);
        dealt.threshold = 3;
        dealt.committee = new uint32[](4);
        for (uint32 i; i < 4; ++i) {
            dealt.committee[i] = i + 1;
        }
        dealt.points = keys.points;
        dealt.dutyKey = address(uint160(seed));
        dealt.historyHash = keccak256("history");
        address[] memory signers = d.serverRegistry.activeSigners(dealt.committee);
        bytes32 digest = dealtDigest(d.keyRegistry, owner, dealt, signers);
        for (uint32 i; i < 4; ++i) {
            dealt.acknowledgements = bytes.concat(dealt.acknowledgements, sign(signerOf[i + 1], digest));
        }
        dealt.possession = ThresholdKeys.sign(keys.coefficients[0], digest);
    }
}
