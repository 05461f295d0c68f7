// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";
import {Test, Vm} from "forge-std/Test.sol";

import {IKeyRegistry, Key} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {Deployer, Deployment, Parameters} from "../../../script/Deployer.sol";
import {Genesis} from "./Genesis.sol";
import {ThresholdKeys} from "./ThresholdKeys.sol";

/// @title The real contracts, deployed as the deploy script does, and real ceremonies on them
abstract contract Ceremony is Test, Deployer {
    using RLP for RLP.Encoder;

    Deployment internal d;
    address internal governance = makeAddr("governance");
    /// Secret keys of the servers' signers.
    mapping(uint32 server => uint256 secret) internal signerOf;

    uint48 internal constant OPEN_WINDOW = 30 days;
    uint48 internal constant KEY_WINDOW = 7 days;
    uint48 internal constant PREDEPOSIT_WINDOW = 2 days;
    uint48 internal constant CHALLENGE_WINDOW = 1 days;
    bytes4 internal constant FORK_VERSION = 0x10000910;

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
        p.ceremonyWindow = 1 days;
        p.evidenceWindow = 36 days;
        p.pools.depositContract = Genesis.DEPOSIT_CONTRACT;
        p.pools.genesisForkVersion = FORK_VERSION;
        p.pools.openWindow = OPEN_WINDOW;
        p.pools.keyWindow = KEY_WINDOW;
        p.pools.predepositWindow = PREDEPOSIT_WINDOW;
        p.pools.challengeWindow = CHALLENGE_WINDOW;
        d = _deploy(p, address(this));
        for (uint256 i; i < servers; ++i) {
            uint32 id = _registerServer(makeAddr(string.concat("operator", vm.toString(i))));
            vm.prank(governance);
            d.serverRegistry.approve(id);
        }
    }

    function _registerServer(address operator) internal returns (uint32) {
        uint32 id = d.serverRegistry.serverCount() + 1;
        (address signer, uint256 secret) = makeAddrAndKey(string.concat("signer", vm.toString(id)));
        signerOf[id] = secret;
        bytes memory proof = _signerProof(secret, operator, signer);
        deal(operator, 4 ether);
        vm.prank(operator);
        return d.serverRegistry.register{value: 4 ether}(
            signer, bytes32(uint256(id)), ServerKind.Online, "https://server.example:9000", proof
        );
    }

    function _signerProof(uint256 secret, address operator, address signer)
        internal
        view
        returns (bytes memory)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("Stkr"),
                keccak256("1"),
                block.chainid,
                address(d.serverRegistry)
            )
        );
        bytes32 body = keccak256(
            abi.encode(keccak256("SignerProof(address operator,address signer)"), operator, signer)
        );
        return _sign(secret, keccak256(abi.encodePacked(hex"1901", domain, body)));
    }

    function _dutyKeyProof(uint256 secret, address provider) internal view returns (bytes memory) {
        bytes32 body = keccak256(
            abi.encode(keccak256("DutyKeyProof(address provider,address dutyKey)"), provider, vm.addr(secret))
        );
        bytes32 domain = d.providerRegistry.domainSeparator();
        return _sign(secret, keccak256(abi.encodePacked(hex"1901", domain, body)));
    }

    function _sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    // ----------------------------------------------------------------------------------------- a ceremony

    /// @notice The header of a block whose PREVRANDAO is `seed`, made known to the chain.
    function _header(uint256 number, bytes32 seed) internal returns (bytes memory header) {
        RLP.Encoder memory list = RLP.encoder();
        bytes32 any = keccak256("any");
        list.push(any).push(any).push(address(this)).push(any).push(any).push(any).push(new bytes(256));
        list.push(uint256(0)).push(number).push(uint256(60_000_000)).push(uint256(21_000));
        list.push(block.timestamp).push(bytes("")).push(seed).push(new bytes(8)).push(uint256(7));
        list.push(any).push(uint256(0)).push(uint256(0)).push(any).push(any);
        header = list.encode();
        vm.setBlockhash(number, keccak256(header));
    }

    /// @notice Moves past the seed block and returns what `draw` needs.
    function _prepareDraw(uint256 keyId) internal returns (bytes memory header, bytes memory activeSet) {
        uint48 seedBlock = d.keyRegistry.key(keyId).mark;
        if (block.number <= seedBlock) vm.roll(seedBlock + 1);
        header = _header(seedBlock, keccak256(abi.encode("seed", keyId)));
        activeSet = d.serverRegistry.activeSet(ServerKind.Online);
    }

    function _draw(uint256 keyId) internal returns (uint32[] memory committee) {
        (bytes memory header, bytes memory activeSet) = _prepareDraw(keyId);
        vm.recordLogs();
        d.keyRegistry.draw(keyId, header, activeSet, new uint32[](0));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IKeyRegistry.CommitteeDrawn.selector) continue;
            (, committee,,) = abi.decode(logs[i].data, (uint16, uint32[], bytes32, uint48));
        }
    }

    /// @notice What n honest servers acknowledge.
    function _acknowledgements(
        uint256 keyId,
        uint32[] memory committee,
        ThresholdKeys.KeySet memory keys,
        bytes32 dealingsDigest
    ) internal view returns (bytes memory all) {
        address[] memory signers = d.serverRegistry.activeSigners(committee);
        Key memory key = d.keyRegistry.key(keyId);
        bytes32 body = keccak256(
            abi.encode(
                keccak256(
                    "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
                ),
                keyId,
                key.attempt,
                key.threshold,
                keccak256(keys.points),
                keccak256(abi.encode(committee, signers)),
                dealingsDigest
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", d.keyRegistry.domainSeparator(), body));
        for (uint256 i; i < committee.length; ++i) {
            all = bytes.concat(all, _sign(signerOf[committee[i]], digest));
        }
    }

    /// @notice Draw, ceremony and finalisation of a requested key.
    function _makeLive(uint256 keyId) internal returns (ThresholdKeys.KeySet memory keys) {
        Key memory key = d.keyRegistry.key(keyId);
        uint32[] memory committee = _draw(keyId);
        keys = ThresholdKeys.generate(keyId, key.threshold, key.members);
        bytes32 dealings = keccak256("dealings");
        bytes memory acks = _acknowledgements(keyId, committee, keys, dealings);
        d.keyRegistry.finalise(keyId, committee, keys.points, dealings, acks);
    }
}
